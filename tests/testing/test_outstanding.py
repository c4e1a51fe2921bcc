"""What is real is waited for in real time: the clock does not jump ahead of it."""

import asyncio
import os
import signal
import socket
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

tokioloop = pytest.importorskip("tokioloop")
pytestmark = pytest.mark.native_only

LONG = 3600.0
#: Real seconds that what is outstanding takes.
WHILE = 0.2


def later(function, *args):
    """Call a function in a thread, after a while."""
    timer = threading.Timer(WHILE, function, args)
    timer.start()
    return timer


@pytest.fixture(scope="module", autouse=True)
def process_for_processes():
    """From CPython 3.14 on another process starts those of pools, and is kept."""
    with ProcessPoolExecutor(1) as executor:
        assert executor.submit(len, "").result() == 0


@pytest.fixture
def pair():
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


async def watched(loop, pair):
    near, far = pair
    seen = loop.create_future()
    loop.add_reader(near, lambda: seen.done() or seen.set_result(near.recv(10)))
    later(far.send, b"x")
    assert await seen == b"x"
    loop.remove_reader(near)


async def awaited(loop, pair):
    near, far = pair
    later(far.send, b"x")
    assert await loop.sock_recv(near, 10) == b"x"


async def connection(loop, pair):
    near, far = pair
    reader, writer = await asyncio.open_connection(sock=near)
    later(far.send, b"x\n")
    assert await reader.readline() == b"x\n"
    writer.close()
    await writer.wait_closed()


async def datagrams(loop, pair):
    got = loop.create_future()

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            got.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(Protocol, ("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        timer = later(peer.sendto, b"x", transport.get_extra_info("sockname"))
        assert await got == b"x"
        timer.join()
    transport.close()


async def listener(loop, pair):
    accepted = loop.create_future()
    server = await asyncio.start_server(
        lambda reader, writer: accepted.set_result(writer), "127.0.0.1", 0
    )
    peers = []
    address = server.sockets[0].getsockname()
    timer = later(lambda: peers.append(socket.create_connection(address)))
    writer = await accepted
    timer.join()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    peers[0].close()


async def pipe(loop, pair):
    read, write = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", 0)
    )
    later(os.close, write)
    assert await reader.read() == b""
    transport.close()
    await asyncio.sleep(0)


async def job(loop, pair):
    await loop.run_in_executor(None, time.sleep, WHILE)


async def thread_pool(loop, pair):
    with ThreadPoolExecutor(1) as executor:
        await loop.run_in_executor(executor, time.sleep, WHILE)


async def process_pool(loop, pair):
    with ProcessPoolExecutor(1) as executor:
        await loop.run_in_executor(executor, time.sleep, WHILE)


async def child(loop, pair):
    process = await asyncio.create_subprocess_exec("sleep", str(WHILE))
    assert await process.wait() == 0


async def output_of_a_child(loop, pair):
    process = await asyncio.create_subprocess_shell(
        f"sleep {WHILE}; echo x", stdout=asyncio.subprocess.PIPE
    )
    assert await process.communicate() == (b"x\n", None)


async def held_thread(loop, pair):
    done = asyncio.Event()
    with loop.hold():
        later(loop.call_soon_threadsafe, done.set)
        await done.wait()


async def thread_of_anyio(loop, pair):
    anyio = pytest.importorskip("anyio")
    await anyio.to_thread.run_sync(time.sleep, WHILE)


IO = {each.__name__: each for each in (watched, awaited, connection, datagrams, listener, pipe)}
MORE = {
    each.__name__: each
    for each in (
        *(job, thread_pool, process_pool, child, output_of_a_child),
        *(held_thread, thread_of_anyio),
    )
}
EVERYTHING = {**IO, **MORE}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("name", EVERYTHING)
def test_it_comes_before_a_timer_that_is_far(loop, pair, name, debug, real_time):
    loop.set_debug(debug)
    fired = []

    async def main():
        timer = loop.call_later(LONG, fired.append, "early")
        await EVERYTHING[name](loop, pair)
        # The clock ran meanwhile.
        assert WHILE / 2 < loop.time() < LONG
        assert not fired
        timer.cancel()
        # Nothing is outstanding any more.
        before = loop.time()
        await asyncio.sleep(LONG)
        assert loop.time() == before + LONG

    with real_time(at_least=WHILE):
        loop.run_until_complete(main())


@pytest.mark.parametrize("name", EVERYTHING)
def test_without_timers_it_is_no_deadlock(loop, pair, name, real_time):
    with real_time(at_least=WHILE):
        loop.run_until_complete(EVERYTHING[name](loop, pair))


@pytest.mark.parametrize("name", MORE)
def test_a_threshold_does_not_apply_to_work(loop_factory, pair, name, real_time):
    loop = loop_factory(autojump_threshold=0.001)
    fired = []
    loop.call_later(LONG, fired.append, "early")
    try:
        with real_time(at_least=WHILE):
            loop.run_until_complete(EVERYTHING[name](loop, pair))
        assert not fired
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


@pytest.mark.parametrize("name", ["watched", "awaited", "connection"])
def test_timers_that_are_near_run_meanwhile_each_at_its_time(loop, pair, name):
    seen = []

    async def main():
        for delay in (0.05, 0.01, 0.03):
            loop.call_later(delay, lambda: seen.append(loop.time()))
        await EVERYTHING[name](loop, pair)

    loop.run_until_complete(main())
    assert seen == [0.01, 0.03, 0.05]


def test_a_reply_over_loopback_comes_before_its_time_out(loop, real_time):
    """Client and server are on one loop; the server answers at once, and both keep time-outs."""

    async def serve(reader, writer):
        while line := await asyncio.wait_for(reader.readline(), LONG):
            writer.write(line)
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for number in range(200):
            writer.write(b"%d\n" % number)
            assert await asyncio.wait_for(reader.readline(), 60) == b"%d\n" % number
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        # The server's end has gone as well, in some iterations.
        await asyncio.sleep(LONG)
        return loop.time()

    with real_time():
        assert LONG <= loop.run_until_complete(main()) < LONG + 60


def test_with_a_threshold_a_silent_connection_does_not_hold_the_clock(loop_factory, real_time):
    loop = loop_factory(autojump_threshold=0.02)

    async def serve(reader, writer):
        await asyncio.sleep(LONG)
        writer.write(b"x")
        await reader.read()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        answer = await asyncio.wait_for(reader.read(1), 2 * LONG)
        times = loop.time()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), LONG)
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        now = loop.time()
        await asyncio.sleep(1)  # the server's end goes as well
        return answer, times, now

    try:
        with real_time(at_least=0.04):
            # The clock stood still while the loop waited for the kernel.
            assert loop.run_until_complete(main()) == (b"x", LONG, 2 * LONG)
    finally:
        loop.close()


def test_with_a_threshold_the_kernel_has_that_time_to_report_something(loop_factory, pair):
    loop = loop_factory(autojump_threshold=10)
    fired = []

    async def main():
        timer = loop.call_later(LONG, fired.append, "early")
        await watched(loop, pair)
        timer.cancel()
        assert loop.time() == 0

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert fired == []


def test_with_a_threshold_silence_without_timers_is_no_deadlock(loop_factory, pair, real_time):
    loop = loop_factory(autojump_threshold=0.001)
    try:
        with real_time(at_least=WHILE):
            loop.run_until_complete(watched(loop, pair))
    finally:
        loop.close()


def test_a_paused_connection_with_nothing_to_send_is_not_outstanding(loop, pair, real_time):
    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=pair[0])
        transport.pause_reading()
        await asyncio.sleep(LONG)
        assert loop.time() == LONG
        transport.close()
        await asyncio.sleep(0)

    with real_time():
        loop.run_until_complete(main())


def test_a_signal_handler_does_not_hold_the_clock_and_is_called_in_its_turn(loop, real_time):
    seen = []

    async def main():
        loop.add_signal_handler(signal.SIGUSR1, lambda: seen.append(loop.time()))
        await asyncio.sleep(LONG)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(LONG)
        loop.remove_signal_handler(signal.SIGUSR1)
        await asyncio.sleep(LONG)

    with real_time():
        loop.run_until_complete(main())
    assert seen == [LONG]
    assert loop.time() == 3 * LONG


def test_waiting_for_a_signal_is_no_deadlock(loop, real_time):
    async def main():
        got = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, got.set)
        later(os.kill, os.getpid(), signal.SIGUSR1)
        await got.wait()
        loop.remove_signal_handler(signal.SIGUSR1)

    with real_time(at_least=WHILE):
        loop.run_until_complete(main())


def test_a_job_that_nothing_waits_for_any_more_does_not_hold_the_clock(loop):
    release = threading.Event()

    async def main():
        future = loop.run_in_executor(None, release.wait)
        try:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(future, 0.01)
            await asyncio.sleep(LONG)
        finally:
            release.set()

    loop.run_until_complete(main())
    assert LONG < loop.time() < LONG + 60


def test_a_child_that_is_killed_does_not_hold_the_clock(loop, real_time):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 0.05)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        await asyncio.sleep(LONG)

    with real_time(at_least=0.05):
        loop.run_until_complete(main())
    assert LONG < loop.time() < LONG + 60


def test_holds_overlap_and_end_in_any_thread(loop):
    async def main():
        first, second = loop.hold(), loop.hold()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        done = loop.create_future()
        loop.call_later(LONG, done.set_result, None)
        later(second.__exit__, None, None, None)
        # The end of the hold wakes the loop, which jumps.
        await done
        return loop.time()

    began = time.monotonic()
    assert loop.run_until_complete(main()) == LONG
    assert time.monotonic() - began >= WHILE


def test_a_call_from_a_thread_ends_a_wait_in_real_time(loop):
    seen = []

    async def main():
        with loop.hold():
            later(loop.call_soon_threadsafe, seen.append, "called")
            await asyncio.sleep(3 * WHILE)
        return seen

    assert loop.run_until_complete(main()) == ["called"]
    assert loop.time() == 3 * WHILE


@pytest.mark.skipif(
    "timeouts" not in asyncio.BaseEventLoop.shutdown_default_executor.__code__.co_names,
    reason="the time-out is new in 3.12, and its first releases wait for the jobs before it begins",
)
def test_the_end_of_the_executor_is_waited_for_in_real_time(loop):
    release = threading.Event()

    async def main():
        future = loop.run_in_executor(None, release.wait)
        await asyncio.sleep(0)
        future.cancel()
        try:
            with pytest.warns(RuntimeWarning, match="The executor did not finish"):
                await loop.shutdown_default_executor(0.05)
        finally:
            release.set()
        return loop.time()

    assert 0.05 <= loop.run_until_complete(main()) < 60
