"""The interpreter exits while daemon threads run loops, or use those of others.

Python code that a loop calls releases the GIL. A daemon thread that wants it back while the
interpreter exits never gets it: until CPython 3.14 it is ended there and then, with the frames of
the loop and of whatever called it still on its stack. These are races, so each program runs many
times: a few in every run of the tests, hundreds where slow tests run.
"""

from __future__ import annotations

import pathlib

import pytest

# What every program begins with. `serve` starts a daemon thread with a loop of its own, in which
# `work(loop)` was called or a coroutine function `work` has become a task. A destructor that runs
# late in the exit keeps the interpreter busy meanwhile.
PREPARE = """
    import asyncio, gc, inspect, os, socket, ssl, subprocess, sys, threading, time

    started = []

    def serve(work, *args):
        ready = threading.Event()
        started.append(ready)

        def body():
            loop = new_event_loop()
            asyncio.set_event_loop(loop)
            if inspect.iscoroutinefunction(work):
                keep.append(loop.create_task(work(*args)))
            else:
                work(loop, *args)
            loop.call_soon(ready.set)
            loop.run_forever()

        threading.Thread(target=body, daemon=True).start()

    def spin(seconds, clock=time.perf_counter):
        end = clock() + seconds
        while clock() < end:
            pass

    class Slow:
        def __del__(self, spin=spin):
            spin(0.05)

    class Sleepy:
        def __del__(self, sleep=time.sleep):
            sleep(0.01)

    keep = []
    slow = Slow()
"""

# The main thread goes on for a moment, and then the interpreter exits.
FINISH = """
    for ready in started:
        assert ready.wait(20)
    time.sleep(0.05)
    print("exits", flush=True)
"""

PROGRAMS = {
    "idle": """
    async def work():
        await asyncio.sleep(3600)
    serve(work)
    """,
    "busy": """
    def work(loop):
        def step():
            sum(range(2000))
            loop.call_soon(step)
        loop.call_soon(step)
    serve(work)
    """,
    "a callback that sleeps": """
    def work(loop):
        def step():
            time.sleep(0.005)
            loop.call_soon(step)
        loop.call_soon(step)
    serve(work)
    """,
    "timers": """
    async def work():
        while True:
            await asyncio.sleep(0.0005)
            time.sleep(0)
    serve(work)
    """,
    "one iteration at a time": """
    def iterations():
        loop = new_event_loop()
        while True:
            loop.call_soon(time.sleep, 0.002)
            loop.call_soon(loop.stop)
            loop.run_forever()
    threading.Thread(target=iterations, daemon=True).start()
    """,
    "loops that open and close": """
    def rounds():
        while True:
            loop = new_event_loop()
            loop.run_until_complete(asyncio.sleep(0.001))
            loop.call_soon(id, Sleepy())
            loop.close()
    threading.Thread(target=rounds, daemon=True).start()
    """,
    "loops that are collected": """
    def rounds():
        while True:
            loop = new_event_loop()
            loop.itself = loop
            loop.run_until_complete(asyncio.sleep(0))
            loop.call_soon(id, Sleepy())
            loop.call_later(60, id, Sleepy())
            del loop
            gc.collect()
    threading.Thread(target=rounds, daemon=True).start()
    """,
    "destructors": """
    class Callback(Sleepy):
        def __call__(self, *args):
            pass
    def work(loop):
        def step():
            loop.call_soon(Callback(), Sleepy())
            loop.call_later(60, Callback()).cancel()
            loop.call_soon(step)
        loop.call_soon(step)
    serve(work)
    """,
    "streams": """
    async def work():
        async def echo(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
                time.sleep(0)
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        while True:
            writer.write(b"x" * 1000)
            await reader.readexactly(1000)
    serve(work)
    """,
    "sockets": """
    async def work():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        while True:
            await loop.sock_sendall(left, b"x" * 1000)
            await loop.sock_recv(right, 1000)
            await asyncio.sleep(0)
            time.sleep(0)
    serve(work)
    """,
    "datagrams": """
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport
            transport.sendto(b"x", transport.get_extra_info("sockname"))
        def datagram_received(self, data, address):
            time.sleep(0)
            self.transport.sendto(data, address)
    async def work():
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        await asyncio.sleep(3600)
    serve(work)
    """,
    "pipes": """
    class Reader(asyncio.Protocol):
        def data_received(self, data):
            time.sleep(0)
    async def work():
        loop = asyncio.get_running_loop()
        readable, writable = os.pipe()
        await loop.connect_read_pipe(Reader, os.fdopen(readable, "rb", 0))
        file = os.fdopen(writable, "wb", 0)
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, file)
        while True:
            transport.write(b"x" * 100)
            await asyncio.sleep(0)
    serve(work)
    """,
    "executor threads": """
    async def work():
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.gather(*(loop.run_in_executor(None, time.sleep, 0.001) for _ in range(4)))
    serve(work)
    """,
    "children": """
    async def work():
        while True:
            child = await asyncio.create_subprocess_exec("true")
            await child.wait()
    serve(work)
    """,
    "several loops": """
    async def sleeper():
        while True:
            await asyncio.sleep(0.001)
            time.sleep(0.001)
    def step(loop):
        time.sleep(0.001)
        loop.call_soon(step, loop)
    for _ in range(3):
        serve(sleeper)
        serve(step)
    """,
    "many threads that call": """
    loops = []
    serve(loops.append)
    started[0].wait()
    def others():
        while True:
            loops[0].call_soon_threadsafe(int)
            loops[0].call_soon_threadsafe(int).cancel()
            time.sleep(0)
    for _ in range(4):
        threading.Thread(target=others, daemon=True).start()
    """,
    "threads that hand in coroutines": """
    async def answer():
        time.sleep(0)
        return 42
    loops = []
    serve(loops.append)
    started[0].wait()
    def others():
        while True:
            assert asyncio.run_coroutine_threadsafe(answer(), loops[0]).result() == 42
    for _ in range(3):
        threading.Thread(target=others, daemon=True).start()
    """,
    "a thread that only drops": """
    # Nothing of the loop was ever called in it: it drops the last references.
    import queue
    things = queue.SimpleQueue()
    def drop():
        while True:
            things.get()
    threading.Thread(target=drop, daemon=True).start()
    loop = new_event_loop()
    for _ in range(200):
        things.put(loop.call_later(3600, print, Sleepy()))
        loop._scheduled[-1].cancel()
        things.put(loop.call_soon(print, Sleepy()))
    loop.close()
    """,
}

TLS = """
    async def work(certificate):
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(certificate)
        client_side = ssl.create_default_context()
        client_side.check_hostname = False
        client_side.verify_mode = ssl.CERT_NONE
        async def echo(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_side)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, ssl=client_side)
        while True:
            writer.write(b"x" * 60000)
            await reader.readexactly(60000)
    serve(work, sys.argv[1])
"""


def check(programs, source, times, *args):
    for _ in range(times):
        done = programs.run(PREPARE + source + FINISH, *args)
        assert done.stdout == "exits\n"
        assert done.stderr == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_interpreter_exits_in_peace(programs, name):
    check(programs, PROGRAMS[name], 2)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_exits_in_peace_each_time(programs, name):
    check(programs, PROGRAMS[name], 25)


@pytest.fixture(scope="module")
def certificate(certificates, tmp_path_factory):
    """The server's certificate and key in one file."""
    path = tmp_path_factory.mktemp("daemon") / "server.pem"
    parts = (certificates.server.certificate, certificates.server.key)
    path.write_text("".join(pathlib.Path(part).read_text() for part in parts))
    return str(path)


def test_the_interpreter_exits_in_peace_with_tls(programs, certificate):
    check(programs, TLS, 3, certificate)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_exits_in_peace_with_tls_each_time(programs, certificate):
    check(programs, TLS, 25, certificate)
