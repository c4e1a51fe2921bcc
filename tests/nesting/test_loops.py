"""Several loops, generators, and what is left when runs inside of runs end."""

from __future__ import annotations

import pytest

from nesting.nested_loops import check


def test_generators_end_in_an_inner_run(programs):
    check(
        programs,
        """
async def generator(name):
    try:
        while True:
            yield name
    finally:
        await asyncio.sleep(0)
        note(name)

async def abandons(name):
    async for _ in generator(name):
        break
    gc.collect()
    return await answer(iterations=10)

async def keeps(name):
    kept.append(generator(name))
    return await kept[-1].__anext__()

kept = []

async def main():
    run(abandons("abandoned inside"))
    assert noted == ["abandoned inside"], noted
    run(keeps("kept inside"))
    await keeps("kept outside")
    run(loop.shutdown_asyncgens())
    assert sorted(noted[1:]) == ["kept inside", "kept outside"], noted

run(main())
assert sys.get_asyncgen_hooks() == (None, None)
""",
    )


def test_a_run_of_another_loop_inside_of_a_run_and_back(programs):
    check(
        programs,
        """
other = nested_loop()
asyncio.set_event_loop(loop)

async def innermost():
    assert asyncio.get_running_loop() is loop
    assert asyncio.current_task().get_name() == "innermost"
    await asyncio.sleep(0.001)
    return "innermost"

async def middle():
    assert asyncio.get_running_loop() is other
    result = loop.run_until_complete(loop.create_task(innermost(), name="innermost"))
    assert asyncio.get_running_loop() is other
    assert asyncio.current_task().get_name() == "middle"
    try:
        loop.close()
    except RuntimeError as error:
        note(str(error))
    await asyncio.sleep(0.001)
    return result

async def outer():
    result = other.run_until_complete(other.create_task(middle(), name="middle"))
    assert asyncio.get_running_loop() is loop
    assert asyncio.current_task().get_name() == "outer"
    other.close()
    await asyncio.sleep(0.001)
    return result

assert run(loop.create_task(outer(), name="outer")) == "innermost"
assert noted == ["Cannot close a running event loop"], noted
""",
    )


@pytest.mark.native_only(reason="asyncio's own loops refuse it, and break")
def test_a_loop_that_a_program_closes_by_force_in_an_inner_run(programs):
    """Both runs end in errors; nothing crashes, and what is left is freed."""
    check(
        programs,
        """
import weakref

class Argument:
    pass

def scenario():
    context = contextvars.copy_context()
    argument = Argument()
    own = nested_loop()
    own.set_exception_handler(lambda loop, context: note(str(context["exception"])))

    def closes():
        own._closed = True
        own._dispose()

    def outer():
        own.call_soon(note, argument, context=context)
        own.call_soon(closes)
        own.call_soon(note, argument)
        own.run_until_complete(own.create_future())

    own.call_soon(outer, context=context)
    try:
        own.run_forever()
    except RuntimeError as error:
        note(str(error))
    own.close()
    return weakref.ref(argument)

own = scenario()
gc.collect()
assert own() is None
assert noted == ["Event loop is closed"] * 2, noted
asyncio.set_event_loop(loop)
""",
    )


def test_nothing_is_left_of_runs(programs):
    """References, as many as before, whichever way the runs end."""
    check(
        programs,
        """
import weakref

async def fails():
    raise LookupError

class Kept:
    pass

async def level(depth, kept):
    if depth:
        try:
            run(level(depth - 1, kept))
        except LookupError:
            note("raised")
        raise LookupError
    loop.call_soon(kept.__str__, context=context)
    await fails()

context = contextvars.copy_context()

def once():
    kept = Kept()
    try:
        run(level(3, kept))
    except LookupError:
        pass
    run(answer())
    return weakref.ref(kept)

left = [once() for _ in range(5)]
gc.collect()
assert [ref() for ref in left] == [None] * 5
assert len(noted) == 15
assert not asyncio.all_tasks(loop)
""",
    )


def test_handles_of_an_inner_run_are_not_those_of_the_outer_one(programs):
    check(
        programs,
        """
async def inner():
    loop.call_soon(note, "inside")
    await asyncio.sleep(0)
    loop.call_soon(note, "left by it")

def outer():
    loop.call_soon(note, "before")
    run(inner())
    kept = loop.call_soon(note, "cancelled")
    loop.call_soon(note, "after")
    again = loop.call_soon(note, "kept")
    kept.cancel()
    run(answer())
    assert (kept.cancelled(), again.cancelled()) == (True, False)

loop.call_soon(outer)
run(answer(iterations=20))
assert noted == ["before", "inside", "left by it", "after", "kept"], noted
""",
    )
