//! Answers of `getaddrinfo` that differ from one C library to another.

/// musl leaves raw sockets out: its answer is left to itself.
pub(crate) const ANY_SOCKET: Option<&[(i32, i32)]> = if cfg!(target_env = "gnu") {
    Some(&[
        (libc::SOCK_STREAM, libc::IPPROTO_TCP),
        (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        (libc::SOCK_RAW, 0),
    ])
} else {
    None
};
