"""Ctrl-C at any moment: the program ends, or catches it and finds a loop that can go on."""

import select
import signal
import sys
import time

import pytest

# Where a program may be when Ctrl-C comes. It prints "ready" when it is about to be there.
IDLE = """
    loop = new_event_loop()
    loop.call_soon(ready)
    loop.run_forever()
"""
ASLEEP = """
    async def main():
        ready()
        await asyncio.sleep(60)

    new_event_loop().run_until_complete(main())
"""
BUSY = """
    def spin():
        ready()
        while True:
            pass

    loop = new_event_loop()
    loop.call_soon(spin)
    loop.run_forever()
"""
BLOCKED = """
    def block():
        ready()
        time.sleep(60)

    loop = new_event_loop()
    loop.call_soon(block)
    loop.run_forever()
"""
TURNING = """
    loop = new_event_loop()

    def again():
        loop.call_soon(again)

    loop.call_soon(ready)
    loop.call_soon(again)
    loop.run_forever()
"""
READING = """
    left, right = socket.socketpair()
    loop = new_event_loop()
    loop.add_reader(left, print)
    loop.call_soon(ready)
    loop.run_forever()
"""
RUN = """
    async def main():
        ready()
        await asyncio.sleep(60)

    run(main())
"""
RUN_DEBUG = """
    async def main():
        ready()
        await asyncio.sleep(60)

    run(main(), debug=True)
"""
IN_A_THREAD_POOL = """
    async def main():
        await asyncio.get_running_loop().run_in_executor(None, ready)
        await asyncio.sleep(60)

    new_event_loop().run_until_complete(main())
"""
PLACES = {
    "idle": IDLE,
    "asleep": ASLEEP,
    "busy": BUSY,
    "blocked in C": BLOCKED,
    "turning": TURNING,
    "reading": READING,
    "run": RUN,
    "run in debug": RUN_DEBUG,
    "after a thread pool": IN_A_THREAD_POOL,
}
PREPARE = """
    import asyncio, os, signal, socket, sys, threading, time

    def ready():
        print("ready", flush=True)
"""


def interrupt(process, delay=0.05):
    """Send Ctrl-C once the program is where it says, and say how it ended and how soon."""
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    # It says so on its way there: a moment for the rest.
    time.sleep(delay)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    return process.returncode, output, errors, time.monotonic() - sent


@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_ends_the_program_wherever_it_is(programs, place):
    status, _, errors, took = interrupt(programs.start(PREPARE + PLACES[place]))
    assert status == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert took < 10


@pytest.mark.parametrize("place", ["idle", "busy", "blocked in C", "turning"])
def test_ctrl_c_can_be_caught_and_the_loop_run_again(programs, place):
    source = (
        PREPARE
        + PLACES[place].replace("loop.run_forever()", "")
        + """
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        print("caught", loop.is_running(), loop.is_closed())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    print("ran again")
    """
    )
    status, output, errors, _ = interrupt(programs.start(source))
    assert status == 0, errors
    assert output == "caught False False\nran again\n"


def test_ctrl_c_again_and_again(programs):
    process = programs.start(
        PREPARE
        + """
    loop = new_event_loop()
    for _ in range(20):
        try:
            loop.call_soon(ready)
            loop.run_forever()
        except KeyboardInterrupt:
            print("caught", flush=True)
    loop.close()
    """
    )
    for _ in range(20):
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        # Between the last look for signals and the system call that blocks, a signal is noticed
        # by the next one only: on asyncio's loop too, once in some ten thousand times.
        if not select.select([process.stdout], [], [], 10)[0]:
            process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "caught\n"
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before 3.11 run() cancels no main task")
def test_run_cancels_the_main_task_at_ctrl_c_and_then_raises(programs):
    status, output, errors, _ = interrupt(
        programs.start(
            PREPARE
            + """
    async def main():
        try:
            ready()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("cancelled")
            raise
        finally:
            await asyncio.sleep(0.01)
            print("cleaned up")

    try:
        run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """
        )
    )
    assert status == 0, errors
    assert output == "cancelled\ncleaned up\ninterrupted\n"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before 3.11 run() leaves SIGINT alone")
def test_a_second_ctrl_c_interrupts_at_once_what_run_is_still_cleaning_up(programs):
    process = programs.start(
        PREPARE
        + """
    async def main():
        try:
            ready()
            await asyncio.sleep(60)
        finally:
            print("cleaning up", flush=True)
            time.sleep(60)

    run(main())
    """
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning up\n"
    time.sleep(0.2)  # a signal just before the sleep begins does not end it
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors


def test_ctrl_c_while_idle_leaves_scheduled_calls_for_the_next_run(programs):
    status, output, errors, _ = interrupt(
        programs.start(
            PREPARE
            + """
    loop = new_event_loop()
    ran = []
    loop.call_later(0.5, ran.append, "timer")
    loop.call_soon(ready)
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        print(ran)
    loop.run_until_complete(asyncio.sleep(0.6))
    loop.close()
    print(ran)
    """
        )
    )
    assert status == 0, errors
    assert output == "[]\n['timer']\n"


def test_sys_exit_in_a_callback_is_the_exit_status(programs):
    done = programs.run(
        """
        import sys
        loop = new_event_loop()
        loop.call_soon(sys.exit, 7)
        loop.run_forever()
        """,
        check=False,
    )
    assert done.returncode == 7
