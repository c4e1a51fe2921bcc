"""TLS transports: the end of a connection, agreed on or not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl

import pytest

from support.recording import Recorder, Reports, in_thread, read_all, reset
from tls.peers import OLDER_DESIGN, Buffered, needs_3_11

pytestmark = pytest.mark.native_only(**OLDER_DESIGN)

# Seconds within which a peer must not have answered; the transport must have closed soon after.
SHORT = 0.2


async def a_few_turns():
    for _ in range(10):
        await asyncio.sleep(0.001)


# --- both sides agree ---


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_close_sends_close_notify_and_waits_for_the_peers(
    on_tls, tls_version, certificates, server_side
):
    async def scenario(transport, protocol, peer):
        transport.write(b"last words")
        assert not transport.is_closing()
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert await in_thread(peer.recv_all) == b"last words"
        await in_thread(peer.unwrap)
        assert await protocol.lost() is None
        assert await in_thread(read_all, peer.sock) == b""

    context = certificates.client_context(version=tls_version)
    on_tls(scenario, server_side=server_side, client_context=context)


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_the_peers_close_notify_ends_the_connection(on_tls, tls_version, certificates, server_side):
    async def scenario(transport, protocol, peer):
        await in_thread(peer.send, b"last words")
        await in_thread(peer.unwrap)
        assert await protocol.lost() is None
        assert protocol.received == b"last words"
        assert transport.is_closing()
        assert protocol.story == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]

    context = certificates.client_context(version=tls_version)
    on_tls(scenario, server_side=server_side, client_context=context)


@pytest.mark.parametrize("protocol", [Recorder, lambda: Buffered(1000)], ids=["plain", "buffered"])
def test_data_and_close_notify_in_one_packet(on_tls, protocol):
    async def scenario(_transport, protocol, peer):
        await in_thread(peer.sock.sendall, peer.records(b"last words") + peer.close_notify())
        peer.sock.shutdown(socket.SHUT_WR)
        assert await protocol.lost() is None
        assert protocol.received == b"last words"

    on_tls(scenario, protocol())


def test_an_answer_in_eof_received_still_leaves(on_tls):
    class Polite(Recorder):
        def eof_received(self):
            self.transport.write(b"good-bye")
            return super().eof_received()

    async def scenario(_transport, protocol, peer):
        await in_thread(peer.sock.sendall, peer.close_notify())
        assert await in_thread(peer.recv_all) == b"good-bye"
        assert await protocol.lost() is None

    on_tls(scenario, Polite())


@pytest.mark.parametrize("notified", [True, False], ids=["close_notify", "plain end"])
def test_staying_open_at_the_end_is_not_possible_and_warned_of(on_tls, caplog, notified):
    async def scenario(transport, protocol, peer):
        if notified:
            await in_thread(peer.unwrap)
        else:
            peer.sock.shutdown(socket.SHUT_WR)
        assert await protocol.lost() is None
        assert transport.is_closing()

    with caplog.at_level(logging.WARNING, "asyncio"):
        on_tls(scenario, Recorder(keep_open_at_eof=True))
    assert caplog.messages == ["returning true from eof_received() has no effect when using ssl"]


def test_buffered_data_leaves_before_close_notify(on_tls):
    async def scenario(transport, protocol, peer):
        data = bytes(32 << 20)
        transport.write(data)
        transport.write(b"end")
        transport.close()
        received = await in_thread(peer.recv_all)
        assert len(received) == len(data) + 3
        await in_thread(peer.unwrap)
        assert await protocol.lost() is None

    on_tls(scenario)


# --- a peer that does not answer ---


@needs_3_11
@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_a_peer_that_never_answers_the_close_notify(on_tls, server_side):
    async def scenario(transport, protocol, peer):
        started = asyncio.get_running_loop().time()
        transport.close()
        loss = await protocol.lost()
        assert type(loss) is asyncio.exceptions.TimeoutError
        assert loss.args == ("SSL shutdown timed out",)
        assert asyncio.get_running_loop().time() - started >= SHORT
        assert "eof_received" not in protocol.calls
        with contextlib.suppress(ConnectionResetError):
            assert await in_thread(peer.recv_all) == b""

    on_tls(scenario, server_side=server_side, ssl_shutdown_timeout=SHORT)


@needs_3_11
def test_a_peer_that_takes_nothing_any_more(on_tls):
    """close_notify waits behind data that the peer never reads."""

    async def scenario(transport, protocol, _peer):
        transport.write(bytes(32 << 20))
        transport.close()
        loss = await protocol.lost()
        assert type(loss) is asyncio.exceptions.TimeoutError
        assert loss.args == ("SSL shutdown timed out",)

    on_tls(scenario, ssl_shutdown_timeout=SHORT)


@needs_3_11
def test_wait_closed_reports_a_peer_that_never_answers(loop, certificates):
    async def main():
        ended = asyncio.Event()

        async def serve(reader, writer):
            writer.write(await reader.readline())
            writer.transport.pause_reading()
            await ended.wait()
            writer.transport.abort()

        server = await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=certificates.server_context()
        )
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(),
            ssl=certificates.client_context(),
            ssl_shutdown_timeout=SHORT,
        )
        writer.write(b"line\n")
        assert await reader.readline() == b"line\n"
        writer.close()
        with pytest.raises(asyncio.exceptions.TimeoutError, match="SSL shutdown timed out"):
            await writer.wait_closed()
        ended.set()
        server.close()
        await server.wait_closed()
        await a_few_turns()

    loop.run_until_complete(main())


def test_a_peer_that_sends_on_after_the_close_notify(on_tls, loop):
    reports = Reports(loop)

    async def scenario(transport, protocol, peer):
        transport.close()
        await a_few_turns()
        await in_thread(peer.send, b"by the way")
        loss = await protocol.lost()
        assert isinstance(loss, ssl.SSLError)
        assert not protocol.received
        assert reports.contexts == []

    on_tls(scenario)


# --- no close_notify ---


@pytest.mark.parametrize("protocol", [Recorder, lambda: Buffered(10)], ids=["plain", "buffered"])
def test_an_end_without_close_notify_is_an_end(on_tls, tls_version, certificates, protocol):
    async def scenario(_transport, protocol, peer):
        await in_thread(peer.send, b"last words")
        peer.sock.close()
        assert await protocol.lost() is None
        assert protocol.received == b"last words"
        assert protocol.story == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]

    context = certificates.client_context(version=tls_version)
    on_tls(scenario, protocol(), client_context=context)


def test_an_end_in_the_middle_of_a_record(on_tls):
    async def scenario(_transport, protocol, peer):
        records = peer.records(b"whole") + peer.records(b"cut short")[:-1]
        await in_thread(peer.sock.sendall, records)
        peer.sock.close()
        assert await protocol.lost() is None
        assert protocol.received == b"whole"

    on_tls(scenario)


def test_a_reset(on_tls, loop):
    reports = Reports(loop)

    async def scenario(_transport, protocol, peer):
        reset(peer.sock)
        assert isinstance(await protocol.lost(), ConnectionResetError)
        assert "eof_received" not in protocol.calls
        assert reports.contexts == []

    on_tls(scenario)


def test_a_reset_while_closing(on_tls):
    async def scenario(transport, protocol, peer):
        transport.close()
        await a_few_turns()
        reset(peer.sock)
        assert isinstance(await protocol.lost(), ConnectionResetError)

    on_tls(scenario)


# --- what is no TLS in the middle ---


def corrupted(records):
    return records[:-1] + bytes([records[-1] ^ 1])


@pytest.mark.parametrize(
    "injected",
    [corrupted, lambda records: b"HTTP/1.1 400 Bad Request\r\n\r\n", lambda records: bytes(100)],
    ids=["corrupted record", "plain text", "zeros"],
)
@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("protocol", [Recorder, lambda: Buffered(10)], ids=["plain", "buffered"])
def test_data_that_is_no_record_ends_the_connection(on_tls, loop, injected, server_side, protocol):
    reports = Reports(loop)

    async def scenario(_transport, protocol, peer):
        await in_thread(peer.send, b"good")
        await protocol.got(4)
        await in_thread(peer.sock.sendall, injected(peer.records(b"bad")))
        assert isinstance(await protocol.lost(), ssl.SSLError)
        assert protocol.received == b"good"
        assert "eof_received" not in protocol.calls
        # The network's errors are logged in debug mode only.
        assert reports.contexts == []

    on_tls(scenario, protocol(), server_side=server_side)


def test_in_debug_mode_an_error_of_the_network_is_logged(on_tls, loop, caplog):
    loop.set_debug(True)

    async def scenario(_transport, protocol, peer):
        await in_thread(peer.sock.sendall, corrupted(peer.records(b"bad")))
        assert isinstance(await protocol.lost(), ssl.SSLError)

    with caplog.at_level(logging.DEBUG, "asyncio"):
        on_tls(scenario)
    assert any("Fatal error on SSL protocol" in record.getMessage() for record in caplog.records)


@pytest.mark.native_only(reason="asyncio drops what it decrypted before the bad record")
def test_good_records_before_a_bad_one_are_delivered(on_tls):
    async def scenario(_transport, protocol, peer):
        records = peer.records(b"good") + corrupted(peer.records(b"bad"))
        await in_thread(peer.sock.sendall, records)
        assert isinstance(await protocol.lost(), ssl.SSLError)
        assert protocol.received == b"good"

    on_tls(scenario)


# --- abort ---


@pytest.mark.parametrize("closed_first", [False, True])
def test_abort_ends_at_once(on_tls, closed_first):
    async def scenario(transport, protocol, peer):
        transport.write(bytes(32 << 20))
        if closed_first:
            transport.close()
        transport.abort()
        transport.abort()
        assert transport.is_closing()
        assert await protocol.lost() is None
        # The end comes unannounced, whatever the kernel had taken before.
        with pytest.raises((EOFError, ConnectionResetError)):
            await in_thread(peer.recv_all)

    on_tls(scenario)


def test_a_small_write_before_abort_still_leaves(on_tls):
    async def scenario(transport, protocol, peer):
        transport.write(b"last words")
        transport.abort()
        assert await protocol.lost() is None
        assert await in_thread(peer.recv_exactly, 10) == b"last words"

    on_tls(scenario)


@pytest.mark.parametrize("method", ["abort", "close"])
@pytest.mark.parametrize("callback", ["connection_made", "data_received", "eof_received"])
def test_ending_the_connection_within_a_callback(on_tls, loop, callback, method):
    reports = Reports(loop)

    class Ends(Recorder):
        def _note(self, name):
            super()._note(name)
            if name == callback:
                getattr(self.transport, method)()

    async def scenario(_transport, protocol, peer):
        # The peer may find the connection gone at any of these.
        with contextlib.suppress(OSError, EOFError):
            await in_thread(peer.send, b"data")
            await in_thread(peer.unwrap)
        await protocol.lost()
        assert protocol.calls.count("connection_lost") == 1
        assert protocol.calls[-1] == "connection_lost"

    def unless_expected(context):
        # asyncio's own state machine trips over an abort in the middle of its work.
        return "cannot switch state" not in str(context["exception"])

    with contextlib.suppress(ConnectionError, EOFError):
        on_tls(scenario, Ends())
    assert not list(filter(unless_expected, reports.contexts))


def test_closing_a_stream_twice_and_waiting(loop, certificates):
    async def main():
        async def serve(reader, writer):
            writer.write(await reader.readline())
            writer.close()
            writer.close()
            await writer.wait_closed()
            assert writer.is_closing()
            done.set()

        done = asyncio.Event()
        server = await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=certificates.server_context()
        )
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=certificates.client_context()
        )
        writer.write(b"line\n")
        assert await reader.read() == b"line\n"
        assert reader.at_eof()
        writer.close()
        await writer.wait_closed()
        await writer.wait_closed()
        await done.wait()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
