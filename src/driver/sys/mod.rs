//! The platform: what only one kernel has, or lays out in its own way.
//!
//! A platform is one folder with the files of `linux/`, under the same names. Nothing outside of its
//! folder names it; what another Unix lacks or spells differently is in here, and plain POSIX
//! (`EBADF`, `AF_INET`, `pthread_self`) may be used anywhere. The test in `boundary` reads
//! all other sources and holds them to that.
//!
//! This module knows neither Python nor the rest of the crate. Of tokio it knows `Interest`, and, to
//! find the descriptor of its driver, the runtime.
//!
//! # Required types and functions
//!
//! All functions may be called from any thread, with or without the GIL. A descriptor given as a
//! number may be closed, or be a file of another kind: that is an error of the call, never a matter
//! of memory. Descriptors that are made here are closed when a program is executed (`CLOEXEC`) and
//! never block. A call that a signal interrupts gives `Interrupted`; where this list says that a
//! call never blocks it gives `WouldBlock` instead.
//!
//! ## `address`
//!
//! * `SockAddr`: the kernel's form of a socket's address, of any family, `Copy`. Two that are equal
//!   have the same `as_bytes`; `from_bytes` makes the same address of these again. `from(&V4)` and
//!   `from(&V6)` take the flow information as a number in the host's order, as Python spells it.
//!   `unix(name)` gives `None` if the name is too long, or of a kind that the platform lacks: a name
//!   that begins with a NUL is an abstract one, which only Linux has. `decode` gives a [`Decoded`].
//!   For `net::address`, and as the key of a datagram's sender.
//! * `numeric_host(&V6) -> String`: the host as the platform's `getnameinfo` prints it, without its
//!   zone. For `net::address`, which gives Python the same text as Python's own sockets do.
//!
//! ## `clock`
//!
//! * `monotonic_nanos() -> i64`: nanoseconds of the clock that CPython's `time.monotonic()` reads on
//!   this platform, so that both give the same times. Cannot fail. Called several times an iteration.
//!
//! ## `timer`
//!
//! * `Timer`: a descriptor that becomes readable at a deadline, with the kernel's finest grain and
//!   not the millisecond of tokio's timers. `new` makes one that is not set. `set(deadline)` takes
//!   nanoseconds of `clock`, replaces a deadline that was set before, and takes back a readiness that
//!   is left over; a deadline in the past fires at once. Each time it fires an edge-triggered
//!   registration gets an event. Nothing needs to be read from it. For `timers::alarm`.
//!
//! ## `selector`
//!
//! Where the descriptors are watched that users own. Users close them without notice, and the
//! numbers are used again: so the selector has to forget a file by itself when its last descriptor
//! is closed, and has to know an entry by the file and not by the number.
//!
//! * `EventMask`: a set of `READ`, `WRITE` and `ONCE`; `NONE` is empty. Watched for neither reading
//!   nor writing an entry stays, and may go on reporting errors and hang-ups. `ONCE`: the entry
//!   reports one event, of whichever direction comes first, and then nothing until `change`; without
//!   it, an event is reported again by each `select` for as long as it lasts (level-triggered).
//! * `Token`: which entry an event is of. Chosen by the caller, who never uses one twice.
//! * `Selector`: `new`; `AsRawFd`, readable while there are events to report, also to another
//!   selector that it is registered with.
//!   * `add(fd, mask, token)`: watches the file that `fd` is now. An entry of that file under that
//!     number which is left over from before is replaced. Errors: `EBADF`; `EPERM` for a file that
//!     cannot be watched.
//!   * `change(fd, mask, token)`: replaces the mask of an entry that was added. `ENOENT` if `fd` is
//!     another file by now, `EBADF` if it is none: then the entry stands for a file whose number was
//!     closed, and the caller drops what it kept for it.
//!   * `remove(fd)`: takes an entry back. Errors as of `change`.
//!   * `select(&mut Room)`: collects events without blocking, at most `Room::EVENTS` (more are there
//!     if it is full); an error gives none.
//! * `SelectorEvent`: `fd` and `token` as the entry was added with, and `reading`, `writing`: which
//!   sides have something to do. As Python's `selectors`, an error or a hang-up wakes both.
//!
//! ## `readiness`
//!
//! * `Readiness::with_runtime(build)`: builds a runtime and finds out how to ask whether its driver
//!   has events. `None` beside the runtime if that cannot be found out, which costs speed only.
//! * `Readiness::has_events`: whether polling the driver would find something: one system call that
//!   does not block and takes no event from tokio. In doubt it says yes. Called before every batch.
//!
//! ## `socket`
//!
//! * `accept(fd) -> (OwnedFd, SockAddr)`: takes a connection, as a descriptor that does not block.
//!   Never blocks if `fd` does not.
//! * `connect(fd, &SockAddr) -> Connecting`: begins to connect a socket that does not block.
//! * `receive(fd, at, room)`, `send(fd, bytes)`, `send_vectored(fd, slices)`,
//!   `send_to(fd, bytes, address)`: never block, and never raise `SIGPIPE`. An empty address means
//!   the peer that the socket is connected to.
//! * `shut_down_writing(fd)`.
//! * `local(fd)`, `remote(fd)`: its own address and its peer's; `None` if the kernel gives none.
//! * `family(fd) -> c_int`: the address family (`AF_*`) that the socket was made for.
//! * `take_error(fd) -> c_int`: the pending error (`SO_ERROR`), which is cleared by that; 0 for none.
//! * `send_at_once(fd)`: small pieces leave without delay (`TCP_NODELAY`), also from the connections
//!   that a listening socket accepts. Does nothing where there is no such delay.
//! * `announce_errors(fd)`: has the network's errors, such as a peer's refusal, reported to those who
//!   wait for datagrams, under `datagram::INTEREST`. Does nothing where that is the rule.
//!
//! ## `datagram`
//!
//! * `INTEREST`: what tokio is asked to report of a socket that datagrams are received from: all
//!   that can be received, `announce_errors` included, and not that it is writable.
//! * `Batch`: room for `AT_ONCE` datagrams. `new(room, stride, largest)` lays them `stride` bytes
//!   apart and cuts each off after `largest`. `receive(fd)` takes as many as there are and fit, and
//!   says how many: fewer than `AT_ONCE` means that the socket had no more. It never blocks.
//!   `take(at)` gives one of these with its sender, once.
//!
//! ## `descriptor`
//!
//! * `is_open(fd)`: whether the number is in use in this process.
//! * `is_non_blocking(fd)`, `set_non_blocking(fd)`: the flag of the open file, which all of its
//!   descriptors share.
//! * `kind(fd)`: which kind of file it is, of those that pipe transports take; else `None`.
//! * `read(fd, at, room)`, `write(fd, bytes)`: block if the file does and is not ready.
//! * `bytes_waiting(fd)`: how much can be read at once; 0 if the kernel does not say.
//!
//! ## `errno`
//!
//! * `get`, `set`: this thread's error number. For the reactor, which learns in this way that a
//!   signal interrupted tokio's system call.
//!
//! ## `fork`
//!
//! * `at_fork(before, after, in_child)`: functions that libc calls around each fork of the process:
//!   in the parent's thread that forks, before and after, and in the child. Registered for good.
//!
//! A child has one thread, and the parent's descriptors under the same numbers. On Linux these are
//! the same epoll instance and the same `timerfd`, so the core leaks in a child what it has of them
//! ([`super::reactor`]) and makes new ones. Where a kind of descriptor does not go to the child (as
//! a kqueue), its type must not close the number there when it is dropped.
//!
//! ## `resolver`
//!
//! * `ANY_SOCKET`: what `getaddrinfo` answers for a numeric host if neither a type of socket nor a
//!   protocol is asked for, as pairs of both in their order. `None`: leave the question to libc.
//!
//! ## `thread_exit`
//!
//! Only for CPython before 3.14, which ends threads while the interpreter goes down.
//!
//! * `ExitHandler::push(routine)`: has libc call `routine` if this thread ends by `pthread_exit`,
//!   before its first frame is unwound. Taken back when it is dropped, by the same thread and in any
//!   order with others. Where `pthread_exit` unwinds no frames it may do nothing. For
//!   `ffi::finalizing`.
//!
//! # Not in here
//!
//! Child processes are reaped through a pidfd in Python (`python/tokioloop/processes.py`), by
//! `os.pidfd_open`; where Python lacks it, asyncio's own child watcher is used.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(not(target_os = "linux"))]
compile_error!("tokioloop runs on Linux: another platform needs a folder in `src/driver/sys`");

/// An address as the kernel gave it, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decoded<'a> {
    V4(std::net::SocketAddrV4),
    V6(std::net::SocketAddrV6),
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

/// What `selector::Selector` reports of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SelectorEvent {
    pub fd: std::os::fd::RawFd,
    pub token: Token,
    pub reading: bool,
    pub writing: bool,
}

/// Which entry of a selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token(pub u32);

#[cfg(test)]
mod boundary;
