"""Pipes that break or are full, and children that die while they are talked to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys

import pytest

from faults.harness import MIB, clog, endure, pipe, raw, until
from support.children import none_left
from support.recording import Recorder, Reports

PIPE = asyncio.subprocess.PIPE
logs_lost_stdin = pytest.mark.skipif(
    sys.version_info < (3, 11, 7), reason="older asyncio logs a child's lost stdin as well"
)


# --- a disk that is full ---


def test_a_device_that_is_full(loop):
    async def fault():
        transport, protocol = await loop.connect_write_pipe(Recorder, raw("/dev/full", "wb"))
        transport.write(b"no room")
        error = await protocol.lost()
        assert type(error) is OSError
        assert error.errno == errno.ENOSPC
        assert str(error) == "[Errno 28] No space left on device"
        assert protocol.story == ["connection_made", "connection_lost"]
        assert transport.is_closing()
        transport.write(b"into the void")

    # As any error of the system's: passed to the protocol, not reported.
    assert not endure(loop, fault)


def test_a_device_that_is_full_is_logged_in_debug_mode(loop, caplog):
    async def scenario():
        transport, protocol = await loop.connect_write_pipe(Recorder, raw("/dev/full", "wb"))
        transport.write(b"no room")
        await protocol.lost()

    loop.set_debug(True)
    with caplog.at_level("DEBUG", logger="asyncio"):
        loop.run_until_complete(scenario())
    assert "Fatal write error on pipe transport" in caplog.text


def test_a_stream_to_a_device_that_is_full(loop):
    async def fault():
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, raw("/dev/full", "wb")
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        writer.write(b"no room")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(ConnectionResetError, match="Connection lost"):
            await writer.drain()

    assert not endure(loop, fault)


# --- pipes that break ---


def test_a_reader_that_leaves(loop):
    async def fault():
        reading, writing = pipe()
        transport, protocol = await loop.connect_write_pipe(Recorder, writing)
        reading.close()
        # Nothing was to be written: no error.
        assert await protocol.lost() is None
        assert transport.is_closing()

    assert not endure(loop, fault)


def test_a_reader_that_leaves_with_much_to_be_written(loop):
    async def fault():
        reading, writing = pipe()
        transport, protocol = await loop.connect_write_pipe(Recorder, writing)
        transport.write(bytes(MIB))
        await protocol.called("pause_writing")
        reading.close()
        assert isinstance(await protocol.lost(), BrokenPipeError)
        assert protocol.losses == 1
        assert transport.get_write_buffer_size() == 0

    assert not endure(loop, fault, rounds=12)


def test_a_reader_that_leaves_just_before_a_write(loop):
    async def fault():
        reading, writing = pipe()
        transport, protocol = await loop.connect_write_pipe(Recorder, writing)
        reading.close()
        transport.write(b"nobody reads this")
        loss = await protocol.lost()
        assert loss is None or isinstance(loss, BrokenPipeError)
        for _ in range(3):
            transport.write(b"nor this")
        assert protocol.losses == 1

    assert not endure(loop, fault)


def test_a_writer_that_leaves_in_the_middle(loop):
    async def fault():
        reading, writing = pipe()
        _, protocol = await loop.connect_read_pipe(Recorder, reading)
        writing.write(b"half a mess")
        writing.close()
        assert await protocol.lost() is None
        assert bytes(protocol.received) == b"half a mess"
        assert protocol.story[-2:] == ["eof_received", "connection_lost"]

    assert not endure(loop, fault)


def test_a_socket_as_a_pipe_whose_peer_resets(loop):
    async def fault():
        near, far = socket.socketpair()
        transport, protocol = await loop.connect_write_pipe(Recorder, near)
        await clog(transport, protocol)
        far.close()
        assert isinstance(await protocol.lost(), (BrokenPipeError, ConnectionResetError))

    assert not endure(loop, fault, rounds=8)


def test_a_terminal_that_hangs_up(loop):
    async def fault():
        master, slave = os.openpty()
        _, protocol = await loop.connect_read_pipe(Recorder, raw(master, "rb"))
        os.write(slave, b"bye")
        await protocol.got(3)
        os.close(slave)
        # Linux reports the end of a terminal as an input/output error.
        loss = await protocol.lost()
        assert isinstance(loss, OSError)
        assert loss.errno == errno.EIO

    assert not endure(loop, fault)


@pytest.mark.parametrize("name", ["data_received", "eof_received", "connection_lost"])
def test_a_pipe_protocol_that_raises(loop, name):
    def callback(self, *args):
        getattr(Recorder, name)(self, *args)
        raise ValueError("trouble")

    raising = type("Raises", (Recorder,), {name: callback})
    reports = Reports(loop)

    async def scenario():
        reading, writing = pipe()
        _, protocol = await loop.connect_read_pipe(raising, reading)
        writing.write(b"x")
        await protocol.got(1)
        writing.close()
        await until(lambda: protocol.losses or reports.contexts)
        await protocol.lost()
        # A callback of the loop's, which takes it out of the transport's way.
        assert str(reports.only()["exception"]) == "trouble"

    loop.run_until_complete(scenario())


# --- children ---


async def finished(process):
    """The child has ended, and what it wrote is read."""
    out = await process.stdout.read() if process.stdout else b""
    return await process.wait(), out


@logs_lost_stdin
def test_a_child_that_is_killed_while_its_pipes_are_written(loop):
    async def fault():
        process = await asyncio.create_subprocess_exec("sleep", "60", stdin=PIPE, stdout=PIPE)
        process.stdin.write(bytes(MIB))
        draining = asyncio.ensure_future(process.stdin.drain())
        await asyncio.sleep(0)
        process.kill()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await draining
        assert await finished(process) == (-signal.SIGKILL, b"")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await process.stdin.drain()

    assert not endure(loop, fault, rounds=6, most=1024)


@logs_lost_stdin
def test_a_child_that_ends_without_reading(loop):
    async def fault():
        process = await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        # Neither a broken pipe nor a reset is communicate()'s affair.
        out, _ = await process.communicate(bytes(MIB))
        assert (out, process.returncode) == (b"", 0)

    assert not endure(loop, fault, rounds=6, most=1024)


def test_a_child_that_closes_its_input_and_lives_on(loop):
    async def fault():
        process = await asyncio.create_subprocess_shell(
            "exec 0<&-; echo closed; sleep 60", stdin=PIPE, stdout=PIPE
        )
        assert await process.stdout.readline() == b"closed\n"
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                process.stdin.write(bytes(1024))
                await process.stdin.drain()
                await asyncio.sleep(0)
        assert process.returncode is None
        # The shell's child holds the other end of the pipe: the whole session must go.
        process.kill()
        process._transport.get_pipe_transport(1).close()
        assert await process.wait() == -signal.SIGKILL

    assert not endure(loop, fault, rounds=4, most=1024)


def test_a_child_that_is_gone_before_it_is_signalled(loop):
    async def fault():
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0
        for signalling in (process.kill, process.terminate):
            with pytest.raises(ProcessLookupError):
                signalling()

    assert not endure(loop, fault, rounds=6, most=1024)


def test_a_missing_program(loop):
    async def fault():
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/nowhere/at/all", stdin=PIPE, stdout=PIPE)
        with pytest.raises(PermissionError):
            await asyncio.create_subprocess_exec("/etc", stdin=PIPE, stdout=PIPE)

    assert not endure(loop, fault, rounds=6, most=1024)


def test_a_child_that_other_code_has_waited_for(loop, caplog):
    """It is reported as ended; its status is lost (asyncio says 255)."""
    # The warnings of it would be kept until the end of the test.
    caplog.set_level(logging.CRITICAL, logger="asyncio")

    async def fault():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        os.kill(process.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, 0)
        assert await process.wait() in (255, -signal.SIGKILL)

    assert not endure(loop, fault, rounds=6, most=1024)


def test_starting_a_child_that_is_cancelled(loop):
    async def fault():
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec("sleep", "60", stdin=PIPE, stdout=PIPE)
        )
        await asyncio.sleep(0)
        starting.cancel()
        try:
            process = await starting
        except asyncio.CancelledError:
            # Whether it was started or not, nothing of it is left.
            pass
        else:
            process.kill()
            await finished(process)

    with none_left():
        endure(loop, fault, rounds=6, most=1024)


def test_children_that_die_by_the_dozen(loop):
    async def fault():
        processes = await asyncio.gather(
            *(asyncio.create_subprocess_exec("sleep", "60", stdout=PIPE) for _ in range(6))
        )
        for process in processes:
            process.kill()
        ends = await asyncio.gather(*map(finished, processes))
        assert ends == [(-signal.SIGKILL, b"")] * 6

    assert not endure(loop, fault, rounds=6, most=4096)
