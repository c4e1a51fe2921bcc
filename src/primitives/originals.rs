//! asyncio's own functions, which the primitives call where they take no shortcut.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

/// asyncio's own functions, as they were when the package was imported.
pub(super) struct Originals {
    pub sleep: Py<PyAny>,
    pub gather: Py<PyAny>,
    pub run_coroutine_threadsafe: Py<PyAny>,
    pub ensure_future: Py<PyAny>,
    pub chain_future: Py<PyAny>,
    pub convert_exception: Py<PyAny>,
    pub gathering_future: Py<PyType>,
    pub concurrent_future: Py<PyAny>,
    /// A future that is cancelled in the loop's own thread cancels the task there and then.
    pub cancels_at_once: bool,
    #[cfg(Py_3_14)]
    pub current_task: Py<PyAny>,
    #[cfg(Py_3_14)]
    pub add_to_awaited_by: Py<PyAny>,
    #[cfg(Py_3_14)]
    pub discard_from_awaited_by: Py<PyAny>,
    /// Takes children that outlive the outer future from the call graph; not in all of 3.14.
    pub discard_awaited_by: Option<Py<PyAny>>,
}

pub(super) fn originals(py: Python<'_>) -> PyResult<&Originals> {
    static ORIGINALS: PyOnceLock<Originals> = PyOnceLock::new();
    ORIGINALS.get_or_try_init(py, || Originals::find(py))
}

impl Originals {
    fn find(py: Python<'_>) -> PyResult<Self> {
        let tasks = py.import("asyncio.tasks")?;
        let futures = py.import("asyncio.futures")?;
        let get =
            |module: &Bound<'_, PyModule>, name: &str| module.getattr(name).map(Bound::unbind);
        let chain_future = get(&futures, "_chain_future")?;
        let cancels_at_once = inner_code(chain_future.bind(py), "_call_check_cancel")?
            .map(|code| code.getattr("co_names")?.contains("_get_running_loop"))
            .transpose()?
            .unwrap_or(false);
        Ok(Self {
            sleep: get(&tasks, "sleep")?,
            gather: get(&tasks, "gather")?,
            run_coroutine_threadsafe: get(&tasks, "run_coroutine_threadsafe")?,
            ensure_future: get(&tasks, "ensure_future")?,
            chain_future,
            convert_exception: get(&futures, "_convert_future_exc")?,
            gathering_future: tasks.getattr("_GatheringFuture")?.cast_into::<PyType>()?.unbind(),
            concurrent_future: get(&py.import("concurrent.futures")?, "Future")?,
            cancels_at_once,
            #[cfg(Py_3_14)]
            current_task: get(&tasks, "current_task")?,
            #[cfg(Py_3_14)]
            add_to_awaited_by: get(&futures, "future_add_to_awaited_by")?,
            #[cfg(Py_3_14)]
            discard_from_awaited_by: get(&futures, "future_discard_from_awaited_by")?,
            discard_awaited_by: tasks.getattr_opt("_discard_awaited_by")?.map(Bound::unbind),
        })
    }
}

/// The code of a function that is defined inside another.
fn inner_code<'py>(
    function: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(code) = function.getattr_opt("__code__")? else { return Ok(None) };
    for constant in code.getattr("co_consts")?.try_iter()? {
        let constant = constant?;
        if let Some(found) = constant.getattr_opt("co_name")?
            && found.eq(name)?
        {
            return Ok(Some(constant));
        }
    }
    Ok(None)
}

/// A function with the code of one that is defined inside another: `repr()` of a callback of ours
/// takes from it where asyncio's source has the callback that ours replaces.
pub(super) fn inner_function<'py>(
    py: Python<'py>,
    function: &Py<PyAny>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let function = function.bind(py);
    let Some(code) = inner_code(function, name)? else { return Ok(py.None().into_bound(py)) };
    let types = py.import("types")?;
    let cells = code.getattr("co_freevars")?.len()?;
    let cell = types.getattr("CellType")?;
    let cells = (0..cells).map(|_| cell.call0()).collect::<PyResult<Vec<_>>>()?;
    let closure = PyTuple::new(py, cells)?;
    let globals = function.getattr("__globals__")?;
    types.getattr("FunctionType")?.call1((code, globals, name, py.None(), closure))
}
