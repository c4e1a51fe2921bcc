"""start_tls: upgrading a connection, on either side, over every kind of transport."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl

import pytest

from support.recording import Recorder, Reports, blocking_pair, in_thread, transport_pair
from tls.peers import HOST, OLDER_DESIGN, REWRITTEN, Buffered, Peer, needs_3_11

pytestmark = pytest.mark.native_only(**OLDER_DESIGN)

SHORT = 0.2


async def upgraded(loop, certificates, transport, protocol, far, *, server_side=False, **options):
    """Upgrade a plain transport while its peer does the same: the new transport and the `Peer`."""
    if server_side:
        peer = Peer(far, certificates.client_context(), server_side=False)
        context, hostname = certificates.server_context(), None
    else:
        peer = Peer(far, certificates.server_context())
        context, hostname = certificates.client_context(), HOST
    handshake = asyncio.ensure_future(in_thread(peer.handshake))
    secured = await loop.start_tls(
        transport, protocol, context, server_side=server_side, server_hostname=hostname, **options
    )
    await handshake
    return secured, peer


@pytest.mark.parametrize("kind", [Recorder, lambda: Buffered(100)], ids=["plain", "buffered"])
@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_upgrading_a_tcp_connection(loop, certificates, on_pair, server_side, kind):
    async def scenario(transport, protocol, far):
        transport.write(b"plain")
        assert await in_thread(far.recv, 100) == b"plain"
        await in_thread(far.sendall, b"text.")
        await protocol.got(5)
        secured, peer = await upgraded(
            loop, certificates, transport, protocol, far, server_side=server_side
        )
        assert isinstance(secured, asyncio.Transport)
        assert secured is not transport
        assert secured.get_protocol() is protocol
        assert secured.get_extra_info("cipher") is not None
        assert secured.get_extra_info("peername") == far.getsockname()
        # The protocol gets no second connection_made.
        assert protocol.calls == ["connection_made", "data_received"]
        secured.write(b"secret")
        assert await in_thread(peer.recv) == b"secret"
        await in_thread(peer.send, b"answer")
        await protocol.got(11)
        assert protocol.received == b"text.answer"
        secured.close()
        assert await in_thread(peer.recv_all) == b""
        await in_thread(peer.unwrap)
        assert await protocol.lost() is None
        assert protocol.story[-2:] == ["eof_received", "connection_lost"]
        assert transport.is_closing()

    on_pair(scenario, kind())


def test_upgrading_a_unix_connection(loop, certificates):
    async def main():
        near, far = socket.socketpair()
        far.settimeout(20)
        transport, protocol = await loop.create_unix_connection(Recorder, sock=near)
        with far:
            secured, peer = await upgraded(loop, certificates, transport, protocol, far)
            secured.write(b"secret")
            assert await in_thread(peer.recv) == b"secret"
            secured.abort()
            assert await protocol.lost() is None

    loop.run_until_complete(main())


def test_tls_in_tls_in_tls(loop, certificates):
    """Three layers on both ends of one connection."""

    async def main():
        accepted = loop.create_future()
        client, server = Recorder(), Recorder()

        class Accepts(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                accepted.set_result(transport)

        server = Accepts()
        listening = await loop.create_server(
            lambda: server, "127.0.0.1", 0, ssl=certificates.server_context()
        )
        near, _ = await loop.create_connection(
            lambda: client,
            *listening.sockets[0].getsockname(),
            ssl=certificates.client_context(),
            server_hostname=HOST,
        )
        far = await accepted
        for _layer in range(2):
            near, far = await asyncio.gather(
                loop.start_tls(near, client, certificates.client_context(), server_hostname=HOST),
                loop.start_tls(far, server, certificates.server_context(), server_side=True),
            )
        data = bytes(range(256)) * 4000
        near.write(data)
        far.write(data[::-1])
        await server.got(len(data))
        await client.got(len(data))
        assert server.received == data
        assert client.received == data[::-1]
        near.pause_reading()
        far.write(data)
        far.write(data)
        await asyncio.sleep(0.05)
        assert len(client.received) == len(data)
        near.resume_reading()
        await client.got(3 * len(data))
        near.close()
        assert await client.lost() is None
        assert await server.lost() is None
        listening.close()
        await listening.wait_closed()

    loop.run_until_complete(main())


@needs_3_11
def test_streams_on_both_sides(loop, certificates):
    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"OK\n")
        await writer.drain()
        await writer.start_tls(certificates.server_context())
        writer.write(b"secured: " + await reader.readline())
        writer.close()
        await writer.wait_closed()
        served.set()

    served = asyncio.Event()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"OK\n"
        await writer.start_tls(certificates.client_context(), server_hostname=HOST)
        assert writer.get_extra_info("ssl_object") is not None
        writer.write(b"secret\n")
        assert await reader.read() == b"secured: secret\n"
        writer.close()
        await writer.wait_closed()
        await served.wait()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


@pytest.mark.native_only(reason="asyncio leaves it to the reader up to 3.14: the handshake hangs")
def test_a_hello_that_the_reader_took_already(loop, certificates):
    """A client that does not wait for the OK: its ClientHello arrives with the command."""

    async def main():
        near, far = blocking_pair()
        far_peer = Peer(far, certificates.client_context(), server_side=False)
        reader, writer = await asyncio.open_connection(sock=near)
        await in_thread(far.sendall, b"STARTTLS\n")
        handshake = asyncio.ensure_future(in_thread(far_peer.handshake))
        assert await reader.readline() == b"STARTTLS\n"
        while not reader._buffer:
            await asyncio.sleep(0.001)
        transport = await loop.start_tls(
            writer.transport,
            writer.transport.get_protocol(),
            certificates.server_context(),
            server_side=True,
            ssl_handshake_timeout=10,
        )
        await handshake
        with far_peer:
            await in_thread(far_peer.send, b"line\n")
            assert await reader.readline() == b"line\n"
            transport.abort()
            await writer.wait_closed()

    loop.run_until_complete(main())


def test_data_that_a_client_has_not_read_yet_stays_in_its_reader(loop, certificates):
    async def main():
        near, far = blocking_pair()
        peer = Peer(far, certificates.server_context())
        reader, writer = await asyncio.open_connection(sock=near)
        await in_thread(far.sendall, b"OK\nby the way\n")
        assert await reader.readline() == b"OK\n"
        handshake = asyncio.ensure_future(in_thread(peer.handshake))
        transport = await loop.start_tls(
            writer.transport,
            writer.transport.get_protocol(),
            certificates.client_context(),
            server_hostname=HOST,
        )
        await handshake
        with peer:
            await in_thread(peer.send, b"secret\n")
            assert await reader.readline() == b"by the way\n"
            assert await reader.readline() == b"secret\n"
            transport.abort()
            await asyncio.sleep(0.01)

    loop.run_until_complete(main())


# --- writing before the handshake is done ---


def secured_transport(layer):
    """The TLS transport, while start_tls has not given it yet: here it is its own protocol."""
    if isinstance(layer, asyncio.Transport):
        return layer
    return layer._app_transport


@pytest.mark.parametrize("size", [5, 1 << 20])
def test_data_written_during_the_handshake_leaves_after_it(loop, certificates, on_pair, size):
    async def scenario(transport, protocol, far):
        peer = Peer(far, certificates.server_context())
        starting = asyncio.ensure_future(
            loop.start_tls(transport, protocol, certificates.client_context(), server_hostname=HOST)
        )
        while transport.get_protocol() is protocol:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        early = secured_transport(transport.get_protocol())
        assert early.get_extra_info("sslcontext") is not None
        assert early.get_extra_info("ssl_object") is None
        assert early.get_extra_info("peername") == far.getsockname()
        early.write(bytes(size))
        early.writelines([b"and", bytearray(b" more"), memoryview(b"!")])
        assert early.get_write_buffer_size() == size + 9
        await in_thread(peer.handshake)
        secured = await starting
        assert secured is early
        assert await in_thread(peer.recv_exactly, size + 9) == bytes(size) + b"and more!"
        secured.abort()
        await protocol.lost()

    on_pair(scenario)


@pytest.mark.native_only(reason="asyncio keeps it until something else is written or read")
def test_data_written_during_the_handshake_leaves_though_reading_is_paused(
    loop, certificates, on_pair
):
    async def scenario(transport, protocol, far):
        peer = Peer(far, certificates.server_context())
        starting = asyncio.ensure_future(
            loop.start_tls(transport, protocol, certificates.client_context(), server_hostname=HOST)
        )
        while transport.get_protocol() is protocol:
            await asyncio.sleep(0)
        early = secured_transport(transport.get_protocol())
        await asyncio.sleep(0.01)
        early.pause_reading()
        early.write(b"first,")
        await in_thread(peer.handshake)
        await starting
        early.write(b"second")
        assert await in_thread(peer.recv_exactly, 12) == b"first,second"
        early.abort()
        await protocol.lost()

    on_pair(scenario)


# --- what is refused ---


@pytest.mark.parametrize("context", [True, None, "context"])
def test_an_object_that_is_no_context_is_refused(loop, on_pair, context):
    async def scenario(transport, protocol, _far):
        expected = f"sslcontext is expected to be an instance of ssl.SSLContext, got {context!r}"
        with pytest.raises(TypeError, match=re.escape(expected)):
            await loop.start_tls(transport, protocol, context)
        assert not transport.is_closing()

    on_pair(scenario)


def test_transports_that_cannot_be_upgraded(loop, certificates):
    async def main():
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        for wrong in (transport, object(), None):
            expected = f"transport {wrong!r} is not supported by start_tls()"
            with pytest.raises(TypeError, match=re.escape(expected)):
                await loop.start_tls(wrong, Recorder(), certificates.client_context())
        transport.close()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


@pytest.mark.parametrize(
    "option", ["ssl_handshake_timeout", *(["ssl_shutdown_timeout"] if REWRITTEN else [])]
)
def test_timeouts_must_be_positive(loop, certificates, on_pair, option):
    async def scenario(transport, protocol, _far):
        with pytest.raises(ValueError, match=f"{option} should be a positive number, got 0"):
            await loop.start_tls(transport, protocol, certificates.client_context(), **{option: 0})
        assert not transport.is_closing()

    on_pair(scenario)


# --- failures ---


def test_a_failed_upgrade_closes_the_connection(loop, certificates, on_pair):
    async def scenario(transport, protocol, far):
        peer = Peer(far, certificates.server_context())
        handshake = asyncio.ensure_future(in_thread(peer.handshake))
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.start_tls(
                transport, protocol, certificates.untrusting_context(), server_hostname=HOST
            )
        with pytest.raises((EOFError, ConnectionResetError)):
            await handshake
        assert transport.is_closing()
        await protocol.lost()

    on_pair(scenario)


@pytest.mark.parametrize("seconds", [SHORT, 1])
def test_an_upgrade_that_gets_no_answer(loop, certificates, seconds):
    async def main():
        transport, protocol, far = await transport_pair(loop)
        expected = f"SSL handshake is taking longer than {seconds} seconds"
        with far, pytest.raises(ConnectionAbortedError, match=expected):
            await loop.start_tls(
                transport,
                protocol,
                certificates.client_context(),
                server_hostname=HOST,
                ssl_handshake_timeout=seconds,
            )
        assert transport.is_closing()
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())


@pytest.mark.parametrize("iterations", [0, 1, 2, 3, 10])
def test_an_upgrade_that_is_cancelled(loop, certificates, iterations):
    reports = Reports(loop)

    async def main():
        transport, protocol, far = await transport_pair(loop)
        starting = asyncio.ensure_future(
            loop.start_tls(transport, protocol, certificates.client_context(), server_hostname=HOST)
        )
        for _ in range(iterations):
            await asyncio.sleep(0)
        starting.cancel()
        with far, pytest.raises(asyncio.CancelledError):
            await starting
        if iterations:
            assert transport.is_closing()
        else:
            transport.abort()
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())
    assert reports.contexts == []


def test_the_lower_transport_is_lost_during_the_handshake(loop, certificates):
    async def main():
        transport, protocol, far = await transport_pair(loop)
        starting = asyncio.ensure_future(
            loop.start_tls(transport, protocol, certificates.client_context(), server_hostname=HOST)
        )
        await asyncio.sleep(0.01)
        far.close()
        with pytest.raises(ConnectionResetError):
            await starting
        assert transport.is_closing()
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())


@pytest.mark.native_only(when=not REWRITTEN, reason="3.10 keeps what it has made")
def test_an_upgrade_of_a_connection_that_is_closed_meanwhile_gives_nothing(loop, certificates):
    async def main():
        transport, protocol, far = await transport_pair(loop)
        starting = asyncio.ensure_future(
            loop.start_tls(transport, protocol, certificates.client_context(), server_hostname=HOST)
        )
        with far:
            await in_thread(far.recv, 1)
            transport.close()
            assert await starting is None

    loop.run_until_complete(main())


@pytest.mark.native_only(when=not REWRITTEN, reason="of the design of 3.11")
def test_attributes_that_libraries_look_up_on_a_transport(loop, certificates, on_pair):
    """aiohttp, for one, asks a transport's `_ssl_protocol` for its context."""

    async def scenario(transport, protocol, far):
        peer = Peer(far, certificates.server_context())
        shaking = asyncio.ensure_future(in_thread(peer.handshake))
        context = certificates.client_context()
        secure = await loop.start_tls(transport, protocol, context, server_hostname=HOST)
        await shaking
        layer = secure._ssl_protocol
        assert layer._sslcontext is context
        assert layer._sslobj is secure.get_extra_info("ssl_object")
        assert layer._app_protocol is protocol
        assert layer._app_transport is secure
        assert layer._transport is transport
        secure.abort()
        await protocol.lost()
        assert layer._app_transport is None

    on_pair(scenario)
