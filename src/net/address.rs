//! Socket addresses: the kernel's, and as Python spells them.

use std::ffi::CStr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};

/// An address kept small, made a Python object when somebody asks.
#[derive(Default)]
pub(crate) enum Address {
    /// Not known (yet).
    #[default]
    Unknown,
    V4 {
        host: [u8; 4],
        port: u16,
    },
    V6(Box<libc::sockaddr_in6>),
    Other(Py<PyAny>),
}

/// Room for any address that the kernel writes.
#[derive(Clone, Copy)]
pub(crate) struct Raw {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl Raw {
    pub(crate) fn new() -> Self {
        // SAFETY: all zeros is a valid value of this plain C struct.
        let storage = unsafe { std::mem::zeroed() };
        Self { storage, length: Self::ROOM }
    }

    /// The length to offer the kernel.
    pub(crate) const ROOM: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

    /// Notes how long an address was written by a call that was not given `as_mut_ptrs`' second.
    pub(crate) fn set_length(&mut self, length: libc::socklen_t) {
        self.length = length;
    }

    /// Pointers for a system call that fills the address in.
    pub(crate) fn as_mut_ptrs(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.storage).cast(), &raw mut self.length)
    }

    pub(crate) fn into_address(self, py: Python<'_>) -> PyResult<Address> {
        if self.length == 0 {
            // What an unbound Unix socket sends comes from nowhere.
            return Ok(Address::Unknown);
        }
        // SAFETY: the storage is as large as any of these structs and aligned for all; all of it is
        // initialised, whatever the kernel has written, and any bytes are a value of them.
        unsafe {
            Ok(match i32::from(self.storage.ss_family) {
                libc::AF_INET => {
                    let name: libc::sockaddr_in = *(&raw const self.storage).cast();
                    let host = name.sin_addr.s_addr.to_ne_bytes();
                    Address::V4 { host, port: u16::from_be(name.sin_port) }
                }
                libc::AF_INET6 => Address::V6(Box::new(*(&raw const self.storage).cast())),
                libc::AF_UNIX => Address::Other(self.unix(py)?),
                _ => Address::Unknown,
            })
        }
    }

    /// A path as `str`, an abstract name as `bytes`, no name as `''`.
    fn unix(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let header = std::mem::offset_of!(libc::sockaddr_un, sun_path);
        let length = (self.length as usize).saturating_sub(header);
        // SAFETY: within the storage, whatever length the kernel gave, and all of it initialised.
        let path = unsafe {
            let start = (&raw const self.storage).cast::<u8>().add(header);
            std::slice::from_raw_parts(start, length.min(size_of_val(&self.storage) - header))
        };
        if path.first() == Some(&0) && path.len() > 1 {
            return Ok(PyBytes::new(py, path).into_any().unbind());
        }
        let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
        let path = PyBytes::new(py, &path[..end]);
        Ok(py.import("os")?.call_method1("fsdecode", (path,))?.unbind())
    }
}

impl Raw {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        let length = (self.length as usize).min(size_of_val(&self.storage));
        // SAFETY: within the storage, all of which is initialised.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), length) }
    }

    /// An address that `as_bytes` gave.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut raw = Self::new();
        let length = bytes.len().min(size_of_val(&raw.storage));
        // SAFETY: within both; any bytes are a valid value of this plain C struct.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                (&raw mut raw.storage).cast::<u8>(),
                length,
            );
        }
        raw.length = length as libc::socklen_t;
        raw
    }

    /// A C `sockaddr` of some family, of which `length` bytes count.
    fn of<T: Copy>(address: &T, length: usize) -> Self {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        let mut raw = Self::new();
        // SAFETY: the storage has room, as was just asserted, and is aligned for any C address, which
        // is all that this is called with.
        unsafe { (&raw mut raw.storage).cast::<T>().write(*address) };
        raw.length = length as libc::socklen_t;
        raw
    }
}

/// The kernel's form of an address in its plain Python form. `None`: ask Python's socket.
pub(crate) fn parse(family: i32, address: &Bound<'_, PyAny>) -> Option<Raw> {
    match family {
        libc::AF_INET => parse_v4(address),
        libc::AF_INET6 => parse_v6(address),
        _ => parse_unix(address),
    }
}

/// A literal host and a port. Names, `""` and `"<broadcast>"` are for Python's socket.
fn parse_v4(address: &Bound<'_, PyAny>) -> Option<Raw> {
    let address = address.cast_exact::<PyTuple>().ok()?;
    if address.len() != 2 {
        return None;
    }
    let host: Ipv4Addr = text(address, 0)?.parse().ok()?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: number::<u16>(address, 1)?.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(host.octets()) },
        sin_zero: [0; 8],
    };
    Some(Raw::of(&address, size_of_val(&address)))
}

/// The same, and perhaps flow information and a scope. `"fe80::1%eth0"` is for Python's socket.
fn parse_v6(address: &Bound<'_, PyAny>) -> Option<Raw> {
    let address = address.cast_exact::<PyTuple>().ok()?;
    if !(2..=4).contains(&address.len()) {
        return None;
    }
    let optional = |at| if at < address.len() { number::<u32>(address, at) } else { Some(0) };
    let host: Ipv6Addr = text(address, 0)?.parse().ok()?;
    let flow = optional(2).filter(|flow| *flow <= 0xf_ffff)?;
    let address = libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: number::<u16>(address, 1)?.to_be(),
        sin6_flowinfo: flow.to_be(),
        sin6_addr: libc::in6_addr { s6_addr: host.octets() },
        sin6_scope_id: optional(3)?,
    };
    Some(Raw::of(&address, size_of_val(&address)))
}

/// A path or an abstract name. Paths beyond ASCII are for Python's socket, which knows their
/// encoding.
fn parse_unix(address: &Bound<'_, PyAny>) -> Option<Raw> {
    let path = if let Ok(text) = address.cast_exact::<PyString>() {
        text.to_str().ok().filter(|text| text.is_ascii())?.as_bytes()
    } else {
        address.cast_exact::<PyBytes>().ok()?.as_bytes()
    };
    // SAFETY: all zeros is a valid value of this plain C struct.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // An abstract name is as long as it is; a path ends with a NUL.
    let end = if *path.first()? == 0 { path.len() } else { path.len() + 1 };
    if end > address.sun_path.len() {
        return None;
    }
    for (to, from) in address.sun_path.iter_mut().zip(path) {
        *to = *from as libc::c_char;
    }
    Some(Raw::of(&address, std::mem::offset_of!(libc::sockaddr_un, sun_path) + end))
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

/// `getsockname`; `Unknown` if the kernel will not say.
pub(crate) fn local(py: Python<'_>, fd: RawFd) -> Address {
    ask(py, |address, length| {
        // SAFETY: room for an address, and how much, both `Raw`'s own; a bad descriptor is an error.
        unsafe { libc::getsockname(fd, address, length) }
    })
}

/// `getpeername`; `Unknown` if there is no peer (any more).
pub(crate) fn remote(py: Python<'_>, fd: RawFd) -> Address {
    ask(py, |address, length| {
        // SAFETY: room for an address, and how much, both `Raw`'s own; a bad descriptor is an error.
        unsafe { libc::getpeername(fd, address, length) }
    })
}

fn ask(
    py: Python<'_>,
    call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> i32,
) -> Address {
    let mut raw = Raw::new();
    let (address, length) = raw.as_mut_ptrs();
    if call(address, length) != 0 {
        return Address::Unknown;
    }
    raw.into_address(py).unwrap_or_default()
}

impl Address {
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

    /// A closed socket of the family that this is an address of.
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
                    PyString::new(py, &v6_host(address)).into_any(),
                    u16::from_be(address.sin6_port).into_pyobject(py)?.into_any(),
                    u32::from_be(address.sin6_flowinfo).into_pyobject(py)?.into_any(),
                    address.sin6_scope_id.into_pyobject(py)?.into_any(),
                ],
            )?
            .into_any()
            .unbind(),
            Self::Other(object) => object.clone_ref(py),
        })
    }
}

/// The host as libc prints it; its zone is an item of its own in Python's tuple.
fn v6_host(address: &libc::sockaddr_in6) -> String {
    let zoneless = libc::sockaddr_in6 { sin6_scope_id: 0, ..*address };
    let mut host = [0 as libc::c_char; 128];
    // SAFETY: a whole address of its length, and a buffer of its length, which libc does not exceed.
    let result = unsafe {
        libc::getnameinfo(
            (&raw const zoneless).cast(),
            size_of::<libc::sockaddr_in6>() as libc::socklen_t,
            host.as_mut_ptr(),
            host.len() as libc::socklen_t,
            std::ptr::null_mut(),
            0,
            libc::NI_NUMERICHOST,
        )
    };
    if result != 0 {
        return Ipv6Addr::from(address.sin6_addr.s6_addr).to_string();
    }
    // SAFETY: on success libc ends the text with a NUL inside the buffer.
    unsafe { CStr::from_ptr(host.as_ptr()) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_host_has_no_zone_in_it() {
        let mut octets = [0; 16];
        (octets[0], octets[1], octets[15]) = (0xfe, 0x80, 1);
        let address = libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: octets },
            sin6_scope_id: 1,
        };
        assert_eq!(v6_host(&address), "fe80::1");
    }
}
