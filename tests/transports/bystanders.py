"""Files that must survive when the making of a transport fails, and protocols that make it fail."""

from __future__ import annotations

import asyncio
import gc
import os
import socket

from support.recording import Recorder


class Bystanders:
    """Files that take the numbers that were just freed."""

    def __enter__(self):
        self.files = [open(os.devnull, "rb") for _ in range(16)]  # noqa: SIM115
        return self

    def __exit__(self, *_exc):
        for file in self.files:
            file.close()

    def unharmed(self):
        for file in self.files:
            os.fstat(file.fileno())
        return True


async def settle(rounds=3):
    """Let callbacks run, and destructors."""
    for _ in range(rounds):
        await asyncio.sleep(0.001)
        gc.collect()


def connect(server):
    peer = socket.create_connection(server.sockets[0].getsockname()[:2])
    peer.settimeout(20)
    return peer


class NoConnectionMade:
    """Everything but ``connection_made``."""

    def data_received(self, data):
        pass

    def eof_received(self):
        pass

    def connection_lost(self, exc):
        pass

    def process_exited(self):
        pass

    def pipe_connection_lost(self, fd, exc):
        pass


class Untouchable(Recorder):
    """One whose ``connection_made`` cannot even be looked at."""

    @property
    def connection_made(self):
        raise LookupError("not to be looked at")


def async_made():
    class Coroutine(Recorder):
        async def connection_made(self, transport):
            pass

    return Coroutine()


BROKEN = {
    "missing": (NoConnectionMade, AttributeError),
    "raising": (Untouchable, LookupError),
}
