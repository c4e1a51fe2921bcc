//! `getaddrinfo` of a literal address, without a thread and without the resolver.
//!
//! Only the plain forms are answered here: a dotted quad or an IPv6 address as libc would print it,
//! a known type of socket or none, no flag that changes the answer. The rest is left to libc.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyInt, PyList, PyString, PyTuple};

use crate::driver::sys::resolver::ANY_SOCKET;
use crate::ffi::finalizing;

struct SocketConstants {
    inet: Py<PyAny>,
    inet6: Py<PyAny>,
    stream: Py<PyAny>,
    datagram: Py<PyAny>,
    raw: Py<PyAny>,
}

/// A type of socket (`SOCK_*`), and the protocol that libc names with it.
type TypeAndProtocol = (i32, i32);

/// What libc answers for a type and a protocol: all that fit, in its order.
fn socket_types(r#type: i32, proto: i32) -> Option<&'static [TypeAndProtocol]> {
    match (r#type, proto) {
        (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => {
            Some(&[(libc::SOCK_STREAM, libc::IPPROTO_TCP)])
        }
        (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => Some(&[(libc::SOCK_DGRAM, libc::IPPROTO_UDP)]),
        (0, 0) => ANY_SOCKET,
        _ => None,
    }
}

fn constants(py: Python<'_>) -> PyResult<&SocketConstants> {
    static CACHE: PyOnceLock<SocketConstants> = PyOnceLock::new();
    CACHE.get_or_try_init(py, || {
        let socket = py.import("socket")?;
        let get = |name: &str| socket.getattr(name).map(Bound::unbind);
        Ok(SocketConstants {
            inet: get("AF_INET")?,
            inet6: get("AF_INET6")?,
            stream: get("SOCK_STREAM")?,
            datagram: get("SOCK_DGRAM")?,
            raw: get("SOCK_RAW")?,
        })
    })
}

/// Flags that do not change what a literal resolves to.
const HARMLESS: i32 = libc::AI_PASSIVE | libc::AI_NUMERICHOST | libc::AI_NUMERICSERV;

/// The address of a stream socket, as asyncio's `create_connection` reads a literal host and a port.
/// `None`: leave it to asyncio.
pub(super) fn stream_address(
    host: &Bound<'_, PyAny>,
    port: &Bound<'_, PyAny>,
) -> Option<SocketAddr> {
    Some(SocketAddr::new(literal(host)?, port_number(port)?))
}

fn port_number(port: &Bound<'_, PyAny>) -> Option<u16> {
    if port.is_none() {
        return Some(0);
    }
    if port.is_exact_instance_of::<PyInt>() {
        return port.extract().ok();
    }
    let text = port.cast_exact::<PyString>().ok()?.to_str().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn literal(host: &Bound<'_, PyAny>) -> Option<IpAddr> {
    let text = host.cast_exact::<PyString>().ok()?.to_str().ok()?;
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(address.into());
    }
    let address = text.parse::<Ipv6Addr>().ok()?;
    // libc prints IPv4-compatible addresses in another way than Rust.
    let compatible = address.segments()[..6] == [0; 6] && address.segments()[6] != 0;
    (!compatible).then_some(address.into())
}

/// Return what ``socket.getaddrinfo`` returns for a literal address, without a system call.
///
/// Return ``None`` if ``host`` is not a literal address of a plain form: then libc must
/// be asked. Raises ``TypeError`` or ``OverflowError`` if one of the last four is no C
/// ``int``.
#[pyfunction]
#[pyo3(signature = (host, port, family, r#type, proto, flags))]
pub(crate) fn literal_addrinfo<'py>(
    host: &Bound<'py, PyAny>,
    port: &Bound<'py, PyAny>,
    family: i32,
    r#type: i32,
    proto: i32,
    flags: i32,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let py = host.py();
    finalizing::guard();
    let (Some(types), Some(port), Some(address)) =
        (socket_types(r#type, proto), port_number(port), literal(host))
    else {
        return Ok(None);
    };
    let right_family = match address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    if flags & !HARMLESS != 0 || (family != libc::AF_UNSPEC && family != right_family) {
        return Ok(None);
    }
    let constants = constants(py)?;
    let sockaddr = match address {
        IpAddr::V4(address) => (address.to_string(), port).into_pyobject(py)?,
        IpAddr::V6(address) => {
            let tuple = (address.to_string(), port, 0, 0).into_pyobject(py)?;
            tuple.into_any().cast_into::<PyTuple>()?
        }
    };
    let family = if address.is_ipv4() { &constants.inet } else { &constants.inet6 };
    let answer = PyList::empty(py);
    for (r#type, proto) in types {
        let r#type = match *r#type {
            libc::SOCK_STREAM => &constants.stream,
            libc::SOCK_DGRAM => &constants.datagram,
            _ => &constants.raw,
        };
        answer.append((family, r#type, *proto, "", &sockaddr))?;
    }
    Ok(Some(answer))
}

/// Return True if libc may read ``host``, a ``str`` or ``bytes``, as a literal address.
///
/// Then ``getaddrinfo`` with ``AI_NUMERICHOST`` does not call the resolver.
#[pyfunction]
pub(crate) fn looks_numeric(host: &Bound<'_, PyAny>) -> bool {
    let numeric = |text: &[u8]| {
        text.contains(&b':')
            || (text.first().is_some_and(u8::is_ascii_digit)
                && text
                    .iter()
                    .all(|byte| matches!(byte, b'.' | b'x' | b'X') || byte.is_ascii_hexdigit()))
    };
    if let Ok(text) = host.extract::<std::borrow::Cow<'_, str>>() {
        return numeric(text.as_bytes());
    }
    host.extract::<&[u8]>().is_ok_and(numeric)
}
