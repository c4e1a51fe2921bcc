"""Handles whose arguments hold further handles, in chains as long as memory allows."""

import functools
import gc
import itertools
import threading
import warnings
import weakref

import pytest

from support.handles import AtEnd, assert_handles_are_distinct, callback


def next_argument(loop, before):
    return loop.call_later(1000, callback, before)


def next_list(loop, before):
    return loop.call_later(1000, callback, [before])


def next_partial(loop, before):
    return loop.call_later(1000, functools.partial(callback, before))


def next_method(loop, before):
    return loop.call_later(1000, before.cancel if before else callback)


def next_tuple_of_four(loop, before):
    return loop.call_later(1000, callback, 1, 2, 3, before)


def next_cancelled_in_between(loop, before):
    return loop.call_later(1000, callback, before, loop.call_soon(callback))


def next_soon(loop, before):
    handle = loop.call_soon(callback, before)
    assert handle._callback is callback
    return handle


CHAINS = {
    "argument": [next_argument],
    "soon": [next_soon],
    "many arguments": [next_tuple_of_four],
    "method": [next_method],
    "with another": [next_cancelled_in_between],
    "mixed": [next_argument, next_list, next_partial, next_soon, next_tuple_of_four],
}


@pytest.mark.parametrize("kind", CHAINS)
def test_a_long_chain_of_handles_is_freed_without_end_of_stack(loop_factory, kind):
    loop, last = loop_factory(), None
    for make in itertools.islice(itertools.cycle(CHAINS[kind]), 100_000):
        last = make(loop, last)
    first = weakref.ref(last)
    loop.close()
    del last
    assert first() is None
    assert_handles_are_distinct(loop_factory)


def test_a_long_chain_ends_in_a_thread_with_a_small_stack(loop_factory):
    loop, last = loop_factory(), None
    for make in itertools.islice(itertools.cycle(CHAINS["mixed"]), 50_000):
        last = make(loop, last)
    loop.close()
    held = [last]
    del last
    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=held.clear)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join(60)
    assert not held


def test_a_long_chain_in_a_cycle_is_collected(loop_factory):
    loop, node = loop_factory(), []
    last = node
    for make in itertools.islice(itertools.cycle(CHAINS["mixed"]), 50_000):
        last = make(loop, last)
    node.append(last)
    gone = weakref.ref(last)
    loop.close()
    del last, node
    gc.collect()
    assert gone() is None


@pytest.mark.native_only(reason="asyncio's loops are Python objects through and through")
def test_a_long_chain_of_loops_is_freed_without_end_of_stack():
    """The core's own class needs no descriptors, so there may be any number of loops."""
    from tokioloop._core import NativeLoop

    ended = []
    loop = NativeLoop()
    loop.call_soon(AtEnd(functools.partial(ended.append, "first")))
    for _ in range(100_000):
        before, loop = loop, NativeLoop()
        loop.call_soon(callback, before)
        del before
    loop.call_soon(AtEnd(functools.partial(ended.append, "last")))
    del loop
    assert ended == ["last", "first"]


def test_destructors_in_a_chain_run_each_once(loop_factory):
    loop, last, ended = loop_factory(), None, []
    for i in range(1000):
        last = loop.call_later(1000, AtEnd(functools.partial(ended.append, i)), last)
    loop.close()
    del last
    assert sorted(ended) == list(range(1000))


@pytest.mark.native_only(reason="asyncio.sleep's coroutine keeps no chain short of its stack")
def test_a_long_chain_of_sleeps_is_freed(loop_factory):
    import tokioloop

    async def main():
        chain = None
        for _ in range(100_000):
            chain = tokioloop.sleep(0, chain)
            chain.close() if _ == 0 else None
        return chain

    loop = loop_factory()
    chain = loop.run_until_complete(main())
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del chain
