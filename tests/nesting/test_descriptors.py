"""Descriptors and transports whose callbacks run the loop."""

from __future__ import annotations

import pytest

from nesting.nested_loops import check

STREAMS = """
def pair():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


class Protocol(asyncio.Protocol):
    '''Calls `begin` when it is given the first data; `done` is a future of the test's.'''

    def __init__(self):
        self.received = []
        self.done = loop.create_future()
        self.lost = loop.create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received.append(data)
        if len(self.received) == 1:
            self.begin()
            self.done.set_result(None)

    def connection_lost(self, error):
        self.lost.set_result(error)


def serve(protocol):
    '''Connect it, send it something, and wait until it is done.'''
    async def main():
        near, protocol.far = pair()
        with protocol.far:
            await loop.create_connection(lambda: protocol, sock=near)
            protocol.far.send(b"x")
            await protocol.done
            protocol.transport.close()
            await protocol.lost

    run(main())
"""


@pytest.mark.native_only(reason="nest_asyncio2 schedules it again in each iteration")
def test_a_descriptor_stays_ready_while_its_callback_runs_the_loop(programs):
    """The loop neither spins nor calls it more than once for what it has to read."""
    check(
        programs,
        """
near, far = socket.socketpair()
near.setblocking(False)

def readable():
    note("begins")
    before = time.process_time()
    run(asyncio.sleep(0.3))
    assert time.process_time() - before < 0.15
    note(near.recv(10))

loop.add_reader(near, readable)
far.send(b"one")
run(asyncio.sleep(0.01))
run(asyncio.sleep(0.01))
assert noted == ["begins", b"one"], noted
far.send(b"two")
run(asyncio.sleep(0.01))
assert noted[2:] == ["begins", b"two"], noted
loop.remove_reader(near)
near.close(), far.close()
""",
    )


def test_other_descriptors_are_watched_meanwhile(programs):
    check(
        programs,
        """
near, far = socket.socketpair()
other, distant = socket.socketpair()
for sock in (near, far, other, distant):
    sock.setblocking(False)

async def exchange():
    loop.call_later(0.005, distant.send, b"other")
    note(await loop.sock_recv(other, 10))
    # The same file, in the other direction.
    await loop.sock_sendall(near, b"back")
    note(await loop.sock_recv(far, 10))

def readable():
    run(exchange())
    note(near.recv(10))
    loop.remove_reader(near)

loop.add_reader(near, readable)
far.send(b"one")
run(asyncio.sleep(0.02))
assert noted == [b"other", b"back", b"one"], noted
for sock in (near, far, other, distant):
    sock.close()
""",
    )


def test_a_descriptor_is_removed_and_added_by_the_run_inside_of_its_callback(programs):
    check(
        programs,
        """
near, far = socket.socketpair()
near.setblocking(False)
future = loop.create_future()

def second():
    future.set_result(near.recv(10))
    loop.remove_reader(near)

def first():
    loop.call_soon(loop.add_reader, near, second)
    note(run(future))

loop.add_reader(near, first)
far.send(b"one")
run(asyncio.sleep(0.01))
assert noted == [b"one"]
near.close(), far.close()
""",
    )


def test_what_a_protocol_writes_is_sent_while_it_runs_the_loop(programs):
    """More than the kernel takes at once, so it has to wait for room."""
    check(
        programs,
        STREAMS
        + """
SIZE = 10_000_000

class Writes(Protocol):
    def begin(self):
        self.transport.write(b"x" * SIZE)
        run(self.drain())

    async def drain(self):
        size = 0
        while size < SIZE:
            size += len(await loop.sock_recv(self.far, 1 << 20))

serve(Writes())
""",
    )


def test_flow_control_of_a_protocol_that_runs_the_loop(programs):
    """In its own context too, which it has changed and is in."""
    check(
        programs,
        STREAMS
        + """
var = contextvars.ContextVar("var")
SIZE = 5_000_000

class Writes(Protocol):
    def connection_made(self, transport):
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=100)
        self.resumed = loop.create_future()

    def pause_writing(self):
        note("pause")

    def resume_writing(self):
        note("resume")
        self.resumed.set_result(None)

    def begin(self):
        var.set("begun")
        loop.call_soon(self.transport.write, b"x" * SIZE)
        self.transport.write(b"y" * 50)
        run(self.resumed)

    async def drain(self):
        size = 0
        while size < SIZE + 50:
            size += len(await loop.sock_recv(self.far, 1 << 20))

protocol = Writes()
protocol.begin_drain = loop.call_later(0.01, lambda: loop.create_task(protocol.drain()))
serve(protocol)
assert noted == ["pause", "resume"], noted
""",
    )


def test_a_connection_takes_the_place_of_one_that_was_lost_meanwhile(programs):
    """Its events are its own: they do not wait for the protocol of the old one."""
    check(
        programs,
        STREAMS
        + """
async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()

async def ask():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\\n")
    note(await reader.readline())
    writer.close()
    await writer.wait_closed()
    server.close()

class Replaced(Protocol):
    def begin(self):
        self.transport.abort()
        run(self.lost)
        for _ in range(3):
            run(ask())

serve(Replaced())
assert noted == [b"line\\n"] * 3, noted
""",
    )


def test_reading_is_paused_and_resumed_by_a_protocol_that_runs_the_loop(programs):
    """What comes after `resume_reading` is given to the protocol at once: as by start_tls()."""
    check(
        programs,
        STREAMS
        + """
class Resumes(Protocol):
    def begin(self):
        self.more = loop.create_future()
        self.transport.pause_reading()
        self.far.send(b"more")
        loop.call_soon(self.transport.resume_reading)
        note(run(self.more))

    def data_received(self, data):
        if self.received:
            self.more.set_result(data)
        super().data_received(data)

serve(Resumes())
assert noted == [b"more"]
""",
    )


@pytest.mark.parametrize("kind", ["socket", "pipe", "datagram"])
def test_connection_made_runs_the_loop_until_there_is_data(programs, kind):
    check(
        programs,
        STREAMS
        + f"""
KIND = {kind!r}

class First(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.first = loop.create_future()
        note(run(self.first))
        self.lost = loop.create_future()

    def data_received(self, data, address=None):
        self.first.set_result(data)

    datagram_received = data_received

    def connection_lost(self, error):
        self.lost.set_result(error)

async def main():
    near, far = pair()
    if KIND == "socket":
        far.send(b"data")
        transport, protocol = await loop.create_connection(First, sock=near)
    elif KIND == "datagram":
        near, far = socket.socketpair(type=socket.SOCK_DGRAM)
        near.setblocking(False)
        far.send(b"data")
        transport, protocol = await loop.create_datagram_endpoint(First, sock=near)
    else:
        reading, writing = os.pipe()
        os.write(writing, b"data")
        os.close(writing)
        transport, protocol = await loop.connect_read_pipe(First, os.fdopen(reading, "rb", 0))
    while not hasattr(protocol, "lost"):
        await asyncio.sleep(0)
    transport.close()
    await protocol.lost

run(main())
assert noted == [b"data"], noted
""",
    )


def test_datagrams_wait_for_the_one_before(programs):
    check(
        programs,
        """
class Datagrams(asyncio.DatagramProtocol):
    def datagram_received(self, data, address):
        note(("begins", data))
        run(asyncio.sleep(0.005))
        note(("ends", data))
        if data == b"3":
            self.done.set_result(None)

async def main():
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
    protocol.done = loop.create_future()
    with socket.socket(type=socket.SOCK_DGRAM) as far:
        for data in (b"1", b"2", b"3"):
            far.sendto(data, transport.get_extra_info("sockname"))
        await protocol.done
    transport.close()
    await asyncio.sleep(0)

run(main())
events = [(what, data) for data in (b"1", b"2", b"3") for what in ("begins", "ends")]
assert noted == events, noted
""",
    )


def test_a_connection_is_lost_in_the_run_inside_of_its_callback(programs):
    check(
        programs,
        STREAMS
        + """
var = contextvars.ContextVar("var", default=None)

class Aborts(Protocol):
    def begin(self):
        var.set("begun")
        self.transport.abort()
        assert run(self.lost) is None
        note(var.get())

serve(Aborts())
assert noted == ["begun"]
""",
    )


def test_tls_over_a_connection_whose_protocols_run_the_loop(programs, certificates):
    check(
        programs,
        f"""
import ssl
server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
server_context.load_cert_chain(*{tuple(map(str, certificates.server))!r})
client_context = ssl.create_default_context(cafile={str(certificates.authority)!r})
"""
        + """
class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        run(asyncio.sleep(0.001))
        self.transport.write(data)
        run(asyncio.sleep(0.001))

async def main():
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(
        *address, ssl=client_context, server_hostname="localhost"
    )
    for _ in range(5):
        writer.write(b"x" * 100_000)
        note(run(reader.readexactly(100_000)) == b"x" * 100_000)
    writer.close()
    await writer.wait_closed()
    server.close()

run(main())
assert noted == [True] * 5, noted
""",
    )


def test_timers_run_the_loop(programs):
    """Each inner run serves the timers that are due meanwhile, its own callers' too."""
    check(
        programs,
        """
def timer(n):
    note(("begins", n))
    if n < 3:
        loop.call_later(0.002, timer, n + 1)
        run(asyncio.sleep(0.006 * (3 - n)))
    note(("ends", n))

loop.call_later(0.001, timer, 0)
run(asyncio.sleep(0.05))
assert noted == [*(("begins", n) for n in range(4)), *(("ends", n) for n in (3, 2, 1, 0))], noted
""",
    )
