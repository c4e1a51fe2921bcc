"""``Loop``: the native core on top of asyncio's own selector loop.

What runs for every callback or packet is native (``tokioloop._core``). What runs once a connection
or once a loop (argument checks, happy eyeballs, executors, exception handlers) is asyncio's own
code, and so behaves as it does on the running version of CPython.
"""

from __future__ import annotations

import _socket
import asyncio
import contextvars
import socket
import sys
import weakref
from asyncio import constants, trsock
from collections.abc import Callable
from operator import attrgetter, is_not
from typing import TYPE_CHECKING, Any

# The core calls the last three by name. They are loaded now, because a process that has no
# descriptors left could not load them when it has an error to report.
from . import _core, debug_mode, error_reports, servers  # noqa: F401
from .connections import Connections, loop_methods
from .coroutines import as_coroutine_function
from .processes import ProcessHandling
from .registry import NativeSelector, TransportMap
from .running import Running
from .signals import SignalHandling
from .tls import Tls

if TYPE_CHECKING:
    from socket import _GetAddrInfoResult


#: The address families that the core supports; sockets of others get asyncio's own transport.
NATIVE_DATAGRAMS = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


#: The methods of sockets that the core bypasses, and asyncio's transports and listeners call.
DATAGRAM_CALLS = attrgetter("recvfrom", "send", "sendto")
STREAM_CALLS = attrgetter("recv", "recv_into", "send", "sendmsg")
ACCEPT = socket.socket.accept

#: Of sockets, as plain integers: ``socket.socket`` looks enumerations up, at each access.
FAMILY = _socket.socket.family.__get__
KIND = _socket.socket.type.__get__


def overrides(kind: type, calls: Callable[[type], tuple[Any, ...]]) -> bool:
    """Return True if a class of sockets has a method of its own in the place of one of these.

    ``socket.socket`` itself has one where a program, or a tool that it uses, has replaced it.
    """
    try:
        return any(map(is_not, calls(kind), calls(_socket.socket)))
    except AttributeError:
        return True  # something that only behaves like a socket


def overrides_accept(kind: type) -> bool:
    """Return True if listening by the core would bypass a method that accepts or carries data."""
    # What is accepted is a ``socket.socket``, whichever class the listening socket is of.
    return getattr(kind, "accept", None) is not ACCEPT or overrides(socket.socket, STREAM_CALLS)


class Loop(
    Running,
    Connections,
    ProcessHandling,
    SignalHandling,
    Tls,
    _core.NativeLoop,
    asyncio.SelectorEventLoop,
):
    """An asyncio event loop driven by tokio; a subclass of ``asyncio.SelectorEventLoop``.

    It takes no arguments. Raises ``OSError`` if the process has no descriptors left for it.
    """

    def __init__(self) -> None:
        # By descriptor: the server's socket, and the listener that accepts on it.
        self._listeners: dict[int, tuple[socket.socket, _core.Listener]] = {}
        super().__init__(NativeSelector(self))
        self._open()
        self._transports = TransportMap(self)
        self._asyncgens = _core.AsyncGenerators()

    def __repr__(self) -> str:
        # asyncio's, with the package's name: it shows which loop a program runs on.
        text = super().__repr__()
        return text.replace("<Loop ", "<tokioloop.Loop ", 1) if type(self) is Loop else text

    # -- running and closing ------------------------------------------------------------------

    def _overrides(self, *names: str) -> bool:
        """Return True if a subclass or an attribute of the loop replaces any of these methods."""
        kind, own = type(self), vars(self)
        return any(name in own or getattr(kind, name) is not getattr(Loop, name) for name in names)

    def close(self) -> None:
        """Close the loop and drop the callbacks that have not run. As ``asyncio.loop.close``.

        Calling it twice does no harm. Raises ``RuntimeError`` if the loop is running.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            # A Ctrl-C may have interrupted the first call before it did this.
            self._give_wakeup_fd_back()
            return
        try:
            super().close()
        finally:
            # Signal handlers cannot be removed outside of the main thread.
            self._give_wakeup_fd_back()
            self._listeners.clear()
            self._dispose()

    def _make_self_pipe(self) -> None:
        """Make no wake-up socket, as asyncio's loop would: the core wakes the loop by itself."""
        self._ssock = self._csock = None
        self._internal_fds += 1

    def _close_self_pipe(self) -> None:
        self._internal_fds -= 1

    # -- connections --------------------------------------------------------------------------

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        **more: Any,
    ) -> asyncio.Transport:
        if overrides(type(sock), STREAM_CALLS):
            return super()._make_socket_transport(
                sock, protocol, waiter, extra=extra, server=server, **more
            )
        if sys.version_info >= (3, 12) and self._transports.get(sock.fileno()) is not None:
            self._ensure_fd_no_transport(sock)
        if KIND(sock) == socket.SOCK_STREAM and FAMILY(sock) in (socket.AF_INET, socket.AF_INET6):
            # As asyncio: small writes do not wait for an acknowledgement.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._stream_transport(sock, protocol, waiter, extra, server)

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.DatagramTransport:
        if sys.version_info >= (3, 12):
            self._ensure_fd_no_transport(sock)
        if sock.family not in NATIVE_DATAGRAMS or overrides(type(sock), DATAGRAM_CALLS):
            return super()._make_datagram_transport(sock, protocol, address, waiter, extra)
        return self._datagram_transport(sock, protocol, address, waiter, extra)

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        *timeouts: float | None,
        **more: Any,
    ) -> None:
        if overrides_accept(type(sock)) or self._overrides(
            "_accept_connection", "_accept_connection2", "_make_socket_transport"
        ):
            # The native listener would bypass the program's own methods.
            super()._start_serving(
                protocol_factory, sock, sslcontext, server, backlog, *timeouts, **more
            )
            return
        if sslcontext is not None:
            protocol_factory = self._tls_factory(protocol_factory, sslcontext, *timeouts)
        if type(getattr(server, "_clients", None)) is weakref.WeakSet and not server._clients:
            server._clients = _core.Clients(self, server)
        # From 3.15 on connections run in the context that the server was created in, before that
        # in the one that it was started in.
        context = more.get("context")
        context = contextvars.copy_context() if context is None else context.copy()
        listener = context.run(self._listen, sock, backlog, protocol_factory, server)
        self._listeners[sock.fileno()] = sock, listener

    def _stop_serving(self, sock: socket.socket) -> None:
        self._stop_listening(sock.fileno())
        super()._stop_serving(sock)

    def _stop_listening(self, fd: int) -> tuple[socket.socket, _core.Listener] | None:
        listening = self._listeners.pop(fd, None)
        if listening is not None and not self.is_closed():
            self._unlisten(listening[1])
        return listening

    def _accept_exhausted(self, fd: int, error: OSError) -> None:
        """Accept again in a second: the process had no descriptors or memory left.

        The core calls this when ``accept`` fails so.
        """
        listening = self._stop_listening(fd)
        if listening is None:
            return
        # Before the exception handler runs, which may close the server.
        self._listeners[fd] = listening
        try:
            self.call_exception_handler(
                {
                    "message": "socket.accept() out of system resource",
                    "exception": error,
                    "socket": trsock.TransportSocket(listening[0]),
                }
            )
        finally:
            # Also if the handler raises what ends the loop: the loop may be run again.
            self.call_later(constants.ACCEPT_RETRY_DELAY, self._accept_again, fd, listening)

    def _accept_again(self, fd: int, listening: tuple[socket.socket, _core.Listener]) -> None:
        # The server may have been closed meanwhile, and another socket may have its number.
        if self._listeners.get(fd) is listening:
            self._relisten(listening[1])

    # -- names --------------------------------------------------------------------------------

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> _GetAddrInfoResult:
        """Resolve a host and a port without blocking the loop. Coroutine.

        Return the list that ``socket.getaddrinfo`` returns. As ``asyncio.loop.getaddrinfo``:
        literal addresses are resolved at once, names in the default executor. Raises
        ``socket.gaierror`` for a name that cannot be resolved.
        """
        try:
            answer = _core.literal_addrinfo(host, port, family, type, proto, flags)
        except OverflowError:
            # Python's function below raises it with its own text.
            answer = None
        if answer is not None:
            return answer
        if host is None or _core.looks_numeric(host):
            try:
                # An int: the enumeration would drop flags that it does not define.
                numeric = flags | int(socket.AI_NUMERICHOST)
                return socket.getaddrinfo(host, port, family, type, proto, numeric)
            except socket.gaierror as error:
                if error.errno != socket.EAI_NONAME:
                    raise
        return await super().getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )


Loop._own_methods = loop_methods(Loop)

for _name in ("sock_recv", "sock_recv_into", "sock_sendall", "sock_connect"):
    _original = getattr(asyncio.SelectorEventLoop, _name)
    as_coroutine_function(getattr(_core.NativeLoop, _name), _original, "Loop.")
del _name, _original


def new_event_loop(*, nested: bool = False) -> Loop:
    """Create and return a new :class:`tokioloop.Loop`. As ``asyncio.new_event_loop``.

    Pass it as ``loop_factory`` to ``asyncio.Runner``, and from CPython 3.12 on to ``asyncio.run``.

    If ``nested`` is true, code that runs on the loop may run it again: ``run_until_complete()``
    from inside of a callback or a coroutine returns when its own future is done, and other
    callbacks of the loop run meanwhile. asyncio raises ``RuntimeError``. ``nest_asyncio.apply()``
    has the same effect on all loops.
    """
    loop = Loop()
    loop._nests = nested
    return loop
