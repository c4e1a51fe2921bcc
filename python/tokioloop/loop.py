"""``Loop``: the native core under asyncio's own selector loop.

What runs per callback or per packet is native (``tokioloop._core``). What runs once a connection
or once a loop - argument checks, happy eyeballs, executors, exception handlers - is asyncio's
own code, so it is exact on every version of CPython.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
import threading
import weakref
from asyncio import constants, events, trsock
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _core
from .connections import Connections
from .processes import ProcessHandling, ProcessTransport
from .registry import NativeSelector, TransportMap
from .signals import SignalHandling
from .tls import Tls

if TYPE_CHECKING:
    from socket import _GetAddrInfoResult


#: The families whose addresses the core knows; others get asyncio's own transport.
NATIVE_DATAGRAMS = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


def overrides_datagram_calls(kind: type) -> bool:
    """Whether a class of sockets has its own idea of what the core would do past it."""
    return any(
        getattr(kind, name, None) is not getattr(socket.socket, name)
        for name in ("recvfrom", "send", "sendto")
    )


class Loop(
    Connections,
    ProcessHandling,
    SignalHandling,
    Tls,
    _core.NativeLoop,
    asyncio.SelectorEventLoop,
):
    """An asyncio event loop driven by tokio.

    Accepts no arguments. Use it wherever an ``asyncio.AbstractEventLoop`` is asked for.
    """

    def __init__(self) -> None:
        # By descriptor: the server's own socket, and who accepts on it.
        self._listeners: dict[int, tuple[socket.socket, _core.Listener]] = {}
        self._children: set[ProcessTransport] = set()
        super().__init__(NativeSelector(self))
        self._open()
        self._transports = TransportMap(self)
        self._asyncgens = _core.AsyncGenerators()

    # -- running and closing ------------------------------------------------------------------

    def run_forever(self) -> None:
        """Run until ``stop()`` is called.

        Raises ``RuntimeError`` if a loop is running in this thread already, if this loop is
        closed, or if a tokio runtime is at work in this thread.
        """
        self._check_closed()
        self._check_running()
        self._set_coroutine_origin_tracking(self._debug)
        old_hooks = sys.get_asyncgen_hooks()
        try:
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook,
                finalizer=self._asyncgen_finalizer_hook,
            )
            events._set_running_loop(self)
            if self._overrides("_run_once"):
                while True:
                    self._run_once()
                    if self._stopping:
                        break
            else:
                self._run()
        finally:
            self._stopping = False
            self._thread_id = None
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*old_hooks)

    def _overrides(self, *names: str) -> bool:
        """Whether a program put methods of its own in the place of any of ours."""
        theirs, own = type(self), vars(self)
        return any(
            name in own or getattr(theirs, name) is not getattr(Loop, name) for name in names
        )

    def close(self) -> None:
        """Close the loop; what was scheduled and not run is dropped.

        Raises ``RuntimeError`` if the loop is running. Closing twice does no harm.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            # A Ctrl-C may have kept the first call from it.
            self._give_wakeup_fd_back()
            return
        self._leave_children()
        try:
            super().close()
        finally:
            # Signal handlers cannot be removed outside of the main thread.
            self._give_wakeup_fd_back()
            self._listeners.clear()
            self._dispose()

    def _make_self_pipe(self) -> None:
        """asyncio's wake-up socket: the core's reactor has its own means."""
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
        **_unused: Any,
    ) -> asyncio.Transport:
        if sys.version_info >= (3, 12):
            self._ensure_fd_no_transport(sock)
        if sock.type == socket.SOCK_STREAM and sock.family in (socket.AF_INET, socket.AF_INET6):
            # As asyncio: small writes do not wait for an acknowledgement.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._stream_transport(sock, protocol, waiter, extra, server)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        waiter: asyncio.Future[Any] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        **more: Any,
    ) -> asyncio.Transport:
        # From 3.15 on: the current context, or one like it. Transports see to that themselves.
        more.pop("context", None)
        if sys.version_info >= (3, 12):
            self._ensure_fd_no_transport(rawsock)
        transport = self._tls(protocol, sslcontext, waiter, server_side, server_hostname, **more)
        self._make_socket_transport(rawsock, transport, extra=extra, server=server)
        return transport

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
        if sock.family not in NATIVE_DATAGRAMS or overrides_datagram_calls(type(sock)):
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
        if self._overrides("_accept_connection", "_accept_connection2", "_make_socket_transport"):
            # What accepts without them would go past what a program does in there.
            super()._start_serving(
                protocol_factory, sock, sslcontext, server, backlog, *timeouts, **more
            )
            return
        if sslcontext is not None:
            protocol_factory = self._tls_factory(protocol_factory, sslcontext, *timeouts)
        if type(getattr(server, "_clients", None)) is weakref.WeakSet and not server._clients:
            server._clients = _core.Clients(self, server)
        # From 3.15 on connections get the context that the server was made in, not started in.
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
        """``accept`` failed for want of descriptors or memory: try again in a second."""
        listening = self._stop_listening(fd)
        if listening is None:
            return
        # Known again before the handler runs, which may close the server.
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
            # Also after a handler that ends the loop, which may be run again.
            self.call_later(constants.ACCEPT_RETRY_DELAY, self._accept_again, fd, listening)

    def _accept_again(self, fd: int, listening: tuple[socket.socket, _core.Listener]) -> None:
        # The server may have been closed meanwhile, and the number be another socket's.
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
        """As ``asyncio.loop.getaddrinfo``: ``socket.getaddrinfo`` without blocking the loop.

        Literal addresses are answered at once, names by the default executor. Raises
        ``socket.gaierror`` for what cannot be resolved.
        """
        try:
            answer = _core.literal_addrinfo(host, port, family, type, proto, flags)
        except OverflowError:
            # Said in the words of Python's function below.
            answer = None
        if answer is not None:
            return answer
        if host is None or _core.looks_numeric(host):
            try:
                # As a number: an enumeration drops what it does not know.
                numeric = flags | int(socket.AI_NUMERICHOST)
                return socket.getaddrinfo(host, port, family, type, proto, numeric)
            except socket.gaierror as error:
                if error.errno != socket.EAI_NONAME:
                    raise
        return await super().getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )


def new_event_loop() -> Loop:
    """Make a new :class:`Loop`; a ``loop_factory`` for ``asyncio.Runner`` and others."""
    return Loop()
