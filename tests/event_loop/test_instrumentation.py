"""Tools that replace ``asyncio.Handle._run`` see every callback.

aiodebug puts another function there, ddtrace other code into asyncio's function.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio import events
from unittest import mock

import pytest

from support.recording import Reports
from support.rewriting import rewritten


@pytest.fixture(params=[False, True], ids=["plain", "debug"])
def debug(request, loop):
    loop.set_debug(request.param)


@pytest.fixture(params=["replaced", "rewritten"])
def tool(request):
    """Put a function of two arguments, asyncio's method and a handle, in the method's place."""
    with contextlib.ExitStack() as stack:
        method = events.Handle._run

        def put(function):
            if request.param == "rewritten":
                stack.enter_context(rewritten(method, function))
            else:

                def _run(self):
                    return function(method, self)

                stack.enter_context(mock.patch.object(events.Handle, "_run", _run))

        put.back = stack.close
        yield put


@pytest.fixture
def seen(debug, loop, tool):
    """The handles that ran, each as its text before it ran."""
    texts = []

    def run(original, handle):
        texts.append(repr(handle))
        return original(handle)

    # The loop has looked at the method before.
    loop.run_until_complete(asyncio.sleep(0))
    tool(run)
    return texts


def named(seen, name):
    return sum(name in text for text in seen)


def test_every_way_to_schedule_is_seen(loop, seen):
    ran = []

    def one(*args):
        ran.append(args)

    async def main():
        loop.call_soon(one)
        loop.call_later(0, one, 1)
        loop.call_at(loop.time(), one, 1, 2)
        loop.call_soon_threadsafe(one, 1, 2, 3)
        kept = loop.call_soon(one, 1, 2, 3, 4)
        loop.call_soon(one, "never").cancel()
        await asyncio.sleep(0.01)
        assert not kept.cancelled()

    loop.run_until_complete(main())
    assert sorted(ran, key=len) == [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]
    assert named(seen, "test_every_way_to_schedule_is_seen.<locals>.one") == 5


def test_events_of_descriptors_and_transports_are_seen(loop, seen):
    async def main():
        near, far = socket.socketpair()
        with far:
            near.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=near)
            before = len(seen)
            far.send(b"line\n")
            assert await reader.readline() == b"line\n"
            assert len(seen) > before
            writer.close()
            await writer.wait_closed()

    loop.run_until_complete(main())


def test_errors_are_reported_as_without_a_tool(loop, seen):
    reports = Reports(loop)
    loop.call_soon(lambda: 1 / 0)
    loop.run_until_complete(asyncio.sleep(0))
    report = reports.only()
    assert isinstance(report["exception"], ZeroDivisionError)
    assert report["message"].startswith("Exception in callback ")
    loop.call_soon(exit_with, 3)
    with pytest.raises(SystemExit):
        loop.run_forever()


def exit_with(status):
    raise SystemExit(status)


def test_a_tool_may_exchange_the_callback_meanwhile(loop, debug, tool):
    """As ddtrace does, to act in the context of the callback."""
    events = []

    def run(original, handle):
        callback = handle._callback

        def within(*args):
            events.append((callback, args))
            return callback(*args)

        handle._callback = within
        try:
            return original(handle)
        finally:
            handle._callback = callback

    def one(*args):
        events.append(args)

    async def main():
        loop.call_soon(one, 1)
        await asyncio.sleep(0)

    tool(run)
    loop.run_until_complete(main())
    at = events.index((1,))
    assert events[at - 1] == (one, (1,))


def test_the_original_comes_back(loop, seen, tool):
    tool.back()
    del seen[:]
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == []
