//! The platform: all that one kernel does or lays out in its own way.
//!
//! A platform is one folder with the files of `linux/`, under the same names. Nothing outside of
//! its folder names it. Whatever another Unix lacks or spells differently is in here; plain POSIX
//! (`EBADF`, `AF_INET`, `pthread_self`) may be used anywhere. A test in `boundary` reads all other
//! sources and holds them to that.
//!
//! This module knows neither Python nor the rest of the crate, and any part of the crate may use
//! it. Of tokio it knows `Interest`, and the runtime whose driver `readiness` asks.
//!
//! # Required types and functions
//!
//! All functions may be called from any thread, with or without the GIL. A descriptor is given as a
//! number. It may be closed by then, or be a file of another kind: that makes the call fail, mostly
//! with `EBADF` or `ENOTSOCK`, and is never undefined behaviour. Descriptors that are made here are
//! closed when another program is executed (`FD_CLOEXEC`), and do not block. Errors are the
//! kernel's numbers, as `io::Error`, because programs get them as `OSError`. A call that a signal
//! interrupts fails with `EINTR`. A call of which this list says that it never blocks fails with
//! `EAGAIN` instead of blocking.
//!
//! ## `address`
//!
//! * `SockAddr`: the kernel's form of a socket's address, of any family; `Copy`.
//!   * `from(&SocketAddrV4)`, `from(&SocketAddrV6)`. Flow information is a number in the host's
//!     order, as Python spells it, here and in `decode`.
//!   * `unix(name)`: `None` if the name is empty, too long, or of a kind that the platform lacks. A
//!     name that begins with a NUL is an abstract one, which only Linux has.
//!   * `decode()`: the address taken apart, a [`Decoded`].
//!   * `as_bytes()`: the bytes that the kernel reads of it, the same for equal addresses;
//!     `from_bytes` makes the address of them again.
//! * `numeric_host(&SocketAddrV6) -> String`: the host as the platform's `getnameinfo` prints it,
//!   without a zone: the text that Python's own sockets give.
//!
//! Called by `net::address` for each address that a program gives or asks for, by the datagram
//! transports for each new sender.
//!
//! ## `clock`
//!
//! * `monotonic_nanos() -> i64`: nanoseconds of the clock that CPython's `time.monotonic()` reads
//!   on this platform. Cannot fail.
//!
//! Called by `event_loop::timers` several times an iteration.
//!
//! ## `timer`
//!
//! * `KernelTimer`: a descriptor that becomes readable at a deadline, with the grain of the
//!   kernel's timers and not tokio's, which is a millisecond. `AsRawFd`.
//!   * `new()`: one that is not set. Fails where there is no descriptor left.
//!   * `set(&self, deadline: i64)`: sets it to fire once, at that time of `monotonic_nanos`, or at
//!     once if that has passed. Replaces an earlier deadline, and takes back a readiness that is
//!     left over from it. Whenever it fires, an edge-triggered registration gets a new event.
//!     Nothing has to be read from it.
//!
//! Called by `event_loop::timers::alarm` before the loop blocks.
//!
//! ## `selector`
//!
//! Where the descriptors are watched that users own. Users close them without notice, and the
//! numbers are used again. So the selector has to forget a file by itself when its last descriptor
//! is closed, and has to know an entry by number and file, not by the number alone.
//!
//! * `EventMask`: a set of `READ`, `WRITE` and `ONCE`, joined with `|`; `NONE` is empty,
//!   `is_once()` tells whether it has `ONCE`. An entry with `ONCE` reports one event, of whichever
//!   side is ready first, and is silent until `change`. Without it an event is reported by each
//!   `select` for as long as it lasts (level-triggered).
//! * `Selector`: `AsRawFd`; readable while it has something to report, also to a reactor that it is
//!   registered with, for which each new event of an entry is a new event of the selector.
//!   * `new()`: fails where there is no descriptor left.
//!   * `add(&self, fd, EventMask, Token)`: watches the file that `fd` is now. Replaces an entry of
//!     the same number and file. `EBADF`: no file; `EPERM`: a file that cannot be watched.
//!   * `change(&self, fd, EventMask, Token)`: gives the entry of number and file another mask and
//!     token. `ENOENT` if `fd` is another file than the one that was added, `EBADF` if it is none.
//!   * `remove(&self, fd)`: takes the entry of number and file back. Errors as of `change`.
//!   * `select(&self, &mut Room)`: an iterator of the events that there are, as many as there is room
//!     for. Never blocks. After an error it is empty. If the room was filled there may be more; those
//!     that last are reported again, after the others.
//! * `Room`: room for events; `const fn new()`: for a few hundred; `of(count)`: for so many, if there is
//!   memory for them; `is_full()`; `events()`: what the last `select` has found.
//!
//! An event is a [`SelectorEvent`]. As in Python's `selectors`, an error or a hang-up counts for
//! both sides. A file that is open elsewhere too (in a child process, under another number) may go
//! on to be reported after its number was closed here: its [`Token`] tells that from events of the
//! file that has the number next.
//!
//! Called by `event_loop::descriptors`: for each watcher that is added or removed, and `select`
//! once an iteration that follows an event.
//!
//! ## `readiness`
//!
//! * `Readiness::with_runtime(build) -> io::Result<(Runtime, Option<Readiness>)>`: calls `build`
//!   for a runtime, and finds out how to ask whether its driver has events. `None` if the platform
//!   cannot tell: the loop then polls the driver instead, which takes longer. Errors are those of
//!   `build`, or that there is no descriptor left.
//! * `has_events(&self) -> bool`: whether polling the driver would find an event; true in doubt.
//!   One system call, which never blocks and takes no event from tokio.
//!
//! Called by `driver::reactor`, `has_events` before each batch of callbacks, with the GIL held.
//!
//! ## `socket`
//!
//! * `open_stream(family) -> io::Result<OwnedFd>`: a TCP socket that is not connected.
//! * `accept(fd) -> io::Result<(OwnedFd, SockAddr)>`: a connection and its peer. Never blocks if
//!   the listening socket does not. `ECONNABORTED`: that connection is gone, others may wait.
//!   `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`: it goes on to wait.
//! * `connect(fd, &SockAddr) -> io::Result<Connecting>`: begins to connect a socket that does not
//!   block; see [`Connecting`].
//! * `receive(fd, *mut u8, usize)`, `send(fd, &[u8])`, `send_vectored(fd, &[IoSlice])`,
//!   `send_to(fd, &[u8], address: &[u8])`: the number of bytes. They never block, also where the
//!   socket does, and never raise `SIGPIPE`. An empty address stands for the connected peer.
//! * `shut_down_writing(fd)`: sends the end of the stream.
//! * `local(fd)`, `remote(fd) -> Option<SockAddr>`: the socket's own address and its peer's; `None`
//!   if there is none.
//! * `family(fd) -> io::Result<c_int>`: the `AF_*` that the socket was made with.
//! * `take_error(fd) -> io::Result<c_int>`: the socket's pending error, 0 for none, which is
//!   cleared.
//! * `send_at_once(fd)`: has small pieces sent without delay (`TCP_NODELAY`), also by the
//!   connections that a listening socket accepts. Does nothing on sockets without such a delay.
//! * `announce_errors(fd)`: has the network's errors, such as a peer's refusal, reported to a
//!   reactor that waits for `datagram::INTEREST`. Does nothing where they are reported anyway.
//!
//! Called by the transports and by `net::calls`: `receive` and the `send` functions for each event
//! and each piece of data, the others once a connection.
//!
//! ## `datagram`
//!
//! * `INTEREST: Interest`: the events that a reactor waits for on a socket that receives datagrams:
//!   datagrams, and errors that `announce_errors` asks for; not that it is writable.
//! * `AT_ONCE: usize`: the most datagrams that one `receive` takes.
//! * `Batch`: room for as many.
//!   * `new(room: Vec<u8>, stride, largest) -> Box<Batch>`: the datagrams lie in `room`, `stride`
//!     bytes apart; of each at most `largest` bytes are kept. Panics if the room is too small.
//!   * `receive(&mut self, fd) -> io::Result<usize>`: takes datagrams until there are `AT_ONCE` or
//!     the socket has no more, and returns how many. Never blocks. Fails only if there is none.
//!   * `take(&mut self, at) -> (&[u8], &SockAddr)`: one of those and its sender. Each has to be
//!     taken once before the next `receive`.
//!
//! Called by the datagram transports for each event.
//!
//! ## `descriptor`
//!
//! * `is_open(fd) -> bool`: whether the number is in use.
//! * `is_non_blocking(fd) -> io::Result<bool>`, `set_non_blocking(fd)`: the flag of the open file.
//! * `kind(fd) -> io::Result<Option<FileKind>>`: which of the kinds that pipe transports take.
//! * `read(fd, *mut u8, usize)`, `write(fd, &[u8])`: the number of bytes. They block where the file
//!   does.
//! * `bytes_waiting(fd) -> usize`: how many bytes a read would get; 0 if the kernel does not tell.
//!
//! Called by the pipe transports, for streams with much to read, and by the loop when it takes a
//! registration back.
//!
//! ## `errno`
//!
//! * `get() -> i32`, `set(i32)`: this thread's `errno`.
//!
//! Called by `driver::reactor`, which learns by it that a signal interrupted tokio's system call.
//!
//! ## `memory`
//!
//! * `words_at(address, &mut [usize]) -> io::Result<usize>`: reads words at any address, as many as
//!   there are, and returns how many; 0 if there is no memory. Errors: there is no descriptor left.
//!
//! Called by `transports::tls::openssl` once a process.
//!
//! ## `process`
//!
//! * `reap(Child) -> io::Result<Option<i32>>`: the exit status of a dead child, minus the signal's
//!   number if that ended it; the kernel forgets the child. `None` if it is alive. Never blocks.
//!   `ECHILD`: not a child of this process, or reaped already.
//! * `can_reap(Child) -> io::Result<()>`: the error that `reap` would have. Never blocks.
//!
//! Called by `processes` when a child was started, and when it has ended.
//!
//! ## `shared_library`
//!
//! * `SharedLibrary::loaded(path: Option<&CStr>)`: a library that is loaded already, with those that
//!   it was linked with; the program itself without a path. `None` if it is not loaded.
//!   * `symbol(&self, name) -> Option<*mut c_void>`: the address of a name of theirs.
//! * `base(address) -> Option<*mut c_void>`: where the library begins in which an address lies.
//!
//! Called by `transports::tls::openssl` once a process.
//!
//! ## Forks
//!
//! A child has one thread, and inherits the parent's descriptors. On Linux they are still the
//! parent's epoll instances and timers: a child that changed them would change them for the parent.
//! So a child leaks the registrations that it inherits (see [`super::reactor`]), and makes no
//! change to an inherited `Selector` or `KernelTimer`; it only drops them, which must leave the
//! parent's as they are. Where such descriptors do not go to a child (as a kqueue), dropping them
//! there must not close the number, which another file may have.
//!
//! ## `resolver`
//!
//! * `ANY_SOCKET: Option<&[(i32, i32)]>`: the types of sockets and their protocols that
//!   `getaddrinfo` answers for a numeric host, in its order, if it is asked for neither. `None`:
//!   not known, so that the platform's own `getaddrinfo` is called.
//!
//! Called by `net::literals`.
//!
//! # Not in here
//!
//! How threads end and what a fork leaves is the same for the bridge, and in its crate
//! (`tokioloop_bridge::sys`).
//!
//! The descriptor that stands for a child is made by Python code (`python/tokioloop/processes.py`),
//! with `os.pidfd_open`; where Python lacks it, a thread waits for each child.

use std::net::{SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(not(target_os = "linux"))]
compile_error!("tokioloop runs on Linux: another platform needs a folder in `src/driver/sys`");

/// An address as the kernel gave it, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decoded<'a> {
    V4(SocketAddrV4),
    V6(SocketAddrV6),
    /// The path of a Unix socket, without the NUL at its end; empty if it has none.
    Path(&'a [u8]),
    /// A name that is no path: the leading NUL and all that follows.
    Abstract(&'a [u8]),
    /// None at all, as that of an unbound sender, or of another family.
    Unknown,
}

/// How far `socket::connect` has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Connecting {
    Done,
    /// The kernel goes on by itself: the socket becomes writable when that has ended, and
    /// `socket::take_error` tells how.
    InProgress,
}

/// The kinds of files that pipe transports take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileKind {
    Fifo,
    Socket,
    CharacterDevice,
}

/// A child process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Child {
    /// A descriptor that stands for it, and never for another one.
    Descriptor(RawFd),
    /// Its number, which another process may have once the child was reaped.
    Number(libc::pid_t),
}

/// An event of an entry, as `selector::Selector` reports it: its number and token, and which sides
/// are ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SelectorEvent {
    pub fd: RawFd,
    pub token: Token,
    pub reading: bool,
    pub writing: bool,
}

/// Which entry of a selector an event is of. The caller chooses it, and uses none twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Token(pub u32);

#[cfg(test)]
mod boundary;
