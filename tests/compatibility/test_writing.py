"""Rows about when written data leaves, and how it is changed or lost before."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

import pytest

from compatibility.rows import row
from support.recording import Recorder, in_thread, read_exactly, transport_pair

pytestmark = pytest.mark.native_only(reason="looks at both loops already")


def received(sock):
    """What has come by now."""
    sock.setblocking(False)
    try:
        return sock.recv(1000)
    except BlockingIOError:
        return None


@row("When a small `write()` leaves")
def test_a_small_write(both):
    async def look(loop):
        transport, protocol, far = await transport_pair(loop)
        transport.write(b"small")
        at_once = received(far)
        await asyncio.sleep(0.001)
        later = received(far)
        # One that goes over the mark leaves as far as the kernel takes it.
        transport.write(bytes(64 * 1024 + 1))
        large = received(far)
        transport.abort()
        await protocol.lost()
        far.close()
        return at_once, later, bool(large)

    theirs, ours = both(look)
    assert theirs == (b"small", None, True)
    assert ours == (None, b"small", True)


@row("When a small `write()` leaves")
def test_a_small_write_before_other_callbacks(both):
    def look(loop):
        near, far = socket.socketpair()
        transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
        seen = []

        def again():
            seen.append(received(far))
            if len(seen) < 100:
                loop.call_soon(again)
            else:
                loop.stop()

        def start():
            transport.write(b"small")
            loop.call_soon(again)

        loop.call_soon(start)
        loop.run_forever()
        # Outside of the loop it leaves at once on both.
        transport.write(b"idle")
        idle = received(far)
        transport.abort()
        far.close()
        loop.run_until_complete(protocol.lost())
        return seen.index(b"small"), idle

    (theirs, idle), (ours, our_idle) = both(look)
    # The next batch finds it sent.
    assert theirs == ours == 0
    assert idle == our_idle == b"idle"


@row("An error in a deferred `write()`")
def test_an_error_in_a_write(both):
    async def look(loop):
        near, far = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=near)
        far.close()
        transport.write(b"nobody reads this")
        ended = transport.is_closing()
        return ended, type(await protocol.lost())

    theirs, ours = both(look)
    assert theirs == (True, BrokenPipeError)
    assert ours == (False, BrokenPipeError)


@row("Mutable data given to `write()`")
def test_data_that_changes(both):
    size = 8 << 20

    async def look(loop):
        transport, protocol, far = await transport_pair(loop)
        data = bytearray(b"a" * size)
        transport.write(data)
        data[:] = b"b" * size
        arrived = await in_thread(read_exactly, far, size)
        transport.abort()
        await protocol.lost()
        far.close()
        return b"b" in arrived

    theirs, ours = both(look)
    assert theirs == (sys.version_info >= (3, 12))
    assert not ours


@row("Writing to a peer that is gone where `SIGPIPE` is not ignored")
def test_sigpipe(both_programs):
    source = """
import asyncio, signal, socket
signal.signal(signal.SIGPIPE, signal.SIG_DFL)

async def main():
    near, far = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
    far.close()
    transport.write(b"anybody?")
    await asyncio.sleep(0.01)

run(main())
"""
    theirs, ours = both_programs(source, check=False)
    assert theirs.returncode == -signal.SIGPIPE
    assert ours.returncode == 0


@row("`writelines()` of more than the kernel takes, 3.12 and 3.13 before their correction")
def test_lines_that_the_kernel_does_not_take(both):
    class Paused(Recorder):
        paused = False

        def pause_writing(self):
            self.paused = True

    async def look(loop):
        near, far = socket.socketpair()
        transport, protocol = await loop.create_connection(Paused, sock=near)
        transport.writelines([bytes(8 << 20)])
        paused = protocol.paused
        buffered = transport.get_write_buffer_size() > 64 * 1024
        transport.abort()
        await protocol.lost()
        far.close()
        return buffered, paused

    theirs, ours = both(look)
    assert ours == (True, True)
    assert theirs == ours or (3, 12) <= sys.version_info < (3, 13, 2)


@row("`writelines()` on a connection that is lost, 3.12 and 3.13 before their correction")
def test_lines_on_a_connection_that_is_lost(both):
    async def look(loop):
        near, far = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=near)
        transport.abort()
        await protocol.lost()
        far.close()
        try:
            return transport.writelines([b"words"])
        except (TypeError, AttributeError) as error:
            return str(error)

    theirs, ours = both(look)
    assert ours is None
    assert theirs is None or (3, 12) <= sys.version_info < (3, 14)
