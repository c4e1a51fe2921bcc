"""TLS handshakes that do not come to an end, or not to a good one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct

import pytest

from faults.harness import KIB, bystander, endure, rests, until
from faults.tls_peer import HOST, SESSION, Peer, contexts, starting, tls_pair
from support.recording import Recorder, blocking_pair, in_thread, read_all, reset


@pytest.fixture(scope="module")
def both(certificates):
    return contexts(certificates)


@contextlib.contextmanager
def refused(*kinds):
    """The handshake fails with one of these."""
    with pytest.raises(kinds):
        yield


def hang_up(sock):
    sock.close()


ENDS = [hang_up, reset]
LENGTHS = {"nothing": 0, "one byte": 1, "a header": 5, "half a hello": 100, "a hello": None}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("length", LENGTHS.values(), ids=list(LENGTHS))
def test_a_client_that_leaves_in_the_handshake(loop, both, length, end):
    server, client = both

    async def fault():
        near, far = blocking_pair()
        protocol = Recorder()
        starts = asyncio.ensure_future(starting(loop, near, protocol, server, "server"))
        far.sendall(Peer(far, client).hello()[:length])
        await asyncio.sleep(0.001)
        end(far)
        with refused(ConnectionResetError, BrokenPipeError):
            await starts
        assert protocol.calls == []

    assert not endure(loop, fault, rounds=8, most=SESSION)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("length", [0, 5, 100, None], ids=["nothing", "a header", "part", "all"])
def test_a_server_that_leaves_in_the_handshake(loop, both, length, end):
    server, client = both

    async def fault():
        near, far = blocking_pair()
        protocol = Recorder()
        starts = asyncio.ensure_future(starting(loop, near, protocol, client, "client"))
        hello = await in_thread(far.recv, 16 * KIB)
        peer = Peer(far, server, server_side=True)
        peer._incoming.write(hello)
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.tls.do_handshake()
        flight = peer.records()
        far.sendall(flight[:length])
        if length is None:
            # The client has all it needs: what happens to the server is another matter.
            await starts
            end(far)
            await protocol.lost()
            assert protocol.calls[0] == "connection_made"
            return
        end(far)
        with refused(ConnectionResetError, BrokenPipeError):
            await starts
        assert protocol.calls == []

    assert not endure(loop, fault, rounds=8, most=SESSION)


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"EHLO example.com\r\n",
        b"\x00" * 100,
        b"\xff" * 10 * KIB,
        b"\x16\x03\x01\xff\xff" + b"\xff" * 20 * KIB,
    ],
    ids=["http", "smtp", "zeroes", "ones", "a record too long"],
)
def test_a_client_that_does_not_speak_tls(loop, both, words):
    server, _ = both
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async def fault():
        serving = await loop.create_server(factory, "127.0.0.1", 0, ssl=server)
        with socket.create_connection(serving.sockets[0].getsockname(), timeout=20) as client:
            client.sendall(words)
            # It gets an alert, or the end of the connection; it is not answered.
            with contextlib.suppress(ConnectionResetError):
                answer = await in_thread(read_all, client)
                assert answer[:1] in (b"", b"\x15")
        serving.close()
        await serving.wait_closed()
        while protocols:
            assert protocols.pop().calls == []

    assert not endure(loop, fault, rounds=8, most=SESSION)


def test_a_server_that_does_not_speak_tls(loop, both):
    _, client = both

    async def fault():
        near, far = blocking_pair()
        with far:
            starts = asyncio.ensure_future(starting(loop, near, Recorder(), client, "client"))
            await in_thread(far.recv, 16 * KIB)
            far.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|wrong version number"):
                await starts

    assert not endure(loop, fault, rounds=8, most=SESSION)


@pytest.mark.parametrize("place", [0, 1, 3, 5, 9, 40, 60, 80])
def test_a_hello_with_a_mistake(loop, both, place):
    """The server refuses it, or goes on and waits; it comes to no harm."""
    server, client = both

    async def fault():
        near, far = blocking_pair()
        protocol = Recorder()
        starts = asyncio.ensure_future(starting(loop, near, protocol, server, "server"))
        hello = bytearray(Peer(far, client).hello())
        hello[place] ^= 0xFF
        far.sendall(hello)
        await asyncio.sleep(0.002)
        far.close()
        with refused(ssl.SSLError, ConnectionResetError, BrokenPipeError):
            await starts
        assert protocol.calls == []

    assert not endure(loop, fault, rounds=4, most=SESSION)


@pytest.mark.parametrize("ours", ["server", "client"])
def test_a_handshake_byte_by_byte(loop, both, ours):
    """Slowly, but correct: however little a wake-up brings, the handshake goes on."""

    async def fault():
        near, far = blocking_pair()
        server, client = both
        peer = Peer(far, client if ours == "server" else server, server_side=ours == "client")
        sendall = far.sendall

        class Slow:
            def sendall(self, data):
                for i in range(len(data)):
                    sendall(data[i : i + 1])

            recv = staticmethod(far.recv)

        peer.sock = Slow()
        protocol = Recorder()
        shaking = asyncio.ensure_future(in_thread(peer.shake_hands))
        context = server if ours == "server" else client
        transport, _ = await starting(loop, near, protocol, context, ours)
        await shaking
        peer.send(b"made it")
        await protocol.got(7)
        transport.abort()
        await protocol.lost()
        far.close()

    assert not endure(loop, fault, rounds=4, most=SESSION)


@pytest.mark.parametrize("ours", ["server", "client"])
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02"], ids=["nothing", "a few bytes"])
def test_a_peer_that_stalls_in_the_handshake_costs_nothing(loop, both, ours, said):
    async def scenario():
        near, far = blocking_pair()
        context = both[0] if ours == "server" else both[1]
        starts = asyncio.ensure_future(starting(loop, near, Recorder(), context, ours))
        far.sendall(said)
        await rests()
        assert not starts.done()
        far.close()
        with refused(ConnectionResetError):
            await starts

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("ours", ["server", "client"])
def test_a_peer_that_stalls_in_the_handshake_runs_out_of_time(loop, both, ours):
    async def fault():
        near, far = blocking_pair()
        context = both[0] if ours == "server" else both[1]
        with far:
            began = loop.time()
            with pytest.raises(
                ConnectionAbortedError,
                match=r"^SSL handshake is taking longer than 0.02 seconds: "
                "aborting the connection$",
            ):
                await starting(loop, near, Recorder(), context, ours, ssl_handshake_timeout=0.02)
            assert loop.time() - began >= 0.02
            # The peer is not left in doubt.
            with contextlib.suppress(ConnectionResetError):
                await in_thread(read_all, far)

    assert not endure(loop, fault, rounds=8, most=SESSION)


@pytest.mark.parametrize("ours", ["server", "client"])
def test_a_handshake_that_is_cancelled(loop, both, ours):
    async def fault():
        near, far = blocking_pair()
        context = both[0] if ours == "server" else both[1]
        with far:
            starts = asyncio.ensure_future(starting(loop, near, Recorder(), context, ours))
            await asyncio.sleep(0.002)
            starts.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starts
            with contextlib.suppress(ConnectionResetError):
                await in_thread(read_all, far)

    assert not endure(loop, fault, rounds=8, most=SESSION)


def test_stalled_handshakes_do_not_hold_up_others(loop, both):
    server, client = both

    async def fault():
        protocols = []

        def factory():
            protocols.append(Recorder())
            return protocols[-1]

        serving = await loop.create_server(factory, "127.0.0.1", 0, ssl=server)
        address = serving.sockets[0].getsockname()
        stalled = [socket.create_connection(address) for _ in range(20)]
        for sock in stalled:
            sock.sendall(b"\x16\x03")
        async with bystander() as other:
            await other.is_served()
        transport, protocol = await loop.create_connection(
            Recorder, *address, ssl=client, server_hostname=HOST
        )
        await until(lambda: any(served.calls for served in protocols))
        transport.write(b"served?")
        await next(served for served in protocols if served.calls).got(7)
        transport.abort()
        await protocol.lost()
        for sock in stalled:
            sock.close()
        serving.close()
        await serving.wait_closed()

    assert not endure(loop, fault, rounds=4, most=SESSION)


def test_certificates_that_are_not_trusted(loop, certificates, both):
    """Both ends get an error with the reason; nothing of it stays behind."""

    async def fault():
        near, far = blocking_pair()
        peer = Peer(far, both[0], server_side=True)
        shaking = asyncio.ensure_future(in_thread(peer.shake_hands))
        context = certificates.untrusting_context()
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
            await starting(loop, near, Recorder(), context, "client")
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await shaking
        far.close()

    assert not endure(loop, fault, rounds=8, most=SESSION)


def test_a_client_without_the_certificate_that_is_asked_for(loop, certificates, both):
    server = certificates.server_context(ask_client=True)

    async def fault():
        near, far = blocking_pair()
        peer = Peer(far, both[1])
        # With TLS 1.3 the client has finished before the server has looked.
        shaking = asyncio.ensure_future(in_thread(peer.shake_hands))
        with pytest.raises(ssl.SSLError, match=r"(?i)peer.did.not.return.a.certificate"):
            await starting(loop, near, Recorder(), server, "server")
        await asyncio.wait([shaking])
        shaking.exception()
        far.close()

    assert not endure(loop, fault, rounds=8, most=SESSION)


def test_versions_without_one_in_common(loop, certificates, both):
    old = certificates.client_context(version=ssl.TLSVersion.TLSv1_2)
    new = certificates.server_context()
    new.minimum_version = ssl.TLSVersion.TLSv1_3

    async def fault():
        near, far = blocking_pair()
        peer = Peer(far, old)
        shaking = asyncio.ensure_future(in_thread(peer.shake_hands))
        with pytest.raises(ssl.SSLError, match=r"(?i)unsupported.protocol"):
            await starting(loop, near, Recorder(), new, "server")
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await shaking
        far.close()

    assert not endure(loop, fault, rounds=8, most=SESSION)


@pytest.mark.parametrize("ours", ["server", "client"])
def test_a_protocol_that_raises_once_connected(loop, both, ours):
    class Raises(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ValueError("trouble")

    async def scenario():
        near, far = blocking_pair()
        server, client = both
        peer = Peer(far, client if ours == "server" else server, server_side=ours == "client")
        shaking = asyncio.ensure_future(in_thread(peer.shake_hands))
        context = server if ours == "server" else client
        protocol = Raises()
        starts = asyncio.ensure_future(starting(loop, near, protocol, context, ours))
        # asyncio closes the connection below, and the waiter gets its end.
        with contextlib.suppress(ssl.SSLError, ConnectionResetError):
            await shaking
        await asyncio.wait([starts], timeout=20)
        assert starts.done()
        far.close()
        if starts.exception() is None:
            starts.result()[0].abort()
        await protocol.lost()

    reports = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    loop.run_until_complete(scenario())
    assert [str(context["exception"]) for context in reports] == ["trouble"]


def test_start_tls_with_a_peer_that_leaves(loop, both):
    async def fault():
        near, far = blocking_pair()
        protocol = Recorder()
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        upgrading = asyncio.ensure_future(
            loop.start_tls(transport, protocol, both[1], server_hostname=HOST)
        )
        await in_thread(far.recv, 16 * KIB)
        reset(far)
        with refused(ConnectionResetError):
            await upgrading
        assert protocol.story == ["connection_made"]

    assert not endure(loop, fault, rounds=8, most=SESSION)


def test_data_and_end_in_one_piece_with_the_handshake(loop, both):
    """The last flight of a client, its request and its end may come in one read."""

    async def fault():
        near, far = blocking_pair()
        peer = Peer(far, both[1])
        protocol = Recorder()
        starts = asyncio.ensure_future(starting(loop, near, protocol, both[0], "server"))
        far.sendall(peer.hello())
        while True:
            peer._incoming.write(await in_thread(far.recv, 16 * KIB))
            try:
                peer.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                far.sendall(peer.records())
        far.sendall(peer.records(b"request"))
        reset_later = struct.pack("ii", 0, 0)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_later)
        far.shutdown(socket.SHUT_WR)
        transport, _ = await starts
        await protocol.lost()
        assert bytes(protocol.received) == b"request"
        assert protocol.story == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]
        assert transport.is_closing()
        far.close()

    assert not endure(loop, fault, rounds=8, most=SESSION)


def test_handshakes_leave_the_peer_usable(loop, both):
    """The control: connections that the other tests break work when they are left alone."""

    async def fault():
        for ours in ("server", "client"):
            transport, protocol, peer = await tls_pair(loop, both, ours)
            peer.send(b"hello")
            await protocol.got(5)
            transport.close()
            await in_thread(peer.send_close_notify)
            await protocol.lost()
            peer.sock.close()

    assert not endure(loop, fault, rounds=8, most=SESSION)
