"""Carries out the operations of a program, then lets go of everything."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import sys
import tempfile
import threading
import time

from random_programs.chaos.awaitables import Awaitables
from random_programs.chaos.connections import Connections
from random_programs.chaos.objects import VARIABLE, Bomb
from random_programs.chaos.scheduling import Scheduling
from random_programs.chaos.streams import Streams
from random_programs.chaos.surroundings import Surroundings

FUEL = 250  # operations that one program may carry out


class World(Scheduling, Awaitables, Connections, Streams, Surroundings):
    """What a program has in its hands."""

    def __init__(self, factory, program, native):
        self.factory = factory
        self.native = native  # the module whose sleep, gather, ... are tried
        self.program = program
        self.fuel = FUEL
        self.depth = 0
        self.loop = None
        self.faults = []
        self.submitting = False  # the executors' lock is held
        self.forked = False  # in the child the executors' locks may be taken for good
        self.threads = []
        self.children = []
        self.folder = None
        self.clear()

    def clear(self):
        self.loops, self.handles, self.futures, self.tasks = [], [], [], []
        self.sockets, self.transports, self.servers = [], [], []
        self.awaitables, self.contexts, self.things, self.generators = [], [], [], []
        self.processes, self.weak, self.readers = [], [], []

    # -- carrying out -------------------------------------------------------------------------

    def do(self, steps, raising=False):
        if self.depth > 12 or self.submitting:
            return
        self.depth += 1
        try:
            for step in steps:
                if self.fuel <= 0:
                    return
                self.fuel -= 1
                try:
                    getattr(self, f"do_{step.name}")(step)
                except Exception as error:
                    self.look_at(error)
                    if raising:
                        raise
        finally:
            self.depth -= 1
        return

    def look_at(self, error):
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, SystemError) or any(
            word in text for word in ("internal error", "panicked", "lready borrowed", "mutably")
        ):
            self.faults.append(text)

    def callback(self, step, *args):
        self.do(step.then, raising=step.c % 5 == 0)
        if step.c % 23 == 1:
            raise ZeroDivisionError("in a callback")
        if step.c % 97 == 5:
            raise KeyboardInterrupt("in a callback")
        if step.c % 97 == 6:
            raise SystemExit("in a callback")

    def pick(self, pool, number):
        return pool[number % len(pool)] if pool else None

    def current(self, step):
        """Mostly the one loop, sometimes another."""
        return self.loops[-1] if step.b % 7 == 0 and self.loops else self.loop

    def function(self, step):
        """A callable of some kind that carries out what the step has under ``then``."""
        kind = step.a % 6
        if kind == 0:
            return Bomb(self, step.then, step.then)
        if kind == 1:
            bomb = Bomb(self, step.then)
            return lambda *args: (self.callback(step), bomb)
        return lambda *args: self.callback(step)

    def args(self, step):
        kind = step.b % 5
        if kind == 0:
            return (Bomb(self, step.then),)
        if kind == 1:
            return tuple(range(step.b % 12))
        if kind == 2:
            return (self.pick(self.handles, step.b), self.loop)
        return ()

    def context(self, step):
        kind = step.c % 6
        if kind == 0:
            context = contextvars.Context()
            context.run(VARIABLE.set, Bomb(self, step.then))
            return context
        if kind == 1:
            return self.pick(self.contexts, step.c)
        return None

    # -- a whole program ----------------------------------------------------------------------

    def play(self):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as self.folder:
            self.run()
        for thread in self.threads:
            thread.join(5)
            if thread.is_alive():
                self.faults.append("a thread hangs")
        self.threads.clear()
        for child in self.children:
            _, status = os.waitpid(child, 0)
            if status:
                self.faults.append(f"a forked child ended with status {status}")

    def run(self):
        if "threshold" in self.program.flags:
            gc.set_threshold(1)
        signal.signal(signal.SIGVTALRM, lambda *_: None)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda *_: None)
        self.loop = self.factory()
        self.loops.append(self.loop)
        self.loop.set_debug("debug" in self.program.flags)
        half = len(self.program.steps) // 2
        try:
            for which, steps in (
                ("first", self.program.steps[:half]),
                ("last", self.program.steps[half:]),
            ):
                self.phase(steps, f"outside {which}" in self.program.flags)
        finally:
            sys.setprofile(None)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            self.end()
            gc.set_threshold(700, 10, 10)

    def phase(self, steps, outside):
        loop = self.loop
        if outside:
            self.do(steps)
            if which_runs(self.program):
                self.phase((), False)
            return

        async def main():
            for number, step in enumerate(steps):
                self.do((step,))
                if number % 2:
                    await asyncio.sleep(0)
            await asyncio.sleep(0.002)

        if loop.is_closed():
            self.do(steps)
            return
        coroutine = main()
        with self.guarded(loop):
            self.run_main(loop, coroutine)

    def run_main(self, loop, coroutine):
        try:
            loop.run_until_complete(coroutine)
        except BaseException as error:
            self.look_at(error)
        finally:
            coroutine.close()

    @contextlib.contextmanager
    def guarded(self, loop):
        """A thread stops the loop after a while: programs cancel whatever they come across."""
        over = threading.Event()

        def guard():
            while not over.wait(0.15):
                with contextlib.suppress(RuntimeError):
                    type(loop).call_soon_threadsafe(loop, type(loop).stop, loop)

        thread = threading.Thread(target=guard, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def end(self):
        """Everything is let go of, some of it with the loop's help and some without."""
        drop = "drop" in self.program.flags or not which_runs(self.program)
        if not drop:
            for thread in self.threads:
                thread.join(5)
        for loop in list(self.loops):
            with contextlib.suppress(BaseException):
                if not drop and not loop.is_closed() and not loop.is_running():
                    for name in (
                        "call_soon",
                        "call_later",
                        "call_at",
                        "time",
                        "create_future",
                        "create_task",
                    ):
                        loop.__dict__.pop(name, None)
                    loop.set_task_factory(None)
                    loop.set_exception_handler(lambda *_: None)
                    self.fuel = 0
                    with self.guarded(loop):
                        loop.run_until_complete(self.close_all(loop))
        for loop in list(self.loops):
            for _ in range(100):  # another thread may run it
                if not loop.is_running():
                    break
                with contextlib.suppress(RuntimeError):
                    type(loop).call_soon_threadsafe(loop, type(loop).stop, loop)
                time.sleep(0.01)
        self.fuel = 60
        for loop in list(self.loops):
            for _ in range(3):
                try:
                    loop.close()
                except BaseException as error:
                    self.look_at(error)
                else:
                    break
        for sock in self.sockets:
            sock.close()
        for server in self.servers:
            with contextlib.suppress(Exception):
                for sock in server.sockets:
                    sock.close()
        self.clear_all()
        self.fuel = 0
        self.clear_all()  # what destructors have made meanwhile
        # Runs within runs, in any order, leave the last one's behind.
        sys.set_asyncgen_hooks(None, None)
        asyncio._set_running_loop(None)
        for number in (signal.SIGVTALRM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda *_: None)

    def clear_all(self):
        loops = self.loops
        self.clear()
        self.loop = None
        VARIABLE.set(None)
        for loop in loops:
            loop.__dict__.pop("kept", None)
            with contextlib.suppress(RuntimeError):
                loop.close()

    async def close_all(self, loop):
        for server in self.servers:
            server.close()
        for transport in self.transports:
            with contextlib.suppress(Exception):
                transport.abort() if hasattr(transport, "abort") else transport.close()
        tasks = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=0.1)
        await asyncio.sleep(0.001)
        await asyncio.wait_for(loop.shutdown_default_executor(), 1)


def which_runs(program):
    """Whether what is scheduled outside of the loop runs before the loop is closed."""
    return "never run" not in program.flags
