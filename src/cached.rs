//! Python objects looked up once and kept: asyncio's classes, our helper module.

use std::sync::OnceLock;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

pub struct Asyncio {
    pub handle: Py<PyAny>,
    pub timer_handle: Py<PyAny>,
    /// CPython 3.14 and later.
    pub thread_safe_handle: Option<Py<PyAny>>,
    pub future: Py<PyAny>,
    pub server: Py<PyAny>,
    pub cancelled_error: Py<PyAny>,
    /// The base of asyncio's transports with flow control, a `Transport` itself.
    pub transport: Py<PyType>,
    pub protocol: Py<PyType>,
    pub buffered_protocol: Py<PyAny>,
    pub stream_reader_protocol: Py<PyAny>,
    pub stream_reader: Py<PyAny>,
}

pub fn asyncio(py: Python<'_>) -> PyResult<&Asyncio> {
    static CACHE: PyOnceLock<Asyncio> = PyOnceLock::new();
    CACHE.get_or_try_init(py, || {
        let module = py.import("asyncio")?;
        let get = |name: &str| module.getattr(name).map(Bound::unbind);
        Ok(Asyncio {
            handle: get("Handle")?,
            timer_handle: get("TimerHandle")?,
            thread_safe_handle: py
                .import("asyncio.events")?
                .getattr_opt("_ThreadSafeHandle")?
                .map(Bound::unbind),
            future: get("Future")?,
            server: py.import("asyncio.base_events")?.getattr("Server")?.unbind(),
            cancelled_error: get("CancelledError")?,
            transport: py
                .import("asyncio.transports")?
                .getattr("_FlowControlMixin")?
                .cast_into::<PyType>()?
                .unbind(),
            protocol: module.getattr("Protocol")?.cast_into::<PyType>()?.unbind(),
            buffered_protocol: get("BufferedProtocol")?,
            stream_reader_protocol: get("StreamReaderProtocol")?,
            stream_reader: get("StreamReader")?,
        })
    })
}

/// The package that this core belongs to.
static PACKAGE: OnceLock<String> = OnceLock::new();

/// Said before anything of the core is used. A core has one Python side: it keeps pieces of it.
pub fn set_package(name: &str) -> PyResult<()> {
    if PACKAGE.get_or_init(|| name.to_owned()) == name {
        return Ok(());
    }
    Err(PyImportError::new_err(format!(
        "this event loop is a part of {} already, and cannot be one of {name}, too",
        PACKAGE.get().map_or("another package", String::as_str),
    )))
}

/// `tokioloop._helpers`: what reads better in Python and runs once an error or a connection.
pub fn helpers(py: Python<'_>) -> PyResult<&Py<PyModule>> {
    static CACHE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    CACHE.get_or_try_init(py, || {
        let package = PACKAGE.get().map_or("tokioloop", String::as_str);
        Ok(py.import(format!("{package}._helpers"))?.unbind())
    })
}

/// `socket.socket`.
pub fn socket_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CACHE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CACHE.import(py, "socket", "socket")
}

/// `_socket.socket.detach`: takes the descriptor out of a socket object, whatever its class.
pub fn detach(py: Python<'_>) -> PyResult<&Py<PyAny>> {
    static CACHE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CACHE.get_or_try_init(py, || {
        Ok(py.import("_socket")?.getattr("socket")?.getattr("detach")?.unbind())
    })
}

/// `sys.audit`.
pub fn audit(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CACHE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CACHE.import(py, "sys", "audit")
}

/// Whether nobody has replaced `socket.socket.connect`, as tests that forbid connections do.
pub fn connects_as_ever(py: Python<'_>) -> PyResult<bool> {
    static CACHE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let name = pyo3::intern!(py, "connect");
    let original = CACHE.get_or_try_init(py, || {
        PyResult::Ok(py.import("_socket")?.getattr("socket")?.getattr(name)?.unbind())
    })?;
    Ok(socket_class(py)?.getattr(name)?.is(original))
}

/// asyncio's own loop over selectors, by a name that nobody gives to another loop.
pub fn selector_loop(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CACHE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CACHE.import(py, "asyncio.selector_events", "BaseSelectorEventLoop")
}

/// `asyncio.trsock.TransportSocket`.
pub fn transport_socket_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CACHE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CACHE.import(py, "asyncio.trsock", "TransportSocket")
}
