//! Addresses between Python's spelling and the kernel's.

use std::net::{Ipv4Addr, Ipv6Addr};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};

use crate::transports::address::Raw;

/// Shelves for addresses that datagrams came from: at first, and at most; and the room on each.
const FEW: usize = 4;
const MANY: usize = 256;
const ROOM: usize = 4;

/// The addresses of recent senders as Python objects: a peer's datagrams share one tuple.
#[derive(Default)]
pub struct Peers {
    shelves: Vec<[Known; ROOM]>,
    /// Where the last address was found or put.
    latest: (usize, usize),
}

type Known = Option<(Box<[u8]>, Py<PyAny>)>;

/// What was forgotten for something new; to be dropped where that may run other code.
pub type Forgotten = (Known, Vec<[Known; ROOM]>);

impl Raw {
    pub fn as_bytes(&self) -> &[u8] {
        let length = (self.length as usize).min(size_of_val(&self.storage));
        // SAFETY: within the storage, all of which is initialised.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), length) }
    }

    /// An address of `bytes`, a C `sockaddr` or a part of one.
    fn of<T: Copy>(address: &T, length: usize) -> Self {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        let mut raw = Self::new();
        // SAFETY: the storage has room for any address, and is aligned for any of them.
        unsafe { (&raw mut raw.storage).cast::<T>().write(*address) };
        raw.length = length as libc::socklen_t;
        raw
    }
}

impl Peers {
    fn shelf(&self, address: &[u8]) -> usize {
        let mut mixed = 0_u64;
        for chunk in address.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mixed = (mixed.rotate_left(5) ^ u64::from_ne_bytes(word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (mixed >> 32) as usize % self.shelves.len().max(1)
    }

    pub fn find(&mut self, py: Python<'_>, address: &[u8]) -> Option<Py<PyAny>> {
        let at = self.shelf(address);
        for (place, known) in self.shelves.get(at)?.iter().enumerate() {
            if let Some((known, object)) = known
                && **known == *address
            {
                self.latest = (at, place);
                return Some(object.clone_ref(py));
            }
        }
        None
    }

    /// Remembers an address, in the place of the one longest on its shelf. Instead of the first
    /// that would have to go, all go, and there are more shelves.
    #[must_use]
    pub fn keep(&mut self, address: &[u8], object: Py<PyAny>) -> Forgotten {
        let mut forgotten = Vec::new();
        let full = match self.shelves.get(self.shelf(address)) {
            Some(shelf) => shelf[ROOM - 1].is_some(),
            None => true,
        };
        if full && self.shelves.len() < MANY {
            let more = (self.shelves.len() * 4).max(FEW);
            forgotten = std::mem::take(&mut self.shelves);
            self.shelves.resize_with(more, Default::default);
        }
        let at = self.shelf(address);
        self.latest = (at, 0);
        self.shelves[at].rotate_right(1);
        (self.shelves[at][0].replace((address.into(), object)), forgotten)
    }

    /// The kernel's form of the last sender's address, if this is that object.
    pub fn reply(&self, object: &Bound<'_, PyAny>) -> Option<&[u8]> {
        let (address, known) = self.shelves.get(self.latest.0)?[self.latest.1].as_ref()?;
        known.is(object).then_some(&**address)
    }
}

/// The kernel's form of an address in its plain Python form. `None`: ask Python's socket.
pub fn parse(family: i32, address: &Bound<'_, PyAny>) -> Option<Raw> {
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
