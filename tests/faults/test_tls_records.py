"""TLS records that are cut short, damaged, tiny, or too many; and ends without close_notify."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys

import pytest

from faults.harness import KIB, endure, rests, until
from faults.tls_peer import SESSION, clog_tls, contexts, tls_pair
from support.recording import Recorder, in_thread, read_all, reset

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
ENDED = ["eof_received", "connection_lost"]

with_shutdown_timeout = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="ssl_shutdown_timeout is new in 3.11"
)


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda version: version.name)
def both(request, certificates):
    return contexts(certificates, request.param)


@pytest.fixture(params=["server", "client"])
def ours(request):
    return request.param


def test_a_peer_that_closes_in_the_middle_of_a_record(loop, both, ours):
    async def fault():
        _, protocol, peer = await tls_pair(loop, both, ours)
        peer.send(b"whole")
        record = peer.records(b"x" * 1000)
        peer.sock.sendall(record[: len(record) // 2])
        peer.sock.close()
        assert await protocol.lost() is None
        assert bytes(protocol.received) == b"whole"
        assert protocol.story == ["connection_made", "data_received", *ENDED]

    assert not endure(loop, fault, rounds=8, most=SESSION)


def test_a_peer_that_resets_in_the_middle_of_a_record(loop, both, ours):
    async def fault():
        _, protocol, peer = await tls_pair(loop, both, ours)
        peer.send(b"whole")
        await protocol.got(5)
        peer.sock.sendall(peer.records(b"x" * 1000)[:500])
        reset(peer.sock)
        assert isinstance(await protocol.lost(), ConnectionResetError)
        assert bytes(protocol.received) == b"whole"

    assert not endure(loop, fault, rounds=8, most=SESSION)


def test_a_peer_that_closes_without_close_notify(loop, both, ours):
    async def fault():
        _, protocol, peer = await tls_pair(loop, both, ours)
        peer.send(b"whole")
        peer.sock.close()
        assert await protocol.lost() is None
        assert protocol.story == ["connection_made", "data_received", *ENDED]

    assert not endure(loop, fault, rounds=8, most=SESSION)


@pytest.mark.parametrize("place", [0, 1, 3, 5, 20, -1])
def test_a_damaged_record(loop, both, ours, place):
    async def fault():
        _, protocol, peer = await tls_pair(loop, both, ours)
        peer.send(b"whole")
        await protocol.got(5)
        record = bytearray(peer.records(b"x" * 1000))
        record[place] ^= 0x55
        peer.sock.sendall(record)
        await asyncio.sleep(0.001)
        # A length that is too large makes the record one that never ends.
        peer.sock.shutdown(socket.SHUT_WR)
        loss = await protocol.lost()
        assert bytes(protocol.received) == b"whole"
        if place != 3:
            assert isinstance(loss, ssl.SSLError)
            assert "eof_received" not in protocol.calls
        peer.sock.close()

    assert not endure(loop, fault, rounds=4, most=SESSION)


def test_plain_text_in_the_middle(loop, both, ours):
    async def fault():
        _, protocol, peer = await tls_pair(loop, both, ours)
        peer.send(b"whole")
        await protocol.got(5)
        peer.sock.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        assert isinstance(await protocol.lost(), ssl.SSLError)
        assert bytes(protocol.received) == b"whole"
        peer.sock.close()

    assert not endure(loop, fault, rounds=8, most=SESSION)


def test_a_record_sent_twice(loop, both, ours):
    async def fault():
        _, protocol, peer = await tls_pair(loop, both, ours)
        record = peer.records(b"once")
        peer.sock.sendall(record + record)
        assert isinstance(await protocol.lost(), ssl.SSLError)
        # What comes in one read with the mistake asyncio does not deliver; but nothing twice.
        assert bytes(protocol.received) in (b"", b"once")
        peer.sock.close()

    assert not endure(loop, fault, rounds=8, most=SESSION)


def test_a_damaged_record_while_much_is_to_be_sent(loop, both):
    async def fault():
        transport, protocol, peer = await tls_pair(loop, both)
        clog_tls(transport, protocol)
        peer.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert isinstance(await protocol.lost(), ssl.SSLError)
        assert protocol.losses == 1
        assert transport.get_write_buffer_size() == 0
        peer.sock.close()

    assert not endure(loop, fault, rounds=4, most=SESSION)


def test_records_that_come_byte_by_byte(loop, both, ours):
    async def fault():
        _, protocol, peer = await tls_pair(loop, both, ours)
        ciphertext = peer.records(b"slow") + peer.records(b"but sure")
        for i in range(len(ciphertext)):
            peer.sock.sendall(ciphertext[i : i + 1])
            if i % 10 == 0:
                await asyncio.sleep(0)
        await protocol.got(12)
        assert bytes(protocol.received) == b"slowbut sure"
        peer.sock.close()
        await protocol.lost()

    assert not endure(loop, fault, rounds=4, most=SESSION)


def test_thousands_of_tiny_records_at_once(loop, both, ours):
    async def fault():
        transport, protocol, peer = await tls_pair(loop, both, ours)
        ciphertext = b"".join(peer.records(b"%d" % (i % 10)) for i in range(3000))
        await in_thread(peer.sock.sendall, ciphertext)
        await protocol.got(3000)
        assert bytes(protocol.received) == b"0123456789" * 300
        # Far fewer calls than records: what has come is delivered together.
        assert protocol.calls.count("data_received") < 1000
        transport.abort()
        peer.sock.close()
        await protocol.lost()

    assert not endure(loop, fault, rounds=4, most=SESSION)


def test_a_peer_that_half_closes_and_goes_on_reading(loop, both):
    """TLS as asyncio speaks it knows no half-closed connections: the end is the end of both."""

    async def fault():
        transport, protocol, peer = await tls_pair(loop, both)
        transport.write(b"x" * 100)
        with contextlib.suppress(ssl.SSLError):
            await in_thread(peer.send_close_notify)
        await protocol.lost()
        assert protocol.story[-2:] == ENDED
        peer.sock.close()

    assert not endure(loop, fault, rounds=8, most=SESSION)


# --- the shutdown ---


@with_shutdown_timeout
def test_a_peer_that_never_answers_our_close_notify(loop, both, ours):
    async def fault():
        transport, protocol, peer = await tls_pair(loop, both, ours, ssl_shutdown_timeout=0.02)
        transport.close()
        loss = await protocol.lost()
        assert isinstance(loss, (TimeoutError, asyncio.TimeoutError))
        assert str(loss) == "SSL shutdown timed out"
        peer.sock.close()

    # CPython reports it from some version on, in every version the protocol gets it.
    reports = endure(loop, fault, rounds=8, most=SESSION)
    assert set(reports) <= {"Fatal error on transport"}


def test_a_peer_that_never_answers_our_close_notify_costs_nothing(loop, both, ours):
    async def scenario():
        transport, protocol, peer = await tls_pair(loop, both, ours)
        transport.close()
        await rests()
        assert protocol.losses == 0
        peer.sock.close()
        await protocol.lost()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["closes", "resets"])
def test_a_peer_that_leaves_in_the_shutdown(loop, both, ours, end):
    async def fault():
        transport, protocol, peer = await tls_pair(loop, both, ours)
        transport.close()
        # Our close_notify has come, and is not answered.
        assert await in_thread(peer.sock.recv, 1)
        end(peer.sock)
        loss = await protocol.lost()
        assert loss is None or isinstance(loss, ConnectionResetError)
        assert protocol.losses == 1

    assert not endure(loop, fault, rounds=8, most=SESSION)


@with_shutdown_timeout
def test_a_peer_that_never_reads_the_data_to_be_flushed(loop, both):
    async def fault():
        transport, protocol, peer = await tls_pair(
            loop, both, small=True, ssl_shutdown_timeout=0.05
        )
        transport.write(bytes(4 << 20))
        transport.close()
        assert isinstance(await protocol.lost(), (TimeoutError, asyncio.TimeoutError))
        assert protocol.losses == 1
        peer.sock.close()

    assert set(endure(loop, fault, rounds=4, most=SESSION)) <= {"Fatal error on transport"}


def test_a_peer_that_sends_on_after_our_close_notify(loop, both, ours):
    async def fault():
        transport, protocol, peer = await tls_pair(loop, both, ours)
        transport.close()
        with contextlib.suppress(OSError):
            for _ in range(20):
                peer.send(b"not heard" * 100)
                await asyncio.sleep(0)
        peer.sock.close()
        await protocol.lost()
        assert protocol.losses == 1

    endure(loop, fault, rounds=8, most=SESSION)


def test_a_close_notify_that_comes_while_reading_is_paused(loop, both, ours):
    async def fault():
        transport, protocol, peer = await tls_pair(loop, both, ours)
        transport.pause_reading()
        peer.send(b"last words")
        peer.sock.sendall(close_notify(peer))
        peer.sock.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.002)
        assert protocol.calls == ["connection_made"]
        transport.resume_reading()
        await protocol.lost()
        assert bytes(protocol.received) == b"last words"
        assert protocol.story == ["connection_made", "data_received", *ENDED]
        peer.sock.close()

    assert not endure(loop, fault, rounds=8, most=SESSION)


def close_notify(peer):
    """The record of close_notify, not sent."""
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.tls.unwrap()
    return peer.records()


def test_both_send_close_notify_at_once(loop, both, ours):
    async def fault():
        transport, protocol, peer = await tls_pair(loop, both, ours)
        peer.sock.sendall(close_notify(peer))
        transport.close()
        assert await protocol.lost() is None
        assert protocol.losses == 1
        await in_thread(read_all, peer.sock)
        peer.sock.close()

    assert not endure(loop, fault, rounds=8, most=SESSION)


def test_a_paused_tls_reader_whose_peer_has_left_costs_nothing(loop, both, ours):
    async def scenario():
        transport, protocol, peer = await tls_pair(loop, both, ours)
        transport.pause_reading()
        peer.send(b"x" * KIB)
        peer.sock.close()
        await rests()
        transport.resume_reading()
        await protocol.lost()
        assert len(protocol.received) == KIB

    loop.run_until_complete(scenario())


def test_a_clogged_tls_connection_costs_nothing(loop, both, ours):
    async def scenario():
        transport, protocol, peer = await tls_pair(loop, both, ours, small=True)
        clog_tls(transport, protocol)
        await rests()
        reset(peer.sock)
        assert isinstance(await protocol.lost(), ConnectionResetError)

    loop.run_until_complete(scenario())


def test_a_protocol_whose_callbacks_all_raise(loop, both, ours):
    class Raises(Recorder):
        def data_received(self, data):
            super().data_received(data)
            raise ValueError("trouble")

        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise ValueError("more trouble")

    async def fault():
        _, protocol, peer = await tls_pair(loop, both, ours, Raises())
        peer.send(b"x")
        assert str(await protocol.lost()) == "trouble"
        peer.sock.close()
        await until(lambda: protocol.losses == 1)

    reports = endure(loop, fault, rounds=8, most=SESSION)
    fatal, lost = sorted(reports, key=len)
    assert fatal == "Fatal error on SSL protocol"
    assert lost.startswith("Exception in callback ")
