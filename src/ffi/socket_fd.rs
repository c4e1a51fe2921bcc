//! Descriptors of socket objects that belong to a program.
//!
//! A program may close its socket, or detach the descriptor, while a transport or a listener works
//! with it. Then the number is free for any other file, whose data must not be touched. asyncio calls
//! the socket's methods, which know. Here the object's number is read before each system call: from
//! the field of its C struct where a probe found that at the expected place, else by `fileno()`.

use std::io;
use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use pyo3::{ffi, intern};

use crate::ffi::gil::{GilFlag, PySlot};
use crate::ffi::imports;

/// Where `sock_fd` lies in a `PySocketSockObject`.
const OFFSET: usize = size_of::<ffi::PyObject>();

/// A descriptor, and the socket object that has it, if there is one.
///
/// `source` says how to read the number of the object in `socket`; both are set together. Once the
/// socket is taken out there is no descriptor any more.
pub(crate) struct Descriptor {
    number: RawFd,
    socket: PySlot,
    source: GilFlag<NumberSource>,
}

/// Where the number of a socket object is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NumberSource {
    /// There is no object: the descriptor is the holder's alone.
    Bare,
    Field,
    Method,
}

impl Descriptor {
    /// One that has no socket object, until `adopt`.
    pub(crate) const fn bare(number: RawFd) -> Self {
        Self { number, socket: PySlot::empty(), source: GilFlag::new(NumberSource::Bare) }
    }

    /// That of a socket, which has this number now.
    pub(crate) fn of(socket: &Bound<'_, PyAny>, number: RawFd) -> PyResult<Self> {
        let file = Self::bare(number);
        file.adopt(socket)?;
        Ok(file)
    }

    /// From here on the descriptor is the socket's, which closes it.
    pub(crate) fn adopt(&self, socket: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = socket.py();
        let source = match in_field(socket)? {
            Some(number) if number == self.number => NumberSource::Field,
            _ => NumberSource::Method,
        };
        self.socket.set(py, Some(socket.clone().unbind()));
        self.source.set(py, source);
        Ok(())
    }

    /// The number as it was at first, for texts and as a key.
    pub(crate) const fn number(&self) -> RawFd {
        self.number
    }

    /// The number, for a system call. An error if the socket does not have it any more.
    #[inline]
    pub(crate) fn open(&self, py: Python<'_>) -> io::Result<RawFd> {
        let now = match self.source.get(py) {
            NumberSource::Bare => self.number,
            NumberSource::Field if !self.socket.as_ptr(py).is_null() => {
                // SAFETY: `adopt` checked that it is of the class, and it stays so: its `__class__` can
                // only become one of the same layout. The slot keeps it alive.
                unsafe { field(self.socket.as_ptr(py)) }
            }
            NumberSource::Field => -1,
            NumberSource::Method => self.socket.get(py).map_or(-1, |socket| call(&socket)),
        };
        if now == self.number { Ok(now) } else { Err(io::Error::from_raw_os_error(libc::EBADF)) }
    }

    /// The socket object, if there is one.
    pub(crate) fn socket<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.socket.get(py)
    }

    /// Takes the socket object out.
    pub(crate) fn take(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.socket.take(py)
    }

    /// For the garbage collector.
    pub(crate) const fn slot(&self) -> &PySlot {
        &self.socket
    }
}

/// A socket object that has a descriptor, or may have: its class is Python code, which can fail after it
/// was given it, and run code of the program's meanwhile. The descriptor is still the caller's, whose
/// object must not close it then.
pub(crate) fn adopting_object<'py>(
    py: Python<'py>,
    number: RawFd,
    options: Bound<'py, PyDict>,
) -> PyResult<(Bound<'py, PyAny>, PyResult<()>)> {
    // As Python's `accept()`: the class that is there now, which a program may have replaced.
    let replaced = py.import("socket")?.getattr(intern!(py, "socket"))?;
    let class = replaced.cast_into::<PyType>().or_else(|_| imports::socket_class(py).cloned())?;
    let socket = class.call_method1(intern!(py, "__new__"), (&class,))?;
    options.set_item(intern!(py, "fileno"), number)?;
    let initialise = class.getattr(intern!(py, "__init__"))?;
    let initialised = initialise.call((&socket,), Some(&options)).map(drop);
    Ok((socket, initialised))
}

#[cold]
fn call(socket: &Bound<'_, PyAny>) -> RawFd {
    let number = socket.call_method0(intern!(socket.py(), "fileno"));
    number.and_then(|number| number.extract()).unwrap_or(-1)
}

/// The number that a socket has now; -1 for a closed one. Its class must be one whose `fileno()` is
/// Python's own.
#[inline]
pub(crate) fn now(socket: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    match in_field(socket)? {
        Some(number) => Ok(number),
        None => socket.call_method0(intern!(socket.py(), "fileno"))?.extract(),
    }
}

/// The number in the socket's field, if it has one.
#[inline]
fn in_field(socket: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    let Some(class) = class_with_field(socket.py())? else { return Ok(None) };
    // SAFETY: a live object, and a class that is never freed.
    if unsafe { ffi::PyObject_TypeCheck(socket.as_ptr(), class.as_ptr().cast()) } == 0 {
        return Ok(None);
    }
    // SAFETY: an instance of the class, as was just checked.
    Ok(Some(unsafe { field(socket.as_ptr()) }))
}

/// # Safety
/// `socket` must be a live instance of the class that `class_with_field` gives.
unsafe fn field(socket: *mut ffi::PyObject) -> RawFd {
    // SAFETY: the caller's promise: within the object, and always initialised.
    unsafe { socket.byte_add(OFFSET).cast::<RawFd>().read() }
}

/// `_socket.socket`, if its objects keep the number at the expected place.
fn class_with_field(py: Python<'_>) -> PyResult<Option<&Py<PyType>>> {
    static CLASS: PyOnceLock<Option<Py<PyType>>> = PyOnceLock::new();
    let found = CLASS.get_or_try_init(py, || -> PyResult<_> {
        let class = py.import("_socket")?.getattr("socket")?.cast_into::<PyType>()?;
        let size = class.getattr("__basicsize__")?.extract::<usize>()?;
        if size < OFFSET + size_of::<RawFd>() {
            return Ok(None);
        }
        // One that is not initialised has no descriptor: -1, where its other fields are 0 but for
        // its time-out, which is wider.
        let blank = class.call_method1("__new__", (&class,))?;
        // SAFETY: a live object of the class, whose objects reach beyond the field, as was just seen;
        // `__new__` has initialised all of it.
        let number = unsafe { field(blank.as_ptr()) };
        Ok((number == -1).then(|| class.unbind()))
    })?;
    Ok(found.as_ref())
}
