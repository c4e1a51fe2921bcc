"""``stop()``, futures that are done and exceptions, in each of several runs."""

from __future__ import annotations

import pytest

from nesting.nested_loops import check

LEVELS = """
def at_depth(depth, do):
    '''Call `do` inside of so many runs, and note how each of them ends.'''
    async def level(left):
        if left == 0:
            return do()
        try:
            result = run(level(left - 1))
        except BaseException as error:
            note((left, type(error).__name__, str(error)))
            raise
        note((left, "returned"))
        return result

    return level(depth)
"""


def test_a_stop_in_the_innermost_run_ends_all_that_wait_for_a_future(programs):
    check(
        programs,
        LEVELS
        + """
def do():
    loop.call_soon(loop.stop)
    return run(loop.create_future())

task = loop.create_task(at_depth(3, do))
try:
    run(task)
except RuntimeError as error:
    note(str(error))
text = "Event loop stopped before Future completed."
# The exception goes up through the tasks of all runs.
assert noted == [(1, "RuntimeError", text), (2, "RuntimeError", text), (3, "RuntimeError", text),
                 text], noted
assert isinstance(task.exception(), RuntimeError)
""",
    )


def test_each_run_forever_is_ended_by_a_stop_of_its_own(programs):
    check(
        programs,
        """
def level(left):
    note(("begins", left))
    if left:
        loop.call_soon(level, left - 1)
        loop.run_forever()
    note(("ends", left))
    loop.stop()

loop.call_soon(level, 3)
loop.run_forever()
assert noted == [*(("begins", n) for n in (3, 2, 1, 0)), *(("ends", n) for n in range(4))], noted
assert run(answer()) == 42
""",
    )


@pytest.mark.native_only(reason="nest_asyncio2 forgets the outer run's stop, or obeys it too soon")
def test_a_stop_before_an_inner_run_is_the_outer_runs(programs):
    check(
        programs,
        """
def callback():
    loop.stop()
    note(run(answer()))
    loop.call_soon(note, "in the next run")

loop.call_soon(callback)
loop.run_forever()
assert noted == [42], noted
loop.call_soon(loop.stop)
loop.run_forever()
assert noted == [42, "in the next run"], noted
""",
    )


def test_a_run_forever_goes_on_when_the_future_of_an_outer_run_is_done(programs):
    check(
        programs,
        """
outer = loop.create_future()

def callback():
    loop.call_soon(outer.set_result, "outer")
    loop.call_later(0.01, note, "later")
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    note("back")

loop.call_soon(callback)
assert run(outer) == "outer"
assert noted == ["later", "back"], noted
""",
    )


def test_a_program_stops_the_runs_while_the_future_of_an_outer_one_is_done(programs):
    """The outer future's own stop is not taken for it, nor the other way round."""
    check(
        programs,
        """
outer = loop.create_future()

def callback():
    loop.call_soon(outer.set_result, "outer")
    loop.call_later(0.01, loop.stop)
    try:
        run(loop.create_future())
    except RuntimeError as error:
        note(str(error))

loop.call_soon(callback)
assert run(outer) == "outer"
assert noted == ["Event loop stopped before Future completed."], noted
loop._stopping = False  # nest_asyncio2 leaves it set
assert run(answer()) == 42
""",
    )


def test_futures_that_are_done_from_the_outermost_to_the_innermost(programs):
    check(
        programs,
        """
futures = [loop.create_future() for _ in range(4)]

def level(n):
    if n == len(futures):
        # The outermost is done first, and returns last.
        for late, future in enumerate(futures):
            loop.call_later(0.002 * late, future.set_result, late)
        return
    loop.call_soon(level, n + 1)
    note(run(futures[n]))

level(0)
assert noted == [3, 2, 1, 0], noted
""",
    )


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "SystemExit"])
@pytest.mark.parametrize("depth", [1, 3])
def test_an_exception_that_ends_the_loop_goes_through_all_runs(programs, kind, depth):
    check(
        programs,
        LEVELS
        + f"""
def raises():
    raise {kind}("out")

def do():
    loop.call_soon(raises)
    loop.call_soon(note, "after")
    return run(loop.create_future())

loop.set_exception_handler(lambda loop, context: note(context["message"]))
task = loop.create_task(at_depth({depth}, do))
try:
    run(task)
except {kind} as error:
    note(str(error))
levels = [(n, {kind!r}, "out") for n in range(1, {depth} + 1)]
assert noted == [*levels, "out"], noted
assert asyncio.current_task(loop) is None
loop._stopping = False
# What was scheduled is not lost.
assert run(answer()) == 42
assert noted.pop() == "after"
assert task.done() and isinstance(task.exception(), {kind})
""",
    )


def test_an_exception_is_caught_between_two_runs(programs):
    check(
        programs,
        """
import logging
logging.disable()  # nest_asyncio2 leaves the task's exception to be logged

def raises():
    raise KeyboardInterrupt

async def inner():
    loop.call_soon(raises)
    run(asyncio.sleep(60))

async def middle():
    try:
        run(inner())
    except KeyboardInterrupt:
        note("caught")
    return await answer("middle")

assert run(middle()) == "middle"
assert noted == ["caught"]
""",
    )


def test_other_exceptions_are_reported_in_the_run_that_calls(programs):
    check(
        programs,
        """
loop.set_exception_handler(lambda loop, context: note(type(context["exception"]).__name__))

async def inner():
    loop.call_soon(lambda: 1 / 0)
    return await answer()

async def main():
    return run(inner())

assert run(main()) == 42
assert noted == ["ZeroDivisionError"], noted
""",
    )


def test_a_failed_future_is_raised_by_its_own_run(programs):
    check(
        programs,
        """
async def fails():
    raise LookupError("inner")

async def main():
    try:
        run(fails())
    except LookupError as error:
        note(str(error))
    try:
        run(asyncio.wait_for(loop.create_future(), 0.001))
    except asyncio.TimeoutError:
        note("timeout")
    task = loop.create_task(asyncio.sleep(60))
    loop.call_soon(task.cancel)
    try:
        run(task)
    except asyncio.CancelledError:
        note("cancelled")
    return run(answer())

assert run(main()) == 42
assert noted == ["inner", "timeout", "cancelled"]
""",
    )


@pytest.mark.native_only(reason="nest_asyncio2 looks at a future itself")
def test_a_run_in_another_stack_waits_for_its_own_future(programs):
    """The frames between two runs may be any, and need not be asyncio's own."""
    check(
        programs,
        """
outer, inner = loop.create_future(), loop.create_future()

class Loop(type(loop)):
    def run_until_complete(self, future):
        # Not asyncio's own code.
        return super().run_until_complete(future)

own = Loop()
own._nests = True
loop.close()
loop = own
outer, inner = loop.create_future(), loop.create_future()

def callback():
    loop.call_soon(outer.set_result, "outer")
    loop.call_later(0.01, inner.set_result, "inner")
    note(loop.run_until_complete(inner))

loop.call_soon(callback)
assert loop.run_until_complete(outer) == "outer"
assert noted == ["inner"], noted
assert loop._runs == () and loop._next_run is None
""",
    )


def test_what_is_refused_leaves_the_outer_run_as_it_was(programs):
    check(
        programs,
        """
other = nested_loop()
asyncio.set_event_loop(loop)

async def main():
    for wrong in (42, other.create_future()):
        try:
            run(wrong)
        except (TypeError, ValueError) as error:
            note(type(error).__name__)
    for closes in (loop, ):
        try:
            closes.close()
        except RuntimeError as error:
            note(str(error))
    return run(answer())

assert run(main()) == 42
assert noted == ["TypeError", "ValueError", "Cannot close a running event loop"], noted
other.close()
""",
    )


def test_a_run_once_of_a_program_runs_in_each_run(programs):
    """Also there a call in a context that is entered waits."""
    check(
        programs,
        """
class Loop(type(loop)):
    iterations = 0

    def _run_once(self):
        Loop.iterations += 1
        super()._run_once()

own = Loop()
own._nests = True
loop.close()
loop = own
context = contextvars.copy_context()

def outer():
    loop.call_soon(note, "same context", context=context)
    before = Loop.iterations
    note(loop.run_until_complete(answer()))
    assert Loop.iterations > before

loop.call_soon(outer, context=context)
loop.run_until_complete(answer())
loop.run_until_complete(answer())
assert noted == [42, "same context"], noted
""",
    )
