"""Child processes for tests to start, and a protocol that watches one."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import subprocess
import sys

import pytest

PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT

# Starts quickly, lives until it is killed.
SLEEPER = ("sleep", "600")


def python(source):
    return sys.executable, "-S", "-c", source


async def output_of(*args, **options):
    """Exit status and standard output of a program run to its end."""
    process = await asyncio.create_subprocess_exec(*args, stdout=PIPE, **options)
    output, _ = await process.communicate()
    return process.returncode, output


@contextlib.asynccontextmanager
async def living(*args, **options):
    """A child that is killed at the end, if it still lives."""
    process = await asyncio.create_subprocess_exec(*(args or SLEEPER), **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextlib.contextmanager
def none_left():
    """Every child that is started within has been waited for at the end.

    Not `waitpid(-1)`: multiprocessing may keep helpers of its own for other tests.
    """
    started = array.array("i")  # no objects: some tests that use this count them

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self.pid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Popen)
        yield started
    for pid in started:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


class Witness(asyncio.SubprocessProtocol):
    """Writes down the callbacks of a process transport."""

    def __init__(self):
        self.calls = []
        self.received = {1: b"", 2: b""}
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.calls.append("made")

    def pipe_data_received(self, fd, data):
        self.received[fd] += data

    def pipe_connection_lost(self, fd, exc):
        self.calls.append(f"pipe {fd} lost")

    def process_exited(self):
        self.calls.append("exited")

    def connection_lost(self, exc):
        self.calls.append("lost")
        self.lost.set_result(exc)
