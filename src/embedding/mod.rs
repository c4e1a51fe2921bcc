//! The event loop inside of another extension module.
//!
//! A crate that depends on this one has the loop's core linked in already. The loop's Python modules
//! come with it as source text, and are imported below the extension's own name, so they never meet a
//! `tokioloop` that is installed as well.

use std::ffi::CString;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyDict};

use crate::ffi::{imports, subinterpreters};

/// The modules of the package; the empty name is the package itself.
const SOURCES: &[(&str, &str)] = &[
    ("", include_str!("../../python/tokioloop/__init__.py")),
    ("accelerate", include_str!("../../python/tokioloop/accelerate.py")),
    ("connections", include_str!("../../python/tokioloop/connections.py")),
    ("coroutines", include_str!("../../python/tokioloop/coroutines.py")),
    ("debug_mode", include_str!("../../python/tokioloop/debug_mode.py")),
    ("error_reports", include_str!("../../python/tokioloop/error_reports.py")),
    ("loop", include_str!("../../python/tokioloop/loop.py")),
    ("policy", include_str!("../../python/tokioloop/policy.py")),
    ("primitives", include_str!("../../python/tokioloop/primitives.py")),
    ("processes", include_str!("../../python/tokioloop/processes.py")),
    ("registry", include_str!("../../python/tokioloop/registry.py")),
    ("runner", include_str!("../../python/tokioloop/runner.py")),
    ("running", include_str!("../../python/tokioloop/running.py")),
    ("servers", include_str!("../../python/tokioloop/servers.py")),
    ("signals", include_str!("../../python/tokioloop/signals.py")),
    ("streams", include_str!("../../python/tokioloop/streams.py")),
    ("testing", include_str!("../../python/tokioloop/testing.py")),
    ("tls", include_str!("../../python/tokioloop/tls.py")),
    ("waiting_tasks", include_str!("../../python/tokioloop/waiting_tasks.py")),
];

/// The names that `register` adds to a module.
const NAMES: [&str; 4] = ["EventLoopPolicy", "Loop", "new_event_loop", "run"];

/// Gives an extension module an event loop of its own: `Loop`, `new_event_loop`,
/// `EventLoopPolicy` and `run`, as the package `tokioloop` has them.
///
/// On such a loop the futures of [`bridge`](crate::bridge) are served by the loop's own runtime, in
/// the loop's thread.
///
/// ```
/// use pyo3::prelude::*;
///
/// #[pyfunction]
/// fn answer(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
///     tokioloop::bridge::future_into_py(py, async { Ok(42) })
/// }
///
/// #[pymodule]
/// fn extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
///     module.add_function(wrap_pyfunction!(answer, module)?)?;
///     tokioloop::register(module)
/// }
/// # fn main() {}
/// ```
///
/// In Python: `extension.run(main())`.
///
/// Raises `ImportError` in a sub-interpreter, and if the loop's Python side does not fit its core.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    static PACKAGE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let py = module.py();
    subinterpreters::only_main(py)?;
    let package = PACKAGE.get_or_try_init(py, || import(module).map(Bound::unbind))?.bind(py);
    for name in NAMES {
        module.add(name, package.getattr(name)?)?;
    }
    Ok(())
}

fn import<'py>(module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyModule>> {
    let py = module.py();
    let package = format!("{}.tokioloop", module.name()?);
    let core = PyModule::new(py, &format!("{package}._core"))?;
    imports::set_package(&package)?;
    crate::fill(&core)?;
    let globals = PyDict::new(py);
    globals.set_item("__name__", format!("{package}._packed"))?;
    let code = CString::new(include_str!("packed.py"))?;
    py.run(&code, Some(&globals), None)?;
    let sources = SOURCES.iter().copied().into_py_dict(py)?;
    let install = globals.get_item("install")?;
    let version = env!("CARGO_PKG_VERSION");
    let made = install
        .ok_or_else(|| pyo3::exceptions::PyImportError::new_err("the packed sources are broken"))?
        .call1((package, core, version, sources))?;
    Ok(made.cast_into::<PyModule>()?)
}

#[cfg(test)]
mod tests {
    use super::SOURCES;

    #[test]
    fn every_module_of_the_package_is_packed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/python/tokioloop");
        for entry in std::fs::read_dir(folder).expect("the package is here") {
            let path = entry.expect("readable").path();
            let name = path.file_stem().and_then(|it| it.to_str()).unwrap_or_default();
            // What only a process with `tokioloop` installed can name: a command line, and workers.
            let left_out = ["__main__", "gunicorn"].contains(&name);
            let wanted = path.extension().is_some_and(|it| it == "py") && !left_out;
            let name = if name == "__init__" { "" } else { name };
            assert!(!wanted || SOURCES.iter().any(|it| it.0 == name), "{name} is not packed");
        }
    }
}
