"""Many loops in many threads, loops that change threads, and threads that outlive the program."""

import asyncio
import concurrent.futures
import gc
import itertools
import os
import socket
import threading
import time
import weakref

import pytest


def in_thread(function, *args):
    """Run in a thread of its own, and return or raise what the function does."""
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(function, *args).result(timeout=60)


async def echo_once(loop):
    """A round trip through real sockets, a timer and an executor: the loop in short."""
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        await loop.sock_sendall(left, b"ping")
        data = await loop.sock_recv(right, 100)
    await asyncio.sleep(0.001)
    return data, await loop.run_in_executor(None, threading.get_ident)


def finish(loop):
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_a_loop_made_in_one_thread_runs_in_several_others_one_after_the_other(loop):
    def run():
        data, worker = loop.run_until_complete(echo_once(loop))
        assert worker != threading.get_ident()
        return data, threading.get_ident()

    main = run()
    others = [in_thread(run) for _ in range(5)]
    again = run()
    assert {data for data, _ in [main, *others, again]} == {b"ping"}
    assert main[1] == again[1] == threading.get_ident()
    assert all(ident != main[1] for _, ident in others)


def test_a_call_scheduled_in_one_thread_runs_in_the_one_that_runs_the_loop(loop):
    ran = []
    left, right = socket.socketpair()
    with left, right:
        right.send(b"x")
        loop.call_soon(lambda: ran.append(("soon", threading.get_ident())))
        loop.call_later(0.01, lambda: ran.append(("timer", threading.get_ident())))
        loop.add_reader(left, read_once, loop, left, ran)

        def run():
            loop.run_until_complete(asyncio.sleep(0.05))
            return threading.get_ident()

        ident = in_thread(run)
    assert sorted(ran) == [("reader", ident), ("soon", ident), ("timer", ident)]


def read_once(loop, sock, ran):
    sock.recv(1)
    loop.remove_reader(sock)
    ran.append(("reader", threading.get_ident()))


def test_a_connection_lives_on_when_its_loop_changes_threads(loop):
    async def connect():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        streams = await asyncio.open_connection(*server.sockets[0].getsockname())
        return server, streams

    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    async def talk(reader, writer, line):
        writer.write(line)
        return await reader.readline()

    async def end(server, reader, writer):
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.sleep(0.02)

    server, streams = loop.run_until_complete(connect())
    for line in (b"one\n", b"two\n", b"three\n"):
        answer = in_thread(lambda line=line: loop.run_until_complete(talk(*streams, line)))
        assert answer == line.upper()
    loop.run_until_complete(end(server, *streams))


def test_a_loop_can_be_closed_and_collected_in_another_thread(loop_factory):
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_later(60, print)
    in_thread(loop.close)
    assert loop.is_closed()
    gone = weakref.ref(loop)
    held = [loop]
    del loop

    def drop():
        held.clear()
        gc.collect()

    in_thread(drop)
    gc.collect()
    assert gone() is None


def test_many_threads_each_run_loops_of_their_own(loop_factory):
    rounds, count = 10, 8
    results = []

    def work():
        for _ in range(rounds):
            loop = loop_factory()
            try:
                results.append(loop.run_until_complete(echo_once(loop))[0])
            finally:
                finish(loop)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [b"ping"] * (rounds * count)


def test_each_thread_has_its_own_running_loop(loop_factory):
    barrier = threading.Barrier(4, timeout=30)

    def work():
        loop = loop_factory()

        async def main():
            barrier.wait()
            seen = asyncio.get_running_loop()
            barrier.wait()
            return seen is loop

        try:
            return loop.run_until_complete(main())
        finally:
            loop.close()

    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        assert [f.result() for f in [executor.submit(work) for _ in range(4)]] == [True] * 4


def test_a_flood_from_many_threads_loses_nothing(loop):
    count, each = 4, 20_000
    seen = [0] * count
    done = loop.create_future()

    def receive(who, number):
        assert seen[who] == number
        seen[who] += 1
        if sum(seen) == count * each:
            done.set_result(True)

    def flood(who):
        for number in range(each):
            loop.call_soon_threadsafe(receive, who, number)

    threads = [threading.Thread(target=flood, args=(who,)) for who in range(count)]
    for thread in threads:
        thread.start()
    assert loop.run_until_complete(asyncio.wait_for(done, 60)) is True
    for thread in threads:
        thread.join()
    assert seen == [each] * count


def test_single_calls_with_pauses_between_always_wake_the_loop(loop):
    """Each may come exactly while the loop is about to park: that one must not be lost."""
    count = 300
    answered = threading.Semaphore(0)
    late = []

    def knock():
        for i in range(count):
            sent = time.monotonic()
            loop.call_soon_threadsafe(answered.release)
            if not answered.acquire(timeout=10):
                break
            late.append(time.monotonic() - sent)
            # From no pause at all to one that is long enough for the loop to park.
            time.sleep((i % 7) * 0.0002)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=knock)
    thread.start()
    loop.run_forever()
    thread.join()
    assert len(late) == count
    assert max(late) < 5


def test_two_loops_in_two_threads_play_ping_pong(loop_factory):
    rounds = 2000
    loops = [loop_factory(), loop_factory()]
    ended = threading.Event()

    def hit(side, left):
        if left:
            loops[1 - side].call_soon_threadsafe(hit, 1 - side, left - 1)
        else:
            ended.set()

    threads = [threading.Thread(target=loop.run_forever) for loop in loops]
    for thread in threads:
        thread.start()
    loops[0].call_soon_threadsafe(hit, 0, rounds)
    assert ended.wait(60)
    for loop, thread in zip(loops, threads, strict=True):
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        assert not thread.is_alive()
        loop.close()


def test_run_coroutine_threadsafe_returns_results_and_exceptions_to_another_thread(loop):
    async def answer(value):
        await asyncio.sleep(0)
        if value is None:
            raise LookupError("lost")
        return value

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for i in range(100):
            assert asyncio.run_coroutine_threadsafe(answer(i), loop).result(30) == i
        with pytest.raises(LookupError, match="lost"):
            asyncio.run_coroutine_threadsafe(answer(None), loop).result(30)
        many = [asyncio.run_coroutine_threadsafe(answer(i), loop) for i in range(500)]
        assert [future.result(30) for future in many] == list(range(500))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_a_coroutine_submitted_from_another_thread_can_be_cancelled_from_there(loop):
    cancelled = threading.Event()

    async def long():
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        future = asyncio.run_coroutine_threadsafe(long(), loop)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), loop).result(30)
        assert future.cancel()
        assert cancelled.wait(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_other_threads_run_while_the_loop_is_idle_and_while_it_is_busy(loop):
    counted = [0]
    stop = threading.Event()

    def count():
        while not stop.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    loop.run_until_complete(asyncio.sleep(0.1))
    while_idle = counted[0]
    # Iterations, and no time: a machine that stands still for a while has none of them.
    iterations = itertools.count()

    def again():
        if counted[0] == while_idle and next(iterations) < 3_000_000:
            loop.call_soon(again)
        else:
            loop.stop()

    loop.call_soon(again)
    loop.run_forever()
    while_busy = counted[0] - while_idle
    stop.set()
    thread.join()
    assert while_idle > 0
    assert while_busy > 0


def test_call_soon_threadsafe_races_with_close_without_harm(loop_factory):
    """The other threads get the error that the loop is closed, and nothing else happens."""
    for _ in range(30):
        loop = loop_factory()
        heard = []

        def flood(loop=loop, heard=heard):
            try:
                while True:
                    loop.call_soon_threadsafe(int)
            except RuntimeError as error:
                heard.append(str(error))

        threads = [threading.Thread(target=flood) for _ in range(2)]
        for thread in threads:
            thread.start()
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        for thread in threads:
            thread.join(30)
        assert heard == ["Event loop is closed"] * 2


@pytest.mark.parametrize("turns", [500, 2_000])
def test_threads_that_never_stop_scheduling_do_not_outrun_the_loop(loop_factory, turns):
    """The callbacks take longer than it takes to schedule them, and yet each iteration ends."""
    loop = loop_factory()
    errors = []

    def work():
        for _ in range(turns):
            pass

    def flood():
        try:
            while True:
                loop.call_soon_threadsafe(work)
        except RuntimeError as error:
            errors.append(str(error))

    async def several_iterations():
        for _ in range(10):
            await asyncio.sleep(0)

    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        loop.run_until_complete(several_iterations())
    finally:
        loop.close()
        for thread in threads:
            thread.join(30)
    assert errors == ["Event loop is closed"] * 2


# The end of the program

DAEMON = """
    import asyncio, threading, time

    running = threading.Event()

    async def ticking():
        running.set()
        while True:
            await asyncio.sleep(0.0001)

    async def idle():
        running.set()
        await asyncio.sleep(3600)

    def work():
        loop = new_event_loop()
        loop.run_until_complete({kind}())

    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    running.wait(10)
    time.sleep(0.01)
    print("leaving")
"""


@pytest.mark.parametrize("kind", ["idle", "ticking"])
def test_a_daemon_thread_that_still_runs_its_loop_does_not_spoil_the_exit(programs, kind):
    for _ in range(8):
        done = programs.run(DAEMON.format(kind=kind), timeout=20)
        assert done.stdout == "leaving\n"
        assert done.stderr == ""


def test_a_loop_left_open_at_exit_does_not_spoil_it(programs):
    done = programs.run(
        """
        import asyncio
        loop = new_event_loop()
        loop.call_later(3600, print)
        loop.run_until_complete(asyncio.sleep(0))
        loop.call_soon(print, "never")
        asyncio.left = loop  # lives as long as the interpreter
        print("leaving")
        """
    )
    assert done.stdout == "leaving\n"
    assert done.stderr == ""


def test_exit_while_other_threads_flood_the_loop_is_clean(programs):
    for _ in range(4):
        done = programs.run(
            """
            import asyncio, threading

            loop = new_event_loop()

            def flood():
                while True:
                    loop.call_soon_threadsafe(int)

            for _ in range(2):
                threading.Thread(target=flood, daemon=True).start()
            loop.run_until_complete(asyncio.sleep(0.05))
            print("leaving")
            """,
            timeout=20,
        )
        assert done.stdout == "leaving\n"
        assert done.stderr == ""


def test_sys_exit_and_os_exit_from_a_callback_end_the_program(programs):
    for leave, status in (("sys.exit", 3), ("os._exit", 4)):
        source = f"""
            import os, sys
            loop = new_event_loop()
            loop.call_soon({leave}, {status})
            loop.run_forever()
        """
        assert programs.run(source, check=False).returncode == status


def test_a_loop_holds_no_thread_of_its_own(loop):
    # Threads that other tests left behind may end meanwhile.
    before = set(os.listdir("/proc/self/task"))
    loop.run_until_complete(asyncio.sleep(0.001))
    assert set(os.listdir("/proc/self/task")) <= before


def run_by_steps(loop, ran):
    while not ran:
        loop._run_once()


@pytest.mark.parametrize("run", [lambda loop, _: loop.run_forever(), run_by_steps])
def test_what_is_scheduled_while_the_loop_reads_its_clock_ends_its_sleep(loop, run):
    """An overridden clock is read just before the loop blocks, and other threads run meanwhile."""
    asked, scheduled = threading.Event(), threading.Event()

    class Loop(type(loop)):
        about_to_sleep = False

        def time(self):
            if self.about_to_sleep and not asked.is_set():
                asked.set()
                assert scheduled.wait(60)
            return super().time()

    clocked = Loop()
    ran = []

    def last_callback():
        clocked.about_to_sleep = True

    def schedule():
        assert asked.wait(60)
        clocked.call_soon_threadsafe(ran.append, "scheduled")
        clocked.call_soon_threadsafe(clocked.stop)
        scheduled.set()

    thread = threading.Thread(target=schedule)
    thread.start()
    try:
        clocked.call_at(time.monotonic() + 20, ran.append, "too late")
        clocked.call_at(time.monotonic() + 20, clocked.stop)
        clocked.call_soon(last_callback)
        run(clocked, ran)
        thread.join(60)
    finally:
        clocked.close()
    assert ran == ["scheduled"]
