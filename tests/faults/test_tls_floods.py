"""Peers over TLS that write without end, never read, or keep the engine itself busy."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl

import pytest

from faults.harness import (
    KIB,
    MIB,
    TOO_MUCH,
    Counted,
    Counts,
    Obedient,
    allocated,
    descriptors,
    endure,
    flooding,
    in_use,
    rests,
    served_fairly,
    until,
)
from faults.tls_peer import SESSION, OpenSSLClient, clog_tls, contexts, libssl, starting, tls_pair
from support.recording import Recorder, blocking_pair, in_thread, reset

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
glibc = pytest.mark.skipif(allocated() == 0, reason="only glibc's malloc can be asked")


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda version: version.name)
def both(request, certificates):
    return contexts(certificates, request.param)


@pytest.fixture(scope="module")
def openssl():
    library = libssl()
    if library is None:
        pytest.skip("no OpenSSL that ctypes finds")
    return library


async def openssl_pair(loop, library, certificates, version, protocol, small=False):
    """Our server's transport, and a client that is OpenSSL itself."""
    near, far = blocking_pair()
    if small:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * KIB)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
    client = OpenSSLClient(library, far, version)
    shaking = asyncio.ensure_future(in_thread(client.shake_hands))
    context = certificates.server_context()
    context.maximum_version = version
    transport, _ = await starting(loop, near, protocol, context, "server")
    await shaking
    return transport, client


# --- memory ---


@glibc
@pytest.mark.parametrize("size", [100, 10 * KIB, 200 * KIB])
def test_a_peer_that_never_reads(loop, both, size):
    async def scenario():
        pairs = [await tls_pair(loop, both, protocol=Obedient(size), small=True) for _ in range(5)]
        before = in_use()
        for _ in range(5):
            await asyncio.sleep(0.001)
            for _, protocol, _ in pairs:
                protocol.write_on()
        held = in_use() - before
        for transport, protocol, peer in pairs:
            high = transport.get_write_buffer_limits()[1]
            assert protocol.paused
            assert transport.get_write_buffer_size() <= high + size + 64 * KIB
            transport.abort()
            peer.sock.close()
        # The marks are 512 KiB of TLS and 64 KiB below; a buffer may be twice what is in it.
        assert held < 5 * 2 * (576 * KIB + 2 * size) + MIB
        await asyncio.sleep(0.002)

    loop.run_until_complete(scenario())


@glibc
def test_a_peer_that_writes_to_a_paused_reader(loop, both):
    async def scenario():
        transport, protocol, peer = await tls_pair(loop, both, protocol=Counted())
        message = bytes(16 * KIB)
        transport.pause_reading()
        before = in_use()
        async with flooding(lambda: peer.send(message)):
            await asyncio.sleep(0.1)
            # 256 KiB of ciphertext, what one read brings on top of it, and twice for growth.
            assert in_use() - before < 2 * MIB
            assert protocol.size == 0
            transport.resume_reading()
            await until(lambda: protocol.size > 8 * MIB)
            assert in_use() - before < 3 * MIB
            transport.abort()
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        peer.sock.close()
        await until(lambda: protocol.losses)

    loop.run_until_complete(scenario())


@glibc
def test_the_memory_of_a_large_write_is_given_back(loop, both):
    async def scenario():
        transport, protocol, peer = await tls_pair(loop, both, small=True)
        before = in_use()
        clog_tls(transport, protocol)
        transport.write(bytes(TOO_MUCH))
        reset(peer.sock)
        await protocol.lost()
        assert transport.get_write_buffer_size() == 0
        # An engine keeps the room for the most that it ever held, for as long as it is there.
        del transport, protocol
        await until(lambda: gc.collect() is not None and in_use() - before < MIB)

    loop.run_until_complete(scenario())


@glibc
def test_a_flood_of_handshakes_that_never_end(loop, both):
    """What a stalled handshake holds is bounded, and is given back."""

    async def scenario():
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=both[0])
        address = server.sockets[0].getsockname()
        # The first makes what is kept, as the clock.
        with socket.create_connection(address):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        before, files = in_use(), descriptors()
        clients = [socket.create_connection(address) for _ in range(50)]
        await until(lambda: descriptors() == files + 100)
        # asyncio has a buffer of 256 KiB for each.
        assert in_use() - before < 50 * 400 * KIB
        for client in clients:
            client.close()
        await until(lambda: descriptors() == files)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(scenario())


# --- fairness ---


@pytest.mark.parametrize("size", [1, 16 * KIB])
def test_a_flood_of_records(loop, both, size):
    async def scenario():
        transport, protocol, peer = await tls_pair(loop, both, protocol=Counts())
        message = bytes(size)
        async with flooding(lambda: peer.send(message)):
            await until(lambda: protocol.calls > 10)
            await served_fairly(lambda: protocol.calls)
            transport.abort()
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        peer.sock.close()
        await asyncio.sleep(0.002)

    loop.run_until_complete(scenario())


def test_a_flood_of_handshakes(loop, both):
    made = []

    class Leaves(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(None)
            transport.abort()

    async def scenario():
        server = await loop.create_server(Leaves, "127.0.0.1", 0, ssl=both[0], backlog=20)
        address = server.sockets[0].getsockname()

        def connect():
            with (
                contextlib.suppress(ssl.SSLError, ConnectionError),
                socket.create_connection(address) as sock,
            ):
                both[1].wrap_socket(sock, server_hostname="localhost").close()

        async with flooding(connect):
            await until(lambda: len(made) > 5)
            await served_fairly(lambda: len(made), most=200)
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)

    loop.run_until_complete(scenario())


# --- what keeps the engine itself busy ---


def test_new_keys_asked_for_again_and_again(loop, openssl, certificates):
    """Each is answered, and nothing of the data between is lost."""

    async def fault():
        protocol = Recorder()
        version = ssl.TLSVersion.TLSv1_3
        transport, client = await openssl_pair(loop, openssl, certificates, version, protocol)

        def ask():
            for i in range(50):
                assert client.update_keys(1) == 1
                assert client.write(b"%d" % (i % 10)) == 1

        await in_thread(ask)
        await protocol.got(50)
        assert bytes(protocol.received) == b"0123456789" * 5
        transport.write(b"still here")
        assert await in_thread(client.read, 10) == b"still here"
        client.close()
        await protocol.lost()

    assert not endure(loop, fault, rounds=6, most=2 * SESSION)


@pytest.mark.native_only(
    reason="asyncio takes 256 KiB of such requests at a time, which OpenSSL computes on for long"
)
def test_a_flood_of_asking_for_new_keys_serves_others(loop, openssl, certificates):
    async def scenario():
        protocol = Recorder()
        version = ssl.TLSVersion.TLSv1_3
        transport, client = await openssl_pair(loop, openssl, certificates, version, protocol)
        asked = [0]

        def ask():
            asked[0] += client.update_keys(10)
            client.write(b"x")

        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
        async with flooding(ask):
            await until(lambda: asked[0] > 100)
            await served_fairly(lambda: protocol.calls.count("data_received"), answers=20)
            transport.abort()
            with contextlib.suppress(OSError):
                client.sock.shutdown(socket.SHUT_RDWR)
        client.close()
        await protocol.lost()

    loop.run_until_complete(scenario())


@glibc
@pytest.mark.native_only(reason="asyncio hoards the answers to a peer that does not read them")
def test_a_flood_of_asking_for_new_keys_by_a_peer_that_never_reads(loop, openssl, certificates):
    async def scenario():
        protocol = Recorder()
        version = ssl.TLSVersion.TLSv1_3
        transport, client = await openssl_pair(
            loop, openssl, certificates, version, protocol, small=True
        )
        before = in_use()
        done, most = [0], 0

        def ask():
            # Gives up when a record has not been taken for ten seconds.
            while done[0] < 500_000 and client.update_keys(100) == 100:
                done[0] += 100

        asking = asyncio.ensure_future(in_thread(ask))
        # It comes to a halt, because nothing more is read from it.
        last = None
        while done[0] != last:
            last = done[0]
            await asyncio.sleep(0.2)
            most = max(most, in_use() - before)
        assert not asking.done()
        assert most < MIB
        await rests()
        transport.abort()
        with contextlib.suppress(OSError):
            client.sock.shutdown(socket.SHUT_RDWR)
        await asking
        client.close()
        await protocol.lost()

    loop.run_until_complete(scenario())


def test_renegotiation_is_refused_and_others_are_served(loop, openssl, certificates):
    async def fault():
        protocol = Recorder()
        version = ssl.TLSVersion.TLSv1_2
        _, client = await openssl_pair(loop, openssl, certificates, version, protocol)
        client.write(b"before")
        await protocol.got(6)
        # OpenSSL answers with a warning, which this client takes for the end.
        assert not await in_thread(client.renegotiate)
        client.close()
        await protocol.lost()
        assert bytes(protocol.received) == b"before"
        assert protocol.losses == 1

    assert not endure(loop, fault, rounds=6, most=2 * SESSION)
