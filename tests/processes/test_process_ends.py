"""How children end: signals, closing, other code that waits for them, and the reports."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import time

import pytest

from support.children import PIPE, SLEEPER, Witness, living, none_left, output_of
from support.recording import in_thread

# -- signals and closing ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "number"),
    [
        (lambda process: process.kill(), signal.SIGKILL),
        (lambda process: process.terminate(), signal.SIGTERM),
        (lambda process: process.send_signal(signal.SIGUSR1), signal.SIGUSR1),
        (lambda process: process._transport.send_signal(signal=signal.SIGUSR1), signal.SIGUSR1),
        (lambda process: process._transport.close(), signal.SIGKILL),
        (lambda process: process._transport.get_extra_info("subprocess").kill(), signal.SIGKILL),
        (lambda process: os.kill(process.pid, signal.SIGINT), signal.SIGINT),
    ],
)
def test_ways_to_end_a_child(loop, end, number):
    async def main():
        async with living() as process:
            end(process)
            return await process.wait()

    assert loop.run_until_complete(main()) == -number


def test_a_child_that_has_ended_takes_no_signals(loop):
    async def main():
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
        await asyncio.sleep(0)  # some versions wake the waiter before the transport is done
        for way in (process.kill, process.terminate, lambda: process.send_signal(0)):
            with pytest.raises(ProcessLookupError):
                way()

    loop.run_until_complete(main())


def test_a_bad_signal_number(loop):
    async def main():
        async with living() as process:
            with pytest.raises(OSError) as caught:
                process.send_signal(1000)
            return caught.value.errno

    assert loop.run_until_complete(main()) == errno.EINVAL


def test_signals_between_the_end_of_a_child_and_the_word_of_it(loop):
    """The child is dead, and its status was not taken: no error, and the status survives."""

    async def main():
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 7", stdout=PIPE)
        with contextlib.suppress(ChildProcessError):  # a thread may have been there before
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        process.send_signal(signal.SIGTERM)
        return await process.wait()

    # asyncio before 3.13 takes the status with the signal, and may not know it afterwards.
    assert loop.run_until_complete(main()) in (7, 255)


def test_close_kills_once_and_notifies_the_protocol(loop):
    async def main():
        transport, witness = await loop.subprocess_exec(Witness, *SLEEPER)
        assert not transport.is_closing()
        transport.close()
        transport.close()
        assert transport.is_closing()
        await witness.lost
        return transport.get_returncode(), witness.calls.count("exited")

    assert loop.run_until_complete(main()) == (-signal.SIGKILL, 1)


def test_close_of_an_ended_child_keeps_its_status(loop):
    async def main():
        transport, witness = await loop.subprocess_exec(
            Witness, "sh", "-c", "exit 3", stdin=None, stdout=None, stderr=None
        )
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
        transport.close()
        await witness.lost
        return transport.get_returncode()

    assert loop.run_until_complete(main()) in (3, 255)


def test_a_cancelled_start_kills_the_child(loop):
    async def main():
        started = []

        def remember():
            started.append(Witness())
            return started[0]

        task = asyncio.ensure_future(loop.subprocess_exec(remember, *SLEEPER))
        while not started:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(started[0].lost, 20)  # once its pipes are closed

    begin = time.monotonic()
    with none_left() as started:
        loop.run_until_complete(main())
    assert started
    assert time.monotonic() - begin < 20


def test_a_connection_of_a_pipe_that_is_cancelled_cancels_the_start(loop, monkeypatch):
    """A replaced `connect_read_pipe` is called."""
    asked = []

    async def refuse(factory, pipe):
        asked.append(pipe)
        raise ValueError("not this one")

    async def main():
        with pytest.raises(ValueError, match="not this one"):
            await asyncio.create_subprocess_exec("sleep", "0.01", stdout=PIPE)

    monkeypatch.setattr(loop, "connect_read_pipe", refuse, raising=False)
    task = loop.create_task(main())
    deadline = loop.time() + 5
    while not (asked and asked[0].closed) and loop.time() < deadline and not task.done():
        loop.run_until_complete(asyncio.sleep(0.01))
        if asked:
            asked[0].close()
    # Until 3.13 asyncio then waits for ever for a pipe that was never connected.
    if not task.done():
        task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    assert asked


# -- the end of the loop, forks, debug mode -----------------------------------------------------


@pytest.mark.native_only(reason="the standard library's loop leaves a pidfd or a thread behind")
@pytest.mark.parametrize("streams", ["None", "subprocess.PIPE"])
def test_a_loop_that_is_closed_while_children_live(programs, streams):
    """No protocol is called, nothing stays open, and dropping the transport kills the child."""
    done = programs.run(
        f"""
        import asyncio, gc, os, subprocess, warnings

        warnings.simplefilter("ignore", ResourceWarning)

        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        async def main():
            return await asyncio.create_subprocess_exec(
                "sleep", "600", stdin={streams}, stdout={streams}
            )

        new_event_loop().close()
        before = descriptors()
        loop = new_event_loop()
        process = loop.run_until_complete(main())
        loop.close()
        popen = process._transport.get_extra_info("subprocess")
        assert popen.poll() is None
        del process
        gc.collect()
        print(popen.wait(), descriptors() - before)
        """,
        flags=("-W", "ignore"),
    )
    assert done.stdout == "-9 0\n"
    assert "Event loop is closed" not in done.stderr


@pytest.mark.native_only(reason="the standard library's thread reaps the child before Popen can")
def test_a_child_takes_signals_after_its_loop_was_closed(programs):
    done = programs.run(
        """
        import asyncio

        loop = new_event_loop()
        process = loop.run_until_complete(asyncio.create_subprocess_exec("sleep", "600"))
        loop.close()
        process.kill()
        print(process._transport.get_extra_info("subprocess").wait())
        """,
        flags=("-W", "ignore"),
    )
    assert done.stdout == "-9\n"


@pytest.mark.native_only(reason="the standard library's loop is shared with a child")
def test_a_fork_while_children_live(programs):
    done = programs.run(
        """
        import asyncio, os, signal, sys

        async def answer():
            return (await asyncio.create_subprocess_exec("true")).returncode

        async def main():
            process = await asyncio.create_subprocess_exec("sleep", "600")
            pid = os.fork()
            if not pid:
                signal.alarm(20)
                asyncio._set_running_loop(None)
                own = new_event_loop()
                async def in_child():
                    process = await asyncio.create_subprocess_exec("sh", "-c", "exit 4")
                    return await process.wait()
                os._exit(own.run_until_complete(in_child()))
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
            assert process.returncode is None
            process.kill()
            print(await process.wait())

        run(main())
        """,
        flags=("-W", "ignore"),
    )
    assert done.stdout == "-9\n"


def test_debug_mode_logs_children(loop, caplog):
    loop.set_debug(True)

    async def main():
        async with living() as process:
            process._transport.close()
            await process.wait()
            return process.pid

    with caplog.at_level(logging.DEBUG, "asyncio"):
        pid = loop.run_until_complete(main())
    text = caplog.text
    assert "execute program 'sleep'" in text
    assert f"process 'sleep' created: pid {pid}" in text
    assert "Close running child process: kill" in text
    assert "exited with return code -9" in text


def test_a_transport_describes_itself(loop):
    async def main():
        transport, witness = await loop.subprocess_exec(Witness, "cat", stderr=None)
        running = repr(transport)
        transport.close()
        await witness.lost
        return transport.get_pid(), running, repr(transport)

    pid, running, ended = loop.run_until_complete(main())
    assert f"pid={pid} running stdin=<" in running
    assert "stdout=<" in running and "stderr" not in running
    assert f"closed pid={pid} returncode=-9" in ended


def test_an_unclosed_transport_warns_and_kills(loop):
    async def main():
        transport, _ = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, *SLEEPER, stdin=None, stdout=None, stderr=None
        )
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            transport.__del__()
        return await asyncio.wait_for(transport._wait(), 20)

    assert loop.run_until_complete(main()) == -signal.SIGKILL


# -- other code that waits ----------------------------------------------------------------------


def test_a_child_reaped_by_other_code(loop, caplog):
    async def main():
        async with living("sh", "-c", "read line; exit 5", stdin=PIPE) as process:
            # The word of its end comes to a loop that is kept from hearing it.
            process.stdin.write(b"\n")
            time.sleep(0.2)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, 0)
            return process.pid, await process.wait()

    with caplog.at_level(logging.WARNING, "asyncio"):
        pid, status = loop.run_until_complete(main())
    # Where asyncio has a thread for each child, the thread was faster.
    if status != 5:
        assert status == 255
        [record] = caplog.records
        assert f"pid {pid}" in record.getMessage()
        assert record.getMessage().endswith("will report returncode 255")


@pytest.mark.native_only(reason="a thread of the standard library's may be faster")
def test_a_child_reaped_by_other_code_is_255_with_the_text_of_this_version(loop, caplog):
    async def main():
        # It does not end before it is reaped here: the loop would be first.
        process = await asyncio.create_subprocess_exec("sh", "-c", "read _; exit 5", stdin=PIPE)
        process.stdin.write(b"\n")
        os.waitpid(process.pid, 0)
        return process.pid, await process.wait()

    pid, status = loop.run_until_complete(main())
    assert status == 255
    text = (
        f"child process pid {pid} exit status already read:  will report returncode 255"
        if sys.version_info >= (3, 12)
        else f"Unknown child process pid {pid}, will report returncode 255"
    )
    assert [record.getMessage() for record in caplog.records] == [text]


@pytest.mark.native_only(reason="the standard library asks Popen, which takes it for a success")
def test_close_of_a_child_reaped_by_other_code(loop):
    async def main():
        # It does not end before it is reaped here: the loop would be first.
        process = await asyncio.create_subprocess_exec("sh", "-c", "read _; exit 5", stdin=PIPE)
        process.stdin.write(b"\n")
        os.waitpid(process.pid, 0)
        process._transport.close()
        return await process.wait()

    assert loop.run_until_complete(main()) == 255


@pytest.mark.parametrize("way", ["close", "kill", "get_pid"])
@pytest.mark.parametrize("child", ["echo hello; echo err >&2", "true"])
def test_callbacks_of_a_child_that_was_dead_before_its_pipes_were_connected(loop, child, way):
    """Its data comes first, even if the protocol ends the child as soon as it is made."""
    story = []
    over = loop.create_future()

    class Protocol(asyncio.SubprocessProtocol):
        def connection_made(self, transport):
            story.append("made")
            getattr(transport, way)()

        def pipe_data_received(self, fd, data):
            story.append((fd, data))

        def process_exited(self):
            story.append("exited")

        def connection_lost(self, exc):
            over.set_result(exc)

    async def main():
        async def delay():
            for _ in range(10):
                time.sleep(0.02)
                await asyncio.sleep(0)

        delaying = asyncio.ensure_future(delay())
        transport, _ = await loop.subprocess_exec(Protocol, "sh", "-c", child)
        await delaying
        assert await asyncio.wait_for(over, 20) is None
        transport.close()

    loop.run_until_complete(main())
    data = [] if child == "true" else [(1, b"hello\n"), (2, b"err\n")]
    assert story[0] == "made"
    assert [each for each in story if type(each) is tuple] == (
        data if way != "close" else data[: len(story) - 2]
    )
    assert story.count("exited") == 1


@pytest.mark.native_only(reason="the standard library reports 255, or was faster")
@pytest.mark.parametrize("way", ["poll", "wait"])
def test_a_status_that_popen_took_is_the_status(loop, caplog, way):
    async def main():
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 5")
        popen = process._transport.get_extra_info("subprocess")
        while getattr(popen, way)() is None:
            pass
        return await process.wait(), popen.returncode

    assert loop.run_until_complete(main()) == (5, 5)
    assert caplog.records == []


@pytest.mark.native_only(reason="the standard library reports 255, or was faster")
def test_a_thread_that_waits_with_popen_and_the_loop_agree(loop):
    async def main():
        statuses = []
        for _ in range(20):
            process = await asyncio.create_subprocess_exec("sh", "-c", "exit 5")
            popen = process._transport.get_extra_info("subprocess")
            statuses += await asyncio.gather(in_thread(popen.wait), process.wait())
        return statuses

    assert loop.run_until_complete(main()) == [5] * 40


@pytest.mark.native_only(
    when=sys.version_info >= (3, 12), reason="asyncio fails to watch a child that is gone already"
)
def test_children_whose_end_the_kernel_does_not_keep(programs):
    """With SIGCHLD ignored there is no status to read."""
    done = programs.run(
        """
        import asyncio, signal

        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        async def main():
            process = await asyncio.create_subprocess_exec("sh", "-c", "exit 5")
            print(await process.wait())

        run(main())
        """
    )
    assert done.stdout == "255\n"


def test_the_users_handler_of_sigchld_stays(programs):
    done = programs.run(
        """
        import asyncio, signal

        calls = []
        handler = lambda number, frame: calls.append(number)
        signal.signal(signal.SIGCHLD, handler)

        async def main():
            process = await asyncio.create_subprocess_exec("sh", "-c", "exit 5")
            assert await process.wait() == 5
            while not calls:
                await asyncio.sleep(0.01)

        run(main())
        assert signal.getsignal(signal.SIGCHLD) is handler
        print("called")
        """
    )
    assert done.stdout == "called\n"


def test_a_handler_of_the_loop_that_reaps_everything(programs):
    """What old programs do: the loop must survive it in either order."""
    done = programs.run(
        """
        import asyncio, os, signal

        def reap():
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass

        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, reap)
            for _ in range(20):
                process = await asyncio.create_subprocess_exec("sh", "-c", "exit 5")
                assert await process.wait() in (5, 255)

        run(main())
        """
    )
    assert "Traceback" not in done.stderr


@pytest.mark.native_only(reason="a watcher of asyncio's may be what reaps everything")
@pytest.mark.parametrize("busy", [False, True])
def test_the_loop_hears_of_an_end_before_a_handler_of_sigchld_does(loop, busy):
    """The kernel reports it first. A handler may reap every child, as asyncio's watchers did."""

    def reap():
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    async def spin():
        while True:
            await asyncio.sleep(0)

    async def main():
        loop.add_signal_handler(signal.SIGCHLD, reap)
        spinning = [asyncio.ensure_future(spin()) for _ in range(3 * busy)]
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            transport, _protocol = await loop.create_connection(asyncio.Protocol, sock=near)
            for _ in range(200):
                assert await output_of("sh", "-c", "echo; exit 5") == (5, b"\n")
            transport.abort()
        for task in spinning:
            task.cancel()

    loop.run_until_complete(main())


def test_a_child_that_a_thread_waits_for_is_closed_at_once(loop):
    """The thread holds the lock of ``Popen`` until the child is dead."""

    async def main():
        transport, witness = await loop.subprocess_exec(Witness, *SLEEPER)
        popen = transport.get_extra_info("subprocess")
        waiting = asyncio.ensure_future(in_thread(popen.wait))
        await asyncio.sleep(0.05)
        transport.close()
        await asyncio.wait_for(waiting, 20)  # for a status that others may have taken
        await asyncio.wait_for(witness.lost, 20)

    loop.run_until_complete(main())
