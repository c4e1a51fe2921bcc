"""The private names of asyncio's selector loop, which typeshed leaves out.

For type checkers only: there is no such module at run time.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, MutableMapping
from typing import Any

from tokioloop import _core

class HookedLoop(_core.NativeLoop, asyncio.SelectorEventLoop):
    """The core over asyncio's loop, with the private names that the package uses."""

    _asyncgens: _core.AsyncGenerators
    _csock: socket.socket | None
    _internal_fds: int
    _signal_handlers: dict[int, asyncio.Handle]
    _ssock: socket.socket | None
    _transports: MutableMapping[int, Any]

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None: ...
    async def _create_connection_transport(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        ssl: Any,
        server_hostname: str | None,
    ) -> tuple[Any, Any]: ...
    def _ensure_fd_no_transport(self, fd: Any) -> None: ...
    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        **more: Any,
    ) -> asyncio.Transport: ...
    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.DatagramTransport: ...
    def _check_running(self) -> None: ...
    def _overrides(self, *names: str) -> bool: ...
    def _check_signal(self, sig: int) -> None: ...
    def _set_coroutine_origin_tracking(self, enabled: bool) -> None: ...
    # The time-outs of TLS, and more options in later versions.
    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        *timeouts: Any,
        **more: Any,
    ) -> None: ...
    def _stop_serving(self, sock: socket.socket) -> None: ...
