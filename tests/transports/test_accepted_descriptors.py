"""Descriptors of accepted connections whose transport cannot be made: closed once."""

from __future__ import annotations

import asyncio
import gc

import pytest

from support.recording import Recorder, in_thread
from transports.bystanders import (
    BROKEN,
    Bystanders,
    connect,
    settle,
)

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


AUDITED = """
import asyncio, socket, sys

heard, made, refuse = [], 0, False

def hook(event, args):
    if event == "socket.__new__":
        heard.append((type(args[0]).__name__, *map(int, args[1:])))
        if refuse and int(args[3]) == 6:
            raise LookupError("not to be accepted")

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        global made
        made += 1
        transport.write(transport.get_extra_info("peername")[0].encode())
        transport.close()

async def main():
    global refuse
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    client = socket.socket(proto=0), socket.socket(proto=0)
    reported = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    sys.addaudithook(hook)
    for refuse, sock in enumerate(client):
        sock.setblocking(False)
        sock.settimeout(20)
        await loop.run_in_executor(None, sock.connect, server.sockets[0].getsockname())
        if not refuse:
            print(await loop.run_in_executor(None, sock.recv, 100))
        else:
            while not reported:
                await asyncio.sleep(0.001)
            print(made, *reported)
    print(heard)

run(main())
"""


def test_accepting_is_audited(programs):
    """The object is of the listening socket's family, type and protocol."""
    done = programs.run(AUDITED)
    first, *rest = done.stdout.splitlines()
    assert first == "b'127.0.0.1'"
    assert rest == ["1 not to be accepted", "[('socket', 2, 1, 6), ('socket', 2, 1, 6)]"]


# -- accepted connections ----------------------------------------------------------------------


@pytest.mark.native_only(reason="asyncio leaves the socket to the collector")
def test_a_factory_that_closes_its_server(loop):
    async def scenario():
        def factory():
            server.close()
            return Recorder()

        server = await loop.create_server(factory, "127.0.0.1", 0)
        with connect(server) as peer:
            assert await in_thread(peer.recv, 1) == b""
            with Bystanders() as files:
                assert not any("fd=" in repr(t) for t in dict(loop._transports).values())
                await settle()
                assert files.unharmed()
        await asyncio.wait_for(server.wait_closed(), 20)

    loop.run_until_complete(scenario())
    loop.close()
    gc.collect()


def test_a_server_whose_factory_closes_it_again_and_again(loop):
    async def scenario():
        def factory():
            server.close()
            return Recorder()

        for _ in range(20):
            server = await loop.create_server(factory, "127.0.0.1", 0)
            with connect(server):
                await settle(1)
        with Bystanders() as files:
            await settle()
            assert files.unharmed()

    loop.run_until_complete(scenario())


@pytest.mark.native_only(reason="asyncio leaves the socket to the collector")
@pytest.mark.parametrize("failure", ["missing", "raising", "factory"])
def test_an_accepted_connection_whose_protocol_is_broken(loop, failure):
    def raising():
        raise LookupError("no protocol")

    factory = raising if failure == "factory" else BROKEN[failure][0]

    async def scenario():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        for _ in range(3):  # the server goes on
            with connect(server) as peer:
                assert await in_thread(peer.recv, 1) == b""
        with Bystanders() as files:
            await settle()
            assert files.unharmed()
        server.close()
        # Nothing of them counts as a connection that the server waits for.
        await asyncio.wait_for(server.wait_closed(), 20)

    loop.run_until_complete(scenario())


def test_an_accepted_connection_whose_server_refuses_it(loop):
    """`Server._attach` is Python code, and may be a program's."""

    async def scenario():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)

        def refuse(*_transport):
            raise LookupError("no more")

        server._attach = refuse
        if hasattr(server, "_clients"):  # what is counted natively would go past it
            server._clients = set()
        with connect(server) as peer:
            await settle()
            with Bystanders() as files:
                await settle()
                assert files.unharmed()
            peer.close()
        server.close()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
def test_a_factory_that_ends_the_loop_leaves_the_server_listening(loop, ending):
    made = []

    def factory():
        made.append(None)
        if len(made) == 1:
            raise ending("enough")
        return Recorder()

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
    with connect(server), connect(server):
        with pytest.raises(ending):
            loop.run_until_complete(asyncio.wait_for(asyncio.sleep(20), 20))
        with connect(server):

            async def scenario():
                while len(made) < 3:
                    await asyncio.sleep(0.001)

            loop.run_until_complete(asyncio.wait_for(scenario(), 20))
    server.close()
    loop.run_until_complete(settle())


SOCKET_CLASS_THAT_RAISES = """
    import asyncio, gc, os, socket, sys, warnings
    warnings.simplefilter("ignore")
    Ordinary = socket.socket

    class Raises(Ordinary):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            if Raises.armed:
                raise LookupError("not made")

    Raises.armed = False
    socket.socket = Raises

    class Asks(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            Raises.armed = True
            try:
                transport.get_extra_info("socket")
            except LookupError:
                print("refused")
            else:
                print("made")
            Raises.armed = False
            gc.collect()
            os.fstat(fd := transport._sock_fd)
            made.set_result(fd)

        def connection_lost(self, exc):
            lost.set_result(None)

    loop = new_event_loop()
    made, lost = loop.create_future(), loop.create_future()

    async def main():
        server = await loop.create_server(Asks, "127.0.0.1", 0)
        client = Ordinary()
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        fd = await made
        os.fstat(fd)
        client.close()
        await lost
        files = [open(os.devnull) for _ in range(16)]
        assert fd in [file.fileno() for file in files]
        gc.collect()
        for file in files:
            os.fstat(file.fileno())
        server.close()

    loop.run_until_complete(main())
    loop.close()
    print("unharmed")
"""


@pytest.mark.native_only(reason="asyncio makes the socket when it accepts")
def test_a_socket_class_that_raises_after_it_has_taken_the_descriptor(programs):
    assert programs.run(SOCKET_CLASS_THAT_RAISES).stdout.split() == ["refused", "unharmed"]


SOCKET_CLASS_THAT_ASKS_AGAIN = """
    import asyncio, gc, os, socket, warnings
    warnings.simplefilter("ignore")
    Ordinary = socket.socket

    class Asks(Ordinary):
        transport = None

        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            transport, Asks.transport = Asks.transport, None
            if transport is not None:
                self.other = transport.get_extra_info("socket")

    socket.socket = Asks

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            Asks.transport = transport
            sock = transport.get_extra_info("socket")
            assert sock.fileno() == transport._sock_fd
            assert transport.get_extra_info("socket") is sock
            del sock
            gc.collect()
            os.fstat(transport._sock_fd)
            made.set_result(transport._sock_fd)

        def connection_lost(self, exc):
            lost.set_result(None)

    loop = new_event_loop()
    made, lost = loop.create_future(), loop.create_future()

    async def main():
        server = await loop.create_server(Protocol, "127.0.0.1", 0)
        client = Ordinary()
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        fd = await made
        client.close()
        await lost
        files = [open(os.devnull) for _ in range(16)]
        gc.collect()
        for file in files:
            os.fstat(file.fileno())
        server.close()

    loop.run_until_complete(main())
    loop.close()
    print("unharmed")
"""


@pytest.mark.native_only(reason="asyncio makes the socket when it accepts")
def test_a_socket_class_that_asks_for_the_socket_while_it_is_made(programs):
    assert programs.run(SOCKET_CLASS_THAT_ASKS_AGAIN).stdout.split() == ["unharmed"]


OUT_OF_DESCRIPTORS = """
    import asyncio, gc, os, resource, socket, sys, warnings
    warnings.simplefilter("ignore")
    loop = new_event_loop()

    async def main():
        await asyncio.sleep(0.001)  # what the loop itself opens when it first needs it
        near, far = socket.socketpair()
        near.setblocking(False)
        reader, writer = os.pipe()
        pipes = open(reader, "rb", 0), open(writer, "wb", 0)
        gc.collect()
        taken = []
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        # None of these needs a descriptor of its own.
        connection, _ = await loop.create_connection(asyncio.Protocol, sock=near)
        reading, _ = await loop.connect_read_pipe(asyncio.Protocol, pipes[0])
        writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, pipes[1])
        # And these fail, each as asyncio has it, without a descriptor lost.
        for make in (
            lambda: loop.create_connection(asyncio.Protocol, "127.0.0.1", 1),
            lambda: loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)),
            lambda: loop.subprocess_exec(asyncio.SubprocessProtocol, "true"),
        ):
            try:
                await make()
            except OSError as error:
                print(error.errno)
        for fd in taken:
            os.close(fd)
        before = len(os.listdir("/proc/self/fd"))
        for transport in (connection, reading, writing):
            transport.close()
        await asyncio.sleep(0.01)
        far.close()
        gc.collect()
        print(before - len(os.listdir("/proc/self/fd")))

    loop.run_until_complete(main())
    loop.close()
"""


def test_no_descriptors_left(programs):
    assert programs.run(OUT_OF_DESCRIPTORS).stdout.split() == ["24"] * 3 + ["4"]
