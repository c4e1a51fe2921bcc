//! asyncio's own streams: their classes, and the methods that they had when the package was imported.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};
use pyo3::{PyTypeInfo, ffi, intern};

use crate::ffi::arguments::{Args, Matching};
use crate::ffi::imports;

/// The methods of asyncio's reader that the native ones stand for, or go past.
pub(super) const READER_METHODS: [&str; 15] = [
    "__anext__",
    "_maybe_resume_transport",
    "_wait_for_data",
    "_wakeup_waiter",
    "at_eof",
    "exception",
    "feed_data",
    "feed_eof",
    "read",
    "readexactly",
    "readline",
    "readuntil",
    "set_exception",
    "__getattribute__",
    "__setattr__",
];

/// The attributes of readers and of writers, which are descriptors of the native classes.
const READER_ATTRIBUTES: [&str; 9] = [
    "__dict__",
    "_buffer",
    "_eof",
    "_exception",
    "_limit",
    "_loop",
    "_paused",
    "_transport",
    "_waiter",
];
const WRITER_ATTRIBUTES: [&str; 4] = ["_loop", "_protocol", "_reader", "_transport"];

pub(super) struct Originals {
    pub reader: Py<PyAny>,
    pub writer: Py<PyAny>,
    /// Name and method, by the place of the name in `READER_METHODS`. The names are made now, because
    /// there may be no memory for them when they are needed.
    pub reader_methods: [(Py<PyString>, Py<PyAny>); READER_METHODS.len()],
    pub reader_attributes: [Py<PyString>; READER_ATTRIBUTES.len()],
    pub writer_attributes: [Py<PyString>; WRITER_ATTRIBUTES.len()],
    /// `inspect.getattr_static`
    getattr_static: Py<PyAny>,
    /// `FlowControlMixin._drain_helper`, in Python.
    pub drain_helper: Py<PyAny>,
    pub incomplete: Py<PyAny>,
    pub overrun: Py<PyAny>,
}

pub(super) fn originals(py: Python<'_>) -> PyResult<&Originals> {
    static ORIGINALS: PyOnceLock<Originals> = PyOnceLock::new();
    ORIGINALS.get_or_try_init(py, || {
        let streams = py.import("asyncio.streams")?;
        let exceptions = py.import("asyncio.exceptions")?;
        let reader = imports::asyncio(py)?.stream_reader.bind(py).clone();
        let names = READER_METHODS.map(|name| PyString::intern(py, name));
        // All of them are there in each version of asyncio's.
        let methods = names.map(|name| (name.clone().unbind(), reader.getattr(&name)));
        if let Some(Err(error)) = methods.iter().map(|it| it.1.as_ref()).find(|it| it.is_err()) {
            return Err(error.clone_ref(py));
        }
        let reader_methods =
            methods.map(|(name, method)| (name, method.map_or_else(|_| py.None(), Bound::unbind)));
        Ok(Originals {
            reader: reader.unbind(),
            writer: streams.getattr("StreamWriter")?.unbind(),
            reader_methods,
            reader_attributes: READER_ATTRIBUTES.map(|it| PyString::intern(py, it).unbind()),
            writer_attributes: WRITER_ATTRIBUTES.map(|it| PyString::intern(py, it).unbind()),
            getattr_static: py.import("inspect")?.getattr("getattr_static")?.unbind(),
            drain_helper: imports::asyncio(py)?
                .stream_reader_protocol
                .bind(py)
                .getattr("_drain_helper")?
                .unbind(),
            incomplete: exceptions.getattr("IncompleteReadError")?.unbind(),
            overrun: exceptions.getattr("LimitOverrunError")?.unbind(),
        })
    })
}

/// Calls the method of one of asyncio's classes on an object of ours.
#[cold]
pub(super) fn inherited<'py>(
    class: &Py<PyAny>,
    slf: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    args: &Args<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let method = class.bind(slf.py()).getattr(name)?;
    args.forward_behind(&[slf.as_borrowed()], &method)
}

/// Whether asyncio's own class of readers is as it was.
pub(super) fn reader_is_unpatched(py: Python<'_>) -> PyResult<bool> {
    let originals = originals(py)?;
    for (name, original) in &originals.reader_methods {
        if !originals.reader.bind(py).getattr(name)?.is(original) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a class has these attributes of ours, and no way of its own to look them up.
pub(super) fn has_attributes_of<T: PyTypeInfo>(
    class: &Bound<'_, PyType>,
    names: &[Py<PyString>],
) -> PyResult<bool> {
    let py = class.py();
    let (object, ours) = (py.get_type::<PyAny>(), py.get_type::<T>());
    let look_up = intern!(py, "__getattribute__");
    if class.hasattr(intern!(py, "__getattr__"))?
        || !class.getattr(look_up)?.is(object.getattr(look_up)?)
    {
        return Ok(false);
    }
    // As it is in the `__dict__` of a class or of one of its bases.
    let attribute = originals(py)?.getattr_static.bind(py);
    for name in names {
        if !attribute.call1((class, name))?.is(attribute.call1((&ours, name))?) {
            return Ok(false);
        }
    }
    Ok(true)
}

unsafe extern "C" {
    /// The type of bound methods, and the function of one: of CPython's API, and not of PyO3's.
    static mut PyMethod_Type: ffi::PyTypeObject;
    fn PyMethod_Function(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// Whether `method` is `function`, bound.
pub(crate) fn is_method(method: &Bound<'_, PyAny>, function: &Py<PyAny>) -> bool {
    // SAFETY: a bound method, as was just checked, for which this gives a borrowed reference.
    unsafe {
        ffi::Py_TYPE(method.as_ptr()) == &raw mut PyMethod_Type
            && PyMethod_Function(method.as_ptr()) == function.as_ptr()
    }
}
