//! Imported Python objects, each looked up once a process: asyncio's classes, modules of
//! the package.

use std::sync::OnceLock;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::ffi::gil::GilFlag;

pub(crate) struct Asyncio {
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

pub(crate) fn asyncio(py: Python<'_>) -> PyResult<&Asyncio> {
    static ASYNCIO: PyOnceLock<Asyncio> = PyOnceLock::new();
    ASYNCIO.get_or_try_init(py, || {
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

/// Names the package, before anything of the core is used. A core serves one package: it keeps
/// references to parts of it.
pub(crate) fn set_package(name: &str) -> PyResult<()> {
    if PACKAGE.get_or_init(|| name.to_owned()) == name {
        return Ok(());
    }
    Err(PyImportError::new_err(format!(
        "this event loop is a part of {} already, and cannot be one of {name}, too",
        PACKAGE.get().map_or("another package", String::as_str),
    )))
}

/// The package's `error_reports`: called once an error.
pub(crate) fn error_reports(py: Python<'_>) -> PyResult<&Py<PyModule>> {
    static CACHE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    module_of_package(py, &CACHE, "error_reports")
}

/// The package's `debug_mode`: called in debug mode alone.
pub(crate) fn debug_mode(py: Python<'_>) -> PyResult<&Py<PyModule>> {
    static CACHE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    module_of_package(py, &CACHE, "debug_mode")
}

/// The package's `servers`: called once a connection that its server does not count natively.
pub(crate) fn servers(py: Python<'_>) -> PyResult<&Py<PyModule>> {
    static CACHE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    module_of_package(py, &CACHE, "servers")
}

/// The package's `coroutines`.
pub(crate) fn coroutines(py: Python<'_>) -> PyResult<&Py<PyModule>> {
    static CACHE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    module_of_package(py, &CACHE, "coroutines")
}

/// A module of the package that the core belongs to: code that reads better in Python and runs
/// rarely.
fn module_of_package<'a>(
    py: Python<'_>,
    cache: &'a PyOnceLock<Py<PyModule>>,
    name: &str,
) -> PyResult<&'a Py<PyModule>> {
    cache.get_or_try_init(py, || {
        let package = PACKAGE.get().map_or("tokioloop", String::as_str);
        Ok(py.import(format!("{package}.{name}"))?.unbind())
    })
}

/// `socket.socket`.
pub(crate) fn socket_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CACHE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CACHE.import(py, "socket", "socket")
}

/// `_socket.socket.detach`: takes the descriptor out of a socket object, whatever its class.
pub(crate) fn detach(py: Python<'_>) -> PyResult<&Py<PyAny>> {
    static CACHE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CACHE.get_or_try_init(py, || {
        Ok(py.import("_socket")?.getattr("socket")?.getattr("detach")?.unbind())
    })
}

/// `warnings.warn`, as it was when the core was loaded: transports may outlive the module when the
/// interpreter exits. asyncio's destructors keep it for the same reason.
pub(crate) fn warn(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CACHE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CACHE.import(py, "warnings", "warn")
}

/// Whether `socket.socket` still has CPython's own methods, which the core bypasses, and not those of
/// a tool that forbids connections in tests, counts bytes or records them.
pub(crate) fn sockets_are_unpatched(py: Python<'_>) -> PyResult<bool> {
    /// The class's version tag, which CPython renews with each change of the class, and the answer
    /// for that version.
    static SEEN: GilFlag<(u32, bool)> = GilFlag::new((0, false));
    const METHODS: [&str; 10] = [
        "connect",
        "fileno",
        "getpeername",
        "getsockopt",
        "recv",
        "recv_into",
        "send",
        "sendmsg",
        "setblocking",
        "setsockopt",
    ];
    let class = socket_class(py)?;
    // SAFETY: a type object; the GIL is held.
    let version = || unsafe { (*class.as_type_ptr()).tp_version_tag } as u32;
    let (seen, unpatched) = SEEN.get(py);
    if seen != 0 && seen == version() {
        return Ok(unpatched);
    }
    let base = py.import("_socket")?.getattr("socket")?;
    let mut unpatched = true;
    for method in METHODS {
        unpatched &= class.getattr(method)?.is(&base.getattr(method)?);
    }
    SEEN.set(py, (version(), unpatched));
    Ok(unpatched)
}

/// asyncio's own loop over selectors, by the name that programs do not replace.
pub(crate) fn selector_loop(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CACHE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CACHE.import(py, "asyncio.selector_events", "BaseSelectorEventLoop")
}

/// `asyncio.trsock.TransportSocket`.
pub(crate) fn transport_socket_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CACHE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CACHE.import(py, "asyncio.trsock", "TransportSocket")
}
