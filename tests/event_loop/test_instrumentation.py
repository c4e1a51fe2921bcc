"""Tools that replace ``asyncio.Handle._run`` see every callback: aiodebug works in this way."""

from __future__ import annotations

import asyncio
import socket
from asyncio import events

import pytest

from support.recording import Reports


@pytest.fixture(params=[False, True], ids=["plain", "debug"])
def seen(request, loop, monkeypatch):
    """The handles that ran, each as its text before it ran."""
    loop.set_debug(request.param)
    original = events.Handle._run
    texts = []

    def _run(self):
        texts.append(repr(self))
        return original(self)

    monkeypatch.setattr(events.Handle, "_run", _run)
    return texts


def named(seen, name):
    return sum(name in text for text in seen)


def test_every_way_to_schedule_is_seen(loop, seen):
    ran = []

    def one(*args):
        ran.append(args)

    async def main():
        loop.call_soon(one)
        loop.call_later(0, one, 1)
        loop.call_at(loop.time(), one, 1, 2)
        loop.call_soon_threadsafe(one, 1, 2, 3)
        kept = loop.call_soon(one, 1, 2, 3, 4)
        loop.call_soon(one, "never").cancel()
        await asyncio.sleep(0.01)
        assert not kept.cancelled()

    loop.run_until_complete(main())
    assert sorted(ran, key=len) == [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]
    assert named(seen, "test_every_way_to_schedule_is_seen.<locals>.one") == 5


def test_events_of_descriptors_and_transports_are_seen(loop, seen):
    async def main():
        near, far = socket.socketpair()
        with far:
            near.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=near)
            before = len(seen)
            far.send(b"line\n")
            assert await reader.readline() == b"line\n"
            assert len(seen) > before
            writer.close()
            await writer.wait_closed()

    loop.run_until_complete(main())


def test_errors_are_reported_as_without_a_tool(loop, seen):
    reports = Reports(loop)
    loop.call_soon(lambda: 1 / 0)
    loop.run_until_complete(asyncio.sleep(0))
    report = reports.only()
    assert isinstance(report["exception"], ZeroDivisionError)
    assert report["message"].startswith("Exception in callback ")
    loop.call_soon(exit_with, 3)
    with pytest.raises(SystemExit):
        loop.run_forever()


def exit_with(status):
    raise SystemExit(status)


def test_the_original_comes_back(loop, seen, monkeypatch):
    monkeypatch.undo()
    del seen[:]
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == []
