//! The Python type of transports: derived from asyncio's, laid out by hand.

use std::ffi::{c_int, c_void};
use std::mem::{ManuallyDrop, offset_of};
use std::ptr::{null_mut, write};

use pyo3::exceptions::{PyImportError, PyResourceWarning};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyString, PyType};

use super::{Life, Stream, feed, methods};
use crate::cached;
use crate::object::{self, Object, Table, enter, slot};
use crate::visit;

#[repr(C)]
pub struct StreamObject {
    head: ffi::PyObject,
    /// `asyncio.BaseTransport`'s one slot, `_extra`. Ours answers through a property instead.
    base_extra: Object,
    /// Its flow control's four: `_loop` and the marks, which are properties here too.
    base_flow: [Object; 4],
    dict: Object,
    weakrefs: Object,
    stream: ManuallyDrop<Stream>,
}

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The state behind a transport.
#[inline]
pub fn stream<'a>(slf: &'a Bound<'_, PyAny>) -> &'a Stream {
    // SAFETY: only transports made by `allocate` get here; the object outlives the borrow, and
    // all of its mutable state is in cells that the GIL guards.
    unsafe { &(*slf.as_ptr().cast::<StreamObject>()).stream }
}

/// Whether an object is a transport of ours.
pub fn is_native(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.get_type().is(class(object.py())?))
}

pub fn allocate(py: Python<'_>, stream: Stream) -> PyResult<Bound<'_, PyAny>> {
    let class = class(py)?.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: zeroed memory of the type's size; the Rust part is written before anyone sees it.
    unsafe {
        let made = ffi::PyType_GenericAlloc(class, 0).cast::<StreamObject>();
        if made.is_null() {
            return Err(object::fetch(py));
        }
        write(&raw mut (*made).stream, ManuallyDrop::new(stream));
        Ok(Bound::from_owned_ptr(py, made.cast()))
    }
}

unsafe extern "C" fn traverse(slf: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    let this = slf.cast::<StreamObject>();
    // SAFETY: our layout; the collector holds the GIL and runs no other code meanwhile.
    unsafe {
        visit!(visit, arg, ffi::Py_TYPE(slf).cast());
        visit!(visit, arg, (*this).base_extra);
        for slot in (*this).base_flow {
            visit!(visit, arg, slot);
        }
        visit!(visit, arg, (*this).dict);
        let stream = &(*this).stream;
        for slot in stream.slots() {
            visit!(visit, arg, slot.as_ptr());
        }
    }
    0
}

/// # Safety
/// `this` must be alive or being deallocated, the GIL held.
unsafe fn clear_base(this: *mut StreamObject) {
    // SAFETY: the caller's promise; each slot is null or a strong reference.
    unsafe {
        ffi::Py_CLEAR(&raw mut (*this).base_extra);
        for at in 0..4 {
            ffi::Py_CLEAR(&raw mut (*this).base_flow[at]);
        }
    }
}

unsafe extern "C" fn clear(slf: Object) -> c_int {
    let this = slf.cast::<StreamObject>();
    enter(-1, |py| {
        // SAFETY: our layout; only called on garbage, after `finalize`.
        unsafe {
            clear_base(this);
            ffi::Py_CLEAR(&raw mut (*this).dict);
            for slot in (*this).stream.slots() {
                slot.set(py, None);
            }
        }
        Ok(0)
    })
}

/// As asyncio's `__del__`: warns of a transport that nobody closed, and closes it.
unsafe extern "C" fn finalize(slf: Object) {
    enter((), |py| {
        let raised = PyErr::take(py);
        // SAFETY: alive: CPython resurrects the object for the time of its finalizer.
        let slf = unsafe { Bound::from_borrowed_ptr(py, slf) };
        let stream = stream(&slf);
        if stream.life.get() != Life::Closed {
            if let Err(error) = warn_unclosed(py, &slf) {
                error.write_unraisable(py, Some(&slf));
            }
            let released = match stream.native(py) {
                Some((_loop, native)) => stream.release(py, &slf, native),
                None => {
                    stream.life.set(Life::Closed);
                    drop(stream.registration.take());
                    stream.close_socket(py)
                }
            };
            if let Err(error) = released {
                error.write_unraisable(py, Some(&slf));
            }
        }
        if let Some(raised) = raised {
            raised.restore(py);
        }
        Ok(())
    });
}

fn warn_unclosed(py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let category = py.get_type::<PyResourceWarning>();
    let text = format!("unclosed transport {}", slf.repr()?);
    let arguments = [("source", slf)].into_py_dict(py)?;
    py.import("warnings")?.call_method("warn", (text, category), Some(&arguments))?;
    Ok(())
}

unsafe extern "C" fn dealloc(slf: Object) {
    // SAFETY: the last reference is gone; taken apart in the order CPython asks for. The
    // finalizer may bring the object back, then there is nothing to do.
    unsafe {
        if ffi::PyObject_CallFinalizerFromDealloc(slf) != 0 {
            return;
        }
        let class = ffi::Py_TYPE(slf);
        ffi::PyObject_GC_UnTrack(slf.cast());
        let this = slf.cast::<StreamObject>();
        if !(*this).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(slf);
        }
        clear_base(this);
        ffi::Py_CLEAR(&raw mut (*this).dict);
        enter((), |_py| {
            ManuallyDrop::drop(&mut (*this).stream);
            Ok(())
        });
        ffi::PyObject_GC_Del(slf.cast());
        ffi::Py_DECREF(class.cast());
    }
}

unsafe extern "C" fn repr(slf: Object) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: alive for the call.
        let slf = unsafe { Bound::from_borrowed_ptr(py, slf) };
        let stream = stream(&slf);
        let state = match stream.life.get() {
            Life::Closed => " closed",
            Life::Closing | Life::Losing => " closing",
            Life::New | Life::Open => "",
        };
        let reading = if stream.is_reading() && !stream.ended.get() { "polling" } else { "idle" };
        let writing = if stream.blocked.get() { "polling" } else { "idle" };
        let text = format!(
            "<SocketTransport{state} fd={} read={reading} write=<{writing}, bufsize={}>>",
            stream.fd,
            stream.outgoing.borrow().size(),
        );
        Ok(PyString::new(py, &text).into_ptr())
    })
}

static MEMBERS: Table<[ffi::PyMemberDef; 3]> = Table([
    object::offset_member(c"__weaklistoffset__", offset_of!(StreamObject, weakrefs)),
    object::offset_member(c"__dictoffset__", offset_of!(StreamObject, dict)),
    object::MEMBERS_END,
]);

fn class(py: Python<'_>) -> PyResult<&Py<PyType>> {
    TYPE.get_or_try_init(py, || {
        let base = cached::asyncio(py)?.transport.bind(py);
        // The struct starts with the base's own layout, so it must be what it was.
        let expected = offset_of!(StreamObject, dict);
        let found = base.getattr("__basicsize__")?.extract::<usize>()?;
        if found != expected {
            return Err(PyImportError::new_err(format!(
                "tokioloop does not know this asyncio's transports: their instances have {found} bytes \
                 instead of {expected}"
            )));
        }
        let slots = vec![
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_finalize, finalize as *mut c_void),
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_tp_repr, repr as *mut c_void),
            slot(ffi::Py_tp_methods, methods::METHODS.0.as_ptr().cast_mut().cast()),
            slot(ffi::Py_tp_getset, methods::FIELDS.0.as_ptr().cast_mut().cast()),
            slot(ffi::Py_tp_members, MEMBERS.0.as_ptr().cast_mut().cast()),
        ];
        let size = size_of::<StreamObject>();
        let class = object::new_type(py, c"tokioloop._core.SocketTransport", size, base, slots)?;
        class.setattr("_start_tls_compatible", true)?;
        let mode = py.import("asyncio.constants")?.getattr("_SendfileMode")?;
        class.setattr("_sendfile_compatible", mode.getattr("TRY_NATIVE")?)?;
        Ok(class.unbind())
    })
}

/// Puts the class into the extension module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    feed::remember(module.py())?;
    let class = class(module.py())?.clone_ref(module.py());
    module.add("SocketTransport", class)
}
