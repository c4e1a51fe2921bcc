"""Connections of clients: the common case in a few steps, all others by asyncio."""

from __future__ import annotations

import asyncio.base_events
import socket
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

from . import _core
from .coroutines import with_signature_of

if TYPE_CHECKING:
    from ._hooks import HookedLoop
else:
    HookedLoop = object


# Its `socket` is looked up at each call: programs and tests replace it there.
_base_events: Any = asyncio.base_events

#: What a connection without a socket object goes past: in a loop's class and its own attributes,
#: and in the module that asyncio's loop finds sockets in.
LOOP_METHODS = frozenset({"sock_connect", "_make_socket_transport", "_create_connection_transport"})
loop_methods = attrgetter(*LOOP_METHODS)
_socket_methods = attrgetter("__init__", "close")
_SOCKET = socket.socket
_SOCKET_METHODS = _socket_methods(_SOCKET)


class Connections(HookedLoop):
    """The loop's ``create_connection``."""

    #: The ``LOOP_METHODS`` of the package's own loop.
    _own_methods: ClassVar[tuple[Any, ...]] = ()

    @with_signature_of(asyncio.SelectorEventLoop.create_connection)
    async def create_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Any = None,
        port: Any = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        """Connect to a TCP server. Coroutine.

        Return a pair ``(transport, protocol)``. As ``asyncio.loop.create_connection``, whose
        options it takes. Raises ``OSError`` if no connection can be made, ``ValueError`` for
        options that contradict each other, and with ``ssl`` what the handshake raises.
        """
        if options.get("ssl") is None and options.keys() <= {"ssl"} and not self.get_debug():
            attempt = self._connect(host, port) if self._connects_natively() else None
            if attempt is not None:
                return await self._connected(attempt, protocol_factory)
            answer = _core.literal_addrinfo(host, port, 0, socket.SOCK_STREAM, 0, 0)
            if answer is not None:
                sock = await self._connect_to(*answer[0])
                return await self._create_connection_transport(sock, protocol_factory, None, None)
        return await super().create_connection(protocol_factory, host, port, **options)

    def _connects_natively(self) -> bool:
        """Return True if no method was replaced that connecting in the core would go past."""
        return (
            loop_methods(type(self)) == self._own_methods
            and vars(self).keys().isdisjoint(LOOP_METHODS)
            and _base_events.socket.socket is _SOCKET
            and _socket_methods(_SOCKET) == _SOCKET_METHODS
        )

    async def _connected(
        self, attempt: _core.ConnectionAttempt, protocol_factory: Callable[[], asyncio.BaseProtocol]
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        try:
            if attempt.future is not None:
                await attempt.future
            protocol = protocol_factory()
            waiter = self.create_future()
            transport = self._connected_transport(attempt, protocol, waiter)
        except BaseException:
            attempt.close()
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    async def _connect_to(
        self, family: int, kind: int, proto: int, _name: str, address: Any
    ) -> socket.socket:
        sock: socket.socket = _base_events.socket.socket(family=family, type=kind, proto=proto)
        try:
            sock.setblocking(False)
            await self.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock
