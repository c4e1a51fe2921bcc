"""Runs of a loop inside of a callback of the same loop, for programs that ask for them."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import socket
import threading

import pytest

from support.recording import in_thread

pytestmark = pytest.mark.native_only


@pytest.fixture(params=[False, True], ids=["plain", "debug"])
def nested(request, loop_name):
    """A loop that may run inside of itself."""
    import tokioloop

    loop = tokioloop.new_event_loop(nested=True)
    loop.set_debug(request.param)
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    assert asyncio._get_running_loop() is None
    loop.close()


async def answer():
    await asyncio.sleep(0.001)
    return 42


def test_without_being_asked_a_loop_refuses_with_asyncios_words(loop):
    async def main():
        inner = answer()
        try:
            loop.run_until_complete(inner)
        finally:
            inner.close()

    with pytest.raises(RuntimeError, match=r"^This event loop is already running$"):
        loop.run_until_complete(main())


def test_a_coroutine_runs_another_one_to_its_end(nested):
    async def deeper(depth):
        if depth == 0:
            return [await answer()]
        return [*nested.run_until_complete(deeper(depth - 1)), await answer()]

    assert nested.run_until_complete(deeper(4)) == [42] * 5


def test_callbacks_of_the_loop_run_meanwhile(nested):
    async def main():
        order = []
        nested.call_soon(order.append, "soon")
        nested.call_later(0.001, order.append, "later")
        nested.run_until_complete(asyncio.sleep(0.01))
        return order

    assert nested.run_until_complete(main()) == ["soon", "later"]


def test_the_running_task_is_the_outer_one_again(nested):
    async def which():
        return asyncio.current_task(), asyncio.get_running_loop()

    async def main():
        inner, loop = nested.run_until_complete(which())
        assert loop is asyncio.get_running_loop() is nested
        assert inner is not asyncio.current_task()
        assert inner.done()
        with pytest.raises(ZeroDivisionError):
            nested.run_until_complete(fails())
        return asyncio.current_task()

    async def fails():
        raise ZeroDivisionError

    task = nested.create_task(main())
    assert nested.run_until_complete(task) is task


def test_an_outer_run_that_is_done_first_waits_for_the_inner_one(nested):
    """As the inner run is on top of the outer one on the stack."""
    order = []

    async def inner():
        await asyncio.sleep(0.01)
        order.append("inner")

    def from_a_callback():
        nested.run_until_complete(inner())
        order.append("back")

    async def outer():
        nested.call_soon(from_a_callback)
        await asyncio.sleep(0.001)
        order.append("outer")

    nested.run_until_complete(outer())
    assert order == ["outer", "inner", "back"]


def test_stop_ends_all_runs(nested):
    async def main():
        nested.call_soon(nested.stop)
        with pytest.raises(RuntimeError, match="stopped before Future completed"):
            nested.run_until_complete(asyncio.sleep(60))
        await asyncio.sleep(60)

    task = nested.create_task(main())
    with pytest.raises(RuntimeError, match="stopped before Future completed"):
        nested.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        nested.run_until_complete(task)


def test_stop_ends_one_run_forever(nested):
    async def main():
        nested.call_soon(nested.stop)
        nested.run_forever()
        return await answer()

    assert nested.run_until_complete(main()) == 42


def test_errors_come_out_of_the_inner_run(nested):
    async def main():
        nested.call_soon(lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            nested.run_until_complete(asyncio.sleep(60))
        return await answer()

    assert nested.run_until_complete(main()) == 42


def test_another_thread_may_not_run_it(nested):
    def run():
        with pytest.raises(RuntimeError, match="already running"):
            nested.run_forever()
        return "refused"

    async def main():
        return await asyncio.to_thread(run)

    assert nested.run_until_complete(main()) == "refused"


def test_it_runs_inside_of_another_loop(nested, loop):
    async def main():
        value = nested.run_until_complete(answer())
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is not None
        return value

    assert loop.run_until_complete(main()) == 42


def test_a_call_in_a_context_that_is_entered_waits_for_the_outer_callback(nested):
    context = contextvars.copy_context()
    order = []

    def outer():
        kept = nested.call_soon(order.append, "kept", context=context)
        nested.call_soon(order.append, "same context", context=context)
        cancelled = nested.call_soon(order.append, "never", context=context)
        nested.call_soon(order.append, "own context")
        nested.run_until_complete(asyncio.sleep(0.001))
        cancelled.cancel()
        order.append("outer")
        assert not kept.cancelled()

    nested.call_soon(outer, context=context)
    nested.run_until_complete(asyncio.sleep(0.01))
    while len(order) < 4:
        # The sleep may have been over before the outer callback was.
        nested.run_until_complete(asyncio.sleep(0))
    assert order == ["own context", "outer", "kept", "same context"]


class Nests(asyncio.Protocol):
    """Runs the loop while it is given data, and so while more comes."""

    def __init__(self, loop, far):
        self.loop, self.far = loop, far
        self.received = []
        self.lost = loop.create_future()

    def data_received(self, data):
        self.received.append(("begins", data))
        if len(self.received) == 1:
            self.far.send(b"two")
            self.loop.run_until_complete(asyncio.sleep(0.01))
        self.received.append(("ends", data))

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def test_data_that_comes_meanwhile_waits_for_the_protocol(nested):
    async def main():
        near, far = socket.socketpair()
        near.setblocking(False)
        with far:
            _transport, protocol = await nested.create_connection(
                lambda: Nests(nested, far), sock=near
            )
            far.send(b"one")
            while len(protocol.received) < 4:
                await asyncio.sleep(0)
        await protocol.lost
        return protocol.received

    assert nested.run_until_complete(main()) == [
        ("begins", b"one"),
        ("ends", b"one"),
        ("begins", b"two"),
        ("ends", b"two"),
    ]


def test_other_connections_are_served_meanwhile(nested):
    async def main():
        async def echo(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        async def ask():
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"line\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            return nested.run_until_complete(ask()), await ask()

    assert nested.run_until_complete(main()) == (b"line\n", b"line\n")


def test_threads_wake_an_inner_run(nested):
    async def main():
        future = nested.create_future()
        thread = threading.Timer(
            0.01, nested.call_soon_threadsafe, (future.set_result, "from a thread")
        )
        thread.start()
        value = nested.run_until_complete(future)
        await in_thread(thread.join)
        return value

    assert nested.run_until_complete(main()) == "from a thread"
