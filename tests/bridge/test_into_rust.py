"""Python awaitables awaited by Rust; tasks beside; locals."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest


def test_rust_awaits_a_coroutine(loops, extension):
    async def inner():
        await asyncio.sleep(0.001)
        return "from Python"

    async def main():
        return await extension.awaits(inner)

    assert loops.run(main) == "from Python"


def test_rust_awaits_many_in_a_row(loops, extension):
    async def inner():
        await asyncio.sleep(0)

    async def main():
        return await extension.awaits_many(inner, 200)

    assert loops.run(main) == 200


def test_rust_awaits_a_future(loops, extension):
    async def main():
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "set")
        return await extension.awaits(lambda: future)

    assert loops.run(main) == "set"


def test_python_inside_of_rust_inside_of_python(loops, extension):
    async def nested(depth):
        if depth == 0:
            return await extension.yields(2)
        return 1 + await extension.awaits(lambda: nested(depth - 1))

    async def main():
        return await nested(20)

    assert loops.run(main) == 22


def test_an_object_that_is_no_awaitable_is_refused(inline, extension):
    async def main():
        with pytest.raises(TypeError):
            await asyncio.wait_for(extension.awaits(lambda: 3), 5)

    inline.run(main)


def test_a_cancelled_task_is_a_cancelled_error_in_rust(loops, extension):
    async def main():
        async def inner():
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

        with pytest.raises(asyncio.CancelledError):
            await extension.awaits(inner)

    loops.run(main)


def test_a_python_task_runs_on_when_rust_gives_it_up(loops, extension, eventually):
    async def main():
        done = []

        async def inner():
            await asyncio.sleep(0.005)
            done.append(True)

        await extension.drops_awaitable(inner())
        await eventually(lambda: done)

    loops.run(main)


def test_rust_awaits_a_coroutine_from_another_thread(loops, extension):
    async def inner():
        await asyncio.sleep(0)
        return threading.get_ident()

    async def main():
        loop = asyncio.get_running_loop()
        return await extension.awaits_elsewhere(loop, inner())

    assert loops.run(main) == threading.get_ident()


def test_a_loop_that_closes_ends_python_awaitables_of_rust(inline, extension):
    loop = inline.factory()

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)

        async def inner():
            await asyncio.get_running_loop().create_future()

        task = asyncio.ensure_future(extension.awaits(inner))
        await asyncio.sleep(0.001)
        return task

    task = loop.run_until_complete(main())
    loop.close()
    assert not task.done()


@pytest.mark.parametrize(
    "name", ["spawned", "spawned_by_tokio", "spawned_blocking", "spawned_local"]
)
def test_tasks_beside(loops, extension, name):
    async def main():
        result = await getattr(extension, name)(7)
        return result if isinstance(result, tuple) else (result, None)

    value, here = loops.run(main)
    assert value == 7
    if name == "spawned_local":
        assert here
    if name == "spawned_by_tokio":
        # Only a loop of the extension's own crate runs tasks itself.
        assert here is (loops.kind == "embedded")
    if name == "spawned_blocking":
        assert not here


@pytest.mark.parametrize("local", [False, True])
def test_a_task_beside_that_panics(loops, extension, local):
    async def main():
        return await extension.panics_spawned(local)

    assert loops.run(main) is True


def test_spawning_locally_without_a_loop_is_refused(extension):
    with pytest.raises(RuntimeError, match="no running event loop"):
        extension.spawned_local(1)


def test_sockets_of_tokio(loops, extension):
    async def main():
        return await asyncio.gather(*(extension.echoes(f"text {at}") for at in range(10)))

    assert loops.run(main) == [f"text {at}" for at in range(10)]


def test_current_loop(loops, extension):
    async def main():
        return await extension.current_loop() is asyncio.get_running_loop()

    assert loops.run(main)


def test_locals_are_those_of_the_awaiting_task(loops, extension):
    variable = contextvars.ContextVar("variable", default="unset")

    async def child(value):
        variable.set(value)
        return await extension.reads(variable)

    async def main():
        return await asyncio.gather(child("a"), child("b"))

    assert loops.run(main) == [("a", "a"), ("b", "b")]


@pytest.mark.parametrize("local", [False, True])
def test_given_locals_are_seen(loops, extension, local):
    variable = contextvars.ContextVar("variable", default="unset")
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    async def main():
        loop = asyncio.get_running_loop()
        return await extension.reads_given(loop, context, variable, local)

    assert loops.run(main) == "given"


def test_awaitables_run_in_the_given_context(loops, extension):
    variable = contextvars.ContextVar("variable", default="unset")
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    async def inner():
        seen = variable.get()
        variable.set("changed")
        return seen

    async def main():
        loop = asyncio.get_running_loop()
        return await extension.awaits_given(loop, context, inner)

    assert loops.run(main) == "given"
    assert context.get(variable) == "given"


def test_a_context_that_is_entered_already_will_do(loops, extension):
    variable = contextvars.ContextVar("variable", default="unset")

    async def inner():
        return variable.get()

    async def main():
        variable.set("current")
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await context.run(extension.awaits_given, loop, context, inner)

    assert loops.run(main) == "current"


def test_a_loop_is_not_run_inside_of_a_tokio_worker(extension):
    import tokioloop

    async def main():
        return await extension.ready(1)

    def run_there(run):
        coroutine = main()
        try:
            return run(coroutine)
        finally:
            coroutine.close()

    with pytest.raises(RuntimeError, match="tokio runtime is running in this thread"):
        extension.call_in_worker(lambda: run_there(extension.run))
    # An installed loop has a tokio of its own, which knows nothing of this one and needs not.
    assert extension.call_in_worker(lambda: run_there(tokioloop.run)) == 1
