"""Tools that watch programs on asyncio, used on both loops for the same program."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio

{install}


async def work(value):
    await asyncio.sleep(0.001)
    return value


async def fails():
    1 / 0
"""

OPENTELEMETRY = """
import os

os.environ["OTEL_PYTHON_ASYNCIO_COROUTINE_NAMES_TO_TRACE"] = "work,fails"
os.environ["OTEL_PYTHON_ASYNCIO_TO_THREAD_FUNCTION_NAMES_TO_TRACE"] = "len"
from opentelemetry import trace
from opentelemetry.instrumentation.asyncio import AsyncioInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
AsyncioInstrumentor().instrument()


async def main():
    loop = asyncio.get_running_loop()
    await asyncio.gather(work(1), work(2))
    await asyncio.create_task(work(3))
    await asyncio.wait_for(work(4), 1)
    await asyncio.to_thread(len, "text")
    submit = asyncio.run_coroutine_threadsafe
    await asyncio.to_thread(lambda: submit(work(5), loop).result())
    await asyncio.wait([asyncio.create_task(fails())])


asyncio.run(main())
print(sorted(span.name for span in exporter.get_finished_spans()))
"""

SENTRY = """
import sentry_sdk
from sentry_sdk.integrations.asyncio import AsyncioIntegration
from sentry_sdk.transport import Transport


class Kept(Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            payload = item.payload.json or {{}}
            for error in payload.get("exception", {{}}).get("values", ()):
                print(error["type"], payload.get("level"))


async def main():
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        transport=Kept,
        default_integrations=False,
        integrations=[AsyncioIntegration()],
    )
    assert await asyncio.create_task(work(1)) == 1
    await asyncio.wait([asyncio.create_task(fails())])
    await asyncio.gather(fails(), return_exceptions=True)


asyncio.run(main())
"""

DDTRACE = """
import contextvars
import os
import sys

# Nothing is sent: the filter keeps the spans, and telemetry is off.
for name in ("INSTRUMENTATION_TELEMETRY_ENABLED", "REMOTE_CONFIGURATION_ENABLED"):
    os.environ["DD_" + name] = "false"
os.environ["DD_CRASHTRACKING_ENABLED"] = "false"
os.environ["DD_TRACE_AGENT_URL"] = "http://127.0.0.1:9"
from ddtrace import patch
from ddtrace.trace import TraceFilter, tracer

patch(asyncio=True, futures=True, aiohttp=True)
import aiohttp
from aiohttp import web

spans = {{}}


class Kept(TraceFilter):
    def process_trace(self, trace):
        spans.update((span.span_id, span) for span in trace)


tracer.configure(trace_processors=[Kept()])


def called(name):
    with tracer.trace(name):
        pass


async def traced(name):
    with tracer.trace(name):
        await work(0)


async def answer(request):
    with tracer.trace("answer"):
        return web.Response()


async def request():
    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = site._server.sockets[0].getsockname()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{{host}}:{{port}}/") as response:
            assert response.status == 200
    await runner.cleanup()


async def main():
    loop = asyncio.get_running_loop()
    with tracer.trace("outer"):
        await traced("awaited")
        await asyncio.create_task(traced("task"))
        await loop.create_task(traced("task of the loop"))
        await asyncio.gather(traced("gathered"), traced("gathered, too"))
        await asyncio.wait_for(traced("waited for"), 1)
        await asyncio.to_thread(called, "to_thread")
        await loop.run_in_executor(None, called, "executor")
        submit = asyncio.run_coroutine_threadsafe
        await asyncio.to_thread(lambda: submit(traced("threadsafe"), loop).result())
        loop.call_soon(called, "call_soon")
        loop.call_later(0, called, "call_later")
        await asyncio.sleep(0.01)
        if sys.version_info >= (3, 11):
            empty = contextvars.Context()
            await asyncio.create_task(traced("in an empty context"), context=empty)
        await request()
    await asyncio.create_task(traced("behind"))


asyncio.run(main())
for span in spans.values():
    print(span.name, "in", spans[span.parent_id].name if span.parent_id else "nothing")
"""

AIODEBUG = """
import time
from aiodebug import log_slow_callbacks

names = []
log_slow_callbacks.enable(0.05, on_slow_callback=lambda name, took: names.append(name))


async def main():
    asyncio.get_running_loop().call_soon(time.sleep, 0.1)
    await asyncio.sleep(0.2)


asyncio.run(main())
print(*names)
"""

AIOMONITOR = """
import socket

import aiohttp
import aiomonitor


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def main():
    loop = asyncio.get_running_loop()
    sleeper = asyncio.create_task(asyncio.sleep(60), name="the sleeper")
    ports = {{name: free_port() for name in ("port", "webui_port", "console_port")}}
    with aiomonitor.start_monitor(loop, host="127.0.0.1", **ports) as monitor:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{{ports['webui_port']}}/api/live-tasks"
            for _ in range(1000):
                try:
                    async with session.post(url, data={{"filter": ""}}) as answer:
                        tasks = (await answer.json())["tasks"]
                    break
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.01)
    print(*sorted(task["name"] for task in tasks if "sleeper" in task["name"]))
    sleeper.cancel()


asyncio.run(main())
"""


@pytest.fixture
def watched(loop_name, tmp_path):
    """Run a program with a tool; what it printed."""

    def watched(program):
        install = "" if loop_name == "asyncio" else "import tokioloop; tokioloop.install()"
        file = tmp_path / "program.py"
        file.write_text((PROGRAM + program).format(install=install))
        done = subprocess.run(
            [sys.executable, "-W", "ignore", file],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "NO_COLOR": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return watched


def test_opentelemetry_traces_coroutines(watched):
    names = ["asyncio coro-fails", *["asyncio coro-work"] * 4, "asyncio to_thread-len"]
    # From CPython 3.12 on `wait_for` makes no task that could be traced.
    found = re.findall("'(.*?)'", watched(OPENTELEMETRY))
    assert sorted({*names}) == sorted({*found})
    assert found.count("asyncio coro-work") >= 4


def test_sentry_reports_errors_of_tasks(watched):
    assert watched(SENTRY).splitlines() == ["ZeroDivisionError error"] * 2


def test_ddtrace_finds_the_parents_of_spans(watched):
    # Not imported here: on 3.14 its import alone has each callback of this process call its code.
    if importlib.util.find_spec("ddtrace") is None:
        pytest.skip("no ddtrace")
    inner = ["awaited", "task", "task of the loop", "gathered", "gathered, too", "waited for"]
    inner += ["to_thread", "executor", "threadsafe", "call_soon", "call_later", "answer"]
    if sys.version_info >= (3, 11):
        inner.append("in an empty context")
    found = watched(DDTRACE).splitlines()
    assert {f"{name} in outer" for name in inner} < {*found}
    assert {"outer in nothing", "behind in nothing", "aiohttp.request in outer"} < {*found}


def test_aiodebug_reports_slow_callbacks(watched):
    assert "sleep" in watched(AIODEBUG)


def test_aiomonitor_lists_tasks(watched):
    assert watched(AIOMONITOR) == "the sleeper\n"


CALL_GRAPH = """
import os
import sys


async def outer():
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60), name="one")
        group.create_task(asyncio.sleep(60), name="two")


async def main():
    task = asyncio.create_task(outer(), name="the outer")
    await asyncio.sleep(0.01)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "asyncio", "pstree", str(os.getpid())),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await child.communicate()
    print(output.decode())
    task.cancel()


asyncio.run(main())
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="python -m asyncio pstree is new in 3.14")
def test_asyncio_shows_the_tasks_of_a_process(watched):
    names = re.findall(r"\(T\) (.*)", watched(CALL_GRAPH))
    assert names[-3:] == ["the outer", "one", "two"]
    assert names[0] == "Task-1"
