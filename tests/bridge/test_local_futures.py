"""Rust futures that stay in one thread."""

from __future__ import annotations

import gc
import threading

import pytest


@pytest.mark.parametrize("local", [False, True])
def test_spawned_tasks_are_dropped_with_the_loop(embedded, extension, flag, local):
    async def main():
        extension.spawned_and_left(flag, local)
        await extension.sleeps(0.001)
        return flag.started

    assert embedded.run(main) == 1
    assert flag.dropped
    assert flag.dropped_at_home


def test_a_local_future_works(loops, extension):
    async def main():
        return await extension.local_yields(5)

    assert loops.run(main) == 5


def test_a_local_future_dropped_elsewhere_waits_for_its_own_thread(inline, extension, flag):
    async def main():
        futures = [extension.local_never(flag)]
        futures[0].send(None)
        thread = threading.Thread(target=futures.pop().close)
        thread.start()
        thread.join()
        assert not flag.dropped
        await extension.local_yields(1)
        assert flag.dropped_at_home

    inline.run(main)


def test_a_local_future_is_not_polled_elsewhere(inline, extension):
    future = extension.local_yields(1)

    async def main():
        with pytest.raises(RuntimeError, match="cannot leave the thread"):
            await future
        return True

    results = []
    thread = threading.Thread(target=lambda: results.append(inline.run(main)))
    thread.start()
    thread.join(60)
    assert results == [True]
    extension.local_yields(0).close()


def test_a_future_that_is_not_local_may_be_dropped_anywhere(inline, extension, flag):
    async def main():
        futures = [extension.never(flag)]
        futures[0].send(None)
        thread = threading.Thread(target=futures.clear)
        thread.start()
        thread.join()
        gc.collect()
        assert flag.dropped

    inline.run(main)
