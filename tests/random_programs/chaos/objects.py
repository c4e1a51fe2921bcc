"""Callbacks and protocols of chaos programs, which carry out operations."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars

VARIABLE = contextvars.ContextVar("variable")
TLS = {}


class Bomb:
    """Runs operations when it goes, or when it is looked at."""

    def __init__(self, world, then, looked_at=()):
        self.world, self.then, self.looked_at = world, then, looked_at

    def __del__(self):
        then, self.then = self.then, ()
        self.world.do(then)

    def __call__(self, *args, **kwargs):
        return self.world.do(self.looked_at)

    def __repr__(self):
        self.world.do(self.looked_at)
        return "Bomb"

    def __bool__(self):
        self.world.do(self.looked_at)
        return True

    def __hash__(self):
        self.world.do(self.looked_at)
        return 1

    def __eq__(self, other):
        self.world.do(self.looked_at)
        return self is other

    def __float__(self):
        self.world.do(self.looked_at)
        return 0.001

    def __index__(self):
        self.world.do(self.looked_at)
        return 1

    def __iter__(self):
        self.world.do(self.looked_at)
        return iter([b"one", bytearray(b"two")])

    def __str__(self):
        self.world.do(self.looked_at)
        return "bomb"

    def __fspath__(self):
        self.world.do(self.looked_at)
        return "/nonexistent"

    def fileno(self):
        self.world.do(self.looked_at)
        return self.world.sockets[0].fileno() if self.world.sockets else -1

    def __await__(self):
        self.world.do(self.looked_at)
        yield
        self.world.do(self.looked_at)


class Duration(float):
    """A number that does something when it is used."""

    world = None
    then = ()

    def _use(self):
        then, self.then = self.then, ()
        self.world.do(then)

    def __add__(self, other):
        self._use()
        return float(self) + other

    __radd__ = __add__

    def __lt__(self, other):
        self._use()
        return float(self) < other

    def __le__(self, other):
        self._use()
        return float(self) <= other

    def __float__(self):
        self._use()
        return 0.001

    def __eq__(self, other):
        self._use()
        return False

    __hash__ = float.__hash__


class Ear(asyncio.Protocol):
    """A protocol of all kinds whose callbacks carry out operations."""

    def __init__(self, world, step):
        self.world, self.step = world, step
        self.left = 6
        self.transport = None

    def __del__(self):
        if self.step.c % 3 == 0:
            self.world.do(self.step.then)

    def _heard(self, which):
        self.left -= 1
        if self.left > 0 and (self.step.b + which) % 3 == 0:
            self.world.do(self.step.then, raising=self.step.c % 4 == 0)

    def connection_made(self, transport):
        self.transport = transport
        self.world.transports.append(transport)
        self._heard(0)

    def data_received(self, data):
        self._heard(1)

    def eof_received(self):
        self._heard(2)
        return self.step.c % 2

    def pause_writing(self):
        self._heard(3)

    def resume_writing(self):
        self._heard(4)

    def connection_lost(self, exc):
        self._heard(5)

    def datagram_received(self, data, address):
        self._heard(1)

    def error_received(self, error):
        self._heard(2)

    def pipe_data_received(self, fd, data):
        self._heard(1)

    def pipe_connection_lost(self, fd, error):
        self._heard(2)

    def process_exited(self):
        self._heard(3)


class BufferEar(Ear, asyncio.BufferedProtocol):
    """Gives out buffers of which some lie."""

    def get_buffer(self, hint):
        self._heard(0)
        self.buffer = bytearray((1, 10, 65536)[self.step.a % 3])
        kind = self.step.c % 7
        if kind == 3:
            return memoryview(self.buffer)
        if kind == 4:
            view = memoryview(self.buffer)
            view.release()
            return view
        if kind == 5:
            return b"read-only"
        if kind == 6:
            return bytearray()
        return self.buffer

    def buffer_updated(self, count):
        with contextlib.suppress(BufferError):
            self.buffer.clear()
        self._heard(1)
