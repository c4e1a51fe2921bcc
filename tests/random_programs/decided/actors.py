"""The parts of a program while it runs: actors, and protocols that belong to one."""

from __future__ import annotations

import asyncio
import contextvars
import re

# What reports are not compared in, because of a difference that is to be mended.
KNOWN: set[str] = set()
VARIABLE = contextvars.ContextVar("variable", default=0)


def plain(text):
    text = re.sub(r"<[^<>]*>", "<...>", re.sub(r"<[^<>]*>", "<...>", str(text)))
    return re.sub(r"\(_ssl\.c:\d+\)", "(_ssl.c)", re.sub(r"0x[0-9a-f]+", "0x...", text))


def shown(error):
    return "None" if error is None else f"{type(error).__name__}: {plain(error)}"[:150]


class Actor:
    """A part of a program: its story, and the objects that it may work on."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.lines = []
        self.handles, self.futures, self.tasks, self.contexts = [], [], [], []
        self.transport = None
        self.lost, self.closes = False, 0
        self.received = 0

    def note(self, *words):
        self.world.moves += 1
        self.lines.append(" ".join(map(str, words)))

    def heard(self, size):
        """Data: how it is cut into calls is the kernel's business, and up to when writes leave."""
        self.world.moves += 1
        if not self.received:
            self.lines.append("data")
        self.received += size

    def take(self):
        """What happened since the last time."""
        lines, self.lines = self.lines, []
        if self.received:
            lines.append(f"received {self.received}")
            self.received = 0
        return lines


class Ear(asyncio.Protocol):
    secure = False

    def __init__(self, world, step, name):
        self.actor = world.actor(name)
        self.world, self.step = world, step
        self.reactions = 3
        self.reacted = set()

    def react(self, which):
        # asyncio watches a pipe that is closed in connection_made, and then its number.
        # A pause in connection_made holds asyncio's handshake up.
        if which == 0 and (self.secure or self.actor.name.startswith(("reading", "writing"))):
            return
        if self.reactions > 0 and (self.step.b + which) % 3 == 0 and which not in self.reacted:
            self.reactions -= 1
            if which == 1:
                self.reacted.add(which)
            self.world.do(self.actor, self.step.then)
            if self.step.c % 7 == 0:
                raise ZeroDivisionError("in a protocol")

    def connection_made(self, transport):
        self.actor.transport = transport
        self.actor.note("connection_made", VARIABLE.get())
        self.react(0)

    def data_received(self, data):
        self.actor.heard(len(data))
        self.react(1)

    def eof_received(self):
        self.actor.note("eof_received")
        self.react(2)
        return self.step.c % 2

    def pause_writing(self):
        self.actor.note("pause_writing")
        self.react(3)

    def resume_writing(self):
        self.actor.note("resume_writing")
        self.react(4)

    def connection_lost(self, error):
        self.actor.lost = True
        self.actor.note("connection_lost", shown(error))
        self.react(5)

    def datagram_received(self, data, address):
        self.actor.note("datagram", len(data))
        self.react(1)

    def error_received(self, error):
        self.actor.note("error_received", shown(error))
        self.react(2)


class BufferEar(Ear, asyncio.BufferedProtocol):
    def get_buffer(self, hint):
        self.buffer = bytearray((7, 1000, 65536)[self.step.a % 3])
        return self.buffer

    def buffer_updated(self, count):
        self.actor.heard(count)
        self.react(1)
