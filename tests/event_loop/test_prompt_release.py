"""What a method of the core lets go of is released before it returns, wherever it is called."""

import asyncio
import os
import socket
import threading
import weakref

import pytest

from support.iterations import run_until


class Watched(socket.socket):
    """A socket that a weak reference can watch."""


def is_released_at_once(loop):
    near, far = socket.socketpair()
    with far:
        watched = Watched(fileno=near.detach())
        watched.setblocking(False)
        seen = weakref.ref(watched)
        operation = loop.sock_recv(watched, 10)
        operation.close()
        watched.close()
        del watched
        # The end of the operation itself would attach the thread, and so hide what is late.
        released = seen() is None
        del operation
        return released


def in_a_callback(loop, answers):
    loop.call_soon(lambda: answers.append(is_released_at_once(loop)))
    run_until(loop, lambda: answers)


def test_before_and_after_a_run_and_in_its_callbacks(loop):
    answers = []
    assert is_released_at_once(loop)
    in_a_callback(loop, answers)
    assert answers == [True]
    assert is_released_at_once(loop)


def test_between_iterations_that_are_made_by_hand(loop):
    answers = []
    for _ in range(3):
        loop.call_soon(lambda: answers.append(is_released_at_once(loop)))
        loop._run_once()
        answers.append(is_released_at_once(loop))
    assert answers == [True] * 6


def test_in_other_threads_with_and_without_loops_of_their_own(loop, loop_factory):
    """Each of two loops that run at once takes the other's place, again and again."""
    answers = []

    async def own(mine):
        for _ in range(50):
            answers.append(is_released_at_once(mine))
            await asyncio.sleep(0)

    def thread():
        answers.append(is_released_at_once(loop))
        mine = loop_factory()
        mine.run_until_complete(own(mine))
        answers.append(is_released_at_once(mine))
        mine.close()
        loop.call_soon_threadsafe(loop.stop)

    threads = [threading.Thread(target=thread)]
    loop.call_soon(threads[0].start)
    both = loop.create_task(own(loop))
    loop.run_forever()
    loop.run_until_complete(both)
    threads[0].join()
    assert answers == [True] * 102
    assert is_released_at_once(loop)


def test_in_and_after_the_run_of_another_loop_inside_of_a_callback(loop, loop_factory):
    answers = []
    inner = loop_factory()

    def run_another():
        asyncio._set_running_loop(None)
        try:
            in_a_callback(inner, answers)
        finally:
            asyncio._set_running_loop(loop)
        answers.append(is_released_at_once(inner))

    loop.call_soon(run_another)
    run_until(loop, lambda: len(answers) == 2)
    inner.close()
    later = []
    in_a_callback(loop, later)
    assert answers + later == [True] * 3


def test_in_the_child_of_a_fork(loop):
    answers = []

    def fork():
        child = os.fork()
        if child == 0:
            os._exit(0 if is_released_at_once(loop) else 1)
        answers.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    loop.call_soon(fork)
    run_until(loop, lambda: answers)
    assert answers == [0]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_after_a_run_that_an_exception_ended(loop, error):
    def fail():
        raise error

    loop.call_soon(fail)
    with pytest.raises(error):
        loop.run_forever()
    assert is_released_at_once(loop)
