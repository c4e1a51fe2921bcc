"""TLS: the set-up of a connection. The core encrypts and decrypts its records."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio import constants
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    import ssl

    from . import _core
    from ._hooks import HookedLoop
else:
    HookedLoop = object
    try:
        import ssl
    except ImportError:  # CPython can be built without it, and asyncio works without it.
        ssl = None

#: Seconds. asyncio's own, which CPython 3.10 does not have.
_SHUTDOWN_TIMEOUT: float = getattr(constants, "SSL_SHUTDOWN_TIMEOUT", 30.0)

#: Whether records are read and written by OpenSSL's own functions, where the core can prove that it
#: finds them. Otherwise by the methods of ``ssl``.
calls_openssl = os.environ.get("TOKIOLOOP_OPENSSL", "") != "0"


@dataclass(slots=True)
class Parts:
    """The parts of a ``_core.SSLTransport``, which the core reads by their names."""

    protocol: asyncio.BaseProtocol
    object: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    context: ssl.SSLContext
    waiter: asyncio.Future[None] | None
    handshake_timeout: float
    shutdown_timeout: float
    directly: bool
    upgrade: bool


def _seconds(name: str, given: float | None, default: float) -> float:
    if given is None:
        return default
    if given <= 0:
        raise ValueError(f"{name} should be a positive number, got {given}")
    return given


def _default_context(server_side: bool, server_hostname: str | None) -> ssl.SSLContext:
    if server_side:
        raise ValueError("Server side SSL needs a valid SSLContext")
    context = ssl.create_default_context()
    if not server_hostname:
        context.check_hostname = False
    return context


class Tls(HookedLoop):
    """The loop's TLS: what ``ssl=`` makes, and ``start_tls``."""

    def _tls(
        self,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext | None,
        waiter: asyncio.Future[None] | None = None,
        server_side: bool = False,
        server_hostname: str | None = None,
        *,
        upgrade: bool = False,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> _core.SSLTransport:
        """Make the TLS transport of ``protocol``; it is the protocol of the transport below."""
        handshake_timeout = _seconds(
            "ssl_handshake_timeout", ssl_handshake_timeout, constants.SSL_HANDSHAKE_TIMEOUT
        )
        shutdown_timeout = _seconds("ssl_shutdown_timeout", ssl_shutdown_timeout, _SHUTDOWN_TIMEOUT)
        if not sslcontext:
            sslcontext = _default_context(server_side, server_hostname)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        return self._tls_transport(
            Parts(
                protocol=protocol,
                object=sslcontext.wrap_bio(
                    incoming,
                    outgoing,
                    server_side=server_side,
                    server_hostname=None if server_side else server_hostname or None,
                ),
                incoming=incoming,
                outgoing=outgoing,
                context=sslcontext,
                waiter=waiter,
                handshake_timeout=handshake_timeout,
                shutdown_timeout=shutdown_timeout,
                directly=calls_openssl,
                upgrade=upgrade,
            )
        )

    def _tls_factory(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sslcontext: ssl.SSLContext,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Callable[[], _core.SSLTransport]:
        """Return a function that makes the TLS side of each connection that a server accepts."""

        def accept() -> _core.SSLTransport:
            protocol = protocol_factory()
            waiter = self.create_future() if self._debug else None
            transport = self._tls(
                protocol,
                sslcontext,
                waiter,
                True,
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
            )
            if waiter is not None:
                waiter.add_done_callback(partial(self._report_handshake, protocol, transport))
            return transport

        return accept

    def _report_handshake(
        self,
        protocol: asyncio.BaseProtocol,
        transport: asyncio.Transport,
        waiter: asyncio.Future[None],
    ) -> None:
        """Report a failed handshake of an accepted connection; as asyncio, in debug mode only."""
        error = None if waiter.cancelled() else waiter.exception()
        if error is not None:
            self.call_exception_handler(
                {
                    "message": "Error on transport creation for incoming connection",
                    "exception": error,
                    "protocol": protocol,
                    "transport": transport,
                }
            )

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
        # From 3.15 on asyncio passes the current context: a transport takes that by itself.
        more.pop("context", None)
        if sys.version_info >= (3, 12):
            self._ensure_fd_no_transport(rawsock)
        transport = self._tls(protocol, sslcontext, waiter, server_side, server_hostname, **more)
        self._make_socket_transport(rawsock, transport, extra=extra, server=server)
        return transport

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        """Upgrade a connection to TLS. Coroutine.

        Return the transport that ``protocol`` must use from now on, or, as asyncio, ``None`` if
        the connection was closed during the handshake. As ``asyncio.loop.start_tls``; time-outs
        are in seconds. Raises ``TypeError`` if ``sslcontext`` is not an ``ssl.SSLContext`` or the
        transport cannot be upgraded, ``ValueError`` for a time-out that is not positive, and what
        the handshake raises.
        """
        if ssl is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter = self.create_future()
        layer = self._tls(
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            upgrade=True,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        # The client's hello may be in the reader's buffer already. asyncio hands it on since 3.15.
        if server_side and isinstance(protocol, asyncio.StreamReaderProtocol):
            reader = protocol._stream_reader  # type: ignore[attr-defined]
            if reader is not None and reader._buffer:
                layer.data_received(bytes(reader._buffer))
                reader._buffer.clear()
        # No data may arrive before the layer's `connection_made` has run.
        transport.pause_reading()  # type: ignore[attr-defined]
        transport.set_protocol(layer)
        connected = self.call_soon(layer.connection_made, transport)
        resumed = self.call_soon(transport.resume_reading)  # type: ignore[attr-defined]
        try:
            await waiter
        except BaseException:
            transport.close()
            connected.cancel()
            resumed.cancel()
            raise
        # None if the connection was closed meanwhile, as in asyncio.
        made: asyncio.Transport = layer._app_transport  # type: ignore[attr-defined]
        return made
