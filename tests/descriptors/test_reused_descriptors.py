"""A descriptor is closed and its number is used again: waiters act on the old file only.

asyncio's loop leaves the new file alone as well, but does not serve it either: its selector takes
the number for the old file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

import pytest

from support.iterations import run_iterations
from support.recording import Reports
from support.reused_numbers import pair_with

SECRET = b"for the old peer only "


def pair():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


@contextlib.contextmanager
def reused(near):
    """Closes ``near``; a new pair whose first end has its number."""
    number = near.fileno()
    near.close()
    again, peer = pair_with(number)
    with again, peer:
        again.setblocking(False)
        peer.setblocking(False)
        yield again, peer


async def pause():
    for _ in range(5):
        await asyncio.sleep(0.001)


def drained(sock):
    data = bytearray()
    with contextlib.suppress(BlockingIOError):
        while chunk := sock.recv(1 << 20):
            data += chunk
    return bytes(data)


async def call(coroutine):
    return await coroutine


OLD_CALLS = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 100),
    "a large sock_recv": lambda loop, sock: loop.sock_recv(sock, 1 << 20),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(100)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, SECRET * 100_000),
}
if sys.version_info >= (3, 11):
    OLD_CALLS["sock_recvfrom"] = lambda loop, sock: loop.sock_recvfrom(sock, 100)


async def nothing(loop, sock):
    await asyncio.sleep(60)


NEW_CALLS = {
    "nothing": nothing,
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 100),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"mine" * 100_000),
}


@pytest.mark.parametrize("new", NEW_CALLS)
@pytest.mark.parametrize("old", OLD_CALLS)
def test_a_call_that_waits_does_not_touch_the_new_socket(loop, old, new):
    async def scenario():
        near, far = pair()
        with far:
            waiting = asyncio.ensure_future(call(OLD_CALLS[old](loop, near)))
            await pause()
            with reused(near) as (again, peer):
                other = asyncio.ensure_future(call(NEW_CALLS[new](loop, again)))
                await pause()
                peer.send(b"for the new one")
                received = b""
                for _ in range(10):
                    await pause()
                    received += drained(peer)
                assert not waiting.done()
                assert SECRET not in received
                if not other.done():
                    assert drained(again) in (b"for the new one", b"")
                waiting.cancel()
                other.cancel()
                await asyncio.wait([waiting, other])

    loop.run_until_complete(scenario())


@pytest.mark.native_only(reason="asyncio's selector takes the new socket for the old one")
@pytest.mark.parametrize("old", OLD_CALLS)
def test_a_call_on_the_new_socket_works(loop, old):
    async def scenario():
        near, far = pair()
        with far:
            waiting = asyncio.ensure_future(call(OLD_CALLS[old](loop, near)))
            await pause()
            with reused(near) as (again, peer):
                receiving = asyncio.ensure_future(call(loop.sock_recv(again, 100)))
                await pause()
                peer.send(b"for the new one")
                assert await asyncio.wait_for(receiving, 10) == b"for the new one"
                payload = b"mine" * 100_000
                sending = asyncio.ensure_future(call(loop.sock_sendall(again, payload)))
                received = b""
                while len(received) < len(payload):
                    await pause()
                    received += drained(peer)
                await sending
                assert received == payload
                # The end of the old call takes nothing from the new one.
                receiving = asyncio.ensure_future(call(loop.sock_recv(again, 100)))
                await pause()
                waiting.cancel()
                await asyncio.wait([waiting])
                peer.send(b"more")
                assert await asyncio.wait_for(receiving, 10) == b"more"

    loop.run_until_complete(scenario())


@pytest.mark.native_only(reason="asyncio's add_writer() raises FileNotFoundError")
def test_a_reader_is_not_called_for_the_new_socket(loop):
    near, far = pair()
    with far:
        called = []
        loop.add_reader(near, called.append, "old")
        with reused(near) as (again, peer):
            loop.add_writer(again, called.append, "new")
            peer.send(b"x")
            run_iterations(loop)
            assert set(called) == {"new"}
            assert loop.remove_reader(again) is False
            assert loop.remove_writer(again) is True


@pytest.mark.native_only(reason="asyncio's selector takes the new socket for the old one")
def test_the_same_watch_on_the_new_socket_works(loop):
    near, far = pair()
    with far:
        called = []
        loop.add_reader(near, called.append, "old")
        with reused(near) as (again, peer):
            loop.add_reader(again, called.append, "new")
            peer.send(b"x")
            run_iterations(loop)
            assert set(called) == {"new"}
            assert loop.remove_reader(again) is True
            assert loop.remove_reader(again) is False


@pytest.mark.native_only(reason="asyncio's add_writer() raises FileNotFoundError")
@pytest.mark.parametrize("waits", ["sock_accept", "sock_recvfrom"])
def test_the_end_of_asyncios_own_call_leaves_the_new_reader(loop, waits):
    if waits == "sock_recvfrom" and sys.version_info < (3, 11):
        pytest.skip("came with Python 3.11")

    async def scenario():
        if waits == "sock_accept":
            near = socket.create_server(("127.0.0.1", 0))
            near.setblocking(False)
            coroutine = loop.sock_accept(near)
        else:
            near, far = pair()
            far.close()
            far, near = near, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            far.close()
            near.setblocking(False)
            near.bind(("127.0.0.1", 0))
            coroutine = loop.sock_recvfrom(near, 100)
        waiting = asyncio.ensure_future(coroutine)
        await pause()
        with reused(near) as (again, peer):
            called = []
            loop.add_writer(again, called.append, "written")
            await pause()
            waiting.cancel()
            await asyncio.wait([waiting])
            loop.remove_writer(again)
            loop.add_reader(again, lambda: called.append(again.recv(10)))
            peer.send(b"x")
            await pause()
            assert called[-1] == b"x"
            assert loop.remove_reader(again) is True

    reports = Reports(loop)
    loop.run_until_complete(scenario())
    assert reports.contexts == []


@pytest.mark.native_only(reason="asyncio's selector calls the reader of the old socket for ever")
@pytest.mark.parametrize("again_by", ["reader", "sock_recv", "nothing"])
def test_a_copy_of_the_old_descriptor_that_stays_readable_costs_nothing(loop, again_by):
    """The kernel goes on reporting it, under the number that it was watched by."""

    async def scenario():
        near, far = pair()
        called = []
        loop.add_reader(near, called.append, "old")
        copy = near.dup()
        with far, copy, reused(near) as (again, peer):
            if again_by == "nothing":
                assert loop.remove_reader(again) is True
            elif again_by == "reader":
                loop.add_reader(again, lambda: called.append(again.recv(10)))
            else:
                receiving = asyncio.ensure_future(call(loop.sock_recv(again, 10)))
                await pause()
            far.send(b"old")
            await asyncio.sleep(0.01)
            assert called == []
            peer.send(b"new")
            before = os.times()
            await asyncio.sleep(0.3)
            after = os.times()
            spent = after.user + after.system - before.user - before.system
            assert spent < 0.15, "the loop turned all the time"
            if again_by == "reader":
                assert called == [b"new"]
                loop.remove_reader(again)
            elif again_by == "sock_recv":
                assert await receiving == b"new"

    loop.run_until_complete(scenario())


def test_a_call_on_a_socket_that_was_closed_ends_if_the_kernel_still_reports_it(loop):
    async def scenario():
        near, far = pair()
        copy = near.dup()
        with far, copy:
            receiving = asyncio.ensure_future(call(loop.sock_recv(near, 10)))
            await pause()
            near.close()
            far.send(b"x")
            with pytest.raises(OSError, match="Bad file descriptor"):
                await asyncio.wait_for(receiving, 10)
            assert copy.recv(10) == b"x"

    loop.run_until_complete(scenario())
