"""Connections as a client: the usual one, made without what the others need."""

from __future__ import annotations

import asyncio.base_events
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    from ._hooks import HookedLoop
else:
    HookedLoop = object


# Looked into at each call: some replace what is in there.
_theirs: Any = asyncio.base_events


class Connections(HookedLoop):
    """Connects to literal addresses with no options in a few steps; the rest is asyncio's."""

    async def create_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Any = None,
        port: Any = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        """Connect to a TCP server; as ``asyncio.loop.create_connection``.

        Returns a transport and a protocol. Raises ``OSError`` if there is no connection to be had,
        ``ValueError`` for options that contradict each other.
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
        sock: socket.socket = _theirs.socket.socket(family=family, type=kind, proto=proto)
        try:
            sock.setblocking(False)
            await self.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock
