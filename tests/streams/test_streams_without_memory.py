"""One allocation fails while a native reader is read or fed: an error, and nothing is lost."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.native_only


@pytest.fixture(autouse=True)
def streams():
    """The programs ask for the native streams by name."""
    return "native"


PROGRAM = """
import collections, sys, _testcapi

# CPython 3.12 may forget the exception of a coroutine that it closes, asyncio's own as well.
ERRORS = (MemoryError, SystemError) if sys.version_info[:2] == (3, 12) else MemoryError
loop = new_event_loop()
CONTENTS = b"abcdef\\nxyz", b"a" * 500 + b"cd\\n" + b"b" * 70_000
CALLS = {
    "read": lambda reader: reader.read(3),
    "readline": lambda reader: reader.readline(),
    "readexactly": lambda reader: reader.readexactly(4),
    "waits": lambda reader: reader.readexactly(200_000),
    "readuntil": lambda reader: reader.readuntil(b"cd"),
    "__anext__": lambda reader: reader.__anext__(),
}


async def awaiting(make, reader, taken):
    # Not into a result: the exception that a result leaves by needs memory of its own.
    taken.append(await make(reader))


def step(make, reader, taken):
    call = awaiting(make, reader, taken)
    try:
        call.send(None)
    except StopIteration:
        pass
    finally:
        call.close()
    return True


def without_memory(n, function, *args):
    '''The n-th allocation of Python's fails: the result, or None.'''
    _testcapi.set_nomemory(n, n + 1)
    try:
        return function(*args)
    except ERRORS:
        pass
    finally:
        _testcapi.remove_mem_hooks()


def trial(n, make, content, shown):
    reader = tokioloop.StreamReader(loop=loop)
    reader.feed_data(content)
    kept = reader._buffer if shown else None
    taken = collections.deque()
    read = without_memory(n, step, make, reader, taken)
    assert reader._waiter is None
    fed = without_memory(n, feed, reader)
    if fed is None and sys.version_info >= (3, 15):
        return True  # a bytearray that could not grow has lost what it held, asyncio's as well
    found = b"".join(taken) + reader._buffer
    if read is None and sys.version_info >= (3, 12):
        # CPython has what was awaited raised, for which there was no memory.
        found = content[: max(0, len(content) - len(found) + 4 * (fed is not None))] + found
    assert found == content + b"more" or (fed is None and found == content), (n, taken)
    return read is None or fed is None


def feed(reader):
    reader.feed_data(b"more")
    return True


failed = 0
for name, make in CALLS.items():
    for content in CONTENTS:
        for shown in (False, True):
            trial(1000, make, content, shown)  # what is made once is made by now
            for n in range(30):
                failed += trial(n, make, content, shown)
print(failed > 50)
loop.close()
"""


def test_nothing_is_lost_when_one_allocation_fails(programs):
    pytest.importorskip("_testcapi")
    if hasattr(sys, "gettotalrefcount"):
        pytest.skip("a debug build asserts at an error without memory, even of 1 / 0")
    done = programs.run(PROGRAM, flags=("-W", "ignore"), timeout=60)
    # CPython says of a coroutine that it could not close it, where that is what failed.
    assert done.stdout == "True\n"
    assert "panicked" not in done.stderr
