"""Other threads, signals, forks and the interpreter's exit, while a loop runs inside of a run."""

from __future__ import annotations

import sys

import pytest

from nesting.nested_loops import PREPARE, check
from support.forking import FORK


def test_threads_schedule_while_an_inner_run_goes_on(programs):
    check(
        programs,
        """
COUNT = 2000
counts = [0] * 4

def count(n):
    counts[n] += 1

def flood(n):
    for _ in range(COUNT):
        loop.call_soon_threadsafe(count, n)

async def until_all(depth):
    while sum(counts) < COUNT * len(counts):
        if depth:
            run(answer(iterations=depth))
        await asyncio.sleep(0)

async def main():
    threads = [threading.Thread(target=flood, args=(n,)) for n in range(len(counts))]
    for thread in threads:
        thread.start()
    run(until_all(3))
    for thread in threads:
        thread.join()

run(main())
assert counts == [COUNT] * 4, counts
""",
    )


def test_a_thread_wakes_an_inner_run_that_sleeps(programs):
    check(
        programs,
        """
async def inner():
    future = loop.create_future()
    threading.Timer(0.01, loop.call_soon_threadsafe, (future.set_result, "woken")).start()
    return await future

async def main():
    assert run(inner()) == "woken"
    future = asyncio.run_coroutine_threadsafe(answer(), loop)
    assert run(asyncio.wrap_future(future)) == 42
    assert run(loop.run_in_executor(None, abs, -1)) == 1
    submit = asyncio.run_coroutine_threadsafe
    return await asyncio.to_thread(lambda: submit(answer(), loop).result())

assert run(main()) == 42
run(loop.shutdown_default_executor())
""",
    )


def test_each_thread_nests_its_own_loop(programs):
    check(
        programs,
        """
def serve(n):
    own = nested_loop()

    async def level(depth):
        await asyncio.sleep(0.0005)
        return 1 + own.run_until_complete(level(depth - 1)) if depth else 0

    noted.append(own.run_until_complete(level(10)))
    own.close()

threads = [threading.Thread(target=serve, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()

async def main():
    return run(answer())

for _ in range(20):
    assert run(main()) == 42
for thread in threads:
    thread.join()
assert noted == [10] * 4
""",
    )


def test_signals_arrive_in_an_inner_run(programs):
    check(
        programs,
        """
def by_python(number, frame):
    note("python")

signal.signal(signal.SIGUSR1, by_python)
loop.add_signal_handler(signal.SIGUSR2, note, "loop")

async def inner():
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR2)
    await asyncio.sleep(0.005)
    # From outside, while the loop sleeps.
    threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR2)).start()
    while noted.count("loop") < 2:
        await asyncio.sleep(0.005)
    return "inner"

async def main():
    return run(inner())

assert run(main()) == "inner"
assert sorted(noted) == ["loop", "loop", "python"], noted
loop.remove_signal_handler(signal.SIGUSR2)
""",
    )


def test_a_signal_handler_raises_in_an_inner_run_that_sleeps(programs):
    check(
        programs,
        """
import logging
logging.disable()

async def inner():
    threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
    await asyncio.sleep(60)

async def main():
    try:
        run(inner())
    except KeyboardInterrupt:
        note("interrupted")
    return await answer()

signal.signal(signal.SIGINT, signal.default_int_handler)
assert run(main()) == 42
assert noted == ["interrupted"]
for task in asyncio.all_tasks(loop):
    task.cancel()
run(asyncio.sleep(0))
""",
    )


@pytest.mark.native_only(reason="the standard library's loop is shared with a child")
@pytest.mark.parametrize("depth", [1, 3])
def test_a_child_that_is_forked_in_an_inner_run(programs, depth):
    """It runs a loop of its own, goes on with the parent's, and may end at any level."""
    check(
        programs,
        f"DEPTH = {depth}\n"
        + FORK
        + """
var = contextvars.ContextVar("var")
context = contextvars.copy_context()
near, far = socket.socketpair()
near.setblocking(False)
far.setblocking(False)

async def exchange():
    await asyncio.sleep(0.001)
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        await loop.sock_sendall(left, b"ping")
        assert await loop.sock_recv(right, 10) == b"ping"
    reader, writer = await asyncio.open_connection(sock=os_pair()[0])
    writer.close()
    return "exchanged"

def os_pair():
    pair = socket.socketpair()
    pair[0].setblocking(False)
    return pair

def own_loop():
    own = nested_loop()

    async def inner():
        return await asyncio.sleep(0.001, "own")

    async def main():
        return own.run_until_complete(inner())

    # The parent's loop is running in this thread: one that nests runs inside of it.
    assert own.run_until_complete(main()) == "own"
    own.close()

def inherited_loop():
    assert run(exchange()) == "exchanged"

def forgotten_loop():
    asyncio._set_running_loop(None)
    own_loop()

def level(left):
    if left:
        loop.call_soon(noted.append, "held", context=context)
        run(nest(left - 1))
        return
    for child in (own_loop, inherited_loop, forgotten_loop, lambda: None):
        wait(fork(child))
    assert run(exchange()) == "exchanged"

async def nest(left):
    loop.call_soon(level, left)
    await asyncio.sleep(0.002)

def outer():
    loop.run_until_complete(nest(DEPTH))
    assert noted == []

loop.call_soon(outer, context=context)
run(asyncio.sleep(0.01))
while len(noted) < DEPTH:
    run(asyncio.sleep(0))
assert noted == ["held"] * DEPTH, noted
near.close(), far.close()
""",
    )


@pytest.mark.skipif(
    sys.version_info >= (3, 14),
    reason="a task of CPython's does not go on in a child, whose running loop is gone",
)
@pytest.mark.native_only(reason="the standard library's loop is shared with a child")
def test_a_child_goes_on_through_the_runs_of_its_parent(programs):
    """It returns from the inner run and from the outer one, and exits as the parent does."""
    check(
        programs,
        """
async def inner():
    pid = os.fork()
    if not pid:
        # As on asyncio: the child has no running loop.
        assert asyncio._get_running_loop() is None
        assert run(answer("child")) == "child"
    await loop.run_in_executor(None, time.sleep, 0.001)
    return pid

async def main():
    pid = run(inner())
    assert run(answer("again")) == "again"
    await loop.run_in_executor(None, time.sleep, 0.001)
    return pid

pid = run(main())
assert run(answer()) == 42
if pid == 0:
    loop.close()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
""",
    )


EXITS = {
    "a daemon thread": """
def serve():
    own = nested_loop()

    async def main():
        own.call_soon(started.set)
        own.run_until_complete(busy(own))

    own.run_until_complete(main())

async def busy(own):
    while True:
        time.sleep(0.0005)
        own.call_soon(time.sleep, 0.0005)
        await asyncio.sleep(0)

started = threading.Event()
threading.Thread(target=serve, daemon=True).start()
started.wait(20)
time.sleep(0.02)
""",
    "a daemon thread that sleeps": """
def serve():
    own = nested_loop()

    async def main():
        own.call_soon(started.set)
        own.run_until_complete(asyncio.sleep(3600))

    own.run_until_complete(main())

started = threading.Event()
threading.Thread(target=serve, daemon=True).start()
started.wait(20)
time.sleep(0.02)
""",
    "the main thread": """
async def inner():
    loop.call_later(0.002, sys.exit, 0)
    await asyncio.sleep(3600)

async def main():
    run(inner())

import logging
logging.disable()
sys.stdout.write("exits\\n")
run(main())
""",
    "a finalizer": """
class Late:
    def __del__(self, loop=loop, answer=answer):
        def callback():
            loop.run_until_complete(answer())
            loop.stop()

        loop.call_soon(callback)
        loop.run_forever()

run(answer())
kept = Late()
kept.cycle = kept
""",
}


@pytest.mark.native_only(reason="it is this loop's frames that the exit must not unwind")
@pytest.mark.parametrize("where", EXITS)
def test_the_interpreter_exits_while_an_inner_run_is_on_the_stack(programs, where):
    source = PREPARE + EXITS[where]
    if where != "the main thread":
        source += "print('exits')\n"
    for _ in range(3):
        done = programs.run(source, timeout=60)
        assert done.stdout == "exits\n"
        assert "Fatal" not in done.stderr
        assert "panicked" not in done.stderr
        assert "Traceback" not in done.stderr, done.stderr
