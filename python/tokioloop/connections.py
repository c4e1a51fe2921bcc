"""Connections of clients: the common case in a few steps, all others by asyncio."""

from __future__ import annotations

import asyncio.base_events
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _core
from .coroutines import with_signature_of

if TYPE_CHECKING:
    from ._hooks import HookedLoop
else:
    HookedLoop = object


# Its `socket` is looked up at each call: programs and tests replace it there.
_base_events: Any = asyncio.base_events


class Connections(HookedLoop):
    """The loop's ``create_connection``."""

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
            answer = _core.literal_addrinfo(host, port, 0, socket.SOCK_STREAM, 0, 0)
            if answer is not None:
                sock = await self._connect_to(*answer[0])
                return await self._create_connection_transport(sock, protocol_factory, None, None)
        return await super().create_connection(protocol_factory, host, port, **options)

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
