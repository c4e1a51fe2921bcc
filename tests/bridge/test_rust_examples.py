"""The two extensions among the examples: built, imported and used from Python."""

from __future__ import annotations

import ast
import asyncio
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

from bridge.builds import Loops, build, load

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
BESIDE, EMBEDDED = EXAMPLES / "rust-extension", EXAMPLES / "rust-embedded"


@pytest.fixture(scope="session")
def fetchlimit():
    return load(build(BESIDE, "fetchlimit"), "fetchlimit")


@pytest.fixture(scope="session")
def linetalk():
    return load(build(EMBEDDED, "linetalk"), "linetalk")


def new_loop(kind, linetalk):
    import tokioloop

    return {
        "tokioloop": tokioloop.new_event_loop,
        "asyncio": asyncio.new_event_loop,
        "embedded": linetalk.new_event_loop,
    }[kind]


@pytest.fixture(params=["tokioloop", "asyncio"])
def run(request, linetalk):
    """Runs a coroutine function on a loop that the extension was not compiled with."""
    return Loops(request.param, new_loop(request.param, linetalk)).run


@pytest.fixture(params=["embedded", "tokioloop", "asyncio"])
def run_anywhere(request, linetalk):
    return Loops(request.param, new_loop(request.param, linetalk)).run


class Server:
    """Serves connections one by one function; counts and closes them."""

    def __init__(self, serve):
        self.serve = serve
        self.connections = 0
        self.writers = []
        self.tasks = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def accept(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        self.tasks.append(asyncio.current_task())
        try:
            await self.serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.gather(*self.tasks)


async def request_of(reader):
    """The path that is asked for; None when the client has hung up."""
    line = await reader.readline()
    while line and await reader.readline() != b"\r\n":
        pass
    return line.split()[1].decode() if line else None


async def answer_all(reader, writer):
    while path := await request_of(reader):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(path) + path.encode())


def soon(awaitable):
    return asyncio.wait_for(awaitable, 30)


# --- The client -------------------------------------------------------------------------------


def test_the_client_and_aiohttps_server(run, fetchlimit):
    web = pytest.importorskip("aiohttp.web")

    async def page(request):
        return web.Response(body=b"x" * 300_000, headers={"X-Path": request.path})

    async def pieces(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(20):
            await response.write(b"piece %d;" % number)
        await response.write_eof()
        return response

    async def main():
        app = web.Application()
        app.add_routes([web.get("/page", page), web.get("/pieces", pieces)])
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        base = f"http://{host}:{port}"
        client = fetchlimit.Client()

        response = await soon(client.get(f"{base}/page"))
        assert response.status == 200
        assert response.header("x-path") == "/page"
        assert response.header("x-other") is None
        assert await soon(response.read()) == b"x" * 300_000
        with pytest.raises(RuntimeError, match="read already"):
            response.read()

        response = await soon(client.get(f"{base}/pieces"))
        text = b"".join([piece async for piece in response])
        assert text == b"".join(b"piece %d;" % number for number in range(20))

        with pytest.raises(fetchlimit.StatusError, match=f"status 404 from {base}/none") as caught:
            await soon(client.get(f"{base}/none"))
        assert (caught.value.status, caught.value.url) == (404, f"{base}/none")
        assert isinstance(caught.value, fetchlimit.FetchError)
        del client
        await runner.cleanup()

    run(main)


def test_many_requests_at_once(run, fetchlimit):
    async def main():
        client = fetchlimit.Client()

        async def fetch(server, number):
            response = await client.get(f"{server.url}/{number}")
            return await response.read()

        async with Server(answer_all) as server:
            fetches = (fetch(server, number) for number in range(50))
            pages = await soon(asyncio.gather(*fetches))
            assert pages == [b"/%d" % number for number in range(50)]

    run(main)


def test_a_connection_is_used_again(run, fetchlimit):
    async def main():
        client = fetchlimit.Client()
        async with Server(answer_all) as server:
            for asked in range(1, 1000):
                response = await soon(client.get(f"{server.url}/again"))
                assert await soon(response.read()) == b"/again"
                # It is given back by another thread, which may be late.
                if server.connections < asked:
                    return
            pytest.fail("no connection was used again")

    run(main)


def test_a_refused_connection_is_an_os_error(run, fetchlimit):
    async def main():
        # Bound and not listening: no other program gets the port meanwhile.
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
            with pytest.raises(ConnectionRefusedError) as caught:
                await soon(fetchlimit.Client().get(url))
        assert caught.value.errno

    run(main)


def test_a_server_that_speaks_no_http_is_a_fetch_error(run, fetchlimit):
    async def nonsense(reader, writer):
        await request_of(reader)
        writer.write(b"good morning\r\n\r\n")
        await writer.drain()

    async def main():
        async with Server(nonsense) as server:
            with pytest.raises(fetchlimit.FetchError, match="HTTP"):
                await soon(fetchlimit.Client().get(server.url))

    run(main)


@pytest.mark.parametrize("url", ["", "nonsense", "/path", "https://localhost/", "http://"])
def test_an_invalid_url_is_refused_at_the_call(fetchlimit, url):
    with pytest.raises(ValueError, match="URL"):
        fetchlimit.Client().get(url)


def test_a_cancelled_request_is_dropped(run, fetchlimit):
    async def main():
        asked, gone = asyncio.Event(), asyncio.Event()

        async def silent(reader, _writer):
            await request_of(reader)
            asked.set()
            assert await reader.read() == b""
            gone.set()

        async with Server(silent) as server:
            client = fetchlimit.Client()
            task = asyncio.ensure_future(client.get(server.url))
            await soon(asked.wait())
            assert not gone.is_set()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await soon(gone.wait())

    run(main)


def test_a_body_that_is_not_read_to_its_end_is_dropped(run, fetchlimit):
    async def main():
        gone = asyncio.Event()

        async def endless(reader, writer):
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            try:
                while True:
                    writer.write(b"1000\r\n" + bytes(0x1000) + b"\r\n")
                    await writer.drain()
                    await asyncio.sleep(0)
            except ConnectionError:
                gone.set()

        async with Server(endless) as server:
            response = await soon(fetchlimit.Client().get(server.url))
            async for chunk in response:
                assert chunk
                break
            del response
            await soon(gone.wait())

    run(main)


# --- The limiter ------------------------------------------------------------------------------


def test_the_limiter_gives_no_more_than_it_may(run, fetchlimit):
    rate, burst, count = 100.0, 5, 30

    async def main():
        stamps = []
        began = time.monotonic()
        limiter = fetchlimit.Limiter(rate, burst)

        async def take():
            await limiter.acquire()
            stamps.append(time.monotonic() - began)

        await soon(asyncio.gather(*(take() for _ in range(count))))
        return stamps

    stamps = run(main)
    assert len(stamps) == count
    # A late look makes a stamp later, never earlier: this holds on the slowest machine.
    for taken, when in enumerate(sorted(stamps), 1):
        assert taken <= burst + rate * when


def test_the_client_keeps_to_its_limiter(run, fetchlimit):
    rate, burst, count = 100.0, 3, 15

    async def main():
        arrivals = []
        began = time.monotonic()
        client = fetchlimit.Client(fetchlimit.Limiter(rate, burst))

        async def note(reader, writer):
            while await request_of(reader):
                arrivals.append(time.monotonic() - began)
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

        async with Server(note) as server:
            fetches = (client.get(server.url) for _ in range(count))
            answers = await soon(asyncio.gather(*fetches))
            assert {answer.status for answer in answers} == {204}
        return arrivals

    arrivals = run(main)
    assert len(arrivals) == count
    for sent, when in enumerate(arrivals, 1):
        assert sent <= burst + rate * when


def test_callers_are_served_in_their_order(fetchlimit):
    import tokioloop  # on other loops tokio's threads start and end them in any order

    async def main():
        order = []
        limiter = fetchlimit.Limiter(200, 1)

        async def take(number):
            await limiter.acquire()
            order.append(number)

        await soon(asyncio.gather(*(take(number) for number in range(6))))
        return order

    assert tokioloop.run(main()) == [0, 1, 2, 3, 4, 5]


def test_a_cancelled_caller_takes_nothing(run, fetchlimit):
    async def main():
        limiter = fetchlimit.Limiter(4, 1)
        assert await limiter.acquire() is None
        began = time.monotonic()
        waiting = [asyncio.ensure_future(limiter.acquire()) for _ in range(200)]
        await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert all(task.cancelled() for task in waiting)
        await soon(limiter.acquire())
        return time.monotonic() - began

    # Had each of them taken one it would be 50 seconds.
    assert run(main) < 20


@pytest.mark.parametrize("args", [(0,), (-1,), (float("nan"),), (float("inf"),), (1, 0)])
def test_a_limiter_without_sense_is_refused(fetchlimit, args):
    with pytest.raises(ValueError, match="must be"):
        fetchlimit.Limiter(*args)


# --- The embedded one -------------------------------------------------------------------------


async def upper(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())


def test_lines_to_and_fro(run_anywhere, linetalk):
    async def main():
        async with Server(upper) as server:
            connection = await soon(linetalk.connect("127.0.0.1", server.port))
            assert await soon(connection.ask("one")) == "ONE"
            answers = await soon(asyncio.gather(*(connection.ask(f"n {n}") for n in range(50))))
            assert answers == [f"N {n}" for n in range(50)]
            with pytest.raises(ValueError, match="one end"):
                connection.ask("two\nlines")

    run_anywhere(main)


def test_ticks(run_anywhere, linetalk):
    async def main():
        began = time.monotonic()
        numbers = [number async for number in linetalk.ticks(0.005, 10)]
        return numbers, time.monotonic() - began

    numbers, seconds = run_anywhere(main)
    assert numbers == list(range(1, 11))
    assert seconds >= 0.05
    with pytest.raises(ValueError, match="positive"):
        linetalk.ticks(0, 1)


def test_an_answer_that_was_given_up_is_discarded(run_anywhere, linetalk):
    async def main():
        asked, gone = asyncio.Event(), asyncio.Event()

        async def silent(reader, _writer):
            await reader.readline()
            asked.set()
            assert await reader.read() == b""
            gone.set()

        async with Server(silent) as server:
            connection = await soon(linetalk.connect("127.0.0.1", server.port))
            task = asyncio.ensure_future(connection.ask("anybody there?"))
            await soon(asked.wait())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await soon(gone.wait())
            with pytest.raises(ConnectionError, match="earlier question"):
                await soon(connection.ask("and now?"))

    run_anywhere(main)


def test_a_server_that_hangs_up(run_anywhere, linetalk):
    async def main():
        async def half(reader, writer):
            await reader.readline()
            writer.write(b"half a li")

        async with Server(half) as server:
            connection = await soon(linetalk.connect("127.0.0.1", server.port))
            with pytest.raises(ConnectionError, match="did not end its line"):
                await soon(connection.ask("hello"))
        with pytest.raises(ConnectionRefusedError):
            await soon(linetalk.connect("127.0.0.1", server.port))

    run_anywhere(main)


# --- As a whole -------------------------------------------------------------------------------


def said_by(project, module, *args):
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(module.__file__).parent)}
    done = subprocess.run(
        [sys.executable, project / "demo.py", *args],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("loop", ["tokioloop", "asyncio"])
def test_the_clients_demo(fetchlimit, loop):
    assert said_by(BESIDE, fetchlimit, "--loop", loop) == [
        f"running on {loop}",
        "fetched 15 pages, the last: this is /14",
        "never more than the limiter allows: True",
        "in pieces: 524288 bytes",
        "status 404",
        "gave up waiting, and the server saw the connection close",
        "refused: Connection refused (os error 111)",
    ]


def test_the_embedded_demo_needs_one_thread(linetalk):
    assert said_by(EMBEDDED, linetalk) == [
        "running on linetalk.tokioloop.loop",
        "the server says HELLO",
        "100 more answers, the last: QUESTION 99",
        "ticks: 5",
        "threads of this process: 1",
    ]


@pytest.mark.parametrize(("project", "name"), [(BESIDE, "fetchlimit"), (EMBEDDED, "linetalk")])
def test_a_stub_names_the_contents_of_its_module(request, project, name):
    module = request.getfixturevalue(name)
    stub = ast.parse((project / f"{name}.pyi").read_text())
    named = (ast.ClassDef, ast.FunctionDef)
    stubbed = {it.name: it for it in stub.body if isinstance(it, named)}
    assert set(module.__all__) == stubbed.keys()
    for klass in (it for it in stubbed.values() if isinstance(it, ast.ClassDef) and it.body):
        for method in (it for it in klass.body if isinstance(it, ast.FunctionDef)):
            assert hasattr(getattr(module, klass.name), method.name), f"{klass.name}.{method.name}"
