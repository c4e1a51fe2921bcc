"""The process runs out of descriptors: failures are reported, leave nothing, and work later."""

from __future__ import annotations

import pytest

from faults.exhaustion import LIMIT, printed

SERVER = """
class Greets(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()

def greeted(client):
    try:
        return client.recv(10)
    except BlockingIOError:
        return None

async def greetings(clients):
    heard = [None] * len(clients)
    while None in heard:
        heard = [have or greeted(client) for have, client in zip(heard, clients)]
        await asyncio.sleep(0.01)
    return heard
"""


def test_accept_reports_pauses_and_recovers(programs):
    source = """
async def main():
    loop = asyncio.get_running_loop()
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append((loop.time(), context)))
    server = await loop.create_server(Greets, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [socket.socket() for _ in range(5)]
    await asyncio.sleep(0.001)
    before = descriptors()
    with spare(0):
        for client in clients:
            client.connect(address)
            client.setblocking(False)
        while not reports:
            await asyncio.sleep(0.001)
        # Meanwhile the loop works, and rests.
        cpu, laps = time.process_time(), 0
        await asyncio.sleep(0.3)
        cpu = time.process_time() - cpu
    heard = await greetings(clients)
    took = loop.time() - reports[0][0]
    await asyncio.sleep(0.01)
    context = reports[0][1]
    print(json.dumps({
        "heard": [word.decode() for word in heard],
        "took": took,
        "cpu": cpu,
        "left": descriptors() - before,
        "message": context["message"],
        "exhausted": exhausted(context["exception"]),
        "socket": context["socket"].getsockname() == address,
        "keys": sorted(context),
        "later": sum(when > reports[0][0] + 0.5 for when, _ in reports),
    }))
    for client in clients:
        client.close()
    server.close()
    await server.wait_closed()

run(main())
"""
    result = printed(programs, SERVER + source)
    assert result["heard"] == ["hello"] * 5
    assert 0.99 <= result["took"] < 10
    assert result["cpu"] < 0.15
    assert result["left"] == 0
    assert result["message"] == "socket.accept() out of system resource"
    assert result["keys"] == ["exception", "message", "socket"]
    assert result["exhausted"]
    assert result["socket"]
    assert result["later"] == 0


def test_the_first_timer_is_set_when_no_descriptor_is_left(programs):
    source = """
async def main():
    loop = asyncio.get_running_loop()
    reports = []
    loop.set_exception_handler(
        lambda loop, context: reports.append(exhausted(context["exception"]))
    )
    server = await loop.create_server(Greets, "127.0.0.1", 0)
    with socket.socket() as client:
        with spare(0):
            client.connect(server.sockets[0].getsockname())
            await asyncio.sleep(0.05)
        client.setblocking(False)
        heard = await greetings([client])
    server.close()
    await server.wait_closed()
    print(json.dumps([len(reports) > 0, all(reports), [word.decode() for word in heard]]))

run(main())
"""
    assert printed(programs, SERVER + source) == [True, True, ["hello"]]


def test_the_default_handler_logs_it(programs):
    source = """
import logging
logging.basicConfig(level=logging.ERROR, format="%(message)s")
try:
    1 / 0
except ZeroDivisionError:
    # CPython 3.15 imports what formats a traceback with the first one.
    logging.exception("with descriptors")

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Greets, "127.0.0.1", 0)
    with socket.socket() as client:
        await asyncio.sleep(0.001)
        with spare(0):
            client.connect(server.sockets[0].getsockname())
            await asyncio.sleep(0.05)
        client.setblocking(False)
        await greetings([client])
    server.close()
    await server.wait_closed()

run(main())
"""
    done = programs.run(LIMIT + SERVER + source)
    assert "socket.accept() out of system resource\nsocket: <asyncio.TransportSocket" in done.stderr
    assert "OSError: [Errno 24] Too many open files" in done.stderr


def test_accepting_goes_on_exhausted_for_longer_than_the_pause(programs):
    source = """
from asyncio import constants
constants.ACCEPT_RETRY_DELAY = 0.05

async def main():
    loop = asyncio.get_running_loop()
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(loop.time()))
    server = await loop.create_server(Greets, "127.0.0.1", 0)
    with socket.socket() as client:
        await asyncio.sleep(0.001)
        with spare(0):
            client.connect(server.sockets[0].getsockname())
            while not reports or reports[-1] - reports[0] < 0.2:
                await asyncio.sleep(0.001)
        client.setblocking(False)
        heard = await greetings([client])
    print(json.dumps([word.decode() for word in heard]))
    server.close()
    await server.wait_closed()

run(main())
"""
    assert printed(programs, SERVER + source) == ["hello"]


def test_connections_that_live_are_served_while_none_can_be_accepted(programs):
    source = """
class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address)
    with socket.socket() as client:
        await asyncio.sleep(0.001)
        with spare(0):
            client.connect(address)
            for _ in range(100):
                writer.write(b"ping")
                assert await reader.readexactly(4) == b"ping"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    print(json.dumps(True))

run(main())
"""
    assert printed(programs, source)


@pytest.mark.native_only(
    reason="asyncio's accept loop goes on with the closed socket, or listens to it again"
)
def test_a_server_that_is_closed_by_the_exception_handler(programs):
    source = """
from asyncio import constants
constants.ACCEPT_RETRY_DELAY = 0.05

async def main():
    loop = asyncio.get_running_loop()
    reports = []

    def handler(loop, context):
        reports.append(context["message"])
        server.close()

    loop.set_exception_handler(handler)
    server = await loop.create_server(Greets, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    with socket.socket() as client:
        await asyncio.sleep(0.001)
        before = descriptors()
        with spare(0):
            client.connect(address)
            while not reports:
                await asyncio.sleep(0.001)
        await server.wait_closed()
        # The number is another listening socket's by now, and no program accepts from it.
        with socket.create_server(("127.0.0.1", 0)) as other:
            with socket.create_connection(other.getsockname()) as waiting:
                await asyncio.sleep(0.2)
                waiting.setblocking(False)
                accepted = greeted(waiting)
    print(json.dumps([reports, before - descriptors(), accepted]))

run(main())
"""
    message = "socket.accept() out of system resource"
    # Less one for the listening socket, and one for the client.
    assert printed(programs, SERVER + source) == [[message], 2, None]


def test_a_server_that_is_closed_during_the_pause(programs):
    source = """
from asyncio import constants
constants.ACCEPT_RETRY_DELAY = 0.05

async def main():
    loop = asyncio.get_running_loop()
    messages = set()
    loop.set_exception_handler(lambda loop, context: messages.add(context["message"]))
    server = await loop.create_server(Greets, "127.0.0.1", 0)
    with socket.socket() as client:
        await asyncio.sleep(0.001)
        with spare(0):
            client.connect(server.sockets[0].getsockname())
            while not messages:
                await asyncio.sleep(0.001)
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.1)
    print(json.dumps(sorted(messages)))

run(main())
"""
    first, *more = printed(programs, SERVER + source)
    if more:
        # asyncio listens to the closed socket again, and says that it cannot.
        assert more == ["socket.accept() out of system resource"]
        assert first.startswith("Exception in callback BaseSelectorEventLoop._start_serving(")
    else:
        assert first == "socket.accept() out of system resource"


def test_connecting_fails_and_works_later(programs):
    source = """
async def main():
    loop = asyncio.get_running_loop()
    outcomes = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        await asyncio.sleep(0.001)
        before = descriptors()
        for way in (
            lambda: loop.create_connection(asyncio.Protocol, *address),
            lambda: asyncio.open_connection(*address),
            lambda: loop.create_unix_connection(asyncio.Protocol, "/nowhere"),
            lambda: loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)),
            lambda: loop.create_unix_server(asyncio.Protocol, "\\0exhausted"),
        ):
            with spare(0):
                try:
                    await way()
                except OSError as error:
                    outcomes.append(exhausted(error))
            assert descriptors() == before
        _, writer = await asyncio.open_connection(*address)
        writer.close()
        await writer.wait_closed()
    print(json.dumps(outcomes))

run(main())
"""
    assert printed(programs, source) == [True] * 5


def test_sock_accept_fails_and_works_later(programs):
    source = """
async def main():
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        server.setblocking(False)
        await asyncio.sleep(0.001)
        task = asyncio.ensure_future(loop.sock_accept(server))
        await asyncio.sleep(0.001)  # what waiting takes is taken
        with spare(0):
            client.connect(server.getsockname())
            try:
                await task
            except OSError as error:
                failed = exhausted(error)
        accepted, _ = await loop.sock_accept(server)
        accepted.close()
    print(json.dumps(failed))

run(main())
"""
    assert printed(programs, source) is True
