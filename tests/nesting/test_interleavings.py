"""Random programs whose callbacks and coroutines run the loop.

A program asserts for itself what holds on every loop: each call that was scheduled and not
cancelled runs once, in the order of those in the same context, never in a context that is entered,
and a run returns what its own coroutine returns. Which other callbacks run before that differs:
this loop stops with an entry of the queue, nest_asyncio2 looks at the future after each iteration.
On this loop that must not depend on debug mode, nor on a tool that runs the handles.
"""

from __future__ import annotations

import pytest

from nesting.nested_loops import FINISH, PREPARE

COUNT = 300

PROGRAMS = """
import collections, random

loop.slow_callback_duration = 60
loop.set_exception_handler(lambda loop, context: note(f"reported {context['exception']!r}"))


class Program:
    '''Actions from a seed, decided by the queue alone: no timers, no descriptors.'''

    def __init__(self, seed):
        self.choose = random.Random(seed)
        self.left = 60
        self.contexts = [None, *(contextvars.copy_context() for _ in range(3))]
        self.futures = [loop.create_future() for _ in range(6)]
        # Names that are due, by context; handles with their place in there.
        self.due = [collections.deque() for _ in self.contexts]
        self.handles = []
        self.entered = collections.Counter()
        self.names = iter(range(10_000))

    def act(self, depth):
        if self.left <= 0:
            return
        self.left -= 1
        name = next(self.names)
        action = self.choose.choice(self.ACTIONS)
        note(f"{name} {action.__name__} {depth}")
        action(self, name, depth)

    def called(self, name, depth, place=None):
        if place is not None:
            assert self.due[place].popleft() == name, (name, place)
            assert place == 0 or not self.entered[place]
            self.entered[place] += 1
        note(f"{name} begins")
        for _ in range(self.choose.randrange(3)):
            self.act(depth)
        note(f"{name} ends")
        self.entered[place] -= 1

    def schedule(self, name, depth, place):
        self.due[place].append(name)
        return loop.call_soon(self.called, name, depth, place, context=self.contexts[place])

    def soon(self, name, depth):
        self.handles.append((self.schedule(name, depth, 0), name, 0))

    def soon_and_forget(self, name, depth):
        self.schedule(name, depth, 0)

    def in_context(self, name, depth):
        place = self.choose.randrange(1, len(self.contexts))
        self.handles.append((self.schedule(name, depth, place), name, place))

    def in_context_and_forget(self, name, depth):
        self.schedule(name, depth, self.choose.randrange(1, len(self.contexts)))

    def from_a_thread(self, name, depth):
        self.due[0].append(name)
        call = self.called, name, depth, 0
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=call)
        thread.start()
        thread.join()

    def cancel(self, name, depth):
        if self.handles:
            handle, name, place = self.handles.pop(self.choose.randrange(len(self.handles)))
            handle.cancel()
            if name in self.due[place]:
                self.due[place].remove(name)

    def look(self, name, depth):
        for handle, *_ in self.handles[-3:]:
            repr(handle), handle._args, handle.cancelled()

    def resolve(self, name, depth):
        future = self.choose.choice(self.futures)
        if not future.done():
            future.set_result(name)

    def callback_of_future(self, name, depth):
        self.choose.choice(self.futures).add_done_callback(lambda _: self.called(name, depth))

    def task(self, name, depth):
        loop.create_task(self.coroutine(name, depth))

    def raises(self, name, depth):
        loop.call_soon(self.fail, name)

    @staticmethod
    def fail(name):
        raise LookupError(name)

    def run_inside(self, name, depth):
        if depth < 4:
            assert run(self.coroutine(name, depth + 1)) == name
            note(f"{name} returned")

    async def coroutine(self, name, depth):
        own = asyncio.current_task()
        for step in range(self.choose.randrange(4)):
            note(f"{name} step {step}")
            if self.choose.random() < 0.5:
                self.act(depth)
            assert asyncio.current_task() is own
            await asyncio.sleep(0)
        return name

    ACTIONS = (
        soon, soon_and_forget, in_context, in_context, in_context_and_forget, from_a_thread, cancel,
        look, resolve, callback_of_future, task, raises, run_inside, run_inside,
    )


async def drain():
    for _ in range(30):
        await asyncio.sleep(0)


def play(seed):
    program = Program(seed)
    for _ in range(4):
        program.act(0)
    assert run(program.coroutine("main", 0)) == "main"
    run(drain())
    assert not asyncio.all_tasks(loop)
    assert not any(program.due), (seed, program.due)
    assert not +program.entered
    story = noted[:]
    del noted[:]
    return story


stories = [play(seed) for seed in range(COUNT)]
"""

MODES = """
loop.set_debug(True)
assert stories == [play(seed) for seed in range(COUNT)]
loop.set_debug(False)
original = asyncio.Handle._run
asyncio.Handle._run = lambda self: original(self)
assert stories == [play(seed) for seed in range(COUNT)]
"""


@pytest.mark.timeout(120)
def test_no_call_is_lost_or_overtaken(programs, loop_name):
    source = f"{PREPARE}\nCOUNT = {COUNT}\n{PROGRAMS}"
    if loop_name != "asyncio":
        source += MODES
    done = programs.run(source + FINISH, timeout=100)
    assert (done.stdout, done.stderr) == ("fine\n", "")
