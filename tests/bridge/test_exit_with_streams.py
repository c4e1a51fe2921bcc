"""The interpreter exits while bytes are on their way between Rust and asyncio."""

from __future__ import annotations

import pytest

LOOPS = (
    "bridge_extension.new_event_loop",
    "tokioloop.new_event_loop",
    "asyncio.new_event_loop",
)
WORK = """
import asyncio, socket, threading, tokioloop
started = threading.Event()
data = b"x" * 500_000


async def echo_transport(kept):
    left, right = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
    reader, writer = await asyncio.open_connection(sock=right)
    kept.append(asyncio.ensure_future(bridge_extension.io_echo(transport, apart=True)))
    return reader, writer


async def echo_reader(kept):
    class Reader(asyncio.StreamReader):
        pass

    left, right = socket.socketpair()
    loop = asyncio.get_running_loop()
    inner = Reader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(inner, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=left)
    outer = asyncio.StreamWriter(transport, protocol, inner, loop)
    kept.append(asyncio.ensure_future(bridge_extension.io_echo(inner, outer, apart=True)))
    return await asyncio.open_connection(sock=right)


async def echo_stream(kept):
    reader, writer, end = bridge_extension.io_streams(1000, bridge_extension.DropFlag(), False)

    async def echo():
        while read := await end.read(100_000):
            await end.write(read)

    kept.append(asyncio.ensure_future(echo()))
    return reader, writer


async def echo_descriptor(kept):
    left, right = socket.socketpair()
    ours = bridge_extension.Descriptor(left.detach())

    async def echo():
        while True:
            await ours.write(bytes(await ours.read(100_000, apart=True)))

    kept.append(asyncio.ensure_future(echo()))
    return await asyncio.open_connection(sock=right)


async def exchange(reader, writer):
    while True:
        writer.write(data)
        await reader.readexactly(len(data))
        started.set()


async def work(turns):
    kept = []
    for each in (echo_transport, echo_reader, echo_stream, echo_descriptor):
        kept.append(asyncio.ensure_future(exchange(*await each(kept))))
    if turns:
        while not started.is_set():
            await asyncio.sleep(0)
        return kept
    await asyncio.wait(kept)
"""


@pytest.mark.parametrize("factory", LOOPS)
def test_a_loop_in_a_daemon_thread(extension_programs, factory):
    for _ in range(3):
        done = extension_programs(
            WORK
            + f"""
def serve():
    {factory}().run_until_complete(work(False))


threading.Thread(target=serve, daemon=True).start()
assert started.wait(30)
print("leaving")
"""
        )
        assert done.stdout == "leaving\n"
        assert "panicked" not in done.stderr


@pytest.mark.parametrize("factory", LOOPS)
def test_a_loop_that_is_left_as_it_is(extension_programs, factory):
    for _ in range(3):
        done = extension_programs(
            WORK
            + f"""
loop = {factory}()
kept = loop.run_until_complete(work(True))
print("leaving")
"""
        )
        assert done.stdout == "leaving\n"
        assert "panicked" not in done.stderr


@pytest.mark.parametrize("factory", LOOPS)
def test_the_end_of_asyncios_runner(extension_programs, factory):
    """It cancels the tasks and closes the loop: nothing is said on the way out."""
    # A task of tokio's that is spawned apart goes on, and so does what it waits for.
    done = extension_programs(
        WORK.replace("apart=True", "apart=False")
        + f"""
import warnings
warnings.simplefilter("ignore", ResourceWarning)
loop = {factory}()
async def main():
    kept = await work(True)
    for task in kept:
        task.cancel()
    await asyncio.wait(kept)
    # In the fall-back futures are dropped a little later, and what they wait for is then cancelled.
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)
loop.run_until_complete(main())
loop.close()
print("leaving")
"""
    )
    assert done.stdout == "leaving\n"
    assert done.stderr == ""
