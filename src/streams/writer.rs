//! The base class of `StreamWriter`: asyncio's attributes, and the methods that pass a call on to the
//! transport.

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::originals::{self, inherited, originals};
use crate::ffi::arguments::Args;
use crate::ffi::class_cache::ClassCache;
use crate::ffi::definitions::{self, Definitions, METHODS_END, fast_method};
use crate::ffi::finalizing;
use crate::ffi::gil::PySlot;
use crate::ffi::memory;
use crate::ffi::object::{Object, owned};
use crate::ffi::trampoline::fast_function;

/// The native part of a stream writer.
///
/// A base class of :class:`tokioloop.StreamWriter`, before ``asyncio.StreamWriter``, which
/// contributes the rest. It ignores its arguments.
#[pyclass(subclass, frozen, module = "tokioloop._core")]
pub(crate) struct NativeStreamWriter {
    pub(super) transport: PySlot,
    pub(super) protocol: PySlot,
    /// `None`, or a reader of any kind.
    pub(super) reader: PySlot,
    pub(super) event_loop: PySlot,
}

fn held<'py>(py: Python<'py>, slot: &PySlot, name: &str) -> PyResult<Bound<'py, PyAny>> {
    slot.get(py).ok_or_else(|| {
        PyAttributeError::new_err(format!("'StreamWriter' object has no attribute '{name}'"))
    })
}

#[pymethods]
impl NativeStreamWriter {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        finalizing::guard();
        let [transport, protocol, reader, event_loop] = [const { PySlot::empty() }; 4];
        Self { transport, protocol, reader, event_loop }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.slots().into_iter().try_for_each(|slot| slot.traverse(&visit))
    }

    fn __clear__(&self) {
        finalizing::guard();
        // SAFETY: the collector holds the GIL.
        let py = unsafe { Python::assume_attached() };
        for slot in self.slots() {
            slot.set(py, None);
        }
    }

    #[getter(_transport)]
    fn get_transport<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        held(py, &self.transport, "_transport")
    }

    #[setter(_transport)]
    fn set_transport(&self, value: &Bound<'_, PyAny>) {
        finalizing::guard();
        self.transport.set(value.py(), Some(value.clone().unbind()));
    }

    #[getter(_protocol)]
    fn get_protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        held(py, &self.protocol, "_protocol")
    }

    #[setter(_protocol)]
    fn set_protocol(&self, value: &Bound<'_, PyAny>) {
        finalizing::guard();
        self.protocol.set(value.py(), Some(value.clone().unbind()));
    }

    #[getter(_reader)]
    fn get_reader<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        held(py, &self.reader, "_reader")
    }

    #[setter(_reader)]
    fn set_reader(&self, value: &Bound<'_, PyAny>) {
        finalizing::guard();
        self.reader.set(value.py(), Some(value.clone().unbind()));
    }

    #[getter(_loop)]
    fn get_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        held(py, &self.event_loop, "_loop")
    }

    #[setter(_loop)]
    fn set_loop(&self, value: &Bound<'_, PyAny>) {
        finalizing::guard();
        self.event_loop.set(value.py(), Some(value.clone().unbind()));
    }
}

impl Drop for NativeStreamWriter {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
    }
}

impl NativeStreamWriter {
    fn slots(&self) -> [&PySlot; 4] {
        [&self.transport, &self.protocol, &self.reader, &self.event_loop]
    }
}

/// A native writer whose attributes are its own, and set. Any Python code may change that: then
/// [`Writer::is_plain`] says so.
pub(super) struct Writer<'py>(Bound<'py, PyAny>);

impl<'py> Writer<'py> {
    /// The writer, if it is one.
    #[inline]
    pub(super) fn plain(object: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        if !has_plain_class(object)? {
            return Ok(None);
        }
        let writer = Self(object.clone());
        Ok(writer.is_complete().then_some(writer))
    }

    /// # Safety
    /// The object must be a `NativeStreamWriter`.
    pub(super) unsafe fn new(object: Bound<'py, PyAny>) -> Self {
        Self(object)
    }

    pub(super) fn is_plain(&self) -> PyResult<bool> {
        Ok(has_plain_class(&self.0)? && self.is_complete())
    }

    #[inline]
    fn is_complete(&self) -> bool {
        self.state().slots().into_iter().all(|slot| slot.is_set(self.0.py()))
    }

    #[inline]
    pub(super) fn as_any(&self) -> &Bound<'py, PyAny> {
        &self.0
    }

    #[inline]
    pub(super) fn state(&self) -> &NativeStreamWriter {
        // SAFETY: a writer, as `plain` has seen or `new` was promised; the struct lives as long as the
        // object, and is only reached by shared references.
        unsafe { self.0.cast_unchecked::<NativeStreamWriter>().get() }
    }
}

/// Whether an object is a native writer whose class has the attributes of this one.
#[inline]
fn has_plain_class(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static CHECKED: ClassCache<bool> = ClassCache::new(false);
    CHECKED.get_or_find(object, || {
        let py = object.py();
        let class = object.get_type();
        Ok(object.is_instance_of::<NativeStreamWriter>()
            && originals::has_attributes_of::<NativeStreamWriter>(
                &class,
                &originals(py)?.writer_attributes,
            )?)
    })
}

/// Defines a method that calls the transport's method of the same name.
macro_rules! passed_on {
    ($name:ident, $count:literal, $parameters:expr) => {
        fast_function!($name, |py, slf, args| {
            // SAFETY: a method's object is alive for the call.
            let slf = unsafe { Bound::<PyAny>::from_borrowed_ptr(py, slf) };
            let name = intern!(py, stringify!($name));
            pass_on::<$count>(&slf, name, &args, $parameters)
        });
    };
}

passed_on!(write, 1, ["data"]);
passed_on!(writelines, 1, ["data"]);
passed_on!(close, 0, []);
passed_on!(is_closing, 0, []);

#[inline]
fn pass_on<'py, const N: usize>(
    slf: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    args: &Args<'_, 'py>,
    parameters: [&str; N],
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let asyncios_own = || inherited(&originals(py)?.writer, slf, name, args);
    let Some(writer) = Writer::plain(slf)? else { return asyncios_own() };
    let mut stack = [std::ptr::null_mut::<ffi::PyObject>(); 3];
    if args.positional.len() == N && !args.has_keywords() {
        for (slot, arg) in stack[2..].iter_mut().zip(args.positional) {
            *slot = arg.as_ptr();
        }
    } else if args.positional.is_empty() && args.keywords.len() == N {
        let Some(value) = args.only(&memory::string(py, parameters[0])?) else {
            return asyncios_own();
        };
        stack[2] = value.as_ptr();
    } else {
        return asyncios_own();
    }
    // Kept for the call, which may set another.
    let Some(transport) = writer.state().transport.get(py) else {
        return asyncios_own();
    };
    stack[1] = transport.as_ptr();
    let answer = passed(py, name, &mut stack, N)?;
    // asyncio's `write` and `writelines` return nothing.
    Ok(if N == 0 { answer } else { py.None().into_bound(py) })
}

#[inline]
fn passed<'py>(
    py: Python<'py>,
    name: &Bound<'py, PyString>,
    stack: &mut [Object; 3],
    count: usize,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a slot in front that the callee may use, then the object and its arguments, which the
    // caller keeps alive.
    unsafe {
        let count = (1 + count) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let stack = stack.as_ptr().add(1);
        owned(py, ffi::PyObject_VectorcallMethod(name.as_ptr(), stack, count, std::ptr::null_mut()))
    }
}

static METHODS: Definitions<[ffi::PyMethodDef; 5]> = Definitions([
    fast_method(
        c"write",
        write,
        c"write($self, data)\n--\n\n\
        Send bytes, or keep them until they can be sent. As ``asyncio.StreamWriter.write``.",
    ),
    fast_method(
        c"writelines",
        writelines,
        c"writelines($self, data)\n--\n\n\
        Send an iterable of bytes. As ``asyncio.StreamWriter.writelines``.",
    ),
    fast_method(
        c"close",
        close,
        c"close($self)\n--\n\n\
        Close the connection when everything is sent. As ``asyncio.StreamWriter.close``.",
    ),
    fast_method(
        c"is_closing",
        is_closing,
        c"is_closing($self)\n--\n\n\
        Return True if the connection is closed or about to be. As\n\
        ``asyncio.StreamWriter.is_closing``.",
    ),
    METHODS_END,
]);

pub(super) fn add_methods(py: Python<'_>) -> PyResult<()> {
    // SAFETY: functions of the kind that the table says, which take any object.
    unsafe { definitions::add_methods(&py.get_type::<NativeStreamWriter>(), &METHODS.0) }
}
