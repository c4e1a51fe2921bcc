"""An extension that knows pyo3-async-runtimes alone: a patch in Cargo.toml brings the bridge."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

import tokioloop
from bridge.builds import Loops, build, load
from bridge.conftest import HERE


@pytest.fixture(scope="session")
def unchanged():
    return load(build(HERE / "unchanged", "unchanged", "library"), "unchanged")


@pytest.fixture(params=["beside", "asyncio"])
def loops(request):
    factories = {"beside": tokioloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return Loops(request.param, factories[request.param])


@pytest.mark.parametrize("name", ["sleeps", "sleeps_with_locals"])
def test_it_returns_what_callers_know(loops, unchanged, name):
    """A future: it starts on its own, has callbacks, and is awaited twice."""

    async def main():
        future = getattr(unchanged, name)()
        assert asyncio.isfuture(future)
        done = []
        future.add_done_callback(done.append)
        assert await future == "rested"
        assert await future == "rested"
        await asyncio.sleep(0)
        assert done == [future]
        assert await asyncio.gather(unchanged.sleeps(), unchanged.sleeps()) == ["rested"] * 2

    loops.run(main)


def test_it_is_cancelled(loops, unchanged):
    async def main():
        future = unchanged.sleeps()
        assert future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future

    loops.run(main)


@pytest.mark.parametrize("name", ["panics", "own_panics"])
def test_a_panic_is_its_exception(loops, unchanged, name):
    async def main():
        with pytest.raises(unchanged.RustPanic, match="rust future panicked: on purpose"):
            await getattr(unchanged, name)()

    loops.run(main)


@pytest.mark.parametrize("name", ["awaits", "awaits_beside", "own_awaits"])
def test_python_is_awaited_in_the_callers_context(loops, unchanged, name):
    variable = contextvars.ContextVar("variable")

    async def value():
        await asyncio.sleep(0)
        return variable.get()

    async def error():
        raise LookupError("this one")

    async def main():
        variable.set("of the caller")
        assert await getattr(unchanged, name)(value) == "of the caller"
        with pytest.raises(LookupError, match="this one"):
            await getattr(unchanged, name)(error)

    loops.run(main)


def test_a_runtime_that_was_shut_down_is_named(loops, unchanged):
    async def main():
        for _ in range(2):
            with pytest.raises(RuntimeError, match="its runtime has been shut down"):
                await unchanged.gone_answers()
        assert await unchanged.sleeps() == "rested"

    loops.run(main)


def test_the_loop_is_found(loops, unchanged):
    async def main():
        loop = asyncio.get_running_loop()
        assert all(each is loop for each in unchanged.loops())
        assert unchanged.own_loop() is loop

    loops.run(main)
    with pytest.raises(RuntimeError, match="no running event loop"):
        unchanged.own_loop()


@pytest.mark.parametrize("name", ["runs", "own_runs"])
def test_a_loop_is_run_from_rust(unchanged, name):
    assert getattr(unchanged, name)() == 42


def test_a_loop_of_the_callers_is_run(loops, unchanged):
    loop = loops.factory()
    try:
        assert unchanged.runs_on(loop) == 42
        assert unchanged.runs_on(loop) == 42
    finally:
        loop.close()


async def counted(to, error=None):
    for number in range(to):
        await asyncio.sleep(0)
        yield number
    if error:
        raise error


@pytest.mark.parametrize("name", ["collects", "own_collects"])
def test_async_generators_are_streams(loops, unchanged, name):
    async def main():
        collects = getattr(unchanged, name)
        assert await collects(counted(3)) == [0, 1, 2]
        with pytest.raises(LookupError, match="this one"):
            await collects(counted(1, LookupError("this one")))

    loops.run(main)


def test_streams_of_items_report_what_generators_raise(loops, unchanged):
    async def main():
        heard = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: heard.append(about))
        error = LookupError("this one")
        assert await unchanged.collects_items(counted(2, error)) == [0, 1]
        await asyncio.sleep(0)
        assert [about["exception"] for about in heard] == [error]

    loops.run(main)


def test_a_runtime_of_its_own_runs_it(loops, unchanged):
    async def main():
        assert await unchanged.own_sleeps() == "own"

    loops.run(main)
