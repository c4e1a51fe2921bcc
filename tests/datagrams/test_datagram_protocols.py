"""Protocols of datagram endpoints."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys

import pytest

from datagrams.recorders import LOCAL, DatagramRecorder, name_of, pausing
from support.recording import Reports

# --- the protocol ---


class Fails(DatagramRecorder):
    """Raises in one of its callbacks."""

    def __init__(self, where):
        super().__init__()
        self.where = where

    def _note(self, name):
        super()._note(name)
        if name == self.where:
            raise ZeroDivisionError(name)


def test_a_datagram_received_that_raises_is_reported_and_the_next_delivered(loop, run, endpoint):
    async def scenario():
        reports = Reports(loop)
        server, received = await endpoint(lambda: Fails("datagram_received"), local_addr=LOCAL)
        client, _ = await endpoint(remote_addr=name_of(server))
        for _ in range(3):
            client.sendto(b"x")
        await received.count(3)
        await asyncio.sleep(0.01)
        assert len(reports.contexts) == 3
        for context in reports.contexts:
            assert context["message"].startswith("Exception in callback ")
            assert isinstance(context["exception"], ZeroDivisionError)
            assert isinstance(context["handle"], asyncio.Handle)
        assert not server.is_closing()

    run(scenario)


def test_an_error_received_that_raises(loop, run, endpoint):
    async def scenario():
        reports = Reports(loop)
        with socket.socket(type=socket.SOCK_DGRAM) as reserved:
            reserved.bind(LOCAL)
            address = reserved.getsockname()
        client, protocol = await endpoint(lambda: Fails("error_received"), remote_addr=address)
        client.sendto(b"x")
        # Within `sendto` it is the caller's.
        with pytest.raises(ZeroDivisionError):
            client.sendto(b"x")
        client.sendto(b"x")
        await protocol.until(lambda: len(protocol.errors) == 2)
        await asyncio.sleep(0.01)
        assert isinstance(reports.only()["exception"], ZeroDivisionError)
        assert not client.is_closing()

    run(scenario)


@pytest.mark.parametrize("where", ["connection_made", "connection_lost"])
def test_other_callbacks_that_raise_are_reported(loop, run, endpoint, where):
    async def scenario():
        reports = Reports(loop)
        transport, protocol = await endpoint(lambda: Fails(where), local_addr=LOCAL)
        transport.sendto(b"x", name_of(transport))
        await protocol.count(1)
        transport.close()
        await protocol.lost()
        context = reports.only()
        assert context["message"].startswith(f"Exception in callback {Fails.__name__}") or (
            where in context["message"] or "_call_connection_lost" in context["message"]
        )
        assert isinstance(context["exception"], ZeroDivisionError)
        assert transport.get_extra_info("socket").fileno() == -1

    run(scenario)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_the_loop_leaves_it(loop, endpoint, error):
    class Ends(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"end":
                raise error

    async def scenario():
        transport, protocol = await endpoint(Ends, local_addr=LOCAL)
        for data in (b"end", b"one", b"two"):
            transport.sendto(data, name_of(transport))
        await protocol.count(3)
        return protocol.contents

    task = loop.create_task(scenario())
    with pytest.raises(error):
        loop.run_until_complete(task)
    assert loop.run_until_complete(task) == [b"end", b"one", b"two"]


@pytest.mark.parametrize("way", ["close", "abort"])
def test_nothing_is_delivered_after_an_end_within_a_callback(run, endpoint, way):
    class Ends(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            getattr(self.transport, way)()

    async def scenario():
        server, received = await endpoint(Ends, local_addr=LOCAL)
        client, _ = await endpoint(remote_addr=name_of(server))
        for _ in range(5):
            client.sendto(b"x")
        assert await received.lost() is None
        assert received.calls == ["connection_made", "datagram_received", "connection_lost"]

    run(scenario)


def test_a_call_scheduled_by_a_datagram_runs_before_the_next_is_delivered(loop, run, endpoint):
    class Schedules(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            order.append(data)
            loop.call_soon(order.append, b"after " + data)

    async def scenario():
        server, received = await endpoint(Schedules, local_addr=LOCAL)
        client, _ = await endpoint(remote_addr=name_of(server))
        for number in range(20):
            client.sendto(b"%d" % number)
        await received.count(20)
        await asyncio.sleep(0)
        expected = []
        for number in range(20):
            expected += [b"%d" % number, b"after %d" % number]
        assert order == expected

    order = []
    run(scenario)


def test_a_task_takes_each_datagram_before_the_next_arrives(loop, run, endpoint):
    class Mailbox(DatagramRecorder):
        waiting = None

        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.waiting.set_result(data)  # raises if the last one was not taken

    async def scenario():
        reports = Reports(loop)
        server, received = await endpoint(Mailbox, local_addr=LOCAL)
        client, _ = await endpoint(remote_addr=name_of(server))
        received.waiting = loop.create_future()
        for number in range(50):
            client.sendto(b"%d" % number)
        for number in range(50):
            assert await received.waiting == b"%d" % number
            received.waiting = loop.create_future()
        assert reports.contexts == []

    run(scenario)


def test_stop_ends_the_run_after_the_datagram(loop, endpoint):
    class Stops(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            loop.stop()

    async def prepare():
        server, received = await endpoint(Stops, local_addr=LOCAL)
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            for number in range(5):
                peer.sendto(b"%d" % number, name_of(server))
        return received

    task = loop.create_task(prepare())
    while not task.done():
        try:
            loop.run_until_complete(task)
        except RuntimeError:
            continue  # stopped before the task was done
    received = task.result()
    for number in range(len(received.datagrams), 5):
        loop.run_forever()
        assert len(received.datagrams) == number + 1
    assert received.contents == [b"%d" % number for number in range(5)]


@pausing
def test_reading_can_be_paused(run, endpoint):
    class Pauses(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.pause_reading()

    async def scenario():
        server, received = await endpoint(Pauses, local_addr=LOCAL)
        assert server.is_reading()
        client, _ = await endpoint(remote_addr=name_of(server))
        for number in range(3):
            client.sendto(b"%d" % number)
        for number in range(3):
            await received.count(number + 1)
            await asyncio.sleep(0.01)
            assert len(received.datagrams) == number + 1
            assert not server.is_reading()
            server.resume_reading()
        assert server.is_reading()
        server.pause_reading()
        server.pause_reading()
        server.close()
        server.resume_reading()
        assert not server.is_reading()
        assert received.contents == [b"0", b"1", b"2"]

    run(scenario)


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="they pause since CPython 3.11")
@pytest.mark.parametrize("method", ["pause_reading", "resume_reading", "is_reading"])
def test_reading_cannot_be_paused_yet(run, endpoint, method):
    async def scenario():
        server, _ = await endpoint(local_addr=LOCAL)
        with pytest.raises(NotImplementedError):
            getattr(server, method)()

    run(scenario)


def test_another_protocol_can_take_over(run, endpoint):
    class HandsOver(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.set_protocol(second)

    async def scenario():
        server, received = await endpoint(HandsOver, local_addr=LOCAL)
        client, _ = await endpoint(remote_addr=name_of(server))
        for _ in range(3):
            client.sendto(b"x")
        await second.count(2)
        assert len(received.datagrams) == 1
        assert server.get_protocol() is second
        server.close()
        await second.lost()
        assert received.losses == 0
        received.transport = None  # the new protocol gets its loss

    second = DatagramRecorder()
    run(scenario)


def test_callbacks_run_in_the_context_of_the_making(run, endpoint):
    variable = contextvars.ContextVar("variable", default="outside")

    class Looks(DatagramRecorder):
        def _note(self, name):
            seen.append((name, variable.get()))
            super()._note(name)

    async def scenario():
        variable.set("making")
        transport, protocol = await endpoint(Looks, local_addr=LOCAL)
        variable.set("later")
        transport.sendto(b"x", name_of(transport))
        await protocol.count(1)
        transport.sendto(bytes(70_000), name_of(transport))
        transport.abort()
        await protocol.lost()

    seen = []
    run(scenario)
    assert seen[:3] == [
        ("connection_made", "making"),
        ("datagram_received", "making"),
        ("error_received", "later"),
    ]
