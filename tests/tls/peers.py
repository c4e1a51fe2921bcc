"""Peers of the TLS tests: one that does TLS by hand, and pairs of both ends on the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys

import pytest

from support.recording import Recorder, blocking_pair, in_thread

# 3.11 rewrote the standard library's TLS; 3.10's older one does many a thing in another way.
REWRITTEN = sys.version_info >= (3, 11)
OLDER_DESIGN = {"when": not REWRITTEN, "reason": "the older TLS of CPython 3.10 does otherwise"}
# `ssl_shutdown_timeout` and `StreamWriter.start_tls` came with it.
needs_3_11 = pytest.mark.skipif(not REWRITTEN, reason="an API of CPython 3.11")

HOST = "localhost"


def descriptors():
    """The descriptors that this process has open."""
    folder = "/proc/self/fd"
    # Without the one that lists them, which is gone by now.
    return {name for name in os.listdir(folder) if os.path.lexists(f"{folder}/{name}")}


class Peer:
    """The far end of a connection: TLS by hand over a blocking socket.

    What TLS wants to send goes out with each call; `records` gives it to the test instead.
    """

    def __init__(self, sock, context, *, server_side=True, hostname=HOST):
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=None if server_side else hostname,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.sock.close()

    def _flush(self):
        if self._outgoing.pending:
            self.sock.sendall(self._outgoing.read())

    def _call(self, operation, *args):
        while True:
            try:
                result = operation(*args)
            except ssl.SSLWantReadError:
                self._flush()
                data = self.sock.recv(1 << 16)
                if not data:
                    raise EOFError("the connection ended without a close_notify") from None
                self._incoming.write(data)
            except ssl.SSLError:
                self._flush()
                raise
            else:
                self._flush()
                return result

    def handshake(self):
        self._call(self.object.do_handshake)

    def send(self, data):
        self.sock.sendall(self.records(data))

    def records(self, data):
        """The ciphertext of `data`, not sent."""
        view = memoryview(data)
        while view:
            view = view[self.object.write(view) :]
        return self._outgoing.read()

    def close_notify(self):
        """The ciphertext of a close_notify, not sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.object.unwrap()
        return self._outgoing.read()

    def recv(self, size=1 << 16):
        """Some bytes; nothing after a close_notify, `EOFError` if the socket ended without."""
        try:
            return self._call(self.object.read, size)
        except ssl.SSLZeroReturnError:
            return b""

    def recv_exactly(self, size):
        data = bytearray()
        # In pieces: `read` makes room for all that it is asked for.
        while len(data) < size and (chunk := self.recv(min(size - len(data), 1 << 16))):
            data += chunk
        return bytes(data)

    def recv_all(self):
        """Everything up to the close_notify."""
        chunks = []
        while chunk := self.recv():
            chunks.append(chunk)
        return b"".join(chunks)

    def unwrap(self):
        """Send close_notify and wait for the other side's."""
        self._call(self.object.unwrap)


async def secure(
    loop,
    certificates,
    protocol=None,
    *,
    server_side=False,
    server_context=None,
    client_context=None,
    peer_class=Peer,
    **options,
):
    """A TLS transport of the loop, its protocol, and the `Peer` at the other end.

    ``server_side`` says which side the loop takes.
    """
    near, far = blocking_pair()
    protocol = Recorder() if protocol is None else protocol
    server_context = server_context or certificates.server_context()
    client_context = client_context or certificates.client_context()
    if server_side:
        peer = peer_class(far, client_context, server_side=False)
        connecting = loop.connect_accepted_socket(
            lambda: protocol, near, ssl=server_context, **options
        )
    else:
        peer = peer_class(far, server_context)
        connecting = loop.create_connection(
            lambda: protocol, sock=near, ssl=client_context, server_hostname=HOST, **options
        )
    handshake = asyncio.ensure_future(in_thread(peer.handshake))
    try:
        transport, _ = await connecting
        await handshake
    except BaseException:
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)  # its thread may wait for more
        await asyncio.wait([handshake])
        handshake.exception()
        far.close()
        raise
    return transport, protocol, peer


class TlsPair:
    """Both ends of a TLS connection, on the loop: two recorders."""

    def __init__(self, client, server, listening):
        self.client = client
        self.server = server
        self._listening = listening

    async def end(self):
        for end in (self.client, self.server):
            if not end.losses:
                end.transport.abort()
                await end.lost()
        self._listening.close()
        await self._listening.wait_closed()


async def tls_pair(
    loop,
    certificates,
    client=None,
    server=None,
    *,
    client_context=None,
    server_context=None,
    hostname=HOST,
):
    """Connect two protocols by TLS over TCP."""
    client = Recorder() if client is None else client
    server = Recorder() if server is None else server
    listening = await loop.create_server(
        lambda: server,
        "127.0.0.1",
        0,
        ssl=server_context or certificates.server_context(),
    )
    await loop.create_connection(
        lambda: client,
        *listening.sockets[0].getsockname(),
        ssl=client_context or certificates.client_context(),
        server_hostname=hostname,
    )
    await server.called("connection_made")
    return TlsPair(client, server, listening)


class Buffered(asyncio.BufferedProtocol):
    """A recorder with a buffer of its own of any size."""

    def __init__(self, size):
        self._recorder = Recorder()
        self._buffer = bytearray(size)
        self.hints = []

    def __getattr__(self, name):
        return getattr(self._recorder, name)

    def connection_made(self, transport):
        self._recorder.connection_made(transport)

    def get_buffer(self, sizehint):
        self.hints.append(sizehint)
        return memoryview(self._buffer)

    def buffer_updated(self, count):
        self._recorder.data_received(self._buffer[:count])

    def eof_received(self):
        return self._recorder.eof_received()

    def pause_writing(self):
        self._recorder.pause_writing()

    def resume_writing(self):
        self._recorder.resume_writing()

    def connection_lost(self, exc):
        self._recorder.connection_lost(exc)


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(reader, writer):
    """One line to `echo` and back, then the end."""
    writer.write(b"line\n")
    assert await reader.readline() == b"line\n"
    writer.close()
    await writer.wait_closed()
