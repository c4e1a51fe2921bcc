//! `sockaddr` and its families, and the text of an IPv6 host.

use std::ffi::CStr;
use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use super::super::Decoded;

/// Room for any address that the kernel writes.
#[derive(Clone, Copy)]
pub(crate) struct SockAddr {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl SockAddr {
    /// The length to offer the kernel.
    pub(super) const ROOM: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

    /// Room for an address.
    #[inline]
    pub(super) fn new() -> Self {
        // SAFETY: all zeros is a valid value of this plain C struct.
        let storage = unsafe { std::mem::zeroed() };
        Self { storage, length: Self::ROOM }
    }

    /// Notes the length of an address that was written by a call which was not given
    /// `as_mut_ptrs`' second.
    #[inline]
    pub(super) fn set_length(&mut self, length: libc::socklen_t) {
        self.length = length;
    }

    /// Pointers for a system call that fills the address in.
    #[inline]
    pub(super) fn as_mut_ptrs(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.storage).cast(), &raw mut self.length)
    }

    /// The name of a Unix socket: a path, or after a NUL an abstract name.
    pub(crate) fn unix(name: &[u8]) -> Option<Self> {
        // SAFETY: all zeros is a valid value of this plain C struct.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        // An abstract name is as long as it is; a path ends with a NUL.
        let end = if *name.first()? == 0 { name.len() } else { name.len() + 1 };
        if end > address.sun_path.len() {
            return None;
        }
        for (to, from) in address.sun_path.iter_mut().zip(name) {
            *to = *from as libc::c_char;
        }
        Some(Self::of(&address, offset_of!(libc::sockaddr_un, sun_path) + end))
    }

    /// The bytes that the kernel reads of it.
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        let length = (self.length as usize).min(size_of_val(&self.storage));
        // SAFETY: within the storage, all of which is initialised.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), length) }
    }

    /// An address that `as_bytes` gave.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut address = Self::new();
        let length = bytes.len().min(size_of_val(&address.storage));
        // SAFETY: within both; any bytes are a valid value of this plain C struct.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                (&raw mut address.storage).cast::<u8>(),
                length,
            );
        }
        address.length = length as libc::socklen_t;
        address
    }

    pub(crate) fn decode(&self) -> Decoded<'_> {
        if self.length == 0 {
            // An unbound Unix socket has no address to send from.
            return Decoded::Unknown;
        }
        // SAFETY: the storage is as large as any of these structs and aligned for all; all of it is
        // initialised, whatever the kernel has written, and any bytes are a value of them.
        unsafe {
            match i32::from(self.storage.ss_family) {
                libc::AF_INET => {
                    let name: libc::sockaddr_in = *(&raw const self.storage).cast();
                    let host = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
                    Decoded::V4(SocketAddrV4::new(host, u16::from_be(name.sin_port)))
                }
                libc::AF_INET6 => {
                    let name: libc::sockaddr_in6 = *(&raw const self.storage).cast();
                    Decoded::V6(SocketAddrV6::new(
                        Ipv6Addr::from(name.sin6_addr.s6_addr),
                        u16::from_be(name.sin6_port),
                        u32::from_be(name.sin6_flowinfo),
                        name.sin6_scope_id,
                    ))
                }
                libc::AF_UNIX => self.unix_name(),
                _ => Decoded::Unknown,
            }
        }
    }

    fn unix_name(&self) -> Decoded<'_> {
        let header = offset_of!(libc::sockaddr_un, sun_path);
        let length = (self.length as usize).saturating_sub(header);
        // SAFETY: within the storage, whatever length the kernel gave, and all of it initialised.
        let name = unsafe {
            let start = (&raw const self.storage).cast::<u8>().add(header);
            std::slice::from_raw_parts(start, length.min(size_of_val(&self.storage) - header))
        };
        if name.first() == Some(&0) && name.len() > 1 {
            return Decoded::Abstract(name);
        }
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        Decoded::Path(&name[..end])
    }

    /// A C `sockaddr` of some family, of which `length` bytes count.
    fn of<T: Copy>(address: &T, length: usize) -> Self {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        let mut made = Self::new();
        // SAFETY: the storage has room, as was just asserted, and is aligned for any C address,
        // which is all that this is called with.
        unsafe { (&raw mut made.storage).cast::<T>().write(*address) };
        made.length = length as libc::socklen_t;
        made
    }
}

impl From<&SocketAddrV4> for SockAddr {
    fn from(address: &SocketAddrV4) -> Self {
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: address.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
            sin_zero: [0; 8],
        };
        Self::of(&address, size_of_val(&address))
    }
}

impl From<&SocketAddrV6> for SockAddr {
    fn from(address: &SocketAddrV6) -> Self {
        let address = sockaddr_in6(address, address.scope_id());
        Self::of(&address, size_of_val(&address))
    }
}

fn sockaddr_in6(address: &SocketAddrV6, scope_id: u32) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: address.port().to_be(),
        sin6_flowinfo: address.flowinfo().to_be(),
        sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
        sin6_scope_id: scope_id,
    }
}

pub(crate) fn numeric_host(address: &SocketAddrV6) -> String {
    // With a scope of 0 libc prints no zone.
    let zoneless = sockaddr_in6(address, 0);
    let mut host = [0 as libc::c_char; 128];
    // SAFETY: a whole address of its length, and a buffer of its length, which libc does not
    // exceed.
    let result = unsafe {
        libc::getnameinfo(
            (&raw const zoneless).cast(),
            size_of_val(&zoneless) as libc::socklen_t,
            host.as_mut_ptr(),
            host.len() as libc::socklen_t,
            std::ptr::null_mut(),
            0,
            libc::NI_NUMERICHOST,
        )
    };
    if result != 0 {
        return address.ip().to_string();
    }
    // SAFETY: on success libc ends the text with a NUL inside the buffer.
    unsafe { CStr::from_ptr(host.as_ptr()) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link_local() -> SocketAddrV6 {
        SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 7, 0x12345, 1)
    }

    #[test]
    fn a_link_local_host_has_no_zone_in_it() {
        assert_eq!(numeric_host(&link_local()), "fe80::1");
    }

    #[test]
    fn addresses_come_back_as_they_were_given() {
        let v4 = SocketAddrV4::new(Ipv4Addr::new(10, 1, 2, 3), 4567);
        assert_eq!(SockAddr::from(&v4).decode(), Decoded::V4(v4));
        assert_eq!(SockAddr::from(&link_local()).decode(), Decoded::V6(link_local()));
        let path = SockAddr::unix(b"/tmp/name").unwrap();
        assert_eq!(path.decode(), Decoded::Path(b"/tmp/name"));
        assert_eq!(SockAddr::from_bytes(path.as_bytes()).decode(), path.decode());
        assert_eq!(SockAddr::unix(b"\0name").unwrap().decode(), Decoded::Abstract(b"\0name"));
        assert_eq!(SockAddr::from_bytes(&[]).decode(), Decoded::Unknown);
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        assert!(SockAddr::unix(&[b'a'; 107]).is_some());
        assert!(SockAddr::unix(&[b'a'; 108]).is_none());
        assert!(SockAddr::unix(&[0; 108]).is_some());
        assert!(SockAddr::unix(&[0; 109]).is_none());
        assert!(SockAddr::unix(b"").is_none());
    }
}
