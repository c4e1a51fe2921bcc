//! asyncio's primitives, native: `loop.create_task`, `sleep`, `gather`,
//! `run_coroutine_threadsafe`.
//!
//! Tasks and futures stay CPython's own C types; the primitives replace the Python code around them.
//! Each does asyncio's work only where the outcome is the same by construction (see `ctypes`), and
//! calls asyncio's own function for the rest.
//!
//! Each module uses those before it: `originals` and `running`, `ctypes`, `tasks`, then the primitives.

mod asyncgens;
pub(crate) mod ctypes;
mod gather;
mod originals;
mod running;
mod sleep;
mod tasks;
mod threadsafe;

use std::ffi::CStr;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use crate::event_loop::NativeLoop;
use crate::ffi::definitions::{Definitions, METHODS_END, add_methods, fast_method, plain_method};
use crate::ffi::object;
use crate::ffi::trampoline::fast_function;
use originals::originals;
use tasks::{create_future, create_task};

fast_function!(gather, |py, _module, args| gather::call(py, &args));
fast_function!(run_coroutine_threadsafe, |py, _module, args| threadsafe::call(py, &args));

static FUNCTIONS: Definitions<[ffi::PyMethodDef; 3]> = Definitions([
    fast_method(
        c"gather",
        gather,
        c"gather(*coros_or_futures, return_exceptions=False)\n--\n\n\
        Run awaitables concurrently; return a future of the list of their results, in order.\n\
        \n\
        As ``asyncio.gather``, which it calls on any loop but a :class:`tokioloop.Loop`. If\n\
        ``return_exceptions`` is true exceptions are results like others; otherwise the\n\
        first one is raised, and the other awaitables go on. Cancelling the future cancels\n\
        all of them.\n\
        \n\
        Raises ``TypeError`` if an argument is not awaitable, ``ValueError`` for a future of\n\
        another loop.",
    ),
    fast_method(
        c"run_coroutine_threadsafe",
        run_coroutine_threadsafe,
        c"run_coroutine_threadsafe(coro, loop)\n--\n\n\
        Run the coroutine ``coro`` on the loop of another thread.\n\
        \n\
        Return a ``concurrent.futures.Future``; cancelling it cancels the task. As\n\
        ``asyncio.run_coroutine_threadsafe``, which it calls for any loop but a\n\
        :class:`tokioloop.Loop`.\n\
        \n\
        Raises ``TypeError`` if ``coro`` is not a coroutine, ``RuntimeError`` if the loop is\n\
        closed.",
    ),
    METHODS_END,
]);

/// The docstring of `create_task`, with the options that asyncio's has in this CPython.
macro_rules! create_task_doc {
    ($options:literal) => {
        concat!(
            "create_task($self, coro, ",
            $options,
            ")\n--\n\n\
            Schedule the coroutine ``coro`` and return its ``asyncio.Task``.\n\
            \n\
            As ``asyncio.loop.create_task`` of the running CPython, whose options it takes:\n\
            ``name``, and from 3.11 on ``context``.\n\
            \n\
            Raises ``RuntimeError`` if the loop is closed, ``TypeError`` if ``coro`` is not a\n\
            coroutine.\0"
        )
    };
}

const CREATE_TASK_DOC: &CStr = {
    let text = if cfg!(Py_3_14) {
        create_task_doc!("**kwargs")
    } else if cfg!(Py_3_13) {
        create_task_doc!("*, name=None, context=None, **kwargs")
    } else if cfg!(Py_3_11) {
        create_task_doc!("*, name=None, context=None")
    } else {
        create_task_doc!("*, name=None")
    };
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("one zero byte, at the end"),
    }
};

static METHODS: Definitions<[ffi::PyMethodDef; 3]> = Definitions([
    plain_method(
        c"create_future",
        create_future,
        c"create_future($self, /)\n--\n\n\
        Return a new ``asyncio.Future`` of the loop. As ``asyncio.loop.create_future``.",
    ),
    fast_method(c"create_task", create_task, CREATE_TASK_DOC),
    METHODS_END,
]);

/// Adds the functions and the classes to the extension module, and the methods to the loop's class.
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
    module.add("sleep", sleep::function(py)?)?;
    module.add("Sleep", sleep::class::class(py)?.clone_ref(py))
}
