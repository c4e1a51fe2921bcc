"""Python code that comes back to a Rust future at unexpected places: from the collector, from the
loop's class, from an exception's constructor, from another thread, while a panic is being raised.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import warnings
import weakref

import pytest


def test_a_collection_while_it_parks_cannot_close_it(inline, extension, flag):
    """Before CPython 3.12 any allocation may run a collection, and that Python code."""
    refused = []

    async def main():
        future = extension.never(flag)

        def close(*_):
            if flag.started:
                try:
                    future.close()
                except ValueError as error:
                    refused.append(error)

        thresholds = gc.get_threshold()
        gc.callbacks.append(close)
        gc.set_threshold(1)
        try:
            future.send(None)
        finally:
            gc.callbacks.remove(close)
            gc.set_threshold(*thresholds)
        future.close()
        assert flag.dropped

    inline.run(main)
    if sys.version_info < (3, 12):
        assert refused


def test_a_loops_class_that_steps_it_while_it_is_bound(extension, flag):
    futures = []

    class Meta(type):
        def __getattribute__(cls, name):
            if name == "_bridge" and futures:
                with pytest.raises(ValueError, match="already executing"):
                    futures.pop().send(None)
            return super().__getattribute__(name)

    class Odd(asyncio.SelectorEventLoop, metaclass=Meta):
        pass

    async def main():
        # Nothing has looked at the class of this loop yet.
        futures.append(future)
        waiter = future.send(None)
        assert not futures
        assert flag.started == 1
        future.close()
        assert waiter.done()

    future = extension.local_never(flag)
    loop = Odd()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_an_exception_whose_constructor_has_another_thread_step_it(inline, extension):
    async def main():
        loop = asyncio.get_running_loop()
        inside, leave = threading.Event(), threading.Event()
        results = []

        def wait():
            inside.set()
            assert leave.wait(30)
            return "stepped"

        def step():
            asyncio._set_running_loop(loop)
            try:
                future.send(None)
            except StopIteration as stop:
                results.append(stop.value)
            finally:
                asyncio._set_running_loop(None)

        class Late(Exception):
            def __init__(self):
                thread.start()
                assert inside.wait(30)

        future = extension.calls(wait, 1)
        thread = threading.Thread(target=step)
        assert future.send(None) is None
        with pytest.raises(ValueError, match="already executing"):
            future.throw(Late)
        leave.set()
        thread.join(30)
        assert results == ["stepped"]

    inline.run(main)


def test_an_exception_whose_constructor_closes_it(inline, extension, flag):
    async def main():
        class Closing(Exception):
            def __init__(self):
                future.close()

        future = extension.never(flag)
        future.send(None)
        with pytest.raises(Closing):
            future.throw(Closing)
        assert flag.dropped

    inline.run(main)


def test_a_dropped_future_releases_its_python_objects(extension):
    class Thing:
        pass

    thing = Thing()
    seen = weakref.ref(thing)
    future = extension.ready(thing)
    del thing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del future
    assert seen() is None


@pytest.mark.parametrize(
    "coroutine",
    [
        "bridge_extension.ready(1)",
        "package.primitives.sleep(1)",
        "loop.sock_recv(left, 1)",
        "asyncio.sleep(1)",
    ],
)
def test_a_panic_that_is_being_raised_keeps_its_exception(extension_programs, coroutine):
    """What the stack held is dropped while the exception is raised."""
    extension_programs(
        f"""
        import asyncio, socket, sys, warnings
        warnings.simplefilter("ignore")
        package = sys.modules["bridge_extension.tokioloop"]
        loop = bridge_extension.new_event_loop()
        left, right = socket.socketpair()
        left.setblocking(False)

        def panic():
            return [{coroutine}, bridge_extension.panics_at_once()]

        try:
            panic()
        except BaseException as error:
            assert type(error).__name__ == "PanicException", error
        else:
            raise AssertionError("no panic")
        loop.close()
        """
    )


@pytest.mark.parametrize("run", ["bridge_extension", "tokioloop"])
@pytest.mark.parametrize("state", ["fresh", "pending"])
def test_a_future_is_closed_while_the_interpreter_exits(extension_programs, run, state):
    done = extension_programs(
        f"""
        import tokioloop, warnings
        warnings.simplefilter("ignore")

        class Last:
            # A destructor of a module's object runs when the interpreter is half gone.
            def __init__(self, future, kept):
                self.future, self.kept = future, kept

            def __del__(self):
                self.future.close()
                print("closed", flush=True)

        async def main():
            flag = bridge_extension.DropFlag()
            future, dropped = bridge_extension.never(flag), bridge_extension.never(flag)
            if {state!r} == "pending":
                future.send(None)
                dropped.send(None)
            return Last(future, dropped)

        loop = {run}.new_event_loop()
        last = loop.run_until_complete(main())
        """
    )
    assert done.stdout == "closed\n"
    assert "panic" not in done.stderr


def test_two_tasks_of_one_future(inline, extension, flag):
    async def main():
        future = extension.never(flag)
        first = asyncio.create_task(future)
        await asyncio.sleep(0)
        second = asyncio.create_task(future)
        with pytest.raises(RuntimeError, match="being awaited already"):
            await asyncio.wait_for(second, 10)
        assert not flag.dropped
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert flag.dropped

    inline.run(main)


def test_a_task_whose_future_was_closed_is_not_left_hanging(inline, extension, flag):
    async def main():
        async def waits():
            await future

        future = extension.never(flag)
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        future.close()
        assert flag.dropped
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=10)
        assert done
        # As with a coroutine of Python's that was closed.
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await task

    inline.run(main)
