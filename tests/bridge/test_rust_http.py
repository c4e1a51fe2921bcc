"""The example with hyper: built, imported and used from Python."""

from __future__ import annotations

import ast
import asyncio
import ssl
import urllib.error
import urllib.request

import pytest

from bridge.builds import Loops, build, load
from bridge.test_rust_examples import EXAMPLES, said_by

PROJECT = EXAMPLES / "rust-http"


@pytest.fixture(scope="session")
def webtalk():
    return load(build(PROJECT, "webtalk"), "webtalk")


@pytest.fixture(params=["embedded", "tokioloop", "asyncio"])
def run(request, webtalk):
    import tokioloop

    factories = {
        "embedded": webtalk.new_event_loop,
        "tokioloop": tokioloop.new_event_loop,
        "asyncio": asyncio.new_event_loop,
    }
    return Loops(request.param, factories[request.param]).run


def soon(awaitable):
    return asyncio.wait_for(awaitable, 30)


async def handler(method, path, body):
    await asyncio.sleep(0)
    if path == "/fail":
        raise ZeroDivisionError("a bug in a handler")
    if path == "/odd":
        return "no status"
    return 200, f"{method} {path} ".encode() + body


def test_python_answers_and_awaits(run, webtalk):
    async def main():
        server = await webtalk.serve(handler)
        answers = await soon(
            asyncio.gather(
                webtalk.fetch("127.0.0.1", server.port, "/one"),
                webtalk.fetch("127.0.0.1", server.port, "/two", b"body"),
                webtalk.fetch("127.0.0.1", server.port, "/three", b"x" * 1_000_000),
            )
        )
        assert answers == [
            (200, b"GET /one "),
            (200, b"POST /two body"),
            (200, b"POST /three " + b"x" * 1_000_000),
        ]
        server.close()

    run(main)


def test_what_goes_wrong(run, webtalk):
    async def main():
        told = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(type(context["exception"])))
        server = await webtalk.serve(handler)
        fetch = webtalk.fetch
        assert await soon(fetch("127.0.0.1", server.port, "/fail")) == (500, b"the handler failed")
        assert await soon(fetch("127.0.0.1", server.port, "/odd")) == (500, b"the handler failed")
        status, _ = await soon(fetch("127.0.0.1", server.port, "/", b"x" * ((1 << 20) + 1)))
        assert status == 413
        assert told == [ZeroDivisionError, TypeError]
        server.close()
        with pytest.raises(ValueError, match="invalid"):
            await fetch("127.0.0.1", server.port, "/not a path")

    run(main)


def test_a_closed_server_accepts_no_more(run, webtalk):
    async def main():
        server = await webtalk.serve(handler)
        server.close()

        async def refused():
            try:
                await webtalk.fetch("127.0.0.1", server.port, "/")
            except OSError:
                return True
            return False

        while not await soon(refused()):
            await asyncio.sleep(0)

    run(main)


def test_over_tls_that_asyncio_accepted(run, webtalk, certificates):
    """A client of the standard library's, which keeps its connection for several requests."""
    served = []

    def ask(port):
        context = certificates.client_context()
        https = urllib.request.HTTPSHandler(context=context)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
        with opener.open(f"https://localhost:{port}/get", timeout=30) as answer:
            first = answer.read()
        body = b"x" * 500_000
        with opener.open(f"https://localhost:{port}/post", data=body, timeout=30) as answer:
            assert answer.read() == b"POST /post " + body
        with pytest.raises(urllib.error.HTTPError) as failed:
            opener.open(f"https://localhost:{port}/fail", timeout=30)
        failed.value.close()
        return first, failed.value.code

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)

        async def accepted(reader, writer):
            assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
            served.append(await webtalk.serve_connection(reader, writer, handler))

        server = await asyncio.start_server(
            accepted, "127.0.0.1", 0, ssl=certificates.server_context()
        )
        port = server.sockets[0].getsockname()[1]
        assert await soon(loop.run_in_executor(None, ask, port)) == (b"GET /get ", 500)
        while len(served) < 3:
            await asyncio.sleep(0)
        server.close()

    run(main)


def test_two_requests_on_one_connection_of_asyncios(run, webtalk):
    async def main():
        done = asyncio.get_running_loop().create_future()

        async def accepted(reader, writer):
            # What has arrived by now is answered, too.
            line = await reader.readline()
            assert line == b"a line before\r\n"
            done.set_result(await webtalk.serve_connection(reader, writer, handler))

        server = await asyncio.start_server(accepted, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        request = b"POST /%d HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok"
        writer.write(b"a line before\r\n" + request % 1 + request % 2)
        for number in (1, 2):
            await soon(reader.readuntil(b"\r\n\r\n"))
            expected = b"POST /%d ok" % number
            assert await soon(reader.readexactly(len(expected))) == expected
        writer.close()
        await soon(done)
        server.close()

    run(main)


def test_the_demo_needs_one_thread(webtalk):
    assert said_by(PROJECT, webtalk) == [
        "running on webtalk.tokioloop.loop",
        "(404, b'there is no /nothing')",
        "(200, b'olleh')",
        "(200, b'took its time')",
        "200 answers, the last: (200, b'991')",
        "(200, b'oicnysa')",
        "threads of this process: 1",
    ]


def test_the_stub_names_the_contents_of_the_module(webtalk):
    stub = ast.parse((PROJECT / "webtalk.pyi").read_text())
    named = (ast.ClassDef, ast.FunctionDef)
    assert set(webtalk.__all__) == {it.name for it in stub.body if isinstance(it, named)}
