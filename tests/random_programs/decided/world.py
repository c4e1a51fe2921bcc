"""Carries out the operations of a program, one after the other, and keeps its story."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import socket
import tempfile
import time

from random_programs.decided.actors import KNOWN, VARIABLE, Actor, plain, shown
from random_programs.decided.connections import Connections
from random_programs.decided.scheduling import Scheduling
from random_programs.decided.surroundings import Surroundings

FUEL = 150
STILL = 3  # looks without a move
LIMIT = 400  # looks


class World(Scheduling, Connections, Surroundings):
    def __init__(self, factory, program, native):
        self.native = native
        self.program = program
        self.fuel = FUEL
        self.moves = 0
        self.waits = 0  # for what takes its time: threads and processes
        self.story = []
        self.kinds = {}
        self.busy = set()
        self.signalled = False
        self.now = 1000.0
        self.loop = factory()
        self.main = Actor(self, "main")
        self.reports = Actor(self, "reports")
        self.actors = [self.main, self.reports]
        self.sockets, self.ears, self.servers, self.closing = [], [], [], []
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.ticked = None
        if "own clock" in program.flags:
            self.loop.time = lambda: self.now
        self.loop.set_debug("debug" in program.flags)
        self.loop.slow_callback_duration = 1000
        self.loop.set_exception_handler(self.reported)
        self.loop.add_reader(self.near, self.tick)

    def actor(self, kind):
        """A new one; its number distinguishes it from others of its kind."""
        self.kinds[kind] = number = self.kinds.get(kind, 0) + 1
        made = Actor(self, f"{kind} {number}")
        self.actors.append(made)
        return made

    # -- the ground ---------------------------------------------------------------------------

    def reported(self, loop, context):
        text = plain(context["message"].split("\n")[0])
        if text.startswith("Exception in callback"):
            text = "Exception in callback"  # asyncio names its own methods
        self.reports.note(text, shown(context.get("exception")), sorted(set(context) - KNOWN))
        if "handler raises" in self.program.flags:
            raise ValueError("in the handler")

    def tick(self):
        self.near.recv(100)
        if self.ticked is not None and not self.ticked.done():
            self.ticked.set_result(None)

    async def look(self):
        self.ticked = self.loop.create_future()
        self.far.send(b".")
        await self.ticked

    async def looks(self):
        still, last = 0, None
        for _ in range(LIMIT):
            await self.look()
            current = self.moves
            if current == last and not self.waits:
                still += 1
                if still >= STILL:
                    return
            else:
                still, last = 0, current
                if self.waits:
                    time.sleep(0.0002)

    def settle(self):
        if self.loop.is_closed():
            return
        task = asyncio.Task(self.looks(), loop=self.loop)
        for _ in range(20):
            try:
                self.loop.run_until_complete(task)
                return
            except (RuntimeError, KeyboardInterrupt, SystemExit, ZeroDivisionError) as error:
                self.main.note("the run ended", shown(error))

    def do(self, actor, steps):
        for step in steps:
            if self.fuel <= 0:
                return
            self.fuel -= 1
            try:
                getattr(self, f"do_{step.name}")(actor, step)
            except Exception as error:
                actor.note(step.name, "raises", shown(error))
            except (KeyboardInterrupt, SystemExit) as error:
                if step.name != "handle":  # out of Handle._run()
                    raise
                actor.note(step.name, "raises", shown(error))

    def callback(self, actor, step, *args):
        actor.note("called", step.name, len(args), VARIABLE.get())
        if step.c % 3 == 0:
            VARIABLE.set(step.c)
        self.do(actor, step.then)
        if step.c % 11 == 1:
            raise ZeroDivisionError("in a callback")
        if step.c % 41 == 2:
            raise KeyboardInterrupt("in a callback")
        if step.c % 41 == 3:
            raise SystemExit("in a callback")

    def args(self, actor, step):
        return (actor, step, *range(step.b % 5))

    def context(self, actor, step):
        if step.c % 5 == 0:
            context = contextvars.Context()
            actor.contexts.append(context)
            return context
        if step.c % 5 == 1:
            return self.pick(actor.contexts, step.a)
        return None

    @staticmethod
    def pick(pool, number):
        return pool[number % len(pool)] if pool else None

    # -- a whole program --------------------------------------------------------------------------

    def play(self):
        with tempfile.TemporaryDirectory() as self.folder:
            try:
                for number, step in enumerate(self.program.steps):
                    if step.c % 3 and not self.loop.is_closed():
                        self.loop.call_soon(self.do, self.main, (step,))
                    else:
                        self.do(self.main, (step,))
                    self.settle()
                    self.end_step(f"{number} {step.name}")
                self.finish()
            finally:
                self.dispose()
        return self.story

    def end_step(self, title):
        self.reports.lines.sort()
        taken = [(actor.name, actor.take()) for actor in self.actors]
        self.story.append((title, sorted(each for each in taken if each[1])))

    def finish(self):
        if self.loop.is_closed():
            self.end_step("closed")
            return
        self.fuel = 0
        for ear in self.ears:
            if ear.actor.transport is not None:
                with contextlib.suppress(Exception):
                    if ear.secure:
                        # asyncio's ends no connection whose peer's end waits behind a pause.
                        ear.actor.transport.resume_reading()
                    ear.actor.transport.close()
        self.settle()
        for ear in self.ears:
            if ear.actor.transport is not None:
                with contextlib.suppress(Exception):
                    ear.actor.transport.abort()
        for server in self.servers:
            server.close()
        for task in list(itertools.chain(*(actor.tasks for actor in self.actors))):
            task.cancel()
        self.settle()
        self.end_step("the end")
        self.loop.set_task_factory(None)
        for method in (self.loop.shutdown_asyncgens, self.loop.shutdown_default_executor):
            with contextlib.suppress(RuntimeError, KeyboardInterrupt, SystemExit):
                self.loop.run_until_complete(method())
        self.settle()
        self.end_step("shut down")

    def dispose(self):
        with contextlib.suppress(Exception):
            self.loop.remove_reader(self.near)
        self.loop.close()
        self.near.close()
        self.far.close()
        for sock in self.sockets:
            sock.close()
        for thing in self.closing:
            with contextlib.suppress(Exception):
                thing.close()
        self.loop.__dict__.pop("time", None)
