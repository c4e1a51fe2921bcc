"""Rows about handles, timers and loops."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from compatibility.rows import row

pytestmark = pytest.mark.native_only(reason="looks at both loops already")


@row("Type of handles")
def test_types_of_handles(both):
    def look(loop):
        soon, later = loop.call_soon(print), loop.call_later(1000, print)
        assert isinstance(soon, asyncio.Handle)
        assert isinstance(later, asyncio.TimerHandle)
        soon.cancel()
        later.cancel()
        return type(soon) is asyncio.Handle, type(later) is asyncio.TimerHandle

    assert both(look) == [(True, True), (False, False)]


@row("NaN for `call_later`, `call_at`")
def test_nan(both):
    def look(loop):
        outcomes = []
        for method in (loop.call_later, loop.call_at):
            try:
                method(math.nan, print).cancel()
                outcomes.append(None)
            except ValueError as error:
                outcomes.append(type(error))
        return outcomes

    assert both(look) == [[None, None], [ValueError, ValueError]]


@row("`time.monotonic` patched in the `time` module")
def test_a_patched_clock(both, monkeypatch):
    monotonic = time.monotonic

    def look(loop):
        fired = []
        loop.call_later(500, fired.append, True)
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: monotonic() + 1000)
            loop.call_later(0, loop.stop)
            loop.run_forever()
        by_module = bool(fired)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", lambda: monotonic() + 1000)
            loop.call_soon(loop.stop)
            loop.run_forever()
        return by_module, bool(fired)

    assert both(look) == [(True, True), (False, True)]


@row("Two loops in one thread, one driven inside the other by hand")
def test_a_loop_inside_a_loop(both):
    def look(loop):
        inner = type(loop)()

        done = loop.create_future()

        def outside():
            # By hand: asyncio's own check is stepped around. (Not in a task: from 3.14 on no
            # thread runs two at once.)
            asyncio._set_running_loop(None)
            try:
                done.set_result(inner.run_until_complete(asyncio.sleep(0.001, "inside")))
            finally:
                asyncio._set_running_loop(loop)

        loop.call_soon(outside)
        try:
            return loop.run_until_complete(done)
        finally:
            inner.close()

    # Inside a runtime that is not ours: tests/embedding.rs.
    assert both(look) == ["inside", "inside"]


@row("`_ready`, `_scheduled`, `_selector`")
def test_private_containers(both):
    def look(loop):
        soon, later = loop.call_soon(print), loop.call_later(1000, print)
        assert soon in loop._ready
        assert later in loop._scheduled
        assert len(loop._ready) == len(loop._scheduled) == 1
        loop.call_soon(print, "a handle that nobody keeps")
        assert [handle._callback for handle in loop._ready] == [print, print]
        loop._ready[1].cancel()
        soon.cancel()
        later.cancel()
        return (
            loop._ready is loop._ready,
            loop._scheduled is loop._scheduled,
            len(loop._selector.get_map()) > 0,
        )

    assert both(look) == [(True, True, True), (False, False, False)]


@row("`repr` of a loop")
def test_the_repr_names_the_package(both):
    def look(loop):
        return repr(loop).partition(" ")[0]

    assert both(look) == ["<_UnixSelectorEventLoop", "<tokioloop.Loop"]


@row("`nest_asyncio.apply()`")
def test_nest_asyncio_replaces_nothing(programs):
    source = """
        import asyncio, sys
        import nest_asyncio2

        if sys.argv[1] == "tokioloop":
            import tokioloop
            loop = tokioloop.new_event_loop()
        else:
            loop = asyncio.SelectorEventLoop()
        before = type(loop).run_forever
        nest_asyncio2.apply(loop)

        async def main():
            return loop.run_until_complete(asyncio.sleep(0, "nested"))

        print(type(loop).run_forever is before, loop.run_until_complete(main()))
        loop.close()
    """
    printed = [programs.run(source, name).stdout for name in ("asyncio", "tokioloop")]
    assert printed == ["False nested\n", "True nested\n"]
