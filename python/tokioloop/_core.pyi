"""The native core of tokioloop.

Its classes are parts of :class:`tokioloop.Loop` and are not used without it. Names without an
underscore are asyncio's interface. Names with one are called by asyncio's own code or by the Python
side of the loop. Times are in seconds, sizes in bytes; descriptors are numbers.
"""

import asyncio
import concurrent.futures
import socket
import ssl
import subprocess
import sys
from asyncio import constants, transports
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sized,
)
from contextvars import Context
from socket import _GetAddrInfoResult
from traceback import StackSummary
from types import TracebackType
from typing import (
    Any,
    ClassVar,
    Literal,
    Protocol,
    SupportsIndex,
    TypeAlias,
    TypeVar,
    final,
    overload,
)

from _typeshed import FileDescriptorLike, ReadableBuffer, WriteableBuffer
from typing_extensions import Self, TypeVarTuple, Unpack, disjoint_base

_T = TypeVar("_T")
_T1 = TypeVar("_T1")
_T2 = TypeVar("_T2")
_T3 = TypeVar("_T3")
_T4 = TypeVar("_T4")
_T5 = TypeVar("_T5")
_T6 = TypeVar("_T6")
_T_co = TypeVar("_T_co", covariant=True)
_FutureLike: TypeAlias = asyncio.Future[_T] | Awaitable[_T]
_Outcome: TypeAlias = _T | BaseException
_Ts = TypeVarTuple("_Ts")

class _TlsParts(Protocol):
    """The parts that an :class:`SSLTransport` is made of."""

    protocol: asyncio.BaseProtocol
    object: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    context: ssl.SSLContext
    waiter: asyncio.Future[None] | None
    handshake_timeout: float
    shutdown_timeout: float
    upgrade: bool

class _Separator(ReadableBuffer, Sized, Protocol):
    """What ``readuntil`` looks for."""

__all__ = [
    "AsyncGenerators",
    "ChildWatcher",
    "Clients",
    "ConnectionAttempt",
    "DatagramTransport",
    "Handle",
    "Listener",
    "NativeLoop",
    "NativeStreamReader",
    "NativeStreamWriter",
    "ReadPipeTransport",
    "SSLTransport",
    "Sleep",
    "SocketOperation",
    "SocketTransport",
    "StreamCall",
    "TimerHandle",
    "WritePipeTransport",
    "__build__",
    "__version__",
    "gather",
    "literal_addrinfo",
    "looks_numeric",
    "run_coroutine_threadsafe",
    "sleep",
]

#: The version of the core, which is that of the package.
__version__: str
#: What the core was built with: profile, target, and the versions of rustc, tokio and PyO3.
__build__: dict[str, str]

@disjoint_base
class NativeLoop:
    """The native part of the event loop: what runs for every callback and every packet.

    A base class of :class:`tokioloop.Loop`, before ``asyncio.SelectorEventLoop``, which
    contributes the rest of ``asyncio.AbstractEventLoop``. It ignores its arguments.
    """

    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...

    # -- scheduling callbacks -----------------------------------------------------------------

    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> Handle:
        """Schedule ``callback(*args)`` to be called in the next iteration of the loop.

        Return a :class:`Handle`, which can cancel the callback. Callbacks are called in the
        order in which they were scheduled, each in ``context``, a ``contextvars.Context``;
        ``None`` stands for a copy of the current one. As ``asyncio.loop.call_soon``.

        Raises ``RuntimeError`` if the loop is closed. In debug mode it also raises
        ``RuntimeError`` in another thread than the loop's, and ``TypeError`` if
        ``callback`` is a coroutine or is not callable.
        """

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> Handle:
        """Schedule ``callback(*args)`` from any thread or signal handler, and wake the loop.

        Otherwise like :meth:`call_soon`. As ``asyncio.loop.call_soon_threadsafe``.

        Raises ``RuntimeError`` if the loop is closed, and in debug mode ``TypeError`` if
        ``callback`` is a coroutine or is not callable.
        """

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> TimerHandle:
        """Schedule ``callback(*args)`` to be called after ``delay`` seconds, and never earlier.

        Return a :class:`TimerHandle`, which can cancel the callback. ``delay`` is an
        ``int`` or a ``float``; ``context`` is as in :meth:`call_soon`. As
        ``asyncio.loop.call_later``.

        Raises ``TypeError`` if ``delay`` is not a number, ``ValueError`` if it is NaN,
        ``RuntimeError`` if the loop is closed, and in debug mode what :meth:`call_soon`
        raises there.
        """

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> TimerHandle:
        """Schedule ``callback(*args)`` to be called at the time ``when``, and never earlier.

        ``when`` is in seconds of :meth:`time`. As ``asyncio.loop.call_at``. Otherwise like
        :meth:`call_later`, and raises what that raises.
        """

    def time(self) -> float:
        """Return the time of the loop's clock in seconds, a ``float``: ``time.monotonic()``.

        As ``asyncio.loop.time``. If a subclass overrides it the timers follow the
        subclass's clock.
        """

    def create_future(self) -> asyncio.Future[Any]:
        """Return a new ``asyncio.Future`` of the loop. As ``asyncio.loop.create_future``."""

    if sys.version_info >= (3, 14):
        def create_task(
            self,
            coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
            *,
            name: object = None,
            context: Context | None = None,
            eager_start: bool | None = None,
        ) -> asyncio.Task[_T]:
            """Schedule the coroutine ``coro`` and return its ``asyncio.Task``.

            As ``asyncio.loop.create_task`` of the running CPython, whose options it takes:
            ``name``, and from 3.11 on ``context``.

            Raises ``RuntimeError`` if the loop is closed, ``TypeError`` if ``coro`` is not a
            coroutine.
            """

    elif sys.version_info >= (3, 11):
        def create_task(
            self,
            coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
            *,
            name: object = None,
            context: Context | None = None,
        ) -> asyncio.Task[_T]:
            """Schedule the coroutine ``coro`` and return its ``asyncio.Task``.

            As ``asyncio.loop.create_task`` of the running CPython, whose options it takes:
            ``name``, and from 3.11 on ``context``.

            Raises ``RuntimeError`` if the loop is closed, ``TypeError`` if ``coro`` is not a
            coroutine.
            """

    else:
        def create_task(
            self,
            coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
            *,
            name: object = None,
        ) -> asyncio.Task[_T]:
            """Schedule the coroutine ``coro`` and return its ``asyncio.Task``.

            As ``asyncio.loop.create_task`` of the running CPython, whose options it takes:
            ``name``, and from 3.11 on ``context``.

            Raises ``RuntimeError`` if the loop is closed, ``TypeError`` if ``coro`` is not a
            coroutine.
            """

    # -- state --------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop ``run_forever()`` at the end of the current iteration. As ``asyncio.loop.stop``.

        If the loop is not running the next ``run_forever()`` runs one iteration.
        """

    def is_running(self) -> bool:
        """Return True if a thread is running the loop. As ``asyncio.loop.is_running``."""

    def is_closed(self) -> bool:
        """Return True if the loop was closed. As ``asyncio.loop.is_closed``."""

    def get_debug(self) -> bool:
        """Return True if the loop is in debug mode. As ``asyncio.loop.get_debug``."""

    # -- sockets ------------------------------------------------------------------------------

    def sock_recv(self, sock: socket.socket, n: int) -> SocketOperation[bytes]:
        """Receive up to ``n`` bytes from a non-blocking socket. Coroutine.

        Return ``bytes``, which are empty at the end of the stream. As
        ``asyncio.loop.sock_recv``. The system call is tried at once when the coroutine is
        awaited, then whenever the socket is ready.

        Raises ``OSError`` if the kernel reports an error, ``ValueError`` if ``n`` is
        negative, ``TypeError`` for an ``ssl.SSLSocket``, ``RuntimeError`` if a transport
        uses the descriptor, and in debug mode ``ValueError`` for a blocking socket.
        """

    def sock_recv_into(self, sock: socket.socket, buf: WriteableBuffer) -> SocketOperation[int]:
        """Receive from a non-blocking socket into the buffer ``buf``. Coroutine.

        Return the number of bytes, 0 at the end of the stream. As
        ``asyncio.loop.sock_recv_into``.

        Raises what :meth:`sock_recv` raises, and ``BufferError`` or ``TypeError`` if
        ``buf`` is not a writable, contiguous buffer.
        """

    def sock_sendall(self, sock: socket.socket, data: ReadableBuffer) -> SocketOperation[None]:
        """Send all of ``data`` to a non-blocking socket. Coroutine.

        As ``asyncio.loop.sock_sendall``. After an error or a cancellation it is unknown how
        many bytes were sent.

        Raises what :meth:`sock_recv` raises, and ``BufferError`` or ``TypeError`` if
        ``data`` is not a contiguous buffer.
        """

    def sock_connect(self, sock: socket.socket, address: Any) -> Coroutine[Any, Any, None]:
        """Connect a non-blocking socket to a remote address. Coroutine.

        As ``asyncio.loop.sock_connect``: a host name is resolved first, a literal address
        is not. The coroutine is a :class:`SocketOperation` if the address is literal and
        ``sock`` is a TCP or UDP ``socket.socket``.

        Raises ``OSError`` if the connection cannot be made, ``TypeError`` for an
        ``ssl.SSLSocket``, and in debug mode ``ValueError`` for a blocking socket.
        """

    # -- asyncio's private state, under its own names -------------------------------------------

    @property
    def _closed(self) -> bool: ...
    @_closed.setter
    def _closed(self, closed: bool) -> None: ...
    @property
    def _debug(self) -> bool: ...
    @_debug.setter
    def _debug(self, debug: object) -> None: ...
    @property
    def _stopping(self) -> bool: ...
    @_stopping.setter
    def _stopping(self, stopping: bool) -> None: ...
    @property
    def _thread_id(self) -> int | None:
        """``threading.get_ident()`` of the thread that runs the loop."""
    @_thread_id.setter
    def _thread_id(self, id: int | None) -> None: ...
    @property
    def _ready(self) -> list[Handle | TimerHandle]:
        """A copy of the ready queue's handles. Assigning to it does nothing."""
    @_ready.setter
    def _ready(self, _queue: object) -> None: ...
    @property
    def _scheduled(self) -> list[TimerHandle]:
        """The timers that have not fired, in no order. Assigning to it does nothing."""
    @_scheduled.setter
    def _scheduled(self, _heap: object) -> None: ...

    # -- asyncio's private hooks, under its own names -------------------------------------------

    def _check_closed(self) -> None:
        """Raise ``RuntimeError`` if the loop is closed."""

    def _run_once(self) -> None:
        """Run one iteration, without what ``run_forever()`` sets up around it."""

    #: The capsule through which separately compiled Rust code reaches the loop.
    _bridge: ClassVar[Any]

    def _write_to_self(self) -> None:
        """Wake the loop if it sleeps."""

    def _add_reader(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> Handle:
        """Call ``callback(*args)`` while ``fd`` is readable; cancel the callback that it replaces.

        Raises ``RuntimeError`` if the loop is closed, ``ValueError`` if ``fd`` is not a
        descriptor, ``OSError`` if it cannot be watched: it is closed, or of a regular file.
        """

    def _add_writer(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> Handle:
        """Call ``callback(*args)`` while ``fd`` is writable; otherwise like ``_add_reader``."""

    def _remove_reader(self, fd: FileDescriptorLike) -> bool:
        """Remove the reader of ``fd``. Return False if there was none or the loop is closed."""

    def _remove_writer(self, fd: FileDescriptorLike) -> bool:
        """Remove the writer of ``fd``. Return False if there was none or the loop is closed."""

    # -- virtual time, see `tokioloop.testing` -------------------------------------------------

    def _use_virtual_time(self) -> None:
        """From now on call the loop's ``_before_blocking()`` and ``_after_blocking()``."""

    def _next_timer(self) -> float | None:
        """Return when the first timer is due, on the loop's clock."""

    def _outstanding(self) -> tuple[int, int, int]:
        """Count what may make a callback ready from outside.

        Return how many of the user's descriptors are watched, how many transports and listeners
        wait for the kernel, and how many Rust futures are pending.
        """

    # -- for the Python side of the loop ----------------------------------------------------------

    def _open(self) -> None:
        """Open the descriptors that the loop itself needs. Raises ``OSError``."""

    def _run(self, run_once: Callable[[], object] | None = None) -> None:
        """Run iterations until :meth:`stop`; the inner part of ``run_forever()``.

        ``run_once`` makes an iteration in the place of the core, if the program overrides it.
        Raises ``SystemExit`` and ``KeyboardInterrupt`` of callbacks, and ``RuntimeError`` if the
        thread is inside another tokio runtime.
        """

    def _dispose(self) -> None:
        """Release everything that the loop owns, as the last part of ``close()``."""

    def _watched(self, fd: int) -> int:
        """Return the ``selectors`` events that ``fd`` is watched for, 0 for none."""

    def _registered(self) -> list[tuple[Any, int, int, list[asyncio.Handle | None]]]:
        """Return the registrations: file, number, events, and handles of reader and writer."""

    def _registered_fd(self, file: Any) -> int | None:
        """Return the number under which a file was registered; it may be closed by now."""

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        """The ``firstiter`` of ``sys.set_asyncgen_hooks`` while the loop runs."""

    def _fd_owner(self, fd: int) -> SocketTransport | DatagramTransport | None:
        """Return the native transport that uses ``fd``."""

    def _disown_fd(self, fd: int) -> bool:
        """Forget the native transport that uses ``fd``. Return False if there is none."""

    def _own_fd(self, transport: object) -> bool:
        """Undo ``_disown_fd``. Return False if ``transport`` is not a native one."""

    def _connect(self, host: object, port: object) -> ConnectionAttempt | None:
        """Begin to connect to a TCP server.

        Return None where asyncio has to do it, with a socket object: the address is no plain
        literal, or the program has replaced methods of sockets or watches them by an audit hook.

        Raises ``OSError`` if the attempt fails at once, ``RuntimeError`` if the loop is closed.
        """

    def _connected_transport(
        self,
        attempt: ConnectionAttempt,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any],
    ) -> SocketTransport:
        """Make a transport over the socket that an attempt has connected.

        It schedules ``connection_made``, after which ``waiter`` is done.

        Raises ``ConnectionAbortedError`` if the attempt was closed, ``ValueError`` if it is another
        loop's, ``RuntimeError`` if the loop is closed.
        """

    def _stream_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None,
        extra: dict[str, Any] | None,
        server: asyncio.AbstractServer | None,
    ) -> SocketTransport:
        """Make a transport over a connected socket.

        It schedules ``connection_made``, after which ``waiter`` is done.

        Raises ``RuntimeError`` if the loop is closed.
        """

    def _watch_child(
        self, transport: asyncio.SubprocessTransport, process: subprocess.Popen[bytes]
    ) -> ChildWatcher:
        """Make what reaps a child and tells its transport.

        It learns of the child's end through a pidfd. Where it could have none (its ``fileno()`` is
        -1), call ``ended()`` when the child is dead.

        Raises ``RuntimeError`` if the loop is closed.
        """

    def _tls_transport(self, parts: _TlsParts) -> SSLTransport:
        """Make a TLS transport. It starts when the transport below calls ``connection_made``."""

    def _datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any,
        waiter: asyncio.Future[Any] | None,
        extra: dict[str, Any] | None,
    ) -> DatagramTransport:
        """Make a transport over an IPv4, IPv6 or Unix datagram socket.

        It schedules ``connection_made``, after which ``waiter`` is done. ``address``, if there is
        one, is the only address that datagrams are sent to.

        Raises ``RuntimeError`` if the loop is closed.
        """

    # asyncio's own `connect_read_pipe` and `connect_write_pipe` call the next two.
    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> ReadPipeTransport:
        """Make a transport that reads from a file object.

        It schedules ``connection_made``, after which ``waiter`` is done. Raises ``RuntimeError`` if
        the loop is closed, ``OSError`` if the descriptor is closed, and ``ValueError`` if the file
        is not a pipe, a socket or a character device.
        """

    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> WritePipeTransport:
        """Make a transport that writes to a file object; see ``_make_read_pipe_transport``."""

    def _listen(
        self,
        sock: socket.socket,
        backlog: int,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: asyncio.AbstractServer | None,
    ) -> Listener:
        """Accept connections on a listening socket; make a protocol and a transport for each.

        ``backlog`` is the highest number that one iteration accepts. Raises ``OSError``.
        """

    def _unlisten(self, listener: Listener) -> None:
        """Stop accepting. The socket stays open."""

    def _relisten(self, listener: Listener) -> None:
        """Accept again after ``_unlisten``. Raises ``OSError``."""

# At run time the next three classes do not derive from their bases here: `isinstance` holds because
# of their `__class__`, or because the class is registered with the base.

@final
class Handle(asyncio.Handle):
    """A callback scheduled by :meth:`NativeLoop.call_soon`, which it can cancel.

    An ``asyncio.Handle`` to ``isinstance``. Only the loop creates it. Its attributes
    are read-only, except ``_callback``.
    """

    def cancel(self) -> None:
        """Cancel the callback, unless it was called already. As ``asyncio.Handle.cancel``."""

    def cancelled(self) -> bool:
        """Return True if the callback was cancelled. As ``asyncio.Handle.cancelled``."""

    def get_context(self) -> Context:
        """Return the ``contextvars.Context`` that the callback runs in.

        As ``asyncio.Handle.get_context``, which asyncio has from CPython 3.12 on.
        """

    def _run(self) -> None:
        """Call the callback; its error goes to the loop's exception handler.

        Raises ``RuntimeError`` if the handle is cancelled.
        """

    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def _callback(self) -> Callable[..., object] | None:
        """``None`` once cancelled. May be assigned, which has no effect then."""
    @_callback.setter
    def _callback(self, value: Callable[..., object]) -> None: ...
    # Declared by the base: `_args`, here a tuple and `None` once cancelled, and `_cancelled`.
    @property
    def _context(self) -> Context: ...
    @property
    def _source_traceback(self) -> StackSummary | None:
        """Where the callback was scheduled; kept in debug mode."""
    @property
    def _repr(self) -> str | None:
        """The text of a handle that was cancelled in debug mode."""

@final
class TimerHandle(asyncio.TimerHandle):
    """A callback scheduled by :meth:`NativeLoop.call_later`, which it can cancel.

    An ``asyncio.TimerHandle`` to ``isinstance``. Only the loop creates it. Its
    attributes are read-only, except ``_callback``. Handles are ordered by their times, as
    asyncio's are among themselves.
    """

    def when(self) -> float:
        """Return the time at which the callback is due, in seconds of the loop's ``time()``.

        As ``asyncio.TimerHandle.when``.
        """

    def cancel(self) -> None:
        """Cancel the callback, unless it was called already. As ``asyncio.Handle.cancel``."""

    def cancelled(self) -> bool:
        """Return True if the callback was cancelled. As ``asyncio.Handle.cancelled``."""

    def get_context(self) -> Context:
        """Return the ``contextvars.Context`` that the callback runs in.

        As ``asyncio.Handle.get_context``, which asyncio has from CPython 3.12 on.
        """

    def _run(self) -> None:
        """As ``Handle._run``."""

    def __hash__(self) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __lt__(self, value: asyncio.TimerHandle, /) -> bool: ...
    def __le__(self, value: asyncio.TimerHandle, /) -> bool: ...
    def __gt__(self, value: asyncio.TimerHandle, /) -> bool: ...
    def __ge__(self, value: asyncio.TimerHandle, /) -> bool: ...
    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def _callback(self) -> Callable[..., object] | None: ...
    @_callback.setter
    def _callback(self, value: Callable[..., object]) -> None: ...
    @property
    def _context(self) -> Context: ...
    @property
    def _source_traceback(self) -> StackSummary | None: ...
    @property
    def _repr(self) -> str | None: ...
    @property
    def _when(self) -> float: ...
    @property
    def _scheduled(self) -> bool:
        """True until the timer fires or is removed from the loop."""

@final
class SocketOperation(Coroutine[Any, Any, _T_co]):
    """A ``sock_*`` call of a loop: a coroutine, to be awaited once.

    Warns with ``RuntimeWarning`` if it is never awaited.
    """

    __name__: str
    __qualname__: str
    def send(self, value: Any, /) -> Any:
        """Run the coroutine to its next suspension; as ``send`` of a coroutine.

        Raises ``StopIteration`` with the result, ``RuntimeError`` if the coroutine is over.
        """

    @overload
    def throw(
        self,
        typ: type[BaseException],
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> Any: ...
    @overload
    def throw(
        self, typ: BaseException, val: None = None, tb: TracebackType | None = None, /
    ) -> Any:
        """Raise an exception where the coroutine is suspended; as ``throw`` of a coroutine."""

    def close(self) -> None:
        """End the coroutine, and what it waits for; as ``close`` of a coroutine."""

    def __await__(self) -> Generator[Any, Any, _T_co]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

@final
class SocketTransport(transports._FlowControlMixin):
    """A transport over a stream socket, TCP or Unix; an ``asyncio.Transport``.

    The loop creates it. The data written in one iteration is sent at its end, in one
    system call. A transport that was not closed warns with ``ResourceWarning`` when it
    is collected.
    """

    # -- writing ------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send ``data``, a bytes-like object, without blocking.

        As ``asyncio.WriteTransport.write``. The caller may change the object afterwards.
        The transport buffers what the kernel does not accept; above the high-water mark it
        calls ``pause_writing()`` of the protocol. Data written after the connection was
        lost is dropped.

        Raises ``TypeError`` if ``data`` is not bytes-like, ``RuntimeError`` after
        :meth:`write_eof` and during a ``loop.sendfile()``.
        """

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Send all of an iterable of bytes-like objects. As ``asyncio.WriteTransport.writelines``.

        Raises what :meth:`write` raises, and then sends none of them.
        """

    def write_eof(self) -> None:
        """Close the sending side once the buffer is empty. As ``asyncio.WriteTransport.write_eof``.

        Calling it twice does no harm.
        """

    def can_write_eof(self) -> bool:
        """Return True. As ``asyncio.WriteTransport.can_write_eof``."""

    def get_write_buffer_size(self) -> int:
        """Return the size of the write buffer in bytes.

        As ``asyncio.WriteTransport.get_write_buffer_size``. Over a stream socket the
        transport first sends what the kernel accepts. TLS counts plaintext and ciphertext.
        From CPython 3.13 on each datagram counts 8 bytes more.
        """

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the marks ``(low, high)`` of the write buffer in bytes.

        They are 16 KiB and 64 KiB at first, for TLS 128 KiB and 512 KiB. As
        ``asyncio.WriteTransport.get_write_buffer_limits``.
        """

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks of the write buffer, in bytes. The defaults are asyncio's.

        Above ``high``, for TLS from it on, the transport calls ``pause_writing()`` of the
        protocol; at ``low`` and below, for pipes when the buffer is empty,
        ``resume_writing()``. As ``asyncio.WriteTransport.set_write_buffer_limits``.

        Raises ``ValueError`` unless ``high >= low >= 0``.
        """

    # -- reading ------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Return True if the transport is receiving. As ``asyncio.ReadTransport.is_reading``."""

    def pause_reading(self) -> None:
        """Pass no data to the protocol until reading is resumed.

        As ``asyncio.ReadTransport.pause_reading``.
        """

    def resume_reading(self) -> None:
        """Pass data to the protocol again. As ``asyncio.ReadTransport.resume_reading``.

        For a pipe it raises ``PermissionError`` if the file is a device that cannot be
        watched.
        """

    # -- the connection -----------------------------------------------------------------------

    def close(self) -> None:
        """Stop receiving, send what is buffered, then close.

        As ``asyncio.BaseTransport.close``. Raises ``RuntimeError`` if the loop is closed
        and the transport is not.
        """

    def abort(self) -> None:
        """Close at once; what is buffered is lost. As ``asyncio.WriteTransport.abort``.

        Over a socket it raises ``RuntimeError`` if the loop is closed and the transport is
        not.
        """

    def is_closing(self) -> bool:
        """Return True if the transport is closing or closed.

        As ``asyncio.BaseTransport.is_closing``.
        """

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the current protocol, ``None`` after the connection was lost.

        As ``asyncio.BaseTransport.get_protocol``.
        """

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol whose methods the transport calls from now on.

        As ``asyncio.BaseTransport.set_protocol``.
        """

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a fact of the transport by its name: ``"socket"``, ``"sockname"``, ``"peername"``.

        It also has the names that it was made with. Return ``default`` for an unknown name.
        As ``asyncio.BaseTransport.get_extra_info``.
        """

    def __del__(self) -> None: ...

    # -- what asyncio's own code asks of its transports -----------------------------------------

    _start_tls_compatible: ClassVar[bool]
    _sendfile_compatible: ClassVar[constants._SendfileMode]
    @property
    def _loop(self) -> asyncio.AbstractEventLoop | None:
        """``None`` once the connection is lost."""
    @property
    def _protocol(self) -> asyncio.BaseProtocol | None: ...
    @property
    def _protocol_paused(self) -> bool: ...
    @property
    def _paused(self) -> bool: ...
    @property
    def _closing(self) -> bool: ...
    @property
    def _eof(self) -> bool: ...
    @property
    def _server(self) -> asyncio.AbstractServer | None: ...
    @property
    def _high_water(self) -> int: ...
    @property
    def _low_water(self) -> int: ...
    @property
    def _sock(self) -> socket.socket | None:
        """Made when it is first read; ``None`` once closed."""
    @property
    def _sock_fd(self) -> int: ...
    @property
    def _extra(self) -> dict[str, Any]:
        """A copy of all facts of ``get_extra_info``."""

    def _force_close(self, exc: BaseException | None) -> None:
        """Close at once and pass ``exc`` to ``connection_lost``."""

    def _make_empty_waiter(self) -> asyncio.Future[None]:
        """Return a future that is done when the buffer is empty; writes are refused until then.

        Raises ``RuntimeError`` if there is one already, or if the connection is lost.
        """

    def _reset_empty_waiter(self) -> None:
        """Allow writes again."""

@final
class SSLTransport(transports._FlowControlMixin, asyncio.Protocol):
    """TLS between a protocol and the transport below.

    It is the ``asyncio.Transport`` of the former and the ``asyncio.Protocol`` of the
    latter. The loop creates it, for ``ssl=`` and in ``start_tls``.
    """

    # -- for the application ------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Encrypt and send ``data``, a bytes-like object. As ``asyncio.WriteTransport.write``.

        It does not block. The transport buffers what the transport below does not accept;
        from the high-water mark on it calls ``pause_writing()`` of the protocol. Data
        written after the transport was closed is dropped.

        Raises ``TypeError`` if ``data`` is not bytes-like.
        """

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Send all of an iterable of bytes-like objects. As ``asyncio.WriteTransport.writelines``.

        Raises what :meth:`write` raises, and then sends none of them.
        """

    def write_eof(self) -> None:
        """Raise ``NotImplementedError``: TLS cannot close one side only.

        As ``asyncio.WriteTransport.write_eof`` of asyncio's TLS.
        """

    def can_write_eof(self) -> bool:
        """Return False. As ``asyncio.WriteTransport.can_write_eof``."""

    def get_write_buffer_size(self) -> int:
        """Return the size of the write buffer in bytes.

        As ``asyncio.WriteTransport.get_write_buffer_size``. Over a stream socket the
        transport first sends what the kernel accepts. TLS counts plaintext and ciphertext.
        From CPython 3.13 on each datagram counts 8 bytes more.
        """

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the marks ``(low, high)`` of the write buffer in bytes.

        They are 16 KiB and 64 KiB at first, for TLS 128 KiB and 512 KiB. As
        ``asyncio.WriteTransport.get_write_buffer_limits``.
        """

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks of the write buffer, in bytes. The defaults are asyncio's.

        Above ``high``, for TLS from it on, the transport calls ``pause_writing()`` of the
        protocol; at ``low`` and below, for pipes when the buffer is empty,
        ``resume_writing()``. As ``asyncio.WriteTransport.set_write_buffer_limits``.

        Raises ``ValueError`` unless ``high >= low >= 0``.
        """

    def get_read_buffer_size(self) -> int:
        """Return the bytes of ciphertext that wait to be decrypted while reading is paused.

        As ``get_read_buffer_size`` of asyncio's TLS.
        """

    def get_read_buffer_limits(self) -> tuple[int, int]:
        """Return the marks ``(low, high)`` of the read buffer in bytes.

        They are 64 KiB and 256 KiB at first. As ``get_read_buffer_limits`` of asyncio's
        TLS.
        """

    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks of the read buffer, in bytes. The defaults are asyncio's.

        From ``high`` on the transport below is paused, at ``low`` and below resumed. As
        ``set_read_buffer_limits`` of asyncio's TLS.

        Raises ``ValueError`` unless ``high >= low >= 0``.
        """

    def is_reading(self) -> bool:
        """Return True if the transport is receiving. As ``asyncio.ReadTransport.is_reading``."""

    def pause_reading(self) -> None:
        """Pass no data to the protocol until reading is resumed.

        As ``asyncio.ReadTransport.pause_reading``.
        """

    def resume_reading(self) -> None:
        """Pass data to the protocol again. As ``asyncio.ReadTransport.resume_reading``.

        For a pipe it raises ``PermissionError`` if the file is a device that cannot be
        watched.
        """

    def close(self) -> None:
        """Send what is buffered and a closing alert; close after the peer has sent its own.

        As ``asyncio.BaseTransport.close``.
        """

    def abort(self) -> None:
        """Close at once; what is buffered is lost. As ``asyncio.WriteTransport.abort``.

        Over a socket it raises ``RuntimeError`` if the loop is closed and the transport is
        not.
        """

    def is_closing(self) -> bool:
        """Return True if the transport is closing or closed.

        As ``asyncio.BaseTransport.is_closing``.
        """

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the current protocol, ``None`` after the connection was lost.

        As ``asyncio.BaseTransport.get_protocol``.
        """

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol whose methods the transport calls from now on.

        As ``asyncio.BaseTransport.set_protocol``.
        """

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``"sslcontext"``, or after the handshake a fact of the TLS session.

        The facts are ``"ssl_object"``, ``"peercert"``, ``"cipher"``, ``"compression"``. For
        any other name it returns what the transport below has, or ``default``. As
        ``asyncio.BaseTransport.get_extra_info``.
        """

    def __del__(self) -> None: ...

    # -- for the transport below: ``asyncio.Protocol`` ------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake over ``transport``. As ``asyncio.BaseProtocol.connection_made``."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Report the end of the transport below. As ``asyncio.BaseProtocol.connection_lost``."""

    def data_received(self, data: bytes) -> None:
        """Decrypt ``data`` for the protocol. As ``asyncio.Protocol.data_received``."""

    def eof_received(self) -> bool:
        """End the connection without a closing alert. As ``asyncio.Protocol.eof_received``."""

    def pause_writing(self) -> None:
        """Send nothing to the transport below. As ``asyncio.BaseProtocol.pause_writing``."""

    def resume_writing(self) -> None:
        """Send to the transport below again. As ``asyncio.BaseProtocol.resume_writing``."""

    # -- what asyncio's own code asks of its transports -----------------------------------------

    _start_tls_compatible: ClassVar[bool]
    _sendfile_compatible: ClassVar[constants._SendfileMode]
    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def _protocol_paused(self) -> bool: ...
    @property
    def _app_reading_paused(self) -> bool: ...
    @property
    def _ssl_protocol(self) -> SSLTransport:
        """The protocol of the transport below: itself."""

    def _force_close(self, exc: BaseException | None) -> None:
        """Close at once and pass ``exc`` to ``connection_lost``."""

    def _read_on(self) -> None: ...
    def _check_handshake_timeout(self) -> None: ...
    def _check_shutdown_timeout(self) -> None: ...

@final
class DatagramTransport(transports._FlowControlMixin, asyncio.DatagramTransport):
    """A transport over a datagram socket, UDP or Unix; an ``asyncio.DatagramTransport``.

    As asyncio's own, it is an ``asyncio.Transport`` as well. The loop creates it. A
    transport that was not closed warns with ``ResourceWarning`` when it is collected.
    """

    # -- sending ------------------------------------------------------------------------------

    def sendto(self, data: bytes | bytearray | memoryview[Any], addr: Any = None) -> None:
        """Send a datagram without blocking. As ``asyncio.DatagramTransport.sendto``.

        ``data`` is a bytes-like object; ``addr`` is an address of the socket's family in
        Python's form, ``None`` for the peer of a connected socket. The transport buffers
        what the kernel does not accept; above the high-water mark it calls
        ``pause_writing()`` of the protocol. An ``OSError`` goes to ``error_received()`` of
        the protocol, any other error that the address causes ends the transport. Before
        CPython 3.13 empty datagrams are not sent.

        Raises ``TypeError`` if ``data`` is not bytes-like, ``ValueError`` if ``addr`` is
        not the address that the socket is connected to, and ``AttributeError`` after the
        transport was closed, unless it was made with ``remote_addr``: then datagrams are
        dropped.
        """

    def get_write_buffer_size(self) -> int:
        """Return the size of the write buffer in bytes.

        As ``asyncio.WriteTransport.get_write_buffer_size``. Over a stream socket the
        transport first sends what the kernel accepts. TLS counts plaintext and ciphertext.
        From CPython 3.13 on each datagram counts 8 bytes more.
        """

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the marks ``(low, high)`` of the write buffer in bytes.

        They are 16 KiB and 64 KiB at first, for TLS 128 KiB and 512 KiB. As
        ``asyncio.WriteTransport.get_write_buffer_limits``.
        """

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks of the write buffer, in bytes. The defaults are asyncio's.

        Above ``high``, for TLS from it on, the transport calls ``pause_writing()`` of the
        protocol; at ``low`` and below, for pipes when the buffer is empty,
        ``resume_writing()``. As ``asyncio.WriteTransport.set_write_buffer_limits``.

        Raises ``ValueError`` unless ``high >= low >= 0``.
        """

    # -- receiving ----------------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Return True if the transport is receiving. As ``asyncio.ReadTransport.is_reading``."""

    def pause_reading(self) -> None:
        """Pass no data to the protocol until reading is resumed.

        As ``asyncio.ReadTransport.pause_reading``.
        """

    def resume_reading(self) -> None:
        """Pass data to the protocol again. As ``asyncio.ReadTransport.resume_reading``.

        For a pipe it raises ``PermissionError`` if the file is a device that cannot be
        watched.
        """

    # -- the endpoint -------------------------------------------------------------------------

    def close(self) -> None:
        """Stop receiving, send what is buffered, then close.

        As ``asyncio.BaseTransport.close``. Raises ``RuntimeError`` if the loop is closed
        and the transport is not.
        """

    def abort(self) -> None:
        """Close at once; what is buffered is lost. As ``asyncio.WriteTransport.abort``.

        Over a socket it raises ``RuntimeError`` if the loop is closed and the transport is
        not.
        """

    def is_closing(self) -> bool:
        """Return True if the transport is closing or closed.

        As ``asyncio.BaseTransport.is_closing``.
        """

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the current protocol, ``None`` after the connection was lost.

        As ``asyncio.BaseTransport.get_protocol``.
        """

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol whose methods the transport calls from now on.

        As ``asyncio.BaseTransport.set_protocol``.
        """

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a fact of the transport by its name: ``"socket"``, ``"sockname"``, ``"peername"``.

        It also has the names that it was made with. Return ``default`` for an unknown name.
        As ``asyncio.BaseTransport.get_extra_info``.
        """

    def __del__(self) -> None: ...

    # -- what asyncio's transports have, under the same names -----------------------------------

    max_size: ClassVar[int]
    """The size in bytes beyond which a datagram is cut."""
    @property
    def _loop(self) -> asyncio.AbstractEventLoop | None:
        """``None`` once closed."""
    @property
    def _protocol(self) -> asyncio.BaseProtocol | None: ...
    @property
    def _protocol_paused(self) -> bool: ...
    @property
    def _high_water(self) -> int: ...
    @property
    def _low_water(self) -> int: ...
    @property
    def _sock(self) -> socket.socket | None:
        """``None`` once closed."""
    @property
    def _sock_fd(self) -> int: ...
    @property
    def _extra(self) -> dict[str, Any]: ...
    @property
    def _address(self) -> Any:
        """The ``remote_addr`` that it was made with, resolved."""

    def _force_close(self, exc: BaseException | None) -> None:
        """Close at once and pass ``exc`` to ``connection_lost``."""

    def _sendto_ready(self) -> None:
        """Send what is buffered until the kernel accepts no more."""

@final
class ReadPipeTransport(asyncio.ReadTransport):
    """The reading end of a pipe, a FIFO, a socket or a character device.

    ``connect_read_pipe`` creates it; an ``asyncio.ReadTransport``. A transport that was
    not closed warns with ``ResourceWarning`` when it is collected.
    """

    def close(self) -> None:
        """Stop reading and close the file. As ``asyncio.BaseTransport.close``.

        If the loop is closed it calls no method of the protocol.
        """

    def is_closing(self) -> bool:
        """Return True if the transport is closing or closed.

        As ``asyncio.BaseTransport.is_closing``.
        """

    def is_reading(self) -> bool:
        """Return True if the transport is receiving. As ``asyncio.ReadTransport.is_reading``."""

    def pause_reading(self) -> None:
        """Pass no data to the protocol until reading is resumed.

        As ``asyncio.ReadTransport.pause_reading``.
        """

    def resume_reading(self) -> None:
        """Pass data to the protocol again. As ``asyncio.ReadTransport.resume_reading``.

        For a pipe it raises ``PermissionError`` if the file is a device that cannot be
        watched.
        """

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the current protocol, ``None`` after the connection was lost.

        As ``asyncio.BaseTransport.get_protocol``.
        """

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol whose methods the transport calls from now on.

        As ``asyncio.BaseTransport.set_protocol``.
        """

    def __del__(self) -> None: ...

    # -- asyncio's names ------------------------------------------------------------------------

    _pipe: Any
    """The file object; ``None`` once it is closed."""
    @property
    def _loop(self) -> asyncio.AbstractEventLoop | None:
        """``None`` once the connection is lost."""
    @property
    def _extra(self) -> dict[str, Any]: ...
    @property
    def _fileno(self) -> int: ...
    @property
    def _protocol(self) -> asyncio.BaseProtocol | None: ...
    @property
    def _closing(self) -> bool: ...
    @property
    def _paused(self) -> bool: ...
    def _read_ready(self) -> None:
        """Called when the descriptor is readable."""

@final
class WritePipeTransport(transports._FlowControlMixin):
    """The writing end of a pipe, a FIFO, a socket or a character device.

    ``connect_write_pipe`` creates it; an ``asyncio.WriteTransport``. A transport that
    was not closed warns with ``ResourceWarning`` when it is collected.
    """

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Write ``data``, a bytes-like object, without blocking.

        As ``asyncio.WriteTransport.write``. The caller may change the object afterwards.
        The transport buffers what the kernel does not accept; above the high-water mark it
        calls ``pause_writing()`` of the protocol. Data written after the reader has closed
        its end is dropped.

        Raises ``AssertionError`` if ``data`` is not bytes-like, as asyncio does.
        """

    def can_write_eof(self) -> bool:
        """Return True. As ``asyncio.WriteTransport.can_write_eof``."""

    def write_eof(self) -> None:
        """Write what is buffered, then close the file. As ``asyncio.WriteTransport.write_eof``."""

    def get_write_buffer_size(self) -> int:
        """Return the size of the write buffer in bytes.

        As ``asyncio.WriteTransport.get_write_buffer_size``. Over a stream socket the
        transport first sends what the kernel accepts. TLS counts plaintext and ciphertext.
        From CPython 3.13 on each datagram counts 8 bytes more.
        """

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the marks ``(low, high)`` of the write buffer in bytes.

        They are 16 KiB and 64 KiB at first, for TLS 128 KiB and 512 KiB. As
        ``asyncio.WriteTransport.get_write_buffer_limits``.
        """

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks of the write buffer, in bytes. The defaults are asyncio's.

        Above ``high``, for TLS from it on, the transport calls ``pause_writing()`` of the
        protocol; at ``low`` and below, for pipes when the buffer is empty,
        ``resume_writing()``. As ``asyncio.WriteTransport.set_write_buffer_limits``.

        Raises ``ValueError`` unless ``high >= low >= 0``.
        """

    def close(self) -> None:
        """Write what is buffered, then close the file. As ``asyncio.BaseTransport.close``.

        If the loop is closed it closes the file at once and calls no method of the
        protocol.
        """

    def abort(self) -> None:
        """Close at once; what is buffered is lost. As ``asyncio.WriteTransport.abort``.

        Over a socket it raises ``RuntimeError`` if the loop is closed and the transport is
        not.
        """

    def is_closing(self) -> bool:
        """Return True if the transport is closing or closed.

        As ``asyncio.BaseTransport.is_closing``.
        """

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the current protocol, ``None`` after the connection was lost.

        As ``asyncio.BaseTransport.get_protocol``.
        """

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol whose methods the transport calls from now on.

        As ``asyncio.BaseTransport.set_protocol``.
        """

    def __del__(self) -> None: ...

    # -- asyncio's names ------------------------------------------------------------------------

    _pipe: Any
    """The file object; ``None`` once it is closed."""
    @property
    def _loop(self) -> asyncio.AbstractEventLoop | None:
        """``None`` once the connection is lost."""
    @property
    def _extra(self) -> dict[str, Any]: ...
    @property
    def _fileno(self) -> int: ...
    @property
    def _protocol(self) -> asyncio.BaseProtocol | None: ...
    @property
    def _closing(self) -> bool: ...
    @property
    def _conn_lost(self) -> int:
        """The number of writes since the reader closed its end or the transport was closed."""
    @property
    def _protocol_paused(self) -> bool: ...
    @property
    def _high_water(self) -> int: ...
    @property
    def _low_water(self) -> int: ...
    def _read_ready(self) -> None:
        """Called when the reader has closed its end."""

    def _write_ready(self) -> None:
        """Called when the descriptor is writable."""

@final
class ConnectionAttempt:
    """An attempt to connect to a TCP server."""

    @property
    def future(self) -> asyncio.Future[None] | None:
        """The future that ends with the attempt; ``None`` if there is nothing to wait for."""

    def close(self) -> None:
        """Give the attempt up. A transport that has the socket keeps it."""

@final
class Clients:
    """The connections of an ``asyncio.Server``, in the place of its ``_clients``."""

    def __new__(cls, event_loop: NativeLoop, server: asyncio.AbstractServer) -> Clients: ...
    def add(self, transport: asyncio.BaseTransport) -> None:
        """Add the transport of a new connection."""

    def discard(self, transport: asyncio.BaseTransport) -> None:
        """Remove the transport of a lost connection."""

    def copy(self) -> set[asyncio.BaseTransport]:
        """Return the transports of all connections."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[asyncio.BaseTransport]: ...
    def __contains__(self, transport: object, /) -> bool: ...

@final
class AsyncGenerators:
    """The asynchronous generators that a loop closes when it ends.

    It has the methods of ``weakref.WeakSet`` that asyncio uses, and runs no Python code
    when a generator begins or is freed. It holds no generator, and nothing that refers
    to the loop: the garbage collector need not visit it.
    """

    def __new__(cls) -> Self: ...
    def add(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Add a generator, by a weak reference."""

    def discard(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Remove a generator."""

    def clear(self) -> None:
        """Remove all generators."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[AsyncGenerator[Any, Any]]: ...

@final
class Listener:
    """A socket that accepts connections for an ``asyncio.Server``."""

@final
class ChildWatcher:
    """Hears of a child's end, reaps it and tells its transport."""

    def ended(self) -> None:
        """Reap the child and tell its transport.

        Call it in the loop's thread and the child's context, once the child is dead. asyncio's
        transports are told by a callback of ``loop.call_soon``, and have the exit status as
        ``Popen.returncode`` before.
        """

    def reap(self) -> None:
        """Reap the child if it is dead, unless another thread is waiting for it."""

    def fileno(self) -> int:
        """Return the pidfd, -1 if there is none, or not any more."""

    def notify(self, reaped: asyncio.Future[None]) -> bool:
        """Have a future set once the transport was told of the end.

        Return False if it was told already.
        """

def literal_addrinfo(
    host: object, port: object, family: int, type: int, proto: int, flags: int
) -> _GetAddrInfoResult | None:
    """Return what ``socket.getaddrinfo`` returns for a literal address, without a system call.

    Return ``None`` if ``host`` is not a literal address of a plain form: then libc must
    be asked. Raises ``TypeError`` or ``OverflowError`` if one of the last four is no C
    ``int``.
    """

def looks_numeric(host: object) -> bool:
    """Return True if libc may read ``host``, a ``str`` or ``bytes``, as a literal address.

    Then ``getaddrinfo`` with ``AI_NUMERICHOST`` does not call the resolver.
    """

@overload
def gather(  # type: ignore[overload-overlap]
    coro_or_future1: _FutureLike[_T1],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> asyncio.Future[tuple[_T1]]: ...
@overload
def gather(  # type: ignore[overload-overlap]
    coro_or_future1: _FutureLike[_T1],
    coro_or_future2: _FutureLike[_T2],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> asyncio.Future[tuple[_T1, _T2]]: ...
@overload
def gather(  # type: ignore[overload-overlap]
    coro_or_future1: _FutureLike[_T1],
    coro_or_future2: _FutureLike[_T2],
    coro_or_future3: _FutureLike[_T3],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> asyncio.Future[tuple[_T1, _T2, _T3]]: ...
@overload
def gather(  # type: ignore[overload-overlap]
    coro_or_future1: _FutureLike[_T1],
    coro_or_future2: _FutureLike[_T2],
    coro_or_future3: _FutureLike[_T3],
    coro_or_future4: _FutureLike[_T4],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> asyncio.Future[tuple[_T1, _T2, _T3, _T4]]: ...
@overload
def gather(  # type: ignore[overload-overlap]
    coro_or_future1: _FutureLike[_T1],
    coro_or_future2: _FutureLike[_T2],
    coro_or_future3: _FutureLike[_T3],
    coro_or_future4: _FutureLike[_T4],
    coro_or_future5: _FutureLike[_T5],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> asyncio.Future[tuple[_T1, _T2, _T3, _T4, _T5]]: ...
@overload
def gather(  # type: ignore[overload-overlap]
    coro_or_future1: _FutureLike[_T1],
    coro_or_future2: _FutureLike[_T2],
    coro_or_future3: _FutureLike[_T3],
    coro_or_future4: _FutureLike[_T4],
    coro_or_future5: _FutureLike[_T5],
    coro_or_future6: _FutureLike[_T6],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> asyncio.Future[tuple[_T1, _T2, _T3, _T4, _T5, _T6]]: ...
@overload
def gather(  # type: ignore[overload-overlap]
    *coros_or_futures: _FutureLike[_T], return_exceptions: Literal[False] = False
) -> asyncio.Future[list[_T]]: ...
@overload
def gather(
    coro_or_future1: _FutureLike[_T1],
    /,
    *,
    return_exceptions: bool,
) -> asyncio.Future[tuple[_Outcome[_T1]]]: ...
@overload
def gather(
    coro_or_future1: _FutureLike[_T1],
    coro_or_future2: _FutureLike[_T2],
    /,
    *,
    return_exceptions: bool,
) -> asyncio.Future[tuple[_Outcome[_T1], _Outcome[_T2]]]: ...
@overload
def gather(
    coro_or_future1: _FutureLike[_T1],
    coro_or_future2: _FutureLike[_T2],
    coro_or_future3: _FutureLike[_T3],
    /,
    *,
    return_exceptions: bool,
) -> asyncio.Future[tuple[_Outcome[_T1], _Outcome[_T2], _Outcome[_T3]]]: ...
@overload
def gather(
    coro_or_future1: _FutureLike[_T1],
    coro_or_future2: _FutureLike[_T2],
    coro_or_future3: _FutureLike[_T3],
    coro_or_future4: _FutureLike[_T4],
    /,
    *,
    return_exceptions: bool,
) -> asyncio.Future[tuple[_Outcome[_T1], _Outcome[_T2], _Outcome[_T3], _Outcome[_T4]]]: ...
@overload
def gather(
    coro_or_future1: _FutureLike[_T1],
    coro_or_future2: _FutureLike[_T2],
    coro_or_future3: _FutureLike[_T3],
    coro_or_future4: _FutureLike[_T4],
    coro_or_future5: _FutureLike[_T5],
    /,
    *,
    return_exceptions: bool,
) -> asyncio.Future[
    tuple[_Outcome[_T1], _Outcome[_T2], _Outcome[_T3], _Outcome[_T4], _Outcome[_T5]]
]: ...
@overload
def gather(
    coro_or_future1: _FutureLike[_T1],
    coro_or_future2: _FutureLike[_T2],
    coro_or_future3: _FutureLike[_T3],
    coro_or_future4: _FutureLike[_T4],
    coro_or_future5: _FutureLike[_T5],
    coro_or_future6: _FutureLike[_T6],
    /,
    *,
    return_exceptions: bool,
) -> asyncio.Future[
    tuple[_Outcome[_T1], _Outcome[_T2], _Outcome[_T3], _Outcome[_T4], _Outcome[_T5], _Outcome[_T6]]
]: ...
@overload
def gather(
    *coros_or_futures: _FutureLike[_T], return_exceptions: bool
) -> asyncio.Future[list[_Outcome[_T]]]:
    """Run awaitables concurrently; return a future of the list of their results, in order.

    As ``asyncio.gather``, which it calls on any loop but a :class:`tokioloop.Loop`. If
    ``return_exceptions`` is true exceptions are results like others; otherwise the
    first one is raised, and the other awaitables go on. Cancelling the future cancels
    all of them.

    Raises ``TypeError`` if an argument is not awaitable, ``ValueError`` for a future of
    another loop.
    """

def run_coroutine_threadsafe(
    coro: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop
) -> concurrent.futures.Future[_T]:
    """Run the coroutine ``coro`` on the loop of another thread.

    Return a ``concurrent.futures.Future``; cancelling it cancels the task. As
    ``asyncio.run_coroutine_threadsafe``, which it calls for any loop but a
    :class:`tokioloop.Loop`.

    Raises ``TypeError`` if ``coro`` is not a coroutine, ``RuntimeError`` if the loop is
    closed.
    """

class _SleepFunction(Protocol):
    @overload
    def __call__(self, delay: float) -> Coroutine[Any, Any, None]: ...
    @overload
    def __call__(self, delay: float, result: _T) -> Coroutine[Any, Any, _T]: ...

sleep: _SleepFunction
"""Block for ``delay`` seconds, never less, then return ``result``. Coroutine.

As ``asyncio.sleep``. A ``delay`` of zero or less lets the callbacks that are ready run once.
Awaiting it raises ``TypeError`` if ``delay`` is not a number, ``ValueError`` if it is NaN.
"""

@final
class Sleep(Coroutine[Any, Any, _T_co]):
    """A call of :func:`tokioloop.sleep` on a :class:`tokioloop.Loop`: a coroutine and its timer.

    Only ``sleep`` creates it. Warns with ``RuntimeWarning`` if it is never awaited.
    """

    __name__: str
    __qualname__: str
    # As those of a Python coroutine, which have no docstrings either. No Python code runs inside.
    @property
    def cr_running(self) -> bool: ...
    @property
    def cr_suspended(self) -> bool: ...
    @property
    def cr_origin(self) -> None: ...
    def __await__(self) -> Generator[Any, Any, _T_co]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any:
        """Run the coroutine to its next suspension; as ``send`` of a coroutine.

        Raises ``StopIteration`` with the result, ``RuntimeError`` if the coroutine is over.
        """

    @overload
    def throw(
        self,
        typ: type[BaseException],
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> Any: ...
    @overload
    def throw(
        self, typ: BaseException, val: None = None, tb: TracebackType | None = None, /
    ) -> Any:
        """Raise an exception where the coroutine is suspended; as ``throw`` of a coroutine."""

    def close(self) -> None:
        """End the coroutine, and what it waits for; as ``close`` of a coroutine."""

@disjoint_base
class NativeStreamReader:
    """The native part of a stream reader.

    A base class of :class:`tokioloop.StreamReader`, before ``asyncio.StreamReader``, which
    contributes the rest. It ignores its arguments.
    """

    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...
    async def read(self, n: int = -1) -> bytes:
        """Read up to ``n`` bytes as soon as there is one, or all up to the end. Coroutine.

        Return ``bytes``, empty at the end. As ``asyncio.StreamReader.read``.
        """

    async def readexactly(self, n: int) -> bytes:
        """Read exactly ``n`` bytes. Coroutine.

        Raises ``asyncio.IncompleteReadError`` if the end comes before. As
        ``asyncio.StreamReader.readexactly``.
        """

    if sys.version_info >= (3, 13):
        async def readuntil(self, separator: _Separator | tuple[_Separator, ...] = b"\n") -> bytes:
            """Read up to a separator, which is the end of what is returned. Coroutine.

            Raises ``asyncio.IncompleteReadError`` if the end comes before,
            ``asyncio.LimitOverrunError`` if there is more than the limit before it. As
            ``asyncio.StreamReader.readuntil``, from 3.13 on also with a tuple of separators.
            """
    else:
        async def readuntil(self, separator: _Separator = b"\n") -> bytes:
            """Read up to a separator, which is the end of what is returned. Coroutine.

            Raises ``asyncio.IncompleteReadError`` if the end comes before,
            ``asyncio.LimitOverrunError`` if there is more than the limit before it. As
            ``asyncio.StreamReader.readuntil``, from 3.13 on also with a tuple of separators.
            """

    async def readline(self) -> bytes:
        """Read a line with its end; the last one may have none. Coroutine.

        Return empty ``bytes`` at the end. Raises ``ValueError`` if a line is longer than the
        limit, and drops it. As ``asyncio.StreamReader.readline``.
        """

    async def __anext__(self) -> bytes:
        """Read the next line, or raise ``StopAsyncIteration`` at the end. Coroutine."""

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Append received bytes, and wake the coroutine that reads. As
        ``asyncio.StreamReader.feed_data``.
        """

    def feed_eof(self) -> None:
        """Note the end of what is received. As ``asyncio.StreamReader.feed_eof``."""

    def at_eof(self) -> bool:
        """Return True if everything was read, up to the end. As ``asyncio.StreamReader.at_eof``."""

    def exception(self) -> Exception:
        """Return the exception that ended the connection, or None. As
        ``asyncio.StreamReader.exception``.
        """

    # -- asyncio's private state, under its own names -------------------------------------------

    _buffer: Any
    _eof: bool
    _exception: Any
    _limit: Any
    _loop: Any
    _paused: bool
    _transport: Any
    _waiter: Any
    def __setattr__(self, name: str, value: Any, /) -> None: ...
    def __delattr__(self, name: str, /) -> None: ...

@disjoint_base
class NativeStreamWriter:
    """The native part of a stream writer.

    A base class of :class:`tokioloop.StreamWriter`, before ``asyncio.StreamWriter``, which
    contributes the rest. It ignores its arguments.
    """

    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, or keep them until they can be sent. As ``asyncio.StreamWriter.write``."""

    def writelines(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send an iterable of bytes. As ``asyncio.StreamWriter.writelines``."""

    def close(self) -> None:
        """Close the connection when everything is sent. As ``asyncio.StreamWriter.close``."""

    def is_closing(self) -> bool:
        """Return True if the connection is closed or about to be. As
        ``asyncio.StreamWriter.is_closing``.
        """

    async def drain(self) -> None:
        """Wait until the peer has taken enough of what was written. Coroutine.

        Raises the exception that ended the connection. As ``asyncio.StreamWriter.drain``.
        """

    async def wait_closed(self) -> None:
        """Wait until the connection is closed. Coroutine.

        Raises the exception that ended it. As ``asyncio.StreamWriter.wait_closed``.
        """

    # -- asyncio's private state, under its own names -------------------------------------------

    _loop: Any
    _protocol: Any
    _reader: Any
    _transport: Any

@final
class StreamCall(Coroutine[Any, Any, _T_co]):
    """A call of a stream's, such as ``reader.read()``: a coroutine, to be awaited once.

    Warns with ``RuntimeWarning`` if it is never awaited.
    """

    __name__: str
    __qualname__: str
    # As those of a Python coroutine, which have no docstrings either. No Python code runs inside.
    @property
    def cr_running(self) -> bool: ...
    @property
    def cr_suspended(self) -> bool: ...
    @property
    def cr_origin(self) -> None: ...
    def __await__(self) -> Generator[Any, Any, _T_co]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any:
        """Run the coroutine to its next suspension; as ``send`` of a coroutine.

        Raises ``StopIteration`` with the result, ``RuntimeError`` if the coroutine is over.
        """

    @overload
    def throw(
        self,
        typ: type[BaseException],
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> Any: ...
    @overload
    def throw(
        self, typ: BaseException, val: None = None, tb: TracebackType | None = None, /
    ) -> Any:
        """Raise an exception where the coroutine is suspended; as ``throw`` of a coroutine."""

    def close(self) -> None:
        """End the coroutine, and what it waits for; as ``close`` of a coroutine."""
