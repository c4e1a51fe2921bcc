"""How the loop learns of a child's end: through its pidfd, and where that fails."""

import asyncio
import errno
import os
import signal
import subprocess
import threading

import pytest

from support.children import PIPE, Witness, living, output_of

# -- where pidfds fail --------------------------------------------------------------------------


@pytest.fixture(params=["ENOSYS", "EPERM", "EMFILE", "absent", "unwaitable", "unwatchable"])
def no_pidfds(request, monkeypatch, loop):
    error = OSError(getattr(errno, request.param, errno.EINVAL), "as asked")
    waitid = os.waitid

    def refuse(*args, **kwargs):
        raise error

    def refuse_pidfd(kind, *args):
        if kind == os.P_PIDFD:
            raise error
        return waitid(kind, *args)

    if request.param == "absent":
        monkeypatch.delattr(os, "pidfd_open")
    elif request.param == "unwaitable":
        monkeypatch.setattr(os, "waitid", refuse_pidfd)
    elif request.param == "unwatchable":
        # The kernel's limit of watched descriptors.
        add_reader = loop._add_reader
        watched = lambda fd: os.readlink(f"/proc/self/fd/{fd}")  # noqa: E731
        monkeypatch.setattr(
            loop,
            "_add_reader",
            lambda fd, *args: refuse() if "pidfd" in watched(fd) else add_reader(fd, *args),
            raising=False,
        )
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


@fallback
def test_a_status_that_a_tracer_has_to_take_first(loop, monkeypatch):
    """The pidfd reports the end, and yet there is nothing to reap for a while."""
    waitid, asked = os.waitid, []

    def not_yet(kind, number, options):
        if not options & os.WNOWAIT and not asked:
            asked.append(number)
            return None
        return waitid(kind, number, options)

    monkeypatch.setattr(os, "waitid", not_yet)
    assert loop.run_until_complete(output_of("sh", "-c", "exit 5")) == (5, b"")
    assert len(asked) == 1


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
