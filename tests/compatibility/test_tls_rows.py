"""Rows about TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys

import pytest

from compatibility.rows import row
from support.recording import Recorder, blocking_pair, in_thread

pytestmark = pytest.mark.native_only(reason="looks at both loops already")


async def connected(loop, certificates):
    """A TLS transport, its protocol, and the peer as a blocking TLS connection."""
    near, far = blocking_pair()
    server = certificates.server_context()
    client = certificates.client_context()
    shaking = asyncio.ensure_future(
        in_thread(lambda: server.wrap_socket(far, server_side=True, suppress_ragged_eofs=True))
    )
    protocol = Recorder()
    transport, _ = await loop.create_connection(
        lambda: protocol, sock=near, ssl=client, server_hostname="localhost"
    )
    return transport, protocol, await shaking


@row("Type of TLS transports")
def test_type(both, certificates):
    async def look(loop):
        transport, protocol, peer = await connected(loop, certificates)
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
        await protocol.lost()
        peer.close()
        return type(transport).__name__

    assert both(look) == ["_SSLProtocolTransport", "SSLTransport"]


@row("Data received over TLS in one piece with a damaged record")
def test_a_damaged_record(both, certificates):
    async def look(loop):
        near, far = blocking_pair()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = certificates.server_context()
        server.num_tickets = 0
        peer = server.wrap_bio(incoming, outgoing, server_side=True)
        protocol = Recorder()
        connecting = asyncio.ensure_future(
            loop.create_connection(
                lambda: protocol,
                sock=near,
                ssl=certificates.client_context(),
                server_hostname="localhost",
            )
        )
        for _ in range(3):
            with contextlib.suppress(ssl.SSLWantReadError):
                incoming.write(await in_thread(far.recv, 1 << 16))
                peer.do_handshake()
                break
            far.sendall(outgoing.read())
        await connecting
        peer.write(b"whole")
        damaged = b"\x17\x03\x03\x00\x20" + bytes(32)
        far.sendall(outgoing.read() + damaged)
        assert isinstance(await protocol.lost(), ssl.SSLError)
        far.close()
        return bytes(protocol.received)

    assert both(look) == [b"", b"whole"]


def end(peer):
    """The peer goes without a word, seen by the kernel at once."""
    peer.close()


@row("`close()` of a TLS transport while the peer's end waits behind a pause")
def test_closing_behind_a_pause(both, certificates):
    async def look(loop):
        transport, protocol, peer = await connected(loop, certificates)
        transport.pause_reading()
        end(peer)
        for _ in range(5):
            await asyncio.sleep(0.001)
        transport.close()
        for _ in range(5):
            await asyncio.sleep(0.001)
        lost = bool(protocol.losses)
        transport.abort()
        await protocol.lost()
        return lost

    theirs, ours = both(look)
    assert ours
    # 3.10 ends a connection whose peer has gone, paused or not.
    assert not theirs or sys.version_info < (3, 11)


class Pauses(Recorder):
    def connection_made(self, transport):
        transport.pause_reading()
        super().connection_made(transport)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the older design of TLS has no such pause")
@row("A pause in `connection_made` over TLS")
def test_a_pause_in_the_handshake(both, certificates):
    async def look(loop):
        near, far = blocking_pair()
        client = certificates.client_context(version=ssl.TLSVersion.TLSv1_2)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        peer = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
        protocol = Pauses()
        accepting = asyncio.ensure_future(
            loop.connect_accepted_socket(lambda: protocol, near, ssl=certificates.server_context())
        )
        far.settimeout(0.3)
        finished = False
        with contextlib.suppress(TimeoutError):
            while not finished:
                with contextlib.suppress(ssl.SSLWantReadError):
                    peer.do_handshake()
                    finished = True
                    break
                far.sendall(outgoing.read())
                incoming.write(await in_thread(far.recv, 1 << 16))
        await accepting
        protocol.transport.abort()
        await protocol.lost()
        far.close()
        return finished

    assert both(look) == [False, True]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 forgets nothing")
@row("A TLS transport after its second `close()`")
def test_closing_twice(both, certificates):
    async def look(loop):
        transport, protocol, peer = await connected(loop, certificates)
        transport.close()
        transport.close()
        try:
            answer = transport.is_reading()
        except AttributeError:
            answer = None
        end(peer)
        await protocol.lost()
        return answer

    assert both(look) == [None, True]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 has the marks of what is below")
@row("A high-water mark of 0 for writing over TLS")
def test_a_mark_of_zero(both, certificates):
    async def look(loop):
        transport, protocol, peer = await connected(loop, certificates)
        transport.set_write_buffer_limits(high=0)
        await asyncio.sleep(0.01)
        paused = protocol.calls[-1] == "pause_writing"
        transport.abort()
        await protocol.lost()
        end(peer)
        return paused

    assert both(look) == [True, False]


@row("`writelines()` over TLS with something that is no buffer")
def test_writing_no_bytes(both, certificates):
    async def look(loop):
        loop.set_exception_handler(lambda _loop, _context: None)
        transport, protocol, peer = await connected(loop, certificates)
        refused = False
        try:
            transport.writelines([b"first", "text"])
        except TypeError:
            refused = True
        await asyncio.sleep(0.01)
        lives = not protocol.losses
        transport.abort()
        await protocol.lost()
        end(peer)
        return refused, lives

    theirs, ours = both(look)
    assert ours == (True, True)
    assert theirs != ours or sys.version_info < (3, 11)


@row("Data held back by a pause over TLS when the connection is closed, on CPython 3.10")
def test_closing_with_data_not_yet_delivered(both, certificates):
    async def look(loop):
        loop.set_exception_handler(lambda _loop, _context: None)
        transport, protocol, peer = await connected(loop, certificates)
        transport.pause_reading()
        await in_thread(peer.send, b"data")
        await asyncio.sleep(0.01)
        loop.call_soon(transport.close)
        transport.resume_reading()
        for _ in range(10):
            await asyncio.sleep(0.001)
        transport.abort()
        await protocol.lost()
        end(peer)
        return bytes(protocol.received)

    theirs, ours = both(look)
    assert ours == b"data"
    assert theirs == (b"data" if sys.version_info >= (3, 11) else b"")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio delivers it on 3.10")
@row(
    "Data held back by a pause over TLS on a half-closed connection that is resumed and paused "
    "again at once"
)
def test_a_half_closed_connection_that_is_paused_again(both, certificates):
    async def look(loop):
        loop.set_exception_handler(lambda _loop, _context: None)
        transport, protocol, peer = await connected(loop, certificates)
        transport.pause_reading()
        await in_thread(peer.send, b"data")
        end(peer)
        await asyncio.sleep(0.01)
        transport.resume_reading()
        transport.pause_reading()
        await asyncio.sleep(0.01)
        transport.resume_reading()
        for _ in range(10):
            await asyncio.sleep(0.001)
        transport.abort()
        await protocol.lost()
        return bytes(protocol.received)

    theirs, ours = both(look)
    assert ours == b"data"
    assert theirs == b""
