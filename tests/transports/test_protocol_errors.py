"""Transports whose protocol raises, and the exchange of protocols."""

from __future__ import annotations

import asyncio
import socket

import pytest

from support.recording import Recorder, Reports, in_thread, read_all, transport_pair


@pytest.fixture
def reports(loop):
    return Reports(loop)


def raising(name, exception):
    """A recorder whose callback ``name`` raises."""

    def callback(self, *args):
        getattr(Recorder, name)(self, *args)
        raise exception

    return type("Raises", (Recorder,), {name: callback})()


def fatal(context, protocol, message, exception):
    """Is this how a connection lost to its protocol's mistake is reported?"""
    assert context["message"] == message
    assert context["exception"] is exception
    assert context["transport"] is protocol.transport
    assert context["protocol"] is protocol


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError])
def test_an_error_in_data_received_ends_the_connection(loop, reports, kind):
    error = kind("trouble")

    async def scenario():
        transport, protocol, far = await transport_pair(loop, raising("data_received", error))
        with far:
            far.sendall(b"x")
            assert await protocol.lost() is error
            assert transport.is_closing()
            assert protocol.calls == ["connection_made", "data_received", "connection_lost"]
        message = "Fatal error: protocol.data_received() call failed."
        fatal(reports.only(), protocol, message, error)

    loop.run_until_complete(scenario())


def test_an_os_error_in_data_received_is_taken_for_a_broken_connection(loop, reports):
    error = ConnectionError("found out by the protocol")

    async def scenario():
        _, protocol, far = await transport_pair(loop, raising("data_received", error))
        with far:
            far.sendall(b"x")
            assert await protocol.lost() is error

    loop.run_until_complete(scenario())
    assert reports.contexts == []


def test_an_error_in_data_received_drops_written_data(loop, reports):
    class WritesAndRaises(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.write(bytes(32 << 20))
            raise ValueError("trouble")

    async def scenario():
        _, protocol, far = await transport_pair(loop, WritesAndRaises())
        with far:
            far.sendall(b"x")
            assert isinstance(await protocol.lost(), ValueError)
            assert len(await in_thread(read_all, far)) < 32 << 20

    loop.run_until_complete(scenario())
    assert str(reports.only()["exception"]) == "trouble"


def test_an_error_in_connection_made_is_reported_and_the_connection_lives(loop, reports):
    error = ValueError("trouble")

    async def scenario():
        transport, protocol, far = await transport_pair(loop, raising("connection_made", error))
        with far:
            far.sendall(b"hello")
            await protocol.got(5)
            transport.close()
            await protocol.lost()
        assert protocol.story == ["connection_made", "data_received", "connection_lost"]

    loop.run_until_complete(scenario())
    context = reports.only()
    assert context["exception"] is error
    assert context["message"].startswith("Exception in callback ")
    assert isinstance(context["handle"], asyncio.Handle)


def test_an_error_in_eof_received_ends_the_connection(loop, reports):
    error = ValueError("trouble")

    async def scenario():
        _, protocol, far = await transport_pair(loop, raising("eof_received", error))
        with far:
            far.shutdown(socket.SHUT_WR)
            assert await protocol.lost() is error
        message = "Fatal error: protocol.eof_received() call failed."
        fatal(reports.only(), protocol, message, error)

    loop.run_until_complete(scenario())


def test_an_error_in_connection_lost_is_reported_and_the_socket_closed(loop, reports):
    error = ValueError("trouble")

    async def scenario():
        transport, protocol, far = await transport_pair(loop, raising("connection_lost", error))
        with far:
            transport.close()
            await protocol.lost()
            assert await in_thread(read_all, far) == b""
        assert transport.get_extra_info("socket").fileno() == -1
        assert protocol.losses == 1

    loop.run_until_complete(scenario())
    context = reports.only()
    assert context["exception"] is error
    assert context["message"].startswith("Exception in callback ")


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
def test_an_error_in_flow_control_is_reported_and_the_connection_lives(loop, reports, name):
    error = ValueError("trouble")
    size = 32 << 20

    async def scenario():
        transport, protocol, far = await transport_pair(loop, raising(name, error))
        with far:
            transport.write(bytes(size))
            transport.close()
            assert len(await in_thread(read_all, far)) == size
            assert await protocol.lost() is None
        fatal(reports.only(), protocol, f"protocol.{name}() failed", error)

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("exit_", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["data_received", "eof_received"])
def test_an_exit_raised_in_a_callback_leaves_the_loop(loop, reports, name, exit_):
    async def start():
        return await transport_pair(loop, raising(name, exit_("enough")))

    transport, protocol, far = loop.run_until_complete(start())
    with far:
        far.sendall(b"x")
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(exit_, match="enough"):
            loop.run_until_complete(asyncio.sleep(20))
        transport.abort()
        loop.run_until_complete(protocol.lost())
    assert reports.contexts == []


def test_callbacks_that_are_missing_are_reported(loop, reports):
    class Incomplete:
        def connection_made(self, transport):
            self.transport = transport

        def connection_lost(self, exc):
            self.lost = exc

    async def scenario():
        _, protocol, far = await transport_pair(loop, Incomplete())
        with far:
            far.sendall(b"x")
            while not hasattr(protocol, "lost"):
                await asyncio.sleep(0.001)
        assert isinstance(protocol.lost, AttributeError)

    loop.run_until_complete(scenario())
    assert isinstance(reports.only()["exception"], AttributeError)


# --- exchanging protocols ---


def test_the_protocol_can_be_read_and_exchanged(loop):
    async def scenario():
        transport, first, far = await transport_pair(loop)
        second = Recorder()
        with far:
            assert transport.get_protocol() is first
            far.sendall(b"one")
            await first.got(3)
            assert transport.set_protocol(second) is None
            assert transport.get_protocol() is second
            far.sendall(b"two")
            await second.got(3)
            transport.close()
            await second.lost()
        assert (first.received, second.received) == (b"one", b"two")
        # The new protocol gets the events from now on, and no others.
        assert first.calls == ["connection_made", "data_received"]
        assert second.calls == ["data_received", "connection_lost"]

    loop.run_until_complete(scenario())


def test_a_protocol_exchanged_in_data_received_gets_the_next_data(loop):
    second = Recorder()

    class HandsOver(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.set_protocol(second)
            self.transport.write(b"go on")

    async def scenario():
        transport, first, far = await transport_pair(loop, HandsOver())
        with far:
            far.sendall(b"upgrade")
            assert await in_thread(far.recv, 100) == b"go on"
            far.sendall(b"binary")
            await second.got(6)
            assert first.received == b"upgrade"
            assert transport.get_protocol() is second
            far.close()
            await second.lost()
        assert second.story == ["data_received", "eof_received", "connection_lost"]
        assert first.losses == 0

    loop.run_until_complete(scenario())


def test_flow_control_goes_to_the_protocol_of_the_moment(loop):
    async def scenario():
        transport, first, far = await transport_pair(loop)
        second = Recorder()
        with far:
            transport.write(bytes(32 << 20))
            assert first.calls == ["connection_made", "pause_writing"]
            transport.set_protocol(second)
            transport.close()
            await in_thread(read_all, far)
            await second.lost()
        assert second.calls == ["resume_writing", "connection_lost"]

    loop.run_until_complete(scenario())
