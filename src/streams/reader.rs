//! The base class of `StreamReader`: asyncio's attributes, and whether shortcuts may be taken.
//!
//! Memory that is all zeros is a reader whose constructor has not run, and which has no attributes:
//! CPython's `object.__new__` may show one to destructors, if it finds no memory for the `__dict__`.

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::buffer::Buffer;
use super::originals::{READER_METHODS, has_attributes_of, originals, reader_is_unpatched};
use crate::ffi::class_cache::ClassCache;
use crate::ffi::finalizing;
use crate::ffi::gil::{GilFlag, PySlot};

/// The native part of a stream reader.
///
/// A base class of :class:`tokioloop.StreamReader`, before ``asyncio.StreamReader``, which
/// contributes the rest. It ignores its arguments.
#[pyclass(subclass, frozen, module = "tokioloop._core")]
pub(crate) struct NativeStreamReader {
    limit: PySlot,
    /// The limit, if it is a whole number of bytes that asyncio would accept; else 0.
    most: GilFlag<usize>,
    pub(super) event_loop: PySlot,
    pub(super) buffer: Buffer,
    eof: GilFlag<Attribute>,
    paused: GilFlag<Attribute>,
    /// These are `None` or an object, once the constructor has run.
    pub(super) waiter: PySlot,
    pub(super) exception: PySlot,
    pub(super) transport: PySlot,
    /// The instance has a method of its own, or may have.
    shadowed: GilFlag<bool>,
}

/// An attribute that is true or false.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Attribute {
    Missing = 0,
    False,
    True,
}

impl Attribute {
    const fn of(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

fn missing(name: &str) -> PyErr {
    PyAttributeError::new_err(format!("'StreamReader' object has no attribute '{name}'"))
}

fn held<'py>(py: Python<'py>, slot: &PySlot, name: &str) -> PyResult<Bound<'py, PyAny>> {
    slot.get(py).ok_or_else(|| missing(name))
}

fn truth(py: Python<'_>, flag: &GilFlag<Attribute>, name: &str) -> PyResult<bool> {
    match flag.get(py) {
        Attribute::Missing => Err(missing(name)),
        value => Ok(value == Attribute::True),
    }
}

#[pymethods]
impl NativeStreamReader {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        finalizing::guard();
        Self {
            limit: PySlot::empty(),
            most: GilFlag::new(0),
            event_loop: PySlot::empty(),
            buffer: Buffer::new(),
            eof: GilFlag::new(Attribute::Missing),
            paused: GilFlag::new(Attribute::Missing),
            waiter: PySlot::empty(),
            exception: PySlot::empty(),
            transport: PySlot::empty(),
            shadowed: GilFlag::new(false),
        }
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
        self.buffer.forget(py);
    }

    #[getter(_limit)]
    fn get_limit<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        held(py, &self.limit, "_limit")
    }

    #[setter(_limit)]
    fn set_limit(&self, value: &Bound<'_, PyAny>) {
        finalizing::guard();
        let exact = value.is_exact_instance_of::<PyInt>();
        // The error of a number that does not fit is dropped.
        let most = if exact { value.extract::<usize>().unwrap_or(0) } else { 0 };
        self.most.set(value.py(), most);
        self.limit.set(value.py(), Some(value.clone().unbind()));
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

    #[getter(_buffer)]
    fn get_buffer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        self.buffer.shown(py)
    }

    #[setter(_buffer)]
    fn set_buffer(&self, value: &Bound<'_, PyAny>) {
        finalizing::guard();
        self.buffer.replace(value);
    }

    #[getter(_eof)]
    fn get_eof(&self, py: Python<'_>) -> PyResult<bool> {
        finalizing::guard();
        truth(py, &self.eof, "_eof")
    }

    #[setter(_eof)]
    fn set_eof(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        let ended = value.is_truthy()?;
        self.eof.set(value.py(), Attribute::of(ended));
        Ok(())
    }

    #[getter(_paused)]
    fn get_paused(&self, py: Python<'_>) -> PyResult<bool> {
        finalizing::guard();
        truth(py, &self.paused, "_paused")
    }

    #[setter(_paused)]
    fn set_paused(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        let paused = value.is_truthy()?;
        self.pause(value.py(), paused);
        Ok(())
    }

    #[getter(_waiter)]
    fn get_waiter<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        held(py, &self.waiter, "_waiter")
    }

    #[setter(_waiter)]
    fn set_waiter(&self, value: &Bound<'_, PyAny>) {
        finalizing::guard();
        self.waiter.set(value.py(), Some(value.clone().unbind()));
    }

    #[getter(_exception)]
    fn get_exception<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        held(py, &self.exception, "_exception")
    }

    #[setter(_exception)]
    fn set_exception(&self, value: &Bound<'_, PyAny>) {
        finalizing::guard();
        self.exception.set(value.py(), Some(value.clone().unbind()));
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

    /// Who has it may put methods into it.
    #[getter(__dict__)]
    fn dict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        slf.get().shadowed.set(slf.py(), true);
        // SAFETY: a live object; a new reference, or null with an exception set.
        unsafe {
            let dict = ffi::PyObject_GenericGetDict(slf.as_ptr(), std::ptr::null_mut());
            crate::ffi::object::owned(slf.py(), dict)
        }
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: Bound<'_, PyAny>,
        value: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        finalizing::guard();
        set_attribute(slf, &name, Some(&value))
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        set_attribute(slf, &name, None)
    }
}

/// CPython's own way of setting an attribute, and a note if it is one of the methods.
fn set_attribute(
    slf: &Bound<'_, NativeStreamReader>,
    name: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = slf.py();
    let object = value.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: generic attribute setting on a live object; a null value deletes.
    if unsafe { ffi::PyObject_GenericSetAttr(slf.as_ptr(), name.as_ptr(), object) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let name = name.cast::<PyString>().ok().and_then(|name| name.to_str().ok());
    if name.is_some_and(|name| READER_METHODS.contains(&name)) {
        // For good: a program that replaced a method may have kept the old one, to put it back.
        slf.get().shadowed.set(py, true);
    }
    Ok(())
}

impl Drop for NativeStreamReader {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
    }
}

impl NativeStreamReader {
    fn slots(&self) -> [&PySlot; 7] {
        let [chunk, array] = self.buffer.slots();
        let own = [&self.limit, &self.event_loop, &self.waiter, &self.exception, &self.transport];
        let [limit, event_loop, waiter, exception, transport] = own;
        [limit, event_loop, waiter, exception, transport, chunk, array]
    }

    #[inline]
    pub(super) fn has_ended(&self, py: Python<'_>) -> bool {
        self.eof.get(py) == Attribute::True
    }

    pub(super) fn end(&self, py: Python<'_>) {
        self.eof.set(py, Attribute::True);
    }

    #[inline]
    pub(super) fn is_paused(&self, py: Python<'_>) -> bool {
        self.paused.get(py) == Attribute::True
    }

    pub(super) fn pause(&self, py: Python<'_>, paused: bool) {
        self.paused.set(py, Attribute::of(paused));
    }

    /// The limit in bytes.
    #[inline]
    pub(super) fn limit(&self, py: Python<'_>) -> usize {
        self.most.get(py)
    }

    /// Whether the attributes are what asyncio's constructor and methods make of them.
    #[inline]
    fn is_plain(&self, py: Python<'_>) -> bool {
        !self.shadowed.get(py)
            && self.most.get(py) != 0
            && self.buffer.is_own(py)
            && self.eof.get(py) != Attribute::Missing
            && self.paused.get(py) != Attribute::Missing
            && self.waiter.is_set(py)
            && self.exception.is_set(py)
            && self.transport.is_set(py)
            && self.event_loop.is_set(py)
    }
}

/// A native reader on which shortcuts cannot be told from what asyncio does. Any Python code may change
/// that: then [`Reader::is_plain`] says so.
pub(crate) struct Reader<'py>(Bound<'py, PyAny>);

impl<'py> Reader<'py> {
    /// The reader, if it is one.
    #[inline]
    pub(crate) fn plain(object: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        if !has_plain_class(object)? {
            return Ok(None);
        }
        let reader = Self(object.clone());
        Ok(reader.state().is_plain(object.py()).then_some(reader))
    }

    /// # Safety
    /// The object must be a `NativeStreamReader`.
    pub(super) unsafe fn new(object: Bound<'py, PyAny>) -> Self {
        Self(object)
    }

    pub(super) fn is_plain(&self) -> PyResult<bool> {
        Ok(has_plain_class(&self.0)? && self.state().is_plain(self.0.py()))
    }

    #[inline]
    pub(super) fn py(&self) -> Python<'py> {
        self.0.py()
    }

    #[inline]
    pub(super) fn state(&self) -> &NativeStreamReader {
        // SAFETY: a reader, as `plain` has seen or `new` was promised; the struct lives as long as the
        // object, and is only reached by shared references.
        unsafe { self.0.cast_unchecked::<NativeStreamReader>().get() }
    }
}

/// Whether an object is a native reader whose class overrides nothing.
#[inline]
fn has_plain_class(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static CHECKED: ClassCache<bool> = ClassCache::new(false);
    CHECKED.get_or_find(object, || find_overrides(object).map(|found| !found))
}

#[cold]
fn find_overrides(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    if !object.is_instance_of::<NativeStreamReader>() {
        return Ok(true);
    }
    let (class, native) = (object.get_type(), py.get_type::<NativeStreamReader>());
    if !reader_is_unpatched(py)? {
        return Ok(true);
    }
    let originals = originals(py)?;
    for (name, original) in &originals.reader_methods {
        let ours = native.getattr_opt(name)?;
        let found = class.getattr(name)?;
        if !ours.is_some_and(|ours| found.is(&ours)) && !found.is(original) {
            return Ok(true);
        }
    }
    Ok(!has_attributes_of::<NativeStreamReader>(&class, &originals.reader_attributes)?)
}
