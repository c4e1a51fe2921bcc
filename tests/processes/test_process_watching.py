"""How the loop learns of a child's end: through its pidfd, and where that fails."""

import asyncio
import contextvars
import errno
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from support.children import PIPE, Witness, living, output_of, python
from support.recording import in_thread
from support.refusals import refusal

# -- where pidfds fail --------------------------------------------------------------------------


@pytest.fixture(params=["ENOSYS", "EPERM", "EMFILE", "absent", "another file's"])
def no_pidfds(request, monkeypatch):
    def refuse(*_args):
        raise OSError(getattr(errno, request.param), "as asked")

    if request.param == "absent":
        monkeypatch.delattr(os, "pidfd_open")
    elif request.param == "another file's":
        # The kernel cannot wait through it.
        monkeypatch.setattr(os, "pidfd_open", lambda *_: os.open(os.devnull, os.O_RDONLY))
    else:
        monkeypatch.setattr(os, "pidfd_open", refuse)


fallback = pytest.mark.native_only(reason="describes what tokioloop falls back to")


@fallback
@pytest.mark.usefixtures("no_pidfds")
def test_without_pidfds_a_thread_waits(loop):
    async def main():
        async with living(stdout=PIPE) as process:
            names = [thread.name for thread in threading.enumerate()]
            assert any(name.startswith("asyncio-waitpid-") for name in names)
            process.terminate()
            assert await process.wait() == -signal.SIGTERM
        return await asyncio.gather(*(output_of("sh", "-c", f"exit {n}") for n in range(10)))

    assert loop.run_until_complete(main()) == [(n, b"") for n in range(10)]


@fallback
@pytest.mark.usefixtures("no_pidfds")
def test_without_pidfds_a_child_reaped_by_other_code(loop, caplog):
    async def main():
        async with living() as process:
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
            return process.pid, await process.wait()

    pid, status = loop.run_until_complete(main())
    assert status == 255
    text = f"Unknown child process pid {pid}, will report returncode 255"
    assert [record.getMessage() for record in caplog.records] == [text]


@fallback
def test_without_pidfds_a_child_outlives_its_loop(programs):
    done = programs.run(
        """
        import asyncio, os, threading

        del os.pidfd_open

        async def main():
            return await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.3")

        loop = new_event_loop()
        process = loop.run_until_complete(main())
        loop.close()
        for thread in threading.enumerate():
            if thread.name.startswith("asyncio-waitpid"):
                thread.join(20)
        try:
            os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            print("reaped")
        """
    )
    assert done.stdout == "reaped\n"
    assert "that handles pid" in done.stderr and "is closed" in done.stderr


P_PIDFD, EPOLL_CTL_ADD = 3, 1


@fallback
@pytest.mark.parametrize(
    "refused",
    [
        refusal("pidfd_open", errno.ENOSYS),
        refusal("waitid", errno.EINVAL, 0, P_PIDFD),  # Linux 5.3
        refusal("epoll_ctl", errno.ENOSPC, 1, EPOLL_CTL_ADD),  # the limit of watched descriptors
    ],
    ids=["opening", "waiting", "watching"],
)
def test_where_the_kernel_refuses_a_thread_waits(programs, refused):
    program = """
import asyncio, os, threading

async def main():
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec("sh", "-c", "read line; exit 5", stdin=reader)
    print([each.name for each in threading.enumerate()][1:])
    os.close(writer)
    print(await process.wait())

loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0.001))  # it has all that it needs itself
"""
    done = programs.run(program + refused + "loop.run_until_complete(main())")
    assert done.stdout.splitlines() == ["['asyncio-waitpid-0']", "5"]


# -- telling the transport ----------------------------------------------------------------------


async def dead_child():
    """A child that has ended with 5, of which the loop does not know yet."""
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec("sh", "-c", "read line; exit 5", stdin=reader)
    os.close(reader)
    os.close(writer)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process.returncode is None
    return process


def check_the_context_of_an_end(loop):
    variable = contextvars.ContextVar("variable", default="the runner's")

    class Notes(asyncio.SubprocessProtocol):
        def process_exited(self):
            noted.set_result(variable.get())

    async def start():
        variable.set("the starter's")
        return await loop.subprocess_exec(Notes, "true", stdin=None, stdout=None, stderr=None)

    noted = loop.create_future()
    transport, _protocol = loop.run_until_complete(loop.create_task(start()))
    assert loop.run_until_complete(noted) == "the starter's"
    transport.close()


def test_a_protocol_hears_of_the_end_in_the_context_of_the_start(loop):
    check_the_context_of_an_end(loop)


@fallback
@pytest.mark.usefixtures("no_pidfds")
def test_without_pidfds_the_context_is_that_of_the_start_as_well(loop):
    check_the_context_of_an_end(loop)


@fallback
def test_an_error_on_the_way_to_the_transport_is_reported_and_the_end_is_not_lost(
    loop, monkeypatch
):
    async def main():
        process = await dead_child()
        call_soon, failures = loop.call_soon, iter([LookupError("not now"), MemoryError()])

        def fails(callback, *args, **options):
            if getattr(callback, "__name__", "") == "_process_exited" and (
                error := next(failures, None)
            ):
                raise error
            return call_soon(callback, *args, **options)

        monkeypatch.setattr(loop, "call_soon", fails, raising=False)
        return process._transport, await process.wait()

    reports = []
    loop.set_exception_handler(lambda _loop, report: reports.append(report))
    transport, status = loop.run_until_complete(main())
    assert status == 5
    assert [type(report["exception"]) for report in reports] == [LookupError, MemoryError]
    for report in reports:
        assert report["message"] == "Exception at the end of a child process"
        assert report["transport"] is transport


@fallback
def test_an_interrupted_wait_for_the_lock_of_popen_loses_nothing(loop):
    class Lock:
        def acquire(self, blocking):
            popen._waitpid_lock = lock
            raise KeyboardInterrupt

    async def interrupted():
        nonlocal process, popen, lock
        process = await dead_child()
        popen = process._transport.get_extra_info("subprocess")
        lock, popen._waitpid_lock = popen._waitpid_lock, Lock()
        await process.wait()

    process = popen = lock = None
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(interrupted())
    assert loop.run_until_complete(process.wait()) == 5


@fallback
@pytest.mark.parametrize("first", range(12))
def test_no_allocation_at_an_end_can_fail_without_the_end_being_heard_of(programs, first):
    """The first child of a process is the one for which the most is missing."""
    pytest.importorskip("_testcapi")
    done = programs.run(
        f"""
        import _testcapi, asyncio, os, signal, sys

        async def main():
            loop = asyncio.get_running_loop()
            reports = []
            loop.set_exception_handler(lambda loop, report: reports.append(report))
            for failing in [{first}, *range(30)]:
                process = await asyncio.create_subprocess_exec("sleep", "600")
                os.kill(process.pid, signal.SIGKILL)
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                # In one iteration: a callback, the event, and a timer.
                loop.call_soon(_testcapi.set_nomemory, failing, failing + 1)
                loop.call_later(0, _testcapi.remove_mem_hooks)
                assert await process.wait() == -9
            assert {{type(report["exception"]) for report in reports}} <= {{MemoryError}}, reports
            # CPython 3.14 has memory of its own for all that is made here.
            print(len(reports) > 0 or sys.version_info >= (3, 14))

        run(main())
        """
    )
    assert done.stdout == "True\n", done.stderr


@fallback
def test_what_fails_each_time_is_reported_a_few_times_and_the_end_is_told_of(loop):
    class Lock:
        def acquire(self, blocking):
            return True

        def release(self):
            raise LookupError("never")

    async def main():
        process = await dead_child()
        process._transport.get_extra_info("subprocess")._waitpid_lock = Lock()
        return await process.wait()

    reports = []
    loop.set_exception_handler(lambda _loop, report: reports.append(report["exception"]))
    assert loop.run_until_complete(main()) == 5
    assert 0 < len(reports) < 10
    assert {type(report) for report in reports} == {LookupError}


class Waited(subprocess.Popen):
    """A thread waits for it from the beginning."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.waiting = threading.Thread(target=self.wait)
        self.waiting.start()
        while not self._waitpid_lock.locked():
            time.sleep(0.001)


@fallback
@pytest.mark.parametrize("ending", ["close", "abort"])
@pytest.mark.parametrize("popen", [subprocess.Popen, Waited])
def test_an_event_of_a_transport_that_is_gone_is_not_taken_for_a_childs(
    loop, monkeypatch, popen, ending
):
    """It is delivered by a key, which the child may have by then."""

    async def main():
        near, far = socket.socketpair()
        near.setblocking(False)
        transport, _protocol = await loop.create_connection(asyncio.Protocol, sock=near)
        for _ in range(3):
            await asyncio.sleep(0.001)
        getattr(transport, ending)()
        starting = loop.create_task(
            asyncio.create_subprocess_exec("sh", "-c", "read line; exit 5", stdin=PIPE)
        )
        far.send(b"x")
        far.close()
        process = await starting
        await asyncio.sleep(0.01)
        assert process._transport._watcher.fileno() >= 0
        assert not any(each.name.startswith("asyncio-") for each in threading.enumerate())
        process.stdin.close()
        return await process.wait()

    monkeypatch.setattr(subprocess, "Popen", popen)
    assert loop.run_until_complete(main()) == 5


@fallback
def test_a_forked_process_does_not_wait_for_a_lock_whose_thread_it_lacks(programs):
    done = programs.run(
        """
        import asyncio, os, signal, threading

        async def main():
            loop = asyncio.get_running_loop()
            process = await asyncio.create_subprocess_exec("sleep", "0.3")
            popen = process._transport.get_extra_info("subprocess")
            waiting = threading.Thread(target=popen.wait)
            waiting.start()
            while not popen._waitpid_lock.locked():
                await asyncio.sleep(0.001)
            pid = os.fork()
            if not pid:
                signal.alarm(20)
                asyncio._set_running_loop(loop)
                print("forked", await process.wait(), flush=True)
                os._exit(0)
            waiting.join()
            assert os.waitpid(pid, 0)[1] == 0
            print("parent", await process.wait())

        run(main())
        """,
        flags=("-W", "ignore"),
    )
    assert done.stdout == "forked 255\nparent 0\n", done.stderr


@fallback
@pytest.mark.parametrize("signalling", ["kill", "terminate", "send_signal"])
def test_a_signal_to_a_child_that_other_code_has_reaped_is_no_success(loop, signalling):
    async def main():
        process = await dead_child()
        os.waitpid(process.pid, 0)
        getattr(process, signalling)(*[signal.SIGTERM] * (signalling == "send_signal"))
        return await process.wait()

    assert loop.run_until_complete(main()) == 255


@fallback
def test_a_forked_process_that_goes_on_with_the_loop_is_not_the_parent_of_its_children(programs):
    done = programs.run(
        """
        import asyncio, os, signal

        async def main():
            loop = asyncio.get_running_loop()
            process = await asyncio.create_subprocess_exec("sleep", "600")
            pid = os.fork()
            if not pid:
                signal.alarm(20)
                asyncio._set_running_loop(loop)
                print("forked", await process.wait(), flush=True)
                os._exit(0)
            process.kill()
            # Its own end is still to be reaped when the fork hears of it.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert os.waitpid(pid, 0)[1] == 0
            print("parent", await process.wait())

        run(main())
        """,
        flags=("-W", "ignore"),
    )
    assert done.stdout == "forked 255\nparent -9\n", done.stderr


# -- ends that are seen too early, or too late --------------------------------------------------

TRACED = python(
    """
import ctypes, sys
allow_tracers = 0x59616D61
ctypes.CDLL(None).prctl(allow_tracers, ctypes.c_ulong(-1), 0, 0, 0)
print("ready", flush=True)
sys.stdin.read()
sys.exit(5)
"""
)
TRACER = """
import ctypes, os, sys
pid, seize, wait_for_all = int(sys.argv[1]), 0x4206, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(seize, pid, None, None) == 0, ctypes.get_errno()
print("attached", flush=True)
sys.stdin.read()
os.waitpid(pid, wait_for_all)
"""


@fallback
def test_a_status_that_a_tracer_has_to_take_first(loop):
    """The pidfd reports the end, and yet there is nothing to reap until the tracer has seen it."""

    async def main():
        process = await asyncio.create_subprocess_exec(*TRACED, stdin=PIPE, stdout=PIPE)
        assert await process.stdout.readline() == b"ready\n"
        with subprocess.Popen(
            [*python(TRACER), str(process.pid)], stdin=PIPE, stdout=PIPE
        ) as tracer:
            assert await in_thread(tracer.stdout.readline) == b"attached\n"
            process.stdin.close()
            while not any(
                each.name.startswith("asyncio-waitpid-") for each in threading.enumerate()
            ):
                await asyncio.sleep(0.001)
            assert process.returncode is None
            tracer.stdin.close()
            return await process.wait()

    assert loop.run_until_complete(asyncio.wait_for(main(), 60)) == 5


@fallback
@pytest.mark.parametrize(("reap", "expected"), [(False, 5), (True, 255)])
def test_a_child_that_is_dead_before_it_is_watched(loop, monkeypatch, reap, expected):
    pidfd_open = os.pidfd_open

    def late(pid):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if reap:
            os.waitpid(pid, 0)
        return pidfd_open(pid)

    monkeypatch.setattr(os, "pidfd_open", late)
    assert loop.run_until_complete(output_of("sh", "-c", "exit 5")) == (expected, b"")


@fallback
def test_a_number_that_is_a_strangers_already(loop, monkeypatch):
    """Other code reaped the child, and the number is another process's: never ours to wait for."""
    stranger = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=PIPE)
    pidfd_open = os.pidfd_open
    try:
        grandchild = int(stranger.stdout.readline())

        def reused(pid):
            os.waitpid(pid, 0)
            return pidfd_open(grandchild)

        async def main():
            process = await asyncio.create_subprocess_exec("true")
            return await asyncio.wait_for(process.wait(), 20)

        monkeypatch.setattr(os, "pidfd_open", reused)
        assert loop.run_until_complete(main()) == 255
        os.kill(grandchild, 0)
    finally:
        os.kill(grandchild, signal.SIGKILL)
        stranger.stdout.close()
        stranger.wait()


@fallback
def test_a_dead_child_whose_pipe_lives_on_is_not_signalled(loop, monkeypatch):
    """Its number may be reused; `kill()` must not reach the process that has it now."""

    async def main():
        # The grandchild keeps the pipe open, so the transport is not at its end.
        transport, witness = await loop.subprocess_exec(
            Witness, "sh", "-c", "sleep 600 & echo $!", stdin=None, stderr=None
        )
        while "exited" not in witness.calls or not witness.received[1]:
            await asyncio.sleep(0.01)
        sent = []
        with monkeypatch.context() as patched:
            patched.setattr(os, "kill", lambda *args: sent.append(args))
            patched.setattr(signal, "pidfd_send_signal", lambda *args: sent.append(args))
            transport.kill()
            transport.terminate()
        assert sent == []
        os.kill(int(witness.received[1]), signal.SIGKILL)
        await witness.lost
        transport.close()

    loop.run_until_complete(main())
