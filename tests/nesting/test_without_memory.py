"""Memory runs out in a run inside of a run, and where a tool runs the handles: no call is lost.

asyncio loses what it has taken out of its queue, so these tests describe this loop.
"""

from __future__ import annotations

import sys

import pytest

from nesting.nested_loops import check

pytestmark = pytest.mark.native_only(reason="asyncio and nest_asyncio2 lose calls")


@pytest.mark.parametrize("megabytes", [1, 20, 50])
@pytest.mark.parametrize("kept", ["handles", "no handles"])
def test_more_calls_have_to_wait_than_there_is_memory_for(programs, megabytes, kept):
    """The inner run raises a `MemoryError`, and the queue is the outer run's as it was."""
    check(
        programs,
        f"KEPT, MEGABYTES = {kept == 'handles'}, {megabytes}"
        + """
import resource

COUNT = 600_000 if KEPT else 1_200_000
context = contextvars.copy_context()
ran = 0
out_of_order = []

def waits(n):
    global ran
    if n != ran:
        out_of_order.append(n)
    ran += 1

def outer():
    handles = []
    for n in range(COUNT):
        handle = loop.call_soon(waits, n, context=context)
        if KEPT:
            handles.append(handle)
    task = loop.create_task(answer())
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (MEGABYTES << 20), resource.RLIM_INFINITY))
    try:
        run(task)
    except MemoryError:
        note("out of memory")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    # Not one of them ran: they wait for this callback. Now there is room for them.
    assert run(task) == 42
    assert ran == 0

loop.call_soon(outer, context=context)
run(asyncio.sleep(0.01))
while ran < COUNT:
    run(asyncio.sleep(0))
assert noted == ["out of memory"], noted
assert out_of_order == [], out_of_order[:3]
""",
        timeout=120,
    )


ONE_FAILURE = """
import _testcapi, collections
from asyncio import events

sys.unraisablehook = lambda unraisable: None
loop.set_exception_handler(lambda loop, context: None)
loop.set_debug(DEBUG)
context = contextvars.copy_context()


class Protocol(asyncio.Protocol):
    '''A connection whose data there is no memory for is lost, as on asyncio.'''

    told = False

    def data_received(self, data):
        self.told = True

    def connection_lost(self, error):
        self.told = True


async def connect():
    near, far = socket.socketpair()
    near.setblocking(False)
    _, protocol = await loop.create_connection(Protocol, sock=near)
    return protocol, far


def without_memory(n, action):
    '''The n-th allocation of Python's fails.'''
    _testcapi.set_nomemory(n, n + 1)
    try:
        action()
    except MemoryError:
        pass
    finally:
        _testcapi.remove_mem_hooks()


def batch():
    loop.call_soon(loop.stop)
    loop.run_forever()


def schedule(ran):
    '''One call of each kind. A deque takes so few items without an allocation.'''
    loop.call_soon(ran.append, 0)
    kept = loop.call_soon(ran.append, 1)
    loop.call_soon(ran.append, 2, context=context)
    loop.call_soon_threadsafe(ran.append, 3)
    loop.call_later(0, ran.append, 4)
    loop.call_soon(loop.stop)
    return kept


def trial(n, begin, calls):
    ran = collections.deque()
    protocol, far = run(connect())
    with far:
        far.send(b"data")
        begin(n, ran)
        while not (protocol.told and len(ran) >= calls):
            assert deadline > time.monotonic(), (n, ran, protocol.told)
            batch()
        assert sorted(ran) == list(range(calls)), (n, ran)
    # asyncio's own function, which `run_forever` ends with, needs memory too.
    asyncio._set_running_loop(None)
    run(asyncio.sleep(0))


deadline = time.monotonic() + 20
"""

NESTED = """
def outer(n, ran):
    handles = [loop.call_soon(ran.append, k, context=context) for k in (5, 6)]
    loop.call_soon(ran.append, 7, context=context)
    loop.call_soon(loop.stop)
    without_memory(n, loop.run_forever)
    loop.call_soon(loop.stop)

def begin(n, ran):
    kept = schedule(ran)
    loop.call_soon(outer, n, ran, context=context)
    loop.run_forever()

CALLS = 8
"""

PLAIN = """
def begin(n, ran):
    kept = schedule(ran)
    without_memory(n, loop.run_forever)

CALLS = 5
"""

TOOL = """
original = events.Handle._run

def _run(self):
    # asyncio's own function makes a tuple of the arguments before it calls: what that loses is not
    # the loop's.
    call = getattr(type(self), "_run", original)
    return call(self)

events.Handle._run = _run
loop.set_exception_handler(lambda loop, context: None)
batch()
"""


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
@pytest.mark.parametrize("runs", ["one run", "a run inside of a run", "a tool's", "both"])
def test_no_call_is_lost_when_one_allocation_fails(programs, runs, debug):
    pytest.importorskip("_testcapi")
    if hasattr(sys, "gettotalrefcount"):
        pytest.skip("a debug build asserts at an error without memory, even of 1 / 0")
    source = f"DEBUG = {debug}\n{ONE_FAILURE}"
    if runs in ("a tool's", "both"):
        source += TOOL
    source += NESTED if runs in ("a run inside of a run", "both") else PLAIN
    source += """
for n in range(150):
    trial(n, begin, CALLS)
run(asyncio.sleep(0.001))
"""
    check(programs, source)
