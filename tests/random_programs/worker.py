"""A process that runs many programs. What it cannot survive, its parent sees (see `runs.py`)."""

from __future__ import annotations

import asyncio
import ast
import faulthandler
import gc
import logging
import os
import selectors
import signal
import sys
import threading
import time
import types
import warnings

from random_programs import chaos, decided
from random_programs.programs import Program, Step, generate

LONGEST = 20  # seconds for one program


def stock():
    return asyncio.SelectorEventLoop(selectors.EpollSelector())


def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def loop_kind(name):
    """How loops are made, and where sleep, gather and the like come from."""
    if name == "asyncio":
        return stock, asyncio
    import tokioloop

    return tokioloop.new_event_loop, tokioloop


class Quiet:
    """What ends up in logs and unraisable hooks is looked at, not printed."""

    def __init__(self):
        self.told = []
        sys.unraisablehook = self.unraisable
        threading.excepthook = lambda args: self.note(args.exc_value)
        warnings.simplefilter("ignore")
        logging.getLogger("asyncio").addHandler(self.Handler(self))
        logging.getLogger("asyncio").propagate = False

    class Handler(logging.Handler):
        def __init__(self, quiet):
            super().__init__(logging.WARNING)
            self.quiet = quiet

        def emit(self, record):
            text = record.getMessage()
            if "internal error" in text or "SystemError" in text or "panicked" in text:
                self.quiet.told.append(text)

    def unraisable(self, unraisable):
        self.note(unraisable.exc_value)

    def note(self, error):
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, SystemError) or "internal error" in text or "panicked" in text:
            self.told.append(text)


def run_chaos(program, factory, native, quiet):
    """Why the program failed, or ``None``."""
    before = descriptors()
    for attempt in range(2):
        world = chaos.World(factory, program, native)
        try:
            world.play()
        except BaseException as error:  # a signal of the program's own may come late
            world.look_at(error)
        faults = world.faults + quiet.told
        quiet.told = []
        del world
        if faults:
            return "; ".join(faults[:3])
        gc.collect()
        gc.collect()
        left = {}
        for _ in range(20):  # a thread may hold what it just let go of
            left = {
                fd: what
                for fd, what in descriptors().items()
                if fd not in before and "/random_programs" not in what
            }
            if not left:
                return None
            time.sleep(0.005)
            gc.collect()
    return f"descriptors left open: {left}"


def programs_of(kind, seeds):
    module = {"chaos": chaos, "decided": decided}[kind]
    for seed in seeds:
        yield seed, generate(f"{kind} {seed}", module.NAMES, module.FLAGS, *module.SIZE)


def main():
    kind, loop_name, first, last, seconds = sys.argv[1:6]
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    faulthandler.enable()
    faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)
    factory, native = loop_kind(loop_name)
    quiet = Quiet()
    if kind == "chaos":
        chaos.prepare(os.environ.get("RANDOM_PROGRAMS_CERTIFICATES", ""))
    warm = factory()
    warm.run_until_complete(asyncio.sleep(0))
    warm.close()
    end = time.monotonic() + float(seconds)
    if len(sys.argv) > 6:
        text = sys.stdin.read()
        programs = [(0, eval(text, {"Step": Step, "Program": Program}))] * int(sys.argv[6])
    else:
        programs = programs_of(kind, range(int(first), int(last)))
    for seed, program in programs:
        if time.monotonic() > end:
            break
        out.write(f"?{seed}\n")
        signal.alarm(LONGEST)
        if kind == "chaos":
            fault = run_chaos(program, factory, native, quiet)
        else:
            fault = decided.compare(program, factory, native)
        signal.alarm(0)
        out.write(f"={seed} {fault!r}\n")
        if fault and "left open" in fault:
            out.write("again\n")  # the next program starts in a new process
            out.flush()
            os._exit(0)
    out.write("end\n")
    out.flush()


if __name__ == "__main__":
    main()
