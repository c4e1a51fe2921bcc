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
    module.add("sleep", sleep::function::make(py)?)?;
    module.add("Sleep", sleep::class::class(py)?.clone_ref(py))
}
