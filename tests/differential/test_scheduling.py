"""Random programs of callbacks, timers and tasks: they run in the same order on both loops.

Timers that are due at the same instant are left out: their order is that of asyncio's heap. So
are timers without a delay, which asyncio notices after each batch of callbacks and we after
several. See `test_plain.py` for how to run more programs.
"""

from __future__ import annotations

import asyncio
import sys
from typing import NamedTuple

from hypothesis import strategies as st

from differential.harness import compare, describe


class Program(NamedTuple):
    steps: tuple


class Machine:
    """Carries out operations, some of them from the callbacks of others."""

    def __init__(self, stage):
        self.stage = stage
        self.loop = stage.loop
        self.made = 0
        self.handles = []
        self.tasks = []

    def number(self):
        self.made += 1
        return self.made

    def delay(self, number, tenths):
        return tenths / 10 + number * 1e-4  # never the same twice

    def callback(self, number, then):
        self.stage.note("callback", number, "at", round(self.loop.time(), 5))
        self.do(then)

    def do(self, operations):
        for name, *args in operations:
            getattr(self, f"do_{name}")(self.number(), *args)

    def do_soon(self, number, then):
        self.handles.append(self.loop.call_soon(self.callback, number, then))

    def do_threadsafe(self, number, then):
        self.handles.append(self.loop.call_soon_threadsafe(self.callback, number, then))

    def do_later(self, number, tenths, then):
        delay = self.delay(number, tenths)
        self.handles.append(self.loop.call_later(delay, self.callback, number, then))

    def do_at(self, number, tenths, then):
        when = self.loop.time() + self.delay(number, tenths)
        self.handles.append(self.loop.call_at(when, self.callback, number, then))

    def do_cancel(self, number, which):
        if self.handles:
            handle = self.handles[which % len(self.handles)]
            handle.cancel()
            self.stage.note("cancelled", handle.cancelled())

    def do_raise(self, number):
        raise ZeroDivisionError(number)

    def do_future(self, number, count, then):
        future = self.loop.create_future()
        for place in range(count):
            future.add_done_callback(
                lambda done, place=place: self.stage.note("future", number, place, done.result())
            )
        future.add_done_callback(lambda _done: self.do(then))
        self.handles.append(self.loop.call_soon(future.set_result, number))

    def do_task(self, number, steps):
        self.tasks.append(self.loop.create_task(self.task(number, steps)))

    def do_cancel_task(self, number, which):
        if self.tasks:
            self.stage.note("cancels", self.tasks[which % len(self.tasks)].cancel())

    async def task(self, number, steps):
        try:
            for name, *args in steps:
                result = await getattr(self, f"await_{name}")(*args)
                self.stage.note("task", number, name, result, "at", round(self.loop.time(), 5))
        except (Exception, asyncio.CancelledError) as error:
            self.stage.note("task", number, describe(error))
            raise
        return number

    async def await_turn(self):
        await asyncio.sleep(0)

    async def await_sleep(self, tenths):
        return await asyncio.sleep(self.delay(self.number(), tenths), "slept")

    async def await_limited(self, tenths, limit):
        sleep = asyncio.sleep(self.delay(self.number(), tenths), "in time")
        return await asyncio.wait_for(sleep, self.delay(self.number(), limit))

    async def await_timeout(self, tenths, limit):
        if sys.version_info >= (3, 11):
            async with asyncio.timeout(self.delay(self.number(), limit)):
                await asyncio.sleep(self.delay(self.number(), tenths))

    async def await_other(self, which):
        others = [task for task in self.tasks if task is not asyncio.current_task()]
        if others:
            done, pending = await asyncio.wait(
                [others[which % len(others)]], timeout=self.delay(self.number(), 5)
            )
            return len(done), len(pending)
        return None

    async def await_gather(self, count):
        return await asyncio.gather(
            *(asyncio.sleep(self.delay(self.number(), one % 3 + 1), one) for one in range(count))
        )


async def play(stage, script):
    machine = Machine(stage)
    for name, *args in script.steps:
        try:
            if name == "advance":
                # What is ready runs first: between two looks at its timers asyncio runs one
                # batch of callbacks, we several.
                await stage.settle()
                await stage.advance(*args)
            else:
                machine.do([(name, *args)])
        except ZeroDivisionError as error:
            stage.note(describe(error))
        stage.close_step(f"{name}: {args}")
    await stage.settle()
    await stage.advance(3)
    stage.close_step("later")
    for task in machine.tasks:
        task.cancel()
    for result in await asyncio.gather(*machine.tasks, return_exceptions=True):
        stage.note(describe(result))


tenths = st.integers(1, 20)
which = st.integers(0, 9)
task_steps = st.one_of(
    st.just(("iteration",)),
    st.just(("iteration",)),
    st.tuples(st.just("sleep"), tenths),
    st.tuples(st.just("limited"), tenths, tenths),
    st.tuples(st.just("timeout"), tenths, tenths),
    st.tuples(st.just("other"), which),
    st.tuples(st.just("gather"), st.integers(0, 3)),
)


def operations(then):
    return st.one_of(
        st.tuples(st.just("soon"), then),
        st.tuples(st.just("soon"), then),
        st.tuples(st.just("threadsafe"), then),
        st.tuples(st.just("later"), tenths, then),
        st.tuples(st.just("at"), tenths, then),
        st.tuples(st.just("cancel"), which),
        st.just(("raise",)),
        st.tuples(st.just("future"), st.integers(0, 3), then),
        st.tuples(st.just("task"), st.lists(task_steps, max_size=4).map(tuple)),
        st.tuples(st.just("cancel_task"), which),
    )


nothing = st.just(())
inner = st.lists(operations(nothing), max_size=2).map(tuple)
outer = st.lists(operations(inner), max_size=3).map(tuple)
programs = st.lists(
    st.one_of(operations(outer), st.tuples(st.just("advance"), st.sampled_from([0.05, 0.5, 1.0]))),
    min_size=1,
    max_size=12,
).map(lambda steps: Program(tuple(steps)))


def test_callbacks_timers_and_tasks_run_in_the_same_order(loop_factory):
    compare(loop_factory, "scheduling", play, programs)
