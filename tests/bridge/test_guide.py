"""The statements of docs/rust.md that no other test checks."""

from __future__ import annotations

import asyncio
import contextvars

import pytest


def test_a_supervised_task_ends_with_the_task_that_awaits_it(loops, extension, eventually):
    async def main():
        ended = []

        async def inner():
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                ended.append(True)
                raise

        task = asyncio.ensure_future(extension.supervise(inner()))
        await asyncio.sleep(0.01)
        assert not ended
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: ended)

        async def answer():
            return 42

        return await extension.supervise(answer())

    assert loops.run(main) == 42


def test_locals_are_taken_along(loops, extension):
    variable = contextvars.ContextVar("variable", default="unset")

    async def inner():
        await asyncio.sleep(0)
        return variable.get()

    async def main():
        variable.set("taken along")
        return await extension.apart(inner)

    assert loops.run(main) == "taken along"


def test_a_bounded_channel_holds_the_producer_back(loops, extension):
    async def main():
        made, ahead, read = [], 0, []
        async for square in extension.squares(200, made.append):
            read.append(square)
            await asyncio.sleep(0.0005)  # time enough to run ahead
            ahead = max(ahead, len(made) - len(read))
        return read, ahead

    read, ahead = loops.run(main)
    assert read == [number * number for number in range(200)]
    # The channel's 16, and the one that waits to be sent.
    assert ahead <= 17


def test_a_variable_set_by_a_future_is_set_for_its_task(inline, extension):
    variable = contextvars.ContextVar("variable", default="unset")

    async def main():
        await extension.calls(lambda: variable.set("by Rust") and None, 1)
        return variable.get()

    assert inline.run(main) == "by Rust"


def test_coroutines_started_by_rust_inherit_the_context(loops, extension):
    variable = contextvars.ContextVar("variable", default="unset")

    async def inner():
        return variable.get()

    async def main():
        variable.set("inherited")
        return await extension.awaits(inner)

    assert loops.run(main) == "inherited"


def test_a_timer_made_outside_of_the_future_panics(loops, extension):
    async def main():
        extension.sleeps_too_early()

    with pytest.raises(BaseException, match="no reactor running"):
        loops.run(main)


@pytest.mark.parametrize("fair", [False, True])
def test_others_run_meanwhile_only_if_it_yields(inline, extension, fair):
    async def main():
        passed = []
        asyncio.get_running_loop().call_soon(passed.append, True)
        assert await extension.drains(10_000, fair) == 10_000
        return bool(passed)

    assert inline.run(main) is fair


def test_nothing_is_none(loops, extension):
    async def main():
        return await extension.nothing()

    assert loops.run(main) is None


def test_sockets_and_timers_of_before_a_fork_never_wake_the_child(extension_programs):
    extension_programs(
        """
        import asyncio, os
        loop = bridge_extension.new_event_loop()
        channel = bridge_extension.Oneshot()

        async def start():
            tasks = [
                asyncio.ensure_future(bridge_extension.sleeps(0.05)),
                asyncio.ensure_future(channel.receive()),
            ]
            await asyncio.sleep(0)
            return tasks

        async def finish(tasks, child):
            sleeping, receiving = tasks
            loop.call_later(0.01, channel.send, "received")
            assert await asyncio.wait_for(receiving, 30) == "received"
            assert await bridge_extension.sleeps(0.2) == "rested"
            assert sleeping.done() is not child
            sleeping.cancel()

        tasks = loop.run_until_complete(start())
        child = os.fork()
        loop.run_until_complete(finish(tasks, not child))
        loop.close()
        if child:
            assert os.waitpid(child, 0)[1] == 0
        """
    )


def test_a_forked_child_has_a_runtime_of_its_own(extension_programs):
    extension_programs(
        """
        import asyncio, os, tokioloop
        assert tokioloop.run(bridge_extension.sleeps(0.001)) == "rested"
        child = os.fork()

        async def main():
            return await asyncio.wait_for(bridge_extension.sleeps(0.001), 60)

        assert tokioloop.run(main()) == "rested"
        assert asyncio.run(main()) == "rested"
        if child:
            assert os.waitpid(child, 0)[1] == 0
        else:
            os._exit(0)
        """
    )


def test_streams_of_rusts_talk_to_streams_of_asyncios(loops, extension):
    async def main():
        server = await asyncio.start_server(extension.shouts, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        reader, writer = await extension.dials(host, port)
        assert type(reader) is asyncio.StreamReader
        writer.write(b"hello from a socket of tokio's")
        await writer.drain()
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await writer.wait_closed()
        server.close()
        return answer

    assert loops.run(main) == b"HELLO FROM A SOCKET OF TOKIO'S"
