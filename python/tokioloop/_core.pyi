"""The native core of tokioloop.

Made for :class:`tokioloop.Loop` and not to be used without it. The names without an underscore
are asyncio's interface; those with one are what asyncio's own code, or the Python side of the
loop, calls. Times are in seconds, sizes in bytes, descriptors are numbers.
"""

import asyncio
import concurrent.futures
import socket
import ssl
from asyncio import constants, transports
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from contextvars import Context
from socket import _GetAddrInfoResult
from traceback import StackSummary
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar, final, overload

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

__all__ = [
    "AsyncGenerators",
    "Clients",
    "DatagramTransport",
    "Handle",
    "Listener",
    "NativeLoop",
    "ReadPipeTransport",
    "SSLTransport",
    "Sleep",
    "SocketOperation",
    "SocketTransport",
    "TimerHandle",
    "WritePipeTransport",
    "__version__",
    "gather",
    "literal_addrinfo",
    "looks_numeric",
    "run_coroutine_threadsafe",
    "sleep",
]

#: The version of the core, which is that of the package.
__version__: str

@disjoint_base
class NativeLoop:
    """The part of the event loop that runs for every callback.

    A base of :class:`tokioloop.Loop`, before ``asyncio.SelectorEventLoop``, which contributes
    the rest of ``asyncio.AbstractEventLoop``. Takes any arguments, and looks at none.
    """

    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...

    # -- scheduling callbacks -----------------------------------------------------------------

    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> Handle:
        """Call ``callback(*args)`` in the next batch, in the order of the calls.

        As ``asyncio.loop.call_soon``. ``context`` is what it runs in; ``None`` copies the
        current one.

        Raises ``RuntimeError`` if the loop is closed. In debug mode also ``RuntimeError`` when
        called from another thread than the loop's, and ``TypeError`` for a coroutine.
        """

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> Handle:
        """As :meth:`call_soon`, from any thread or signal handler: wakes the loop if it sleeps.

        As ``asyncio.loop.call_soon_threadsafe``. Raises ``RuntimeError`` if the loop is closed,
        and in debug mode ``TypeError`` for a coroutine.
        """

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> TimerHandle:
        """Call ``callback(*args)`` after ``delay`` seconds, and never earlier.

        As ``asyncio.loop.call_later``. Raises ``TypeError`` if ``delay`` is no number,
        ``ValueError`` if it is NaN, ``RuntimeError`` if the loop is closed; in debug mode also
        what :meth:`call_soon` raises there.
        """

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> TimerHandle:
        """Call ``callback(*args)`` at ``when``, in seconds of :meth:`time`, and never earlier.

        As ``asyncio.loop.call_at``. Raises what :meth:`call_later` raises.
        """

    def time(self) -> float:
        """The loop's clock, in seconds: equal to ``time.monotonic()``. As ``asyncio.loop.time``.

        A subclass that overrides it has its timers run by its own clock.
        """

    def create_future(self) -> asyncio.Future[Any]:
        """A new ``asyncio.Future`` of this loop. As ``asyncio.loop.create_future``."""

    def create_task(
        self, coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T], **kwargs: Any
    ) -> asyncio.Task[_T]:
        """Run ``coro`` as a new ``asyncio.Task``; ``name``, and from 3.11 on ``context``, are its.

        As ``asyncio.loop.create_task`` of the running CPython, whose options it takes. Raises
        ``RuntimeError`` if the loop is closed, ``TypeError`` for what is no coroutine.
        """

    # -- state --------------------------------------------------------------------------------

    def stop(self) -> None:
        """Have ``run_forever()`` return after the current batch. As ``asyncio.loop.stop``.

        Stops the next run after its first batch if the loop does not run.
        """

    def is_running(self) -> bool:
        """Whether some thread runs the loop. As ``asyncio.loop.is_running``."""

    def is_closed(self) -> bool:
        """Whether ``close()`` was called. As ``asyncio.loop.is_closed``."""

    def get_debug(self) -> bool:
        """Whether asyncio's debug mode is on. As ``asyncio.loop.get_debug``."""

    # -- sockets ------------------------------------------------------------------------------

    def sock_recv(self, sock: socket.socket, n: int) -> SocketOperation[bytes]:
        """Receive up to ``n`` bytes; ``b""`` at the end. Coroutine.

        As ``asyncio.loop.sock_recv``; tried when it is first stepped, then whenever the socket
        is ready. Awaiting it raises ``OSError`` for what the kernel refuses, ``ValueError`` for
        a negative ``n``, ``TypeError`` for an ``ssl.SSLSocket``, ``RuntimeError`` if a transport
        uses the descriptor; in debug mode also ``ValueError`` for a blocking socket.
        """

    def sock_recv_into(self, sock: socket.socket, buf: WriteableBuffer) -> SocketOperation[int]:
        """Receive into ``buf``; gives the number of bytes, 0 at the end. Coroutine.

        As ``asyncio.loop.sock_recv_into``. Awaiting it raises what :meth:`sock_recv` raises,
        and ``BufferError`` or ``TypeError`` for what is no writable contiguous buffer.
        """

    def sock_sendall(self, sock: socket.socket, data: ReadableBuffer) -> SocketOperation[None]:
        """Send all of ``data``. Coroutine.

        As ``asyncio.loop.sock_sendall``; after an error or a cancellation nobody can tell how
        much was sent. Awaiting it raises what :meth:`sock_recv` raises, and ``BufferError`` or
        ``TypeError`` for what is no contiguous buffer.
        """

    def sock_connect(self, sock: socket.socket, address: Any) -> Coroutine[Any, Any, None]:
        """Connect ``sock`` to a remote address. Coroutine.

        As ``asyncio.loop.sock_connect``: host names are resolved, literal addresses are not. A
        :class:`SocketOperation` for a TCP or UDP socket of Python's own and a literal address.
        Awaiting it raises ``OSError`` if there is no connection to be had.
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
        """A copy of the ready queue's handles. Assigning does nothing: the queue is the core's."""
    @_ready.setter
    def _ready(self, _queue: object) -> None: ...
    @property
    def _scheduled(self) -> list[TimerHandle]:
        """The timers that have not fired, in no order. Assigning does nothing."""
    @_scheduled.setter
    def _scheduled(self, _heap: object) -> None: ...

    # -- asyncio's private hooks, under its own names -------------------------------------------

    def _check_closed(self) -> None:
        """Raises ``RuntimeError`` if the loop is closed."""

    def _run_once(self) -> None:
        """One turn, without what ``run_forever()`` sets up around it."""

    #: What Rust code compiled apart reaches the loop by.
    _bridge: ClassVar[Any]

    def _write_to_self(self) -> None:
        """Wakes the loop if it sleeps."""

    def _add_reader(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> Handle:
        """Calls ``callback(*args)`` while ``fd`` is readable; cancels the callback it replaces.

        Raises ``RuntimeError`` if the loop is closed, ``ValueError`` for what is no descriptor,
        ``OSError`` for one that cannot be watched (closed, or a regular file).
        """

    def _add_writer(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> Handle:
        """The same while ``fd`` is writable."""

    def _remove_reader(self, fd: FileDescriptorLike) -> bool:
        """Takes ``_add_reader`` back; whether there was one. ``False`` on a closed loop."""

    def _remove_writer(self, fd: FileDescriptorLike) -> bool:
        """Takes ``_add_writer`` back; whether there was one. ``False`` on a closed loop."""

    # -- the Python side's own ------------------------------------------------------------------

    def _open(self) -> None:
        """Opens the descriptors that the loop itself needs. Raises ``OSError``."""

    def _run(self) -> None:
        """Runs turns until :meth:`stop`; ``run_forever()`` sets the scene.

        Raises what a callback raised if it is not to be reported but to end the loop, and
        ``RuntimeError`` inside a tokio runtime of somebody else's.
        """

    def _dispose(self) -> None:
        """Lets go of everything, as the last part of ``close()``."""

    def _watched(self, fd: int) -> int:
        """The ``selectors`` events that ``fd`` is watched for, 0 for none."""

    def _registered(self) -> list[tuple[Any, int, int, list[asyncio.Handle | None]]]:
        """What is registered: file, number, events, and the handles of reader and writer."""

    def _registered_fd(self, file: Any) -> int | None:
        """The number that a file was registered by, which may be closed by now."""

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        """``sys.set_asyncgen_hooks``' ``firstiter`` while the loop runs."""

    def _fd_owner(self, fd: int) -> SocketTransport | DatagramTransport | None:
        """The transport of ours that uses ``fd``."""

    def _disown_fd(self, fd: int) -> bool:
        """Forgets that a transport of ours uses ``fd``; whether one did."""

    def _own_fd(self, transport: object) -> bool:
        """Takes ``_disown_fd`` back; ``False`` if it is no transport of ours."""

    def _stream_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None,
        extra: dict[str, Any] | None,
        server: asyncio.AbstractServer | None,
    ) -> SocketTransport:
        """A transport over a connected socket; ``connection_made`` is scheduled, then ``waiter``
        is set.

        Raises ``RuntimeError`` if the loop is closed.
        """

    def _tls_transport(self, parts: _TlsParts) -> SSLTransport:
        """A TLS transport; it starts when a transport below calls its ``connection_made``."""

    def _datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any,
        waiter: asyncio.Future[Any] | None,
        extra: dict[str, Any] | None,
    ) -> DatagramTransport:
        """A transport over an IPv4, IPv6 or Unix datagram socket; ``connection_made`` is
        scheduled, then ``waiter`` is set. ``address``, if any, is the only one to send to.

        Raises ``RuntimeError`` if the loop is closed.
        """

    # What asyncio's own `connect_read_pipe` and `connect_write_pipe` call.
    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> ReadPipeTransport:
        """A transport over a file object; ``connection_made`` is scheduled, then ``waiter`` set.

        Raises ``RuntimeError`` if the loop is closed, ``OSError`` for a closed descriptor, and
        ``ValueError`` for what is no pipe, socket or character device.
        """

    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> WritePipeTransport:
        """The same for writing."""

    def _listen(
        self,
        sock: socket.socket,
        backlog: int,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: asyncio.AbstractServer | None,
    ) -> Listener:
        """Accepts connections on a listening socket; each gets a protocol and a transport.

        ``backlog`` is the most that one turn accepts. Raises ``OSError``.
        """

    def _unlisten(self, listener: Listener) -> None:
        """Stops accepting; the socket stays open."""

    def _relisten(self, listener: Listener) -> None:
        """Goes on accepting after ``_unlisten``. Raises ``OSError``."""

# At run time the next three are no subclasses of what they derive from here: `__class__` says that
# they are instances, or the class is registered, so that `isinstance` holds as it does for asyncio.

@final
class Handle(asyncio.Handle):
    """What :meth:`NativeLoop.call_soon` gives out; an ``asyncio.Handle`` to ``isinstance``.

    Cannot be made by hand: ``asyncio.Handle`` can. Its attributes are read-only.
    """

    def cancel(self) -> None:
        """Do not call the callback; no error if that is too late. As ``asyncio.Handle``."""

    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called. As ``asyncio.Handle``."""

    def get_context(self) -> Context:
        """What the callback runs in. As ``asyncio.Handle``, there from 3.12 on."""

    def _run(self) -> None:
        """Calls the callback; an error goes to the loop's exception handler.

        Raises ``RuntimeError`` if the handle is cancelled.
        """

    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def _callback(self) -> Callable[..., object] | None:
        """``None`` once cancelled."""
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
    """What :meth:`NativeLoop.call_later` gives out; an ``asyncio.TimerHandle`` to ``isinstance``.

    Cannot be made by hand: ``asyncio.TimerHandle`` can. Ordered by time, as asyncio's, among
    themselves. Its attributes are read-only.
    """

    def when(self) -> float:
        """When the callback is due, in seconds of the loop's ``time()``.

        As ``asyncio.TimerHandle``.
        """

    def cancel(self) -> None:
        """Do not call the callback; no error if that is too late. As ``asyncio.TimerHandle``."""

    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called. As ``asyncio.TimerHandle``."""

    def get_context(self) -> Context:
        """What the callback runs in. As ``asyncio.TimerHandle``, there from 3.12 on."""

    def _run(self) -> None:
        """See ``Handle``."""

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
        """Whether the timer is yet to fire and was not taken out of the loop."""

@final
class SocketOperation(Coroutine[Any, Any, _T_co]):
    """A ``sock_*`` call under way: a coroutine, to be awaited once.

    Warns with ``RuntimeWarning`` if it never is.
    """

    __name__: str
    __qualname__: str
    def send(self, value: Any, /) -> Any:
        """As ``coroutine.send``: ``StopIteration`` carries the result.

        Raises ``RuntimeError`` when it is over.
        """

    @overload
    def throw(
        self,
        typ: type[BaseException],
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> Any:
        """As ``coroutine.throw``."""
    @overload
    def throw(
        self, typ: BaseException, val: None = None, tb: TracebackType | None = None, /
    ) -> Any: ...
    def close(self) -> None:
        """As ``coroutine.close``: waits no more."""

    def __await__(self) -> Generator[Any, Any, _T_co]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

@final
class SocketTransport(transports._FlowControlMixin):
    """A stream connection, TCP or Unix; an ``asyncio.Transport``.

    Writes of one turn leave together at its end. Cannot be made by hand: the loop does it. A
    transport that nobody closed warns with ``ResourceWarning`` when it is collected.
    """

    # -- writing ------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send ``data``, which may change afterwards. As ``asyncio.WriteTransport.write``.

        Never waits: what the kernel does not take is buffered, and beyond the high-water mark
        the protocol's ``pause_writing()`` is called. Dropped after the connection is lost.

        Raises ``TypeError`` for what is not bytes-like, ``RuntimeError`` after
        :meth:`write_eof`, and while a ``sendfile()`` is under way.
        """

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Send each of an iterable. As ``asyncio.WriteTransport.writelines``.

        Raises what :meth:`write` raises; then none of them is sent.
        """

    def write_eof(self) -> None:
        """End the sending side once what is buffered has left.

        As ``asyncio.WriteTransport.write_eof``. Calling it twice does no harm.
        """

    def can_write_eof(self) -> bool:
        """``True``. As ``asyncio.WriteTransport.can_write_eof``."""

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken yet, after trying to hand over this turn's.

        As ``asyncio.WriteTransport.get_write_buffer_size``.
        """

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low- and the high-water mark, in bytes; at first 16 KiB and 64 KiB.

        As ``asyncio.WriteTransport.get_write_buffer_limits``.
        """

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, in bytes: above ``high`` the protocol is paused, at ``low`` resumed.

        As ``asyncio.WriteTransport.set_write_buffer_limits``, its defaults included. Raises
        ``ValueError`` unless ``high >= low >= 0``.
        """

    # -- reading ------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Whether the protocol gets data. As ``asyncio.ReadTransport.is_reading``."""

    def pause_reading(self) -> None:
        """Give the protocol no more data. As ``asyncio.ReadTransport.pause_reading``."""

    def resume_reading(self) -> None:
        """Give the protocol data again. As ``asyncio.ReadTransport.resume_reading``."""

    # -- the connection -----------------------------------------------------------------------

    def close(self) -> None:
        """Read no more, send what is buffered, then close. As ``asyncio.BaseTransport.close``.

        Raises ``RuntimeError`` if the loop is closed and the transport is not.
        """

    def abort(self) -> None:
        """Close at once; what the kernel has not taken is lost. As ``asyncio.WriteTransport``.

        Raises ``RuntimeError`` if the loop is closed and the transport is not.
        """

    def is_closing(self) -> bool:
        """Whether it is closing or closed. As ``asyncio.BaseTransport.is_closing``."""

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The current protocol, ``None`` once the connection is lost.

        As ``asyncio.BaseTransport.get_protocol``.
        """

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol called from now on. As ``asyncio.BaseTransport.set_protocol``."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``"socket"``, ``"sockname"``, ``"peername"``, or what the transport was made with.

        ``default`` for what is unknown. As ``asyncio.BaseTransport.get_extra_info``.
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
        """Made when somebody asks; ``None`` once closed."""
    @property
    def _sock_fd(self) -> int: ...
    @property
    def _extra(self) -> dict[str, Any]:
        """A copy; all of ``get_extra_info``."""

    def _force_close(self, exc: BaseException | None) -> None:
        """Closes at once; ``exc`` goes to ``connection_lost``."""

    def _make_empty_waiter(self) -> asyncio.Future[None]:
        """A future that is done when the buffer is empty; nothing can be written meanwhile.

        Raises ``RuntimeError`` if there is one already, and if the connection is lost.
        """

    def _reset_empty_waiter(self) -> None:
        """Lets writes through again."""

@final
class SSLTransport(transports._FlowControlMixin, asyncio.Protocol):
    """TLS between a protocol and the transport below.

    It is the ``asyncio.Transport`` of the one and the ``asyncio.Protocol`` of the other.
    Cannot be made by hand: ``ssl=`` and ``start_tls`` do it.
    """

    # -- for the application ------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Encrypt and send ``data``. As ``asyncio.WriteTransport.write``.

        Never waits: what the transport below does not take is buffered, and from the high-water
        mark on the protocol's ``pause_writing()`` is called. Dropped once the transport closes.

        Raises ``TypeError`` for what is not bytes-like.
        """

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Send each of an iterable. As ``asyncio.WriteTransport.writelines``.

        Raises what :meth:`write` raises; then none of them is sent.
        """

    def write_eof(self) -> None:
        """TLS cannot end one side only: raises ``NotImplementedError``."""

    def can_write_eof(self) -> bool:
        """``False``. As ``asyncio.WriteTransport.can_write_eof``."""

    def get_write_buffer_size(self) -> int:
        """Bytes of plain- and ciphertext that the transport below has not taken yet."""

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low- and the high-water mark, in bytes; at first 128 KiB and 512 KiB."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, in bytes: from ``high`` on the protocol is paused, at ``low`` resumed.

        Raises ``ValueError`` unless ``high >= low >= 0``.
        """

    def get_read_buffer_size(self) -> int:
        """Bytes of ciphertext that are not decrypted yet, because reading is paused."""

    def get_read_buffer_limits(self) -> tuple[int, int]:
        """The marks of :meth:`get_read_buffer_size`; at first 64 KiB and 256 KiB."""

    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set these marks, in bytes: from ``high`` on the transport below is paused.

        Raises ``ValueError`` unless ``high >= low >= 0``.
        """

    def is_reading(self) -> bool:
        """Whether the protocol gets data. As ``asyncio.ReadTransport.is_reading``."""

    def pause_reading(self) -> None:
        """Give the protocol no more data. As ``asyncio.ReadTransport.pause_reading``."""

    def resume_reading(self) -> None:
        """Give the protocol data again. As ``asyncio.ReadTransport.resume_reading``."""

    def close(self) -> None:
        """Send what is buffered, say good-bye to the peer, close when it has answered."""

    def abort(self) -> None:
        """Close at once, without a word to the peer. As ``asyncio.WriteTransport.abort``."""

    def is_closing(self) -> bool:
        """Whether it is closing or closed. As ``asyncio.BaseTransport.is_closing``."""

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The application's protocol, ``None`` once the connection is lost."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol called from now on. As ``asyncio.BaseTransport.set_protocol``."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``"sslcontext"``, and after the handshake ``"ssl_object"``, ``"peercert"``,
        ``"cipher"``, ``"compression"``; for other names, what the transport below knows.

        ``default`` for what is unknown. As ``asyncio.BaseTransport.get_extra_info``.
        """

    def __del__(self) -> None: ...

    # -- for the transport below: ``asyncio.Protocol`` ------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake."""

    def connection_lost(self, exc: BaseException | None) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

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
        """Closes at once; ``exc`` goes to ``connection_lost``."""

    def _read_on(self) -> None: ...
    def _check_handshake_timeout(self) -> None: ...
    def _check_shutdown_timeout(self) -> None: ...

@final
class DatagramTransport(transports._FlowControlMixin, asyncio.DatagramTransport):
    """A datagram socket, UDP or Unix; an ``asyncio.DatagramTransport``, and as asyncio's own an
    ``asyncio.Transport``.

    Cannot be made by hand: the loop does it. A transport that nobody closed warns with
    ``ResourceWarning`` when it is collected.
    """

    # -- sending ------------------------------------------------------------------------------

    def sendto(self, data: bytes | bytearray | memoryview[Any], addr: Any = None) -> None:
        """Send a datagram, at once if the kernel takes it. As ``asyncio.DatagramTransport.sendto``.

        ``addr`` is an address of the socket's family as Python spells it, ``None`` for the peer
        of a connected socket. What the kernel does not take now is buffered; beyond the
        high-water mark the protocol's ``pause_writing()`` is called. ``OSError`` goes to the
        protocol's ``error_received()``, and what else the address gives rise to ends the
        transport. Nothing is sent before 3.13 if ``data`` is empty.

        Raises ``TypeError`` for what is not bytes-like, ``ValueError`` for another address than
        the one connected to, ``AttributeError`` once closed unless made with ``remote_addr``:
        then datagrams are dropped.
        """

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken yet; from 3.13 on with 8 more for each datagram.

        As ``asyncio.WriteTransport.get_write_buffer_size``.
        """

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low- and the high-water mark, in bytes; at first 16 KiB and 64 KiB.

        As ``asyncio.WriteTransport.get_write_buffer_limits``.
        """

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, in bytes: above ``high`` the protocol is paused, at ``low`` resumed.

        As ``asyncio.WriteTransport.set_write_buffer_limits``, its defaults included. Raises
        ``ValueError`` unless ``high >= low >= 0``.
        """

    # -- receiving ----------------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Whether the protocol gets datagrams. As ``asyncio.ReadTransport.is_reading``."""

    def pause_reading(self) -> None:
        """Give the protocol no more datagrams. As ``asyncio.ReadTransport.pause_reading``."""

    def resume_reading(self) -> None:
        """Give the protocol datagrams again. As ``asyncio.ReadTransport.resume_reading``."""

    # -- the endpoint -------------------------------------------------------------------------

    def close(self) -> None:
        """Receive no more, send what is buffered, then close. As ``asyncio.BaseTransport.close``.

        Raises ``RuntimeError`` if the loop is closed and the transport is not.
        """

    def abort(self) -> None:
        """Close at once; what is buffered is lost. As ``asyncio.DatagramTransport.abort``.

        Raises ``RuntimeError`` if the loop is closed and the transport is not.
        """

    def is_closing(self) -> bool:
        """Whether it is closing or closed. As ``asyncio.BaseTransport.is_closing``."""

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The current protocol, ``None`` once closed. As ``asyncio.BaseTransport.get_protocol``."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol called from now on. As ``asyncio.BaseTransport.set_protocol``."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``"socket"``, ``"sockname"``, ``"peername"``, or what the transport was made with.

        ``default`` for what is unknown. As ``asyncio.BaseTransport.get_extra_info``.
        """

    def __del__(self) -> None: ...

    # -- what asyncio's transports have, under the same names -----------------------------------

    max_size: ClassVar[int]
    """Bytes of a datagram that are kept."""
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
        """Closes at once; ``exc`` goes to ``connection_lost``."""

    def _sendto_ready(self) -> None:
        """Sends what is buffered until the kernel takes no more."""

@final
class ReadPipeTransport(asyncio.ReadTransport):
    """The reading end of a pipe, or a FIFO, a socket, a character device.

    Cannot be made by hand: ``connect_read_pipe`` does it. A transport that nobody closed warns
    with ``ResourceWarning`` when it is collected.
    """

    def close(self) -> None:
        """Read no more, and close the file. As ``asyncio.BaseTransport.close``.

        At once, and without a word to the protocol, if the loop is closed.
        """

    def is_closing(self) -> bool:
        """Whether it is closing or closed. As ``asyncio.BaseTransport.is_closing``."""

    def is_reading(self) -> bool:
        """Whether the protocol gets data. As ``asyncio.ReadTransport.is_reading``."""

    def pause_reading(self) -> None:
        """Give the protocol no more data. As ``asyncio.ReadTransport.pause_reading``."""

    def resume_reading(self) -> None:
        """Give the protocol data again. As ``asyncio.ReadTransport.resume_reading``.

        Raises ``PermissionError`` for a device that cannot be watched.
        """

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The current protocol, ``None`` once the connection is lost."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol called from now on. As ``asyncio.BaseTransport.set_protocol``."""

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
        """The descriptor is ready."""

@final
class WritePipeTransport(transports._FlowControlMixin):
    """The writing end of a pipe, or a FIFO, a socket, a character device.

    Cannot be made by hand: ``connect_write_pipe`` does it. A transport that nobody closed warns
    with ``ResourceWarning`` when it is collected.
    """

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Write ``data``, which may change afterwards. As ``asyncio.WriteTransport.write``.

        At once, as much as the kernel takes; the rest is buffered, and beyond the high-water
        mark the protocol's ``pause_writing()`` is called. Dropped once the reader is gone.

        Raises ``AssertionError`` for what is not bytes-like, as asyncio does.
        """

    def can_write_eof(self) -> bool:
        """``True``. As ``asyncio.WriteTransport.can_write_eof``."""

    def write_eof(self) -> None:
        """The same as :meth:`close`. As ``asyncio.WriteTransport.write_eof``."""

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken. As ``asyncio.WriteTransport``."""

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low- and the high-water mark, in bytes; at first 16 KiB and 64 KiB."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, in bytes: above ``high`` the protocol is paused.

        It is resumed when nothing is left, as asyncio does it. Raises ``ValueError`` unless
        ``high >= low >= 0``.
        """

    def close(self) -> None:
        """Write what is buffered, then close the file. As ``asyncio.BaseTransport.close``.

        At once, and without a word to the protocol, if the loop is closed.
        """

    def abort(self) -> None:
        """Close; what is buffered is lost. As ``asyncio.WriteTransport.abort``."""

    def is_closing(self) -> bool:
        """Whether it is closing or closed. As ``asyncio.BaseTransport.is_closing``."""

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The current protocol, ``None`` once the connection is lost."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol called from now on. As ``asyncio.BaseTransport.set_protocol``."""

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
        """Writes since the reader is gone or the transport was closed."""
    @property
    def _protocol_paused(self) -> bool: ...
    @property
    def _high_water(self) -> int: ...
    @property
    def _low_water(self) -> int: ...
    def _read_ready(self) -> None:
        """The reader is gone."""

    def _write_ready(self) -> None:
        """The descriptor takes more."""

@final
class Clients:
    """The connections of an ``asyncio.Server``, in the place of its ``_clients``."""

    def __new__(cls, event_loop: NativeLoop, server: asyncio.AbstractServer) -> Clients: ...
    def add(self, transport: asyncio.BaseTransport) -> None:
        """A connection was made."""

    def discard(self, transport: asyncio.BaseTransport) -> None:
        """A connection is gone."""

    def copy(self) -> set[asyncio.BaseTransport]:
        """The transports as they are now."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[asyncio.BaseTransport]: ...
    def __contains__(self, transport: object, /) -> bool: ...

@final
class AsyncGenerators:
    """The asynchronous generators that a loop closes: what asyncio uses of a ``WeakSet``."""

    def __new__(cls) -> Self: ...
    def add(self, generator: AsyncGenerator[Any, Any]) -> None: ...
    def discard(self, generator: AsyncGenerator[Any, Any]) -> None: ...
    def clear(self) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[AsyncGenerator[Any, Any]]: ...

@final
class Listener:
    """A socket that accepts connections for an ``asyncio.Server``; see ``_listen``."""

def literal_addrinfo(
    host: object, port: object, family: int, type: int, proto: int, flags: int
) -> _GetAddrInfoResult | None:
    """``socket.getaddrinfo``'s answer for a literal address, without a system call.

    ``None`` for all but the plain forms: then libc must be asked. Raises ``TypeError`` or
    ``OverflowError`` if one of the last four is no C ``int``.
    """

def looks_numeric(host: object) -> bool:
    """Whether libc may take ``host`` (``str`` or ``bytes``) for an address.

    Then asking it with ``AI_NUMERICHOST`` does not reach the resolver.
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
    """Run awaitables at the same time; gives the list of their results, in their order.

    As ``asyncio.gather``, which it is on another loop. With ``return_exceptions`` exceptions are
    results like others; else the first one is raised, and the others go on. Cancelling it cancels
    them all. Raises ``TypeError`` for what is no awaitable, ``ValueError`` for a future of
    another loop.
    """

def run_coroutine_threadsafe(
    coro: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop
) -> concurrent.futures.Future[_T]:
    """Run ``coro`` on a loop of another thread; the future is for this one.

    As ``asyncio.run_coroutine_threadsafe``, which it is for another loop. Cancelling the future
    cancels the task. Raises ``TypeError`` for what is no coroutine, and ``RuntimeError`` if the
    loop is closed.
    """

class _SleepFunction(Protocol):
    @overload
    def __call__(self, delay: float) -> Coroutine[Any, Any, None]: ...
    @overload
    def __call__(self, delay: float, result: _T) -> Coroutine[Any, Any, _T]: ...

#: As ``asyncio.sleep``: see :func:`tokioloop.sleep`.
sleep: _SleepFunction

@final
class Sleep(Coroutine[Any, Any, _T_co]):
    """What :func:`tokioloop.sleep` gives on a loop of ours: a coroutine and its timer in one.

    Not made by hand. Warns with ``RuntimeWarning`` if it is never awaited.
    """

    __name__: str
    __qualname__: str
    @property
    def cr_running(self) -> bool:
        """``False``: no Python code runs inside."""
    @property
    def cr_suspended(self) -> bool:
        """Whether it waits."""
    @property
    def cr_origin(self) -> None: ...
    def __await__(self) -> Generator[Any, Any, _T_co]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any: ...
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
    ) -> Any: ...
    def close(self) -> None: ...
