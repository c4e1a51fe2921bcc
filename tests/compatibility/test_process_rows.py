"""Rows about pipes and child processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import warnings

import pytest

from compatibility.rows import row
from support.recording import Recorder

pytestmark = pytest.mark.native_only(reason="looks at both loops already")

PIPE = asyncio.subprocess.PIPE
HAS_WATCHERS = sys.version_info < (3, 14)


@pytest.fixture
def pidfds(caplog):
    """asyncio waits for children as it does by default from 3.12 on; to be called with a loop."""
    caplog.set_level(logging.CRITICAL, logger="asyncio")
    if sys.version_info >= (3, 12):
        yield lambda loop: None
        return
    before = asyncio.get_child_watcher()
    watcher = asyncio.PidfdChildWatcher()
    asyncio.set_child_watcher(watcher)
    yield watcher.attach_loop
    watcher.close()
    asyncio.set_child_watcher(before)


async def until(condition):
    deadline = asyncio.get_running_loop().time() + 20
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


def pipe():
    reading, writing = os.pipe()
    return open(reading, "rb", 0), open(writing, "wb", 0)


@row("Types of pipe transports")
def test_types(both):
    async def look(loop):
        reading, writing = pipe()
        reader, protocol = await loop.connect_read_pipe(Recorder, reading)
        writer, _ = await loop.connect_write_pipe(Recorder, writing)
        assert isinstance(reader, asyncio.ReadTransport)
        assert isinstance(writer, asyncio.WriteTransport)
        writer.close()
        await protocol.lost()
        names = type(reader).__name__, type(writer).__name__
        return *names, isinstance(writer, asyncio.Transport)

    theirs, ours = both(look)
    assert theirs == ("_UnixReadPipeTransport", "_UnixWritePipeTransport", True)
    assert ours == ("ReadPipeTransport", "WritePipeTransport", True)


@row("The end of a pipe whose protocol has no `eof_received`")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_protocol_without_an_end(both):
    class Endless(asyncio.BaseProtocol):
        lost = False

        def connection_lost(self, exc):
            self.lost = True

    async def look(loop):
        reports = []
        loop.set_exception_handler(lambda _loop, context: reports.append(context["exception"]))
        reading, writing = pipe()
        _transport, protocol = await loop.connect_read_pipe(Endless, reading)
        writing.close()
        await until(lambda: reports)
        await asyncio.sleep(0.01)
        assert [type(report) for report in reports] == [AttributeError]
        closed = reading.closed
        reading.close()
        return protocol.lost, closed

    assert both(look) == [(False, False), (True, True)]


@row("`close()` of a pipe's or a child's transport after the loop was closed")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_closing_late(both):
    def look(loop):
        reading, writing = pipe()
        transport, _ = loop.run_until_complete(loop.connect_read_pipe(Recorder, reading))
        loop.close()
        try:
            transport.close()
            outcome = None
        except RuntimeError as error:
            outcome = str(error)
        closed = reading.closed
        reading.close()
        writing.close()
        return outcome, closed

    theirs, ours = both(look)
    # CPython's newest does as we do.
    assert theirs in [("Event loop is closed", False), (None, True)]
    assert ours == (None, True)


@row(
    'A child whose status `Popen` took (`get_extra_info("subprocess").poll()`, or a signal sent '
    "to a dead child before 3.13)"
)
def test_a_status_taken_by_popen(both, pidfds):
    async def look(loop):
        pidfds(loop)
        process = await asyncio.create_subprocess_exec("sh", "-c", "read l; exit 5", stdin=PIPE)
        popen = process._transport.get_extra_info("subprocess")
        os.write(popen.stdin.fileno(), b"\n")
        while popen.poll() is None:
            pass  # the loop must not reap it first
        status = await process.wait()
        process._transport.close()
        return status

    assert both(look) == [255, 5]


@row("A signal for a child that was reaped, while others hold its pipes")
def test_a_signal_too_late(both, pidfds, monkeypatch):
    async def look(loop):
        pidfds(loop)
        process = await asyncio.create_subprocess_shell("sleep 60 & echo $!", stdout=PIPE)
        grandchild = int(await process.stdout.readline())
        await until(lambda: process.returncode is not None)
        sent = []
        with monkeypatch.context() as patch, contextlib.suppress(ProcessLookupError):
            patch.setattr(os, "kill", lambda pid, number: sent.append(pid))
            process.send_signal(signal.SIGUSR1)
        os.kill(grandchild, signal.SIGKILL)
        assert await process.stdout.read() == b""
        await process.wait()
        return sent == [process.pid]

    theirs, ours = both(look)
    assert not ours
    # CPython's newest looks first.
    assert not theirs or sys.version_info >= (3, 13)


@row("A child that ended and was reaped by others before it is watched")
def test_a_child_that_cannot_be_waited_for(both_programs):
    source = """
import asyncio, logging, signal, time
logging.disable()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)

async def main():
    loop = asyncio.get_running_loop()
    import subprocess
    popen = subprocess.Popen.__init__

    def starts(self, *args, **kwargs):
        popen(self, *args, **kwargs)
        time.sleep(0.1)  # it ends before it is watched

    subprocess.Popen.__init__ = starts
    try:
        process = await asyncio.create_subprocess_exec("true")
        print(await process.wait())
    except ProcessLookupError as error:
        print(type(error).__name__)

run(main())
"""
    theirs, ours = both_programs(source)
    later = sys.version_info >= (3, 12)
    assert theirs.stdout.strip() == ("ProcessLookupError" if later else "255")
    assert ours.stdout.strip() == "255"


@row("Child watchers of the policy (until 3.13)")
@pytest.mark.skipif(not HAS_WATCHERS, reason="removed in CPython 3.14")
def test_child_watchers(both):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Watcher(asyncio.ThreadedChildWatcher):
            def add_child_handler(self, pid, callback, *args):
                asked.append(pid)
                super().add_child_handler(pid, callback, *args)

        asked = []
        policy = asyncio.get_event_loop_policy()
        before = policy.get_child_watcher()
        policy.set_child_watcher(Watcher())
        try:

            async def look(loop):
                process = await asyncio.create_subprocess_exec("true")
                assert await process.wait() == 0
                found = len(asked)
                asked.clear()
                return found

            assert both(look) == [1, 0]
        finally:
            policy.set_child_watcher(before)


@row("A child whose protocol has no `connection_made`")
def test_a_protocol_that_cannot_be_connected(both, pidfds):
    class Lacks:
        def pipe_connection_lost(self, fd, exc):
            pass

        def process_exited(self):
            pass

    async def look(loop):
        pidfds(loop)
        starting = asyncio.ensure_future(loop.subprocess_exec(Lacks, "sleep", "60"))
        done, _ = await asyncio.wait([starting], timeout=1)
        if done:
            return type(starting.exception())
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        return None

    stock, native = both(look)
    # Whether asyncio's wait ends depends on when the killed child is reaped.
    assert stock in (None, AttributeError)
    assert native is AttributeError
