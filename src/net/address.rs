//! Socket addresses: between the kernel's form and Python's.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};

use crate::driver::sys::address::{SockAddr, numeric_host};
use crate::driver::sys::{Decoded, socket};

/// An address kept small, made a Python object when a program asks for it.
#[derive(Default)]
pub(crate) enum Address {
    /// Not known, or not yet.
    #[default]
    Unknown,
    V4 {
        host: [u8; 4],
        port: u16,
    },
    V6(Box<SocketAddrV6>),
    Other(Py<PyAny>),
}

/// The kernel's form of an address that is spelled in the plain way. `None`: leave it to the
/// methods of Python's socket, which know all others and how to refuse them.
pub(crate) fn parse(family: i32, address: &Bound<'_, PyAny>) -> Option<SockAddr> {
    match family {
        libc::AF_INET => parse_v4(address),
        libc::AF_INET6 => parse_v6(address),
        _ => parse_unix(address),
    }
}

/// A literal host and a port. Names, `""` and `"<broadcast>"` are left to Python's socket.
fn parse_v4(address: &Bound<'_, PyAny>) -> Option<SockAddr> {
    let address = address.cast_exact::<PyTuple>().ok()?;
    if address.len() != 2 {
        return None;
    }
    let host: Ipv4Addr = text(address, 0)?.parse().ok()?;
    Some(SockAddr::from(&SocketAddrV4::new(host, number::<u16>(address, 1)?)))
}

/// The same, and perhaps flow information and a scope. `"fe80::1%eth0"` is left to Python's socket.
fn parse_v6(address: &Bound<'_, PyAny>) -> Option<SockAddr> {
    let address = address.cast_exact::<PyTuple>().ok()?;
    if !(2..=4).contains(&address.len()) {
        return None;
    }
    let optional = |at| if at < address.len() { number::<u32>(address, at) } else { Some(0) };
    let host: Ipv6Addr = text(address, 0)?.parse().ok()?;
    let flow = optional(2).filter(|flow| *flow <= 0xf_ffff)?;
    let port = number::<u16>(address, 1)?;
    Some(SockAddr::from(&SocketAddrV6::new(host, port, flow, optional(3)?)))
}

/// A path or an abstract name. Paths beyond ASCII are left to Python's socket, which knows their
/// encoding.
fn parse_unix(address: &Bound<'_, PyAny>) -> Option<SockAddr> {
    if let Ok(text) = address.cast_exact::<PyString>() {
        SockAddr::unix(text.to_str().ok().filter(|text| text.is_ascii())?.as_bytes())
    } else {
        SockAddr::unix(address.cast_exact::<PyBytes>().ok()?.as_bytes())
    }
}

fn text<'a>(tuple: &'a Bound<'_, PyTuple>, at: usize) -> Option<&'a str> {
    tuple.as_slice()[at].cast_exact::<PyString>().ok()?.to_str().ok()
}

fn number<T: for<'a, 'py> FromPyObject<'a, 'py>>(
    tuple: &Bound<'_, PyTuple>,
    at: usize,
) -> Option<T> {
    tuple.as_slice()[at].cast_exact::<PyInt>().ok()?.extract().ok()
}

/// The socket's own address; `Unknown` if the kernel gives none.
pub(crate) fn local(py: Python<'_>, fd: RawFd) -> Address {
    known(py, socket::local(fd))
}

/// Its peer's address; `Unknown` if there is no peer, or not any more.
pub(crate) fn remote(py: Python<'_>, fd: RawFd) -> Address {
    known(py, socket::remote(fd))
}

fn known(py: Python<'_>, address: Option<SockAddr>) -> Address {
    address.and_then(|address| Address::new(py, &address).ok()).unwrap_or_default()
}

impl Address {
    pub(crate) fn new(py: Python<'_>, address: &SockAddr) -> PyResult<Self> {
        Ok(match address.decode() {
            Decoded::V4(address) => Self::V4 { host: address.ip().octets(), port: address.port() },
            Decoded::V6(address) => Self::V6(Box::new(address)),
            // As Python's sockets: a path as `str`, an abstract name as `bytes`, no name as `''`.
            Decoded::Path(path) => {
                let path = PyBytes::new(py, path);
                Self::Other(py.import("os")?.call_method1("fsdecode", (path,))?.unbind())
            }
            Decoded::Abstract(name) => Self::Other(PyBytes::new(py, name).into_any().unbind()),
            Decoded::Unknown => Self::Unknown,
        })
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::V4 { host, port } => Self::V4 { host: *host, port: *port },
            Self::V6(address) => Self::V6(address.clone()),
            Self::Other(object) => Self::Other(object.clone_ref(py)),
        }
    }

    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// A closed socket object of the family that this is an address of.
    pub(crate) fn closed_socket(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let family = match self {
            Self::V4 { .. } => libc::AF_INET,
            Self::V6(_) => libc::AF_INET6,
            Self::Unknown | Self::Other(_) => libc::AF_UNIX,
        };
        let socket = crate::ffi::imports::socket_class(py)?.call1((family,))?;
        socket.call_method0("close")?;
        Ok(socket.unbind())
    }

    pub(crate) fn to_object(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(match self {
            Self::Unknown => py.None(),
            Self::V4 { host, port } => {
                let host = Ipv4Addr::from(*host).to_string();
                (host, *port).into_pyobject(py)?.into_any().unbind()
            }
            Self::V6(address) => PyTuple::new(
                py,
                [
                    PyString::new(py, &numeric_host(address)).into_any(),
                    address.port().into_pyobject(py)?.into_any(),
                    address.flowinfo().into_pyobject(py)?.into_any(),
                    address.scope_id().into_pyobject(py)?.into_any(),
                ],
            )?
            .into_any()
            .unbind(),
            Self::Other(object) => object.clone_ref(py),
        })
    }
}
