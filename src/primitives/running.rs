//! Which loop runs in this thread.
//!
//! Before CPython 3.12 `asyncio._get_running_loop()` asks the kernel for the process's number each
//! time, which costs more than all the rest of a short sleep. There the thread's own record is read
//! instead, if it is laid out as it was in those versions.

use pyo3::ffi;
use pyo3::prelude::*;

use crate::ffi::object;

#[cfg(not(Py_3_12))]
pub(super) use before_3_12::running_loop;

/// The loop that runs in this thread, or `None`. `get_running_loop`: `_asyncio`'s.
#[cfg(Py_3_12)]
#[inline]
pub(super) fn running_loop<'py>(
    py: Python<'py>,
    get_running_loop: &Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    call(py, get_running_loop)
}

#[inline]
fn call<'py>(py: Python<'py>, get_running_loop: &Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a builtin without arguments: a new reference or null with an exception set.
    unsafe { object::owned(py, ffi::PyObject_CallNoArgs(get_running_loop.as_ptr())) }
}

#[cfg(not(Py_3_12))]
mod before_3_12 {
    use std::sync::Once;
    use std::sync::atomic::{AtomicI32, Ordering};

    use pyo3::intern;

    use super::*;
    use crate::driver::fork::at_fork;
    use crate::ffi::gil::GilFlag;
    use crate::ffi::object::Object;

    /// The thread's record of its running loop: made anew each time a loop starts or ends, never
    /// changed.
    #[repr(C)]
    struct Record {
        head: ffi::PyObject,
        event_loop: Object,
        process: libc::pid_t,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Layout {
        Unknown,
        AsHere,
        Other,
    }

    static LAYOUT: GilFlag<Layout> = GilFlag::new(Layout::Unknown);

    pub(crate) fn running_loop<'py>(
        py: Python<'py>,
        get_running_loop: &Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if LAYOUT.get(py) == Layout::Other {
            return super::call(py, get_running_loop);
        }
        // SAFETY: a borrowed dict or null, looked into with an interned str; a borrowed result.
        let record = unsafe {
            let dict = ffi::PyThreadState_GetDict();
            if dict.is_null() {
                return super::call(py, get_running_loop);
            }
            let name = intern!(py, "__asyncio_running_event_loop__");
            ffi::PyDict_GetItemWithError(dict, name.as_ptr()).cast::<Record>()
        };
        if LAYOUT.get(py) == Layout::AsHere && !record.is_null() {
            // SAFETY: a record of the layout that was found; the thread's dict keeps it alive.
            let (event_loop, process) = unsafe { ((*record).event_loop, (*record).process) };
            if process == this_process() && !event_loop.is_null() {
                // SAFETY: a live object, kept by the record.
                return Ok(unsafe { Bound::from_borrowed_ptr(py, event_loop) });
            }
        }
        // SAFETY: borrowed from the thread's dict. The call may run the collector, and so code that
        // starts or ends a loop.
        let found = unsafe { Bound::from_borrowed_ptr_or_opt(py, record.cast()) };
        let answer = super::call(py, get_running_loop)?;
        if LAYOUT.get(py) == Layout::Unknown
            && let Some(found) = found
            && !answer.is_none()
        {
            LAYOUT.set(py, probe(&found, &answer)?);
        }
        Ok(answer)
    }

    /// Whether the record of a running loop has its fields where [`Record`] has them.
    fn probe(found: &Bound<'_, PyAny>, answer: &Bound<'_, PyAny>) -> PyResult<Layout> {
        let (class, record) = (found.get_type(), found.as_ptr().cast::<Record>());
        // SAFETY: a live object; its fields are read only if it is large enough.
        unsafe {
            let same = class.name()? == "_RunningLoopHolder"
                && class.getattr("__basicsize__")?.extract::<usize>()? == size_of::<Record>()
                && (*record).event_loop == answer.as_ptr()
                && (*record).process == this_process();
            Ok(if same { Layout::AsHere } else { Layout::Other })
        }
    }

    /// `getpid()`, asked once a process.
    fn this_process() -> libc::pid_t {
        static PROCESS: AtomicI32 = AtomicI32::new(0);
        static AT_FORK: Once = Once::new();
        extern "C" fn in_child() {
            PROCESS.store(0, Ordering::Relaxed);
        }
        match PROCESS.load(Ordering::Relaxed) {
            0 => {
                // SAFETY: the function does nothing but store a number.
                AT_FORK.call_once(|| unsafe { at_fork(None, None, Some(in_child)) });
                // SAFETY: no arguments, cannot fail.
                let process = unsafe { libc::getpid() };
                PROCESS.store(process, Ordering::Relaxed);
                process
            }
            process => process,
        }
    }
}
