"""Connections to literal addresses: what happens on the way, and what may stand in it."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import textwrap
import threading
import weakref

import pytest

from conftest import open_descriptors
from support.forking import FORK
from support.recording import (
    Recorder,
    in_thread,
    listener,
    refused_address,
    unresponsive_address,
)


@pytest.fixture
def server():
    with listener() as sock:
        yield sock


async def until_waiting(task):
    """Let a task run until it waits for the kernel."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()


def test_a_refusal_names_the_address_as_it_was_spelled(loop):
    sock, (_, port, *_) = refused_address("::1")
    with sock, pytest.raises(ConnectionRefusedError) as caught:
        loop.run_until_complete(loop.create_connection(Recorder, "0::1", str(port)))
    assert caught.value.errno == 111
    assert str(caught.value) == f"[Errno 111] Connect call failed ('0::1', {port}, 0, 0)"


def test_an_address_that_cannot_be_connected_to_is_refused_at_once(loop):
    with pytest.raises(OSError) as caught:
        loop.run_until_complete(loop.create_connection(Recorder, "255.255.255.255", 9))
    assert (type(caught.value), str(caught.value)) in (
        (OSError, "[Errno 101] Network is unreachable"),
        (PermissionError, "[Errno 13] Permission denied"),
    )


def test_a_cancelled_attempt_closes_its_descriptor(loop):
    async def scenario(address):
        before = open_descriptors()
        task = asyncio.create_task(loop.create_connection(Recorder, *address))
        await until_waiting(task)
        assert open_descriptors() != before
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()
        assert open_descriptors() == before

    with unresponsive_address() as address:
        loop.run_until_complete(scenario(address))


def test_an_attempt_that_is_cancelled_when_it_has_succeeded(loop, server):
    async def scenario():
        before = open_descriptors()
        task = asyncio.create_task(loop.create_connection(Recorder, *server.getsockname()))
        # Begun; the kernel has connected it; the loop has heard of that.
        for steps in range(4):
            await asyncio.sleep(0)
            if steps == 2:
                task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        gc.collect()
        assert open_descriptors() == before

    loop.run_until_complete(scenario())


@pytest.mark.native_only(reason="asyncio leaves the socket to the collector, which warns of it")
def test_a_loop_that_closes_ends_its_attempts(loop_factory):
    before = open_descriptors()
    loop = loop_factory()

    async def scenario(address):
        create_connection = asyncio.get_running_loop().create_connection
        task = asyncio.create_task(create_connection(Recorder, *address))
        await until_waiting(task)
        return task

    with unresponsive_address() as address:
        task = loop.run_until_complete(scenario(address))
        loop.close()
    assert open_descriptors() == before
    with pytest.raises(RuntimeError, match="closed"):
        task.cancel()
    del task, loop
    gc.collect()
    assert open_descriptors() == before


@pytest.mark.native_only(reason="asyncio leaves the socket to the collector, which warns of it")
@pytest.mark.parametrize("raised", [LookupError, KeyboardInterrupt])
def test_a_factory_that_raises(loop, server, raised):
    def factory():
        raise raised("no protocol")

    async def scenario():
        before = open_descriptors()
        try:
            await loop.create_connection(factory, *server.getsockname())
        except raised as error:
            assert str(error) == "no protocol"
        assert open_descriptors() == before

    loop.run_until_complete(scenario())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_protocol_that_is_none(loop, server):
    with pytest.raises(AttributeError):
        loop.run_until_complete(loop.create_connection(lambda: object(), *server.getsockname()))


def test_what_a_server_says_first_comes_after_connection_made(loop, server):
    async def scenario():
        def greet():
            connection, _ = server.accept()
            connection.sendall(b"welcome")
            return connection

        server.settimeout(20)
        greeting = asyncio.ensure_future(in_thread(greet))
        transport, protocol = await loop.create_connection(Recorder, *server.getsockname())
        with await greeting:
            await protocol.got(7)
            assert protocol.calls[0] == "connection_made"
            assert bytes(protocol.received) == b"welcome"
            transport.abort()
            await protocol.lost()

    loop.run_until_complete(scenario())


def test_more_than_the_kernel_takes_arrives(loop, server):
    async def scenario():
        written = threading.Event()

        def take():
            connection, _ = server.accept()
            with connection:
                connection.settimeout(20)
                written.wait(20)
                received = 0
                while data := connection.recv(1 << 16):
                    received += len(data)
                return received

        server.settimeout(20)
        taking = asyncio.ensure_future(in_thread(take))
        transport, protocol = await loop.create_connection(Recorder, *server.getsockname())
        for _ in range(8):
            transport.write(bytes(1 << 20))
        written.set()
        assert "pause_writing" in protocol.calls
        transport.close()
        assert await taking == 8 << 20
        await protocol.lost()

    loop.run_until_complete(scenario())


def test_the_socket_of_a_connection_that_had_no_object(loop, server):
    async def scenario():
        transport, protocol = await loop.create_connection(Recorder, *server.getsockname())
        sock = transport.get_extra_info("socket")
        assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM)
        assert sock.getpeername() == server.getsockname() == transport.get_extra_info("peername")
        assert sock.getsockname() == transport.get_extra_info("sockname")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert sock.gettimeout() == 0
        assert not sock.get_inheritable()
        transport.close()
        await protocol.lost()
        assert sock.fileno() == -1

    loop.run_until_complete(scenario())


def test_a_refusal_leaves_nothing_to_the_collector(loop):
    class Factory:
        def __call__(self):
            return Recorder()

    async def refused(address):
        factory = Factory()
        alive = weakref.ref(factory)
        try:
            await loop.create_connection(factory, *address)
        except ConnectionRefusedError:
            del factory
        return alive

    sock, address = refused_address()
    with sock:
        gc.collect()
        gc.disable()
        try:
            alive = loop.run_until_complete(refused(address))
            assert alive() is None
        finally:
            gc.enable()


def test_the_loops_own_future_factory_is_used(loop, server, monkeypatch):
    made = []

    def create_future():
        made.append(asyncio.Future(loop=loop))
        return made[-1]

    async def scenario():
        monkeypatch.setattr(loop, "create_future", create_future, raising=False)
        transport, protocol = await loop.create_connection(Recorder, *server.getsockname())
        transport.close()
        await protocol.lost()

    loop.run_until_complete(scenario())
    assert len(made) >= 2
    assert all(future.done() for future in made)


@pytest.mark.native_only(reason="asyncio calls the future again and again")
def test_a_future_that_takes_no_result(loop, server, monkeypatch):
    class Picky(asyncio.Future):
        def set_result(self, result):
            raise LookupError("no results")

    async def scenario():
        monkeypatch.setattr(loop, "create_future", lambda: Picky(loop=loop), raising=False)
        before = open_descriptors()
        with pytest.raises(LookupError, match="no results"):
            await loop.create_connection(Recorder, *server.getsockname())
        assert open_descriptors() == before

    loop.run_until_complete(scenario())


def test_no_future_is_no_connection(loop, server, monkeypatch):
    made = []

    async def scenario():
        monkeypatch.setattr(loop, "create_future", lambda: None, raising=False)
        with pytest.raises(AttributeError, match="add_done_callback"):
            await loop.create_connection(lambda: made.append(1), *server.getsockname())

    loop.run_until_complete(scenario())
    assert not made


@pytest.mark.native_only(reason="asyncio leaves the socket to the collector, which warns of it")
def test_a_future_factory_that_closes_the_loop(loop_factory, server):
    loop = loop_factory()
    before = open_descriptors()
    steps = loop.create_connection(Recorder, *server.getsockname())
    loop.create_future = lambda: loop.close() or asyncio.Future(loop=loop)
    with pytest.raises(RuntimeError, match="closed"):
        steps.send(None)
    assert open_descriptors().keys() <= before.keys()


MEMORYLESS = """
import asyncio, json, socket, _testcapi

bound = socket.socket()
bound.bind(("127.0.0.1", 0))
address = bound.getsockname()
loop = new_event_loop()

async def refused():
    try:
        await loop.create_connection(asyncio.Protocol, *address)
    except OSError as error:
        return type(error).__name__

assert loop.run_until_complete(refused()) == "ConnectionRefusedError"
outcomes = []
for successes in range(40):
    attempt = loop._connect(*address)
    future = attempt.future
    future.add_done_callback(lambda _: loop.stop())
    # Where the allocation that fails is the one for the future's callback.
    timer = loop.call_later(0.1, loop.stop)
    # One allocation fails, in the iteration that hears of the refusal.
    loop.call_soon(_testcapi.set_nomemory, successes, successes + 1)
    try:
        loop.run_forever()
    except MemoryError:
        asyncio._set_running_loop(None)  # the end of the run has allocations of its own
    finally:
        _testcapi.remove_mem_hooks()
    timer.cancel()
    outcomes.append(type(future.exception()).__name__ if future.done() else "pending")
    attempt.close()
print(*sorted(set(outcomes)))
"""


@pytest.mark.native_only(reason="asyncio has no attempts")
def test_a_refusal_without_memory_is_an_error_all_the_same(programs):
    pytest.importorskip("_testcapi")
    done = programs.run(MEMORYLESS)
    assert done.stdout == "ConnectionRefusedError MemoryError\n"


# -- what a program has put in the place of asyncio's methods and of sockets ---------------------


async def connect_and_close(loop, server):
    transport, protocol = await loop.create_connection(Recorder, *server.getsockname())
    assert transport.get_extra_info("peername") == server.getsockname()
    sock = transport.get_extra_info("socket")
    transport.close()
    await protocol.lost()
    return sock


def test_sock_connect_of_an_instance(loop, server, monkeypatch):
    asked, original = [], loop.sock_connect

    async def sock_connect(sock, address):
        asked.append((type(sock), address))
        await original(sock, address)

    monkeypatch.setattr(loop, "sock_connect", sock_connect, raising=False)
    loop.run_until_complete(connect_and_close(loop, server))
    assert asked == [(socket.socket, server.getsockname())]


@pytest.mark.parametrize("replaced", ["sock_connect", "_make_socket_transport"])
@pytest.mark.parametrize("how", ["subclass", "class"])
def test_a_method_of_a_class(loop, server, monkeypatch, replaced, how):
    asked, kind = [], type(loop)
    original = getattr(kind, replaced)

    def replacement(self, sock, *args, **options):
        asked.append(sock.fileno() >= 0)
        return original(self, sock, *args, **options)

    if how == "class":
        monkeypatch.setattr(kind, replaced, replacement)
        loop.run_until_complete(connect_and_close(loop, server))
    else:
        derived = type("Derived", (kind,), {replaced: replacement})()
        try:
            derived.run_until_complete(connect_and_close(derived, server))
        finally:
            derived.close()
    assert asked == [True]


def test_a_class_of_sockets_that_a_program_puts_in_the_place_of_pythons(loop, server, monkeypatch):
    class Guarded(socket.socket):
        """As tools that forbid connections in tests make one."""

        def __new__(cls, *args, **options):
            raise LookupError("no sockets in tests")

    address = server.getsockname()
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", Guarded)
        with pytest.raises(LookupError, match="no sockets in tests"):
            loop.run_until_complete(loop.create_connection(Recorder, *address))
    loop.run_until_complete(connect_and_close(loop, server))


def test_a_function_in_the_place_of_pythons_class_of_sockets(loop, server, monkeypatch):
    def guard(*_args, **_options):
        raise LookupError("no sockets in tests")

    address, original = server.getsockname(), socket.socket
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", guard)
        with pytest.raises(LookupError, match="no sockets in tests"):
            loop.run_until_complete(loop.create_connection(Recorder, *address))
        made = []
        patched.setattr(
            socket, "socket", lambda *args, **kw: made.append(original(*args, **kw)) or made[-1]
        )
        transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, *address))
        assert [sock.getpeername() for sock in made] == [address]
        transport.abort()
        loop.run_until_complete(protocol.lost())


PATCHED_FIRST = """
import asyncio, socket

server = socket.create_server(("127.0.0.1", 0))

class Patched(socket.socket):
    pass

async def connect():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.getsockname())
    sock = transport.get_extra_info("socket")
    transport.abort()
    return type(getattr(sock, "_sock", sock)).__name__

async def main():
    original, socket.socket = socket.socket, Patched
    names = [await connect()]
    socket.socket = original
    names.append(await connect())
    print(*names)

run(main())
"""


def test_a_class_that_was_replaced_for_the_first_connection_is_not_kept(programs):
    assert programs.run(PATCHED_FIRST).stdout == "Patched socket\n"


@pytest.mark.parametrize("method", ["connect", "setblocking", "__init__"])
def test_a_method_of_sockets_that_a_program_replaces(loop, server, monkeypatch, method):
    called, original = [], getattr(socket.socket, method)

    def replacement(self, *args, **options):
        called.append(method)
        return original(self, *args, **options)

    monkeypatch.setattr(socket.socket, method, replacement)
    loop.run_until_complete(connect_and_close(loop, server))
    assert called.count(method) >= 1


AUDITED = """
import asyncio, socket, sys

listening = socket.create_server(("127.0.0.1", 0))
address = listening.getsockname()
heard, refuse = [], False

def hook(event, args):
    if event == "socket.connect":
        heard.append((event, type(args[0]).__name__, args[0].fileno() >= 0, args[1] == address))
        if refuse:
            raise LookupError("not to be connected to")
    elif event == "socket.__new__":
        heard.append((event, *map(int, args[1:])))
    elif event.startswith("tokioloop"):
        heard.append(event)

async def connect():
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, *address)
    transport.abort()

async def main():
    global refuse
    await connect()
    sys.addaudithook(hook)
    await connect()
    refuse = True
    try:
        await connect()
    except LookupError as error:
        heard.append(str(error))
    print(heard)

run(main())
"""


def test_connecting_is_audited(programs):
    new, connect = "('socket.__new__', 2, 1, 6)", "('socket.connect', 'socket', True, True)"
    done = programs.run(AUDITED)
    assert done.stdout == f"[{new}, {connect}, {new}, {connect}, 'not to be connected to']\n"


# -- forks ---------------------------------------------------------------------------------------

WAITING = (
    textwrap.indent(FORK, "    ")
    + """
    import asyncio, socket, threading, warnings

    warnings.simplefilter("ignore", DeprecationWarning)

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    address = listening.getsockname()
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(address)

    async def waiting(loop):
        task = asyncio.ensure_future(loop.create_connection(asyncio.Protocol, *address))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        return task

    def child(loop, task):
        async def work():
            await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        loop.run_until_complete(work())
        loop.close()

    def accept_all():
        # The kernel asks again after a second or more, and finds room then.
        def accept():
            while True:
                accepted.append(listening.accept())
        accepted = []
        threading.Thread(target=accept, daemon=True).start()
"""
)


@pytest.mark.native_only(reason="the standard library's loop is shared with a child")
def test_an_attempt_that_a_fork_meets_goes_on_in_the_parent(programs):
    done = programs.run(
        WAITING
        + """
    loop = new_event_loop()
    task = loop.run_until_complete(waiting(loop))
    wait(fork(lambda: child(loop, task)))
    accept_all()
    transport, _ = loop.run_until_complete(asyncio.wait_for(task, 20))
    assert transport.get_extra_info("peername") == address
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    print("connected")
"""
    )
    assert (done.stdout, done.stderr) == ("connected\n", "")


@pytest.mark.native_only(reason="the standard library's loop is shared with a child")
def test_an_attempt_that_a_fork_meets_ends_in_the_child(programs):
    done = programs.run(
        WAITING
        + """
    loop = new_event_loop()
    task = loop.run_until_complete(waiting(loop))

    def child():
        accept_all()
        transport, _ = loop.run_until_complete(asyncio.wait_for(task, 20))
        assert transport.get_extra_info("peername") == address
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))

    wait(fork(child))
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()
    print("connected")
"""
    )
    assert (done.stdout, done.stderr) == ("connected\n", "")


# -- the core's own interface --------------------------------------------------------------------


@pytest.mark.native_only(reason="asyncio has no attempts")
def test_an_attempt_is_for_one_transport_of_its_own_loop(loop_factory, server):
    loop, other = loop_factory(), loop_factory()
    before = open_descriptors()
    attempt = loop._connect(*server.getsockname())
    loop.run_until_complete(attempt.future)
    arguments = (asyncio.Protocol(), loop.create_future())
    with pytest.raises(ValueError, match="another loop's"):
        other._connected_transport(attempt, *arguments)
    transport = loop._connected_transport(attempt, *arguments)
    with pytest.raises(ConnectionAbortedError, match="was closed"):
        loop._connected_transport(attempt, *arguments)
    attempt.close()
    assert not transport.is_closing()
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    given_up = loop._connect(*server.getsockname())
    given_up.close()
    given_up.close()
    with pytest.raises(ConnectionAbortedError, match="was closed"):
        loop._connected_transport(given_up, *arguments)
    assert open_descriptors().keys() == before.keys()
    assert given_up.future is None
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop._connect(*server.getsockname())
    other.close()


@pytest.mark.native_only(reason="asyncio has no attempts")
def test_an_abandoned_loop_takes_its_attempts_along(loop_factory):
    gc.collect()
    before = open_descriptors()
    with unresponsive_address() as address:
        loop = loop_factory()
        attempt = loop._connect(*address)
        loop.run_until_complete(asyncio.sleep(0.001))
        assert sys.getrefcount(attempt) >= 2
        with pytest.warns(ResourceWarning, match="unclosed event loop"):
            del loop, attempt
            gc.collect()
    assert open_descriptors() == before
