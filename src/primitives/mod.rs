//! asyncio's primitives, native: `loop.create_task`, `sleep`, `gather`,
//! `run_coroutine_threadsafe`.
//!
//! Tasks and futures stay CPython's own C types. What these save is the Python code around them.
//! Each does asyncio's work only where the outcome is the same by construction (see `ctypes`), and
//! calls asyncio's own function for the rest.

mod asyncgens;
pub(crate) mod ctypes;
mod function;
mod gather;
mod running;
mod sleep;
mod tasks;
mod threadsafe;

use std::ffi::CStr;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::event_loop::NativeLoop;
use crate::ffi::arguments::Args;
use crate::ffi::definitions::{Definitions, METHODS_END, add_methods, fast_method, plain_method};
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::enter;
use tasks::{create_future, create_task};

/// asyncio's own functions, as they were when the package was imported.
pub(crate) struct Originals {
    sleep: Py<PyAny>,
    gather: Py<PyAny>,
    run_coroutine_threadsafe: Py<PyAny>,
    ensure_future: Py<PyAny>,
    chain_future: Py<PyAny>,
    convert_exception: Py<PyAny>,
    gathering_future: Py<PyType>,
    concurrent_future: Py<PyAny>,
    /// A future that is cancelled in the loop's own thread cancels the task there and then.
    cancels_at_once: bool,
    #[cfg(Py_3_14)]
    current_task: Py<PyAny>,
    #[cfg(Py_3_14)]
    add_to_awaited_by: Py<PyAny>,
    #[cfg(Py_3_14)]
    discard: Py<PyAny>,
    /// Takes children that outlive the outer future from the call graph; not in all of 3.14.
    discard_awaited_by: Option<Py<PyAny>>,
}

/// The class of Rust futures, which are coroutines of the core's own; the bridge fills it in.
pub(crate) static RUST_FUTURE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn is_rust_future(object: &Bound<'_, PyAny>) -> bool {
    RUST_FUTURE.get(object.py()).is_some_and(|it| object.get_type_ptr() == it.as_ptr().cast())
}

fn originals(py: Python<'_>) -> PyResult<&Originals> {
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
        let cancels_at_once = code_inside(chain_future.bind(py), "_call_check_cancel")?
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
            discard: get(&futures, "future_discard_from_awaited_by")?,
            discard_awaited_by: tasks.getattr_opt("_discard_awaited_by")?.map(Bound::unbind),
        })
    }
}

/// The code of a function that is defined inside another.
fn code_inside<'py>(
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

/// A function with the code of one that is defined inside another: it tells `repr()` where what
/// we do instead is written down.
fn function_inside<'py>(
    py: Python<'py>,
    function: &Py<PyAny>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let function = function.bind(py);
    let Some(code) = code_inside(function, name)? else { return Ok(py.None().into_bound(py)) };
    let types = py.import("types")?;
    let cells = code.getattr("co_freevars")?.len()?;
    let cell = types.getattr("CellType")?;
    let cells = (0..cells).map(|_| cell.call0()).collect::<PyResult<Vec<_>>>()?;
    let closure = pyo3::types::PyTuple::new(py, cells)?;
    let globals = function.getattr("__globals__")?;
    types.getattr("FunctionType")?.call1((code, globals, name, py.None(), closure))
}

unsafe extern "C" fn gather(
    _module: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython's own arguments.
        let args = unsafe { Args::new(py, args, count, names) };
        gather::call(py, &args).map(Bound::into_ptr)
    })
}

unsafe extern "C" fn run_coroutine_threadsafe(
    _module: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython's own arguments.
        let args = unsafe { Args::new(py, args, count, names) };
        threadsafe::call(py, &args).map(Bound::into_ptr)
    })
}

static FUNCTIONS: Definitions<[ffi::PyMethodDef; 3]> = Definitions([
    fast_method(
        c"gather",
        gather,
        c"gather(*coros_or_futures, return_exceptions=False)\n--\n\nasyncio.gather(), native on a tokioloop.Loop.\n\nReturns a future of the list of results, in the order of the arguments. With\nreturn_exceptions, exceptions are results like others; else the first one is\nthe future's. Cancelling the future cancels the children.",
    ),
    fast_method(
        c"run_coroutine_threadsafe",
        run_coroutine_threadsafe,
        c"run_coroutine_threadsafe(coro, loop)\n--\n\nasyncio.run_coroutine_threadsafe(), native on a tokioloop.Loop.\n\nReturns a concurrent.futures.Future of what the coroutine returns; cancelling\nit cancels the task. Raises TypeError for what is not a coroutine, and\nRuntimeError if the loop is closed.",
    ),
    METHODS_END,
]);

static METHODS: Definitions<[ffi::PyMethodDef; 3]> = Definitions([
    plain_method(c"create_future", create_future, c"create_future($self, /)\n--\n\nCreate an asyncio.Future attached to the loop."),
    fast_method(c"create_task", create_task, c"create_task($self, coro, **kwargs)\n--\n\nSchedule a coroutine as an asyncio.Task; as asyncio.\n\nRaises RuntimeError if the loop is closed."),
    METHODS_END,
]);

/// Puts the functions and the classes into the extension module, and gives the loop's class its
/// methods.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    originals(py)?;
    // SAFETY: functions of the kinds that the table says, for the class of loops.
    unsafe { add_methods(&py.get_type::<NativeLoop>(), &METHODS.0)? };
    let name = intern!(py, "tokioloop");
    for function in &FUNCTIONS.0[..2] {
        // SAFETY: the definition is static; a new reference or null with an exception set.
        let made = unsafe {
            let definition = std::ptr::from_ref(function).cast_mut();
            object::owned(py, ffi::PyCFunction_NewEx(definition, null_mut(), name.as_ptr()))?
        };
        // SAFETY: a static C string.
        let name = unsafe { CStr::from_ptr(function.ml_name) };
        module.add(name.to_string_lossy().as_ref(), made)?;
    }
    module.add_class::<asyncgens::AsyncGenerators>()?;
    module.add("sleep", function::make(py)?)?;
    module.add("Sleep", sleep::class(py)?.clone_ref(py))
}
