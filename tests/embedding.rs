//! The loop inside a Rust program that has a tokio of its own.

use std::ffi::CString;
use std::time::Duration;

use pyo3::exceptions::{PyImportError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::wrap_pymodule;

/// Attaches, with the crate's own module in place of the installed one.
fn attached<R>(f: impl FnOnce(Python<'_>, &Bound<'_, PyDict>) -> R) -> R {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        Python::initialize();
        Python::attach(|py| {
            let sys = py.import("sys").unwrap();
            let core = wrap_pymodule!(tokioloop::_core)(py);
            sys.getattr("modules").unwrap().set_item("tokioloop._core", core).unwrap();
            let package = concat!(env!("CARGO_MANIFEST_DIR"), "/python");
            sys.getattr("path").unwrap().call_method1("insert", (0, package)).unwrap();
        });
    });
    Python::attach(|py| {
        let globals = PyDict::new(py);
        run(py, &globals, "import asyncio, tokioloop").unwrap();
        f(py, &globals)
    })
}

fn run(py: Python<'_>, globals: &Bound<'_, PyDict>, code: &str) -> PyResult<()> {
    py.run(&CString::new(code).unwrap(), Some(globals), None)
}

/// Tries to run a loop, and says what came of it. The loop must be usable afterwards.
fn try_to_run() -> String {
    attached(|py, globals| {
        run(py, globals, "loop = tokioloop.new_event_loop()").unwrap();
        let refused = run(py, globals, "loop.run_forever()").unwrap_err();
        assert!(refused.is_instance_of::<PyRuntimeError>(py), "{refused}");
        run(py, globals, "assert not loop.is_running()").unwrap();
        run(py, globals, "loop.close()").unwrap();
        refused.value(py).to_string()
    })
}

#[test]
fn a_loop_is_refused_inside_block_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let refused = runtime.block_on(async { try_to_run() });
    assert!(refused.contains("tokio runtime"), "{refused}");
}

#[test]
fn a_loop_is_refused_on_a_worker_thread() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let refused = runtime.block_on(async { tokio::spawn(async { try_to_run() }).await.unwrap() });
    assert!(refused.contains("tokio runtime"), "{refused}");
}

#[test]
fn a_loop_runs_beside_a_runtime_of_another_thread() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let ticking = runtime.spawn(async { tokio::time::sleep(Duration::from_secs(60)).await });
    attached(|py, globals| run(py, globals, "tokioloop.run(asyncio.sleep(0.01))").unwrap());
    ticking.abort();
}

#[pyfunction]
fn rust_answer(py: Python<'_>, milliseconds: u64) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, async move {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        Ok(42)
    })
}

#[test]
fn futures_of_pyo3_async_runtimes_are_awaited_on_the_loop() {
    attached(|py, globals| {
        globals.set_item("rust_answer", wrap_pyfunction!(rust_answer, py).unwrap()).unwrap();
        let code = "
async def main():
    answers = await asyncio.gather(*(rust_answer(n % 5) for n in range(100)))
    assert answers == [42] * 100, answers
    try:
        await asyncio.wait_for(rust_answer(60_000), 0.01)
    except asyncio.TimeoutError:
        return 'cancelled'

assert tokioloop.run(main()) == 'cancelled'
";
        run(py, globals, code).unwrap();
    });
}

#[test]
fn register_and_the_bridge_refuse_a_sub_interpreter() {
    attached(|py, _globals| {
        // SAFETY: attached; the thread's state is put back below, in this closure.
        let (main, sub) = unsafe { (ffi::PyThreadState_Get(), ffi::Py_NewInterpreter()) };
        assert!(!sub.is_null());
        let module = PyModule::new(py, "extension").unwrap();
        let refusals = [
            tokioloop::register(&module).unwrap_err(),
            tokioloop::bridge::future_into_py(py, async { Ok(42) }).map(drop).unwrap_err(),
        ];
        let texts = refusals.map(|refused| {
            assert!(refused.is_instance_of::<PyImportError>(py), "{refused}");
            refused.value(py).to_string()
        });
        drop(module);
        // SAFETY: the current thread state, of which nothing is held any more; then the one before.
        unsafe {
            ffi::Py_EndInterpreter(sub);
            ffi::PyThreadState_Swap(main);
        }
        for text in texts {
            assert!(text.contains("does not support sub-interpreters"), "{text}");
        }
    });
}
