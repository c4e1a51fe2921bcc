"""Scheduling when memory runs out: a ``MemoryError``, and never the end of the process."""

import sys

import pytest

LIMITED = """
import resource

loop = new_event_loop()
future = loop.create_future()


def callback(*args):
    pass


async def nothing():
    pass


def limit(megabytes):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20), resource.RLIM_INFINITY))


loop.run_until_complete(nothing())
limit({megabytes})
out = False
try:
    {scenario}
except MemoryError:
    out = True
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
if out:
    print("out of memory")
ran = []
loop.call_soon(ran.append, 1)
loop.call_soon(loop.stop)
loop.run_forever()
print(ran)
loop.close()
"""

SCENARIOS = {
    "call_soon": "while True: loop.call_soon(callback)",
    "call_soon_threadsafe": "while True: loop.call_soon_threadsafe(callback)",
    "many arguments": "while True: loop.call_soon(callback, 1, 2, 3, 4)",
    "call_later": "while True: loop.call_later(60, callback)",
    "kept": "kept = []\n    while True: kept.append(loop.call_later(60, callback, kept))",
    "run with them": """def more():
        for _ in range(1000):
            loop.call_soon(more)
            loop.call_soon(callback)
    loop.set_exception_handler(lambda loop, context: loop.stop())
    more()
    loop.run_forever()
    raise MemoryError""",
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_more_calls_than_there_is_memory_for(programs, scenario):
    source = LIMITED.format(scenario=SCENARIOS[scenario], megabytes=60)
    if scenario == "run with them":
        # Those calls would go on scheduling others.
        source = source.partition("ran = []")[0] + "print([1])\nloop.close()"
    done = programs.run(source, timeout=60)
    assert (done.stdout, done.stderr) == ("out of memory\n[1]\n", "")


MANY_ARGUMENTS = {
    "call_soon": "loop.call_soon(callback, *many)",
    "create_task": "loop.create_task(*many)",
    "gather": "tokioloop.gather(*many)",
    "add_reader": "loop.add_reader(0, callback, *many)",
}


@pytest.mark.native_only(reason="asyncio runs out of memory in other places")
@pytest.mark.parametrize("scenario", MANY_ARGUMENTS)
@pytest.mark.parametrize("megabytes", [1, 8, 17, 30, 50])
def test_more_arguments_than_there_is_memory_for(programs, scenario, megabytes):
    source = f"""
many = (1,) * 2_000_000
import sys
try:
    exec({LIMITED.format(scenario=MANY_ARGUMENTS[scenario], megabytes=megabytes)!r})
except (TypeError, PermissionError):
    print("refused")
"""
    done = programs.run(source, timeout=60)
    assert done.stderr == ""
    assert done.stdout.partition("\n")[0] in ("out of memory", "refused", "[1]")


FULL_QUEUE = """
import asyncio, resource, socket

loop = new_event_loop()
asyncio.set_event_loop(loop)
near, far = socket.socketpair()
near.setblocking(False)
noted = []


class Protocol(asyncio.Protocol):
    def data_received(self, data):
        noted.append(data)
        loop.stop()


def readable():
    noted.append(near.recv(10))
    loop.stop()


async def prepared():
    {prepare}


def callback():
    pass


kept = loop.run_until_complete(prepared())
far.send(b"x")
for _ in range(1 << 20):  # as many as fill the queue's room
    loop.call_soon(callback)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (20 << 20), resource.RLIM_INFINITY))
{then}
loop.run_forever()
print(noted)
loop.close()
"""

EVENTS = {
    "a reader": ("loop.add_reader(near, readable)", "pass"),
    "a transport": ("return await loop.create_connection(Protocol, sock=near)", "pass"),
    "a timer": ("pass", "loop.call_later(0, noted.append, b'x'), loop.call_later(0, loop.stop)"),
    "the end of a connection": (
        "return await loop.create_connection(Protocol, sock=near)",
        "Protocol.connection_lost = lambda self, exc: (noted.append(b'x'), loop.stop())\n"
        "kept[0].abort()",
    ),
    "a waiting call": (
        "loop.create_task(received()); await asyncio.sleep(0)",
        "pass",
    ),
}


@pytest.mark.parametrize("event", EVENTS)
def test_events_while_the_queue_is_full_and_memory_short(programs, event):
    prepare, then = EVENTS[event]
    source = FULL_QUEUE.format(prepare=prepare, then=then)
    source = source.replace(
        "async def prepared",
        """async def received():
    noted.append(await loop.sock_recv(near, 10))
    loop.stop()


async def prepared""",
    )
    done = programs.run(source, timeout=60)
    assert (done.stdout, done.stderr) == ("[b'x']\n", "")


TWO_PIECES = """
import asyncio, gc, resource, socket, weakref

loop = new_event_loop()
asyncio.set_event_loop(loop)
near, far = socket.socketpair()
noted = []


class Protocol(asyncio.Protocol):
    def connection_lost(self, exc):
        noted.append("lost")


class Argument:
    def __del__(self):
        noted.append("freed")
        if not loop.is_closed():
            loop.call_soon(callback)


async def connect():
    return await loop.create_connection(Protocol, sock=near)


def callback(*args):
    pass


transport, _ = loop.run_until_complete(connect())
handles = [loop.call_soon(noted.append, n) for n in range(3)]
loop.call_soon(callback, Argument())
for _ in range((1 << 20) - 5):
    loop.call_soon(callback)
handles.append(loop.call_soon(noted.append, "last"))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (20 << 20), resource.RLIM_INFINITY))
transport.abort()
handles += [loop.call_soon(noted.append, n) for n in (10, 11, 12)]
loop.call_soon(callback, Argument())
loop.call_soon(noted.append, 13)
"""


def test_calls_on_both_sides_of_the_end_of_memory_keep_their_order(programs):
    """What came before there was no memory for more in one piece is first, and can be cancelled."""
    source = f"""{TWO_PIECES}
handles[1].cancel()
handles[5].cancel()
gc.collect()
assert "append" in repr(handles[0]) and "append" in repr(handles[4])
del handles
loop.call_soon(loop.stop)
loop.run_forever()
loop.call_soon(noted.append, "after")
loop.call_soon(loop.stop)
loop.run_forever()
print(noted)
loop.close()
"""
    done = programs.run(source, timeout=60)
    noted = [0, 2, "freed", "last", "lost", 10, 12, "freed", 13, "after"]
    assert (done.stdout, done.stderr) == (f"{noted}\n", "")


ENDS_OF_BOTH = {
    "listed": "ready = list(loop._ready)\nprint(ready[0] is handles[0], ready[-1]._args == (13,))\n"
    "del ready, handles\nloop.close()",
    "closed": "loop.close()\nhandles[0].cancel(), handles[-1].cancel()\ndel handles",
    "collected": "kept = weakref.ref(loop)\nasyncio.set_event_loop(None)\n"
    "del handles, transport, loop\ngc.collect()\nprint(kept())",
}


@pytest.mark.parametrize("end", ENDS_OF_BOTH)
def test_a_loop_ends_with_calls_on_both_sides_of_the_end_of_memory(programs, end):
    source = f"""{TWO_PIECES}
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
    if end == "collected":  # whose destructors know of no loop any more
        source = source.replace("if not loop.is_closed()", "if 'loop' in globals()")
    done = programs.run(f"{source}{ENDS_OF_BOTH[end]}\nprint(noted.count('freed'))\n", timeout=60)
    first = {"listed": "True True\n", "closed": "", "collected": "None\n"}[end]
    assert (done.stdout, "Error" in done.stderr) == (f"{first}2\n", False)


@pytest.mark.native_only(reason="asyncio's gather has lists of its own")
@pytest.mark.parametrize("megabytes", [60, 90, 100, 110, 140])
def test_more_children_than_there_is_memory_for(programs, megabytes):
    """A list that CPython has no memory for is an error, and not a panic that needs more of it."""
    source = f"""
import resource


async def main():
    future = loop.create_future()
    future.set_result(1)
    many = [future] * 2_000_000
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ({megabytes} << 20), resource.RLIM_INFINITY))
    try:
        end = len(await tokioloop.gather(*many))
    except MemoryError:
        end = "out of memory"
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return end


loop = new_event_loop()
print(loop.run_until_complete(main()))
loop.close()
"""
    done = programs.run(source, timeout=60)
    assert done.stderr == ""
    assert done.stdout in ("out of memory\n", "2000000\n")


def failing_allocations(last):
    """A program's function that runs `action` without memory from its n-th allocation to `last`."""
    return f"""
import sys
import warnings

import _testcapi

warnings.simplefilter("ignore")
sys.unraisablehook = lambda unraisable: None


def ends(action):
    found = set()
    for n in range(100):
        _testcapi.set_nomemory(n, {last})
        try:
            action()
        except BaseException as error:
            _testcapi.remove_mem_hooks()
            found.add(type(error).__name__)
        else:
            _testcapi.remove_mem_hooks()
            found.add("fine")
    return found
"""


ERRORS = {
    "a closed loop": ("closed.call_soon(callback)", "RuntimeError"),
    "an unknown keyword": ("loop.call_soon(callback, wrong=1)", "TypeError"),
    "not a number": ("loop.call_later(float_nan, callback)", "ValueError"),
    "no delay": ("loop.call_later(None, callback)", "TypeError"),
    "no callback": ("loop.call_later(1)", "TypeError"),
    "equal timers": ("timer == timer", "fine"),
    "a coroutine that sleeps": ("tokioloop.sleep(1, 2, 3)", "TypeError"),
}


@pytest.mark.native_only(reason="CPython itself does not always survive this in Python code")
@pytest.mark.parametrize("case", ERRORS)
def test_an_error_that_there_is_no_memory_for(programs, case):
    """PyO3 panics where it cannot make the text of an error: the process must live on."""
    pytest.importorskip("_testcapi")
    if hasattr(sys, "gettotalrefcount"):
        pytest.skip("a debug build asserts at an error without memory, even of 1 / 0")
    action, error = ERRORS[case]
    source = f"""
{failing_allocations(0)}
callback, float_nan = print, float("nan")
loop, closed = new_event_loop(), new_event_loop()
closed.close()
timer = loop.call_at(1e9, callback)
print(sorted(ends(lambda: {action})))
loop.close()
"""
    done = programs.run(source, timeout=60)
    assert done.stdout == f"{sorted(['MemoryError', error])}\n", done.stderr


@pytest.mark.native_only(reason="asyncio's own loop is left half made as well")
def test_a_loop_that_there_is_no_memory_for(programs):
    """CPython may free the object before any of it was made, and calls its finalizer."""
    pytest.importorskip("_testcapi")
    source = f"""
{failing_allocations("n + 1")}
class Loop(tokioloop.Loop):
    def __del__(self):
        if not hasattr(self, "_asyncgens"):
            closed.append(self.is_closed())
            self._dispose()
            self._closed = False
            repr(self)
        super().__del__()


# What is made once a process is made by now.
Loop().close()
closed = []
loops = []
# Not more than that: CPython itself does not survive where an iterator over a dict's items finds no
# memory for its tuple.
found = ends(lambda: loops.append(Loop.__new__(Loop)))
for loop in loops:
    loop.__init__()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
# os.environ has an error of its own.
print(sorted(found - {{"MemoryError", "SystemError", "fine"}}), len(loops) > 1)
"""
    done = programs.run(source, timeout=60)
    assert done.stdout == "[] True\n", done.stderr
