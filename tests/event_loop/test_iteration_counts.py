"""How many iterations pass until an event is delivered: as many as on asyncio's own loop.

Each case has something happen while callbacks are ready all the time, and counts the iterations
(steps of ``sleep(0)``) until the program gets it. The same is done on asyncio's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import threading
import time

import pytest

REPEATED = 5
TOO_MANY = 500


class Notes(asyncio.Protocol, asyncio.DatagramProtocol):
    """Notes each callback."""

    def __init__(self):
        self.events = []
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def data_received(self, data):
        self.events.append(data)

    def datagram_received(self, data, addr):
        self.events.append(data)

    def eof_received(self):
        self.events.append("eof")

    def connection_lost(self, exc):
        self.events.append("lost")


async def iterations(events):
    """Iterations until there is an event; takes it out."""
    for count in range(TOO_MANY):
        if events:
            events.clear()
            return count
        await asyncio.sleep(0)
    raise AssertionError("no event was delivered")


def socket_pair(stack):
    pair = socket.socketpair()
    for each in pair:
        each.setblocking(False)
        stack.callback(each.close)
    return pair


async def connected(stack, sock):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Notes, sock=sock)
    stack.callback(transport.abort)
    await iterations(protocol.events)
    return transport, protocol.events


async def reader(stack):
    loop, heard = asyncio.get_running_loop(), []
    near, far = socket_pair(stack)
    loop.add_reader(near, lambda: heard.append(near.recv(9)))
    stack.callback(loop.remove_reader, near)
    for _ in range(REPEATED):
        far.send(b"x")
        yield await iterations(heard)


async def reader_that_stays_ready(stack):
    loop, heard = asyncio.get_running_loop(), []
    near, far = socket_pair(stack)
    far.send(b"x")
    loop.add_reader(near, heard.append, 1)
    stack.callback(loop.remove_reader, near)
    yield await iterations(heard)
    for _ in range(REPEATED):
        await asyncio.sleep(0)
        yield len(heard)


async def many_readers_that_stay_ready(stack):
    """More than a small buffer of events has room for, and not more than a small limit of files."""
    loop, heard = asyncio.get_running_loop(), []
    numbers = []
    for _ in range(300):
        near, far = socket_pair(stack)
        far.send(b"x")
        numbers.append(near.fileno())
        loop.add_reader(numbers[-1], heard.append, numbers[-1])
        stack.callback(loop.remove_reader, numbers[-1])
    for _ in range(REPEATED):
        await asyncio.sleep(0)
        yield len(heard), len(set(heard))
    for number in numbers[:20]:
        loop.remove_reader(number)
    heard.clear()
    for _ in range(REPEATED):
        await asyncio.sleep(0)
        yield len(heard), len(set(heard))


async def writer(stack):
    loop, heard = asyncio.get_running_loop(), []
    near, _ = socket_pair(stack)
    for _ in range(REPEATED):
        loop.add_writer(near, heard.append, 1)
        yield await iterations(heard)
        loop.remove_writer(near)


async def sock_recv(stack):
    loop, heard = asyncio.get_running_loop(), []
    near, far = socket_pair(stack)
    for _ in range(REPEATED):
        task = asyncio.create_task(loop.sock_recv(near, 9))
        task.add_done_callback(lambda done: heard.append(done.result()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        far.send(b"x")
        yield await iterations(heard)


async def data(stack):
    near, far = socket_pair(stack)
    _, heard = await connected(stack, near)
    for _ in range(REPEATED):
        far.send(b"x")
        yield await iterations(heard)


async def end_of_stream(stack):
    near, far = socket_pair(stack)
    _, heard = await connected(stack, near)
    far.close()
    yield await iterations(heard)
    yield await iterations(heard)


async def write_to_a_transport_of_the_same_loop(stack):
    ends = socket_pair(stack)
    (first, _), (_, heard) = [await connected(stack, end) for end in ends]
    for _ in range(REPEATED):
        first.write(b"x")
        yield await iterations(heard)


async def stream_reader(stack, package=asyncio):
    near, far = socket_pair(stack)
    streams, writing = await package.open_connection(sock=near)
    stack.callback(writing.close)
    heard = []
    for ask in (streams.read, streams.readexactly, streams.read, streams.readexactly):
        task = asyncio.create_task(ask(1))
        task.add_done_callback(lambda done: heard.append(done.result()))
        await asyncio.sleep(0)
        far.send(b"x")
        yield await iterations(heard)
    for pieces in ([b"line", b"\n"], [b"lines\n\n"], []):
        task = asyncio.create_task(streams.readline())
        task.add_done_callback(lambda done: heard.append(done.result()))
        for piece in pieces:
            await asyncio.sleep(0)
            far.send(piece)
        yield await iterations(heard)


async def native_stream_reader(stack):
    """The streams of the loop's package, as asyncio's."""
    name = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    async for count in stream_reader(stack, importlib.import_module(name)):
        yield count


async def draining(stack, package=asyncio):
    near, _far = socket_pair(stack)
    _, writing = await package.open_connection(sock=near)
    heard = []
    for data in (b"", b"x", bytes(4 << 20)):
        writing.write(data)
        task = asyncio.create_task(writing.drain())
        task.add_done_callback(lambda done: heard.append(done))
        if len(data) > 1:
            await asyncio.sleep(0)
            writing.transport.abort()
        yield await iterations(heard)
    for wait in (writing.drain, writing.wait_closed):
        task = asyncio.create_task(wait())
        task.add_done_callback(lambda done: heard.append(done.exception()))
        yield await iterations(heard)


async def native_draining(stack):
    """The streams of the loop's package, as asyncio's."""
    name = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    async for count in draining(stack, importlib.import_module(name)):
        yield count


async def connecting(stack):
    loop = asyncio.get_running_loop()
    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    for _ in range(REPEATED):
        ended = []
        task = asyncio.create_task(loop.create_connection(Notes, *listening.getsockname()))
        task.add_done_callback(ended.append)
        yield await iterations(ended)
        transport, protocol = task.result()
        yield tuple(protocol.events)
        transport.abort()
        await iterations(protocol.events)


async def refused_connecting(stack):
    loop, ended = asyncio.get_running_loop(), []
    bound = stack.enter_context(socket.socket())
    bound.bind(("127.0.0.1", 0))
    for _ in range(REPEATED):
        task = asyncio.create_task(loop.create_connection(Notes, *bound.getsockname()))
        task.add_done_callback(lambda done: ended.append(done.exception()))
        yield await iterations(ended)


async def accept(stack):
    loop, protocol = asyncio.get_running_loop(), Notes()
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
    stack.callback(server.close)
    for _ in range(REPEATED):
        client = socket.create_connection(server.sockets[0].getsockname())
        stack.callback(client.close)
        yield await iterations(protocol.events)
        protocol.transport.abort()
        await iterations(protocol.events)


async def datagram(stack):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Notes, local_addr=("127.0.0.1", 0))
    stack.callback(transport.abort)
    await iterations(protocol.events)
    far = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    for _ in range(REPEATED):
        far.sendto(b"x", transport.get_extra_info("sockname"))
        yield await iterations(protocol.events)


async def timer_between_datagrams(stack):
    """Datagrams that are there already, each of which takes long to deal with."""
    loop = asyncio.get_running_loop()
    heard, late = [], []

    class Slow(Notes):
        def datagram_received(self, data, addr):
            time.sleep(2e-3)
            heard.append(data)

    transport, _ = await loop.create_datagram_endpoint(Slow, local_addr=("127.0.0.1", 0))
    stack.callback(transport.abort)
    far = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    for _ in range(8):
        far.sendto(b"x", transport.get_extra_info("sockname"))
    loop.call_later(1e-3, lambda: late.append(len(heard)))
    while len(heard) < 8:
        await asyncio.sleep(1e-4)
    yield late.pop() <= 3


async def pipe(stack):
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    stack.callback(os.close, writing)
    transport, protocol = await loop.connect_read_pipe(Notes, os.fdopen(reading, "rb"))
    stack.callback(transport.close)
    await iterations(protocol.events)
    for _ in range(REPEATED):
        os.write(writing, b"x")
        yield await iterations(protocol.events)


async def timers(stack):
    loop, heard = asyncio.get_running_loop(), []
    for delay in (0, 0, 1e-4, 1e-3, 5e-3):
        loop.call_later(delay, heard.append, delay)
        # The iteration takes longer than the timer.
        time.sleep(delay * 2)
        yield await iterations(heard)


async def timer_while_a_descriptor_is_watched(stack):
    near, _ = socket_pair(stack)
    await connected(stack, near)
    async for count in timers(stack):
        yield count


async def another_thread(stack):
    loop, heard = asyncio.get_running_loop(), []
    for _ in range(REPEATED):
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(heard.append, 1))
        thread.start()
        thread.join()
        yield await iterations(heard)


async def signals(stack):
    loop, heard = asyncio.get_running_loop(), []
    loop.add_signal_handler(signal.SIGUSR1, heard.append, 1)
    stack.callback(loop.remove_signal_handler, signal.SIGUSR1)
    for _ in range(REPEATED):
        os.kill(os.getpid(), signal.SIGUSR1)
        yield await iterations(heard)


CASES = (
    reader,
    reader_that_stays_ready,
    many_readers_that_stay_ready,
    writer,
    sock_recv,
    data,
    end_of_stream,
    write_to_a_transport_of_the_same_loop,
    stream_reader,
    native_stream_reader,
    draining,
    native_draining,
    connecting,
    refused_connecting,
    accept,
    datagram,
    timer_between_datagrams,
    pipe,
    timers,
    timer_while_a_descriptor_is_watched,
    another_thread,
    signals,
)


async def nothing(stack):
    pass


async def a_silent_transport(stack):
    near, _far = socket_pair(stack)
    await connected(stack, near)


async def a_silent_reader(stack):
    loop = asyncio.get_running_loop()
    near, _far = socket_pair(stack)
    loop.add_reader(near, print)
    stack.callback(loop.remove_reader, near)


async def both(stack):
    await a_silent_transport(stack)
    await a_silent_reader(stack)


def counts(loop_factory, case, neighbour):
    async def count():
        with contextlib.ExitStack() as stack:
            await neighbour(stack)
            return [each async for each in case(stack)]

    loop = loop_factory()
    try:
        return loop.run_until_complete(count())
    finally:
        loop.close()


@pytest.mark.parametrize(
    "neighbour",
    [nothing, a_silent_transport, a_silent_reader, both],
    ids=lambda neighbour: neighbour.__name__,
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_as_many_iterations_as_on_asyncio(case, neighbour, loop_factory):
    expected = counts(asyncio.SelectorEventLoop, case, neighbour)
    assert counts(loop_factory, case, neighbour) == expected


@pytest.mark.native_only(reason="asyncio's number depends on its child watcher, or on a thread")
def test_the_end_of_a_child_is_delivered_within_four_iterations(loop_factory):
    async def count():
        loop = asyncio.get_running_loop()

        class Child(asyncio.SubprocessProtocol):
            def __init__(self):
                self.events = []

            def process_exited(self):
                self.events.append("exited")

        transport, protocol = await loop.subprocess_exec(
            Child, "sleep", "1000", stdin=None, stdout=None, stderr=None
        )
        transport.kill()
        # Blocks the loop until it has ended, and leaves its status to the loop.
        os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
        found = await iterations(protocol.events)
        transport.close()
        return found

    loop = loop_factory()
    try:
        assert loop.run_until_complete(count()) <= 4
    finally:
        loop.close()
