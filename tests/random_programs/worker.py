"""A process that runs many programs. What it cannot survive, its parent sees (see `runs.py`)."""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import gc
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import warnings

from random_programs import chaos, decided
from random_programs.found import FOUND
from random_programs.programs import Program, Step, generate, shrink

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

    if name == "virtual":
        import tokioloop.testing

        # The programs always watch descriptors: without a threshold the clock would never jump.
        factory = functools.partial(tokioloop.testing.new_event_loop, autojump_threshold=0)
        return factory, tokioloop
    if name == "nested":
        return functools.partial(tokioloop.new_event_loop, nested=True), tokioloop
    return tokioloop.new_event_loop, tokioloop


class Quiet:
    """What ends up in logs and unraisable hooks is looked at, not printed."""

    def __init__(self):
        self.faults = []
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
                self.quiet.faults.append(text)

    def unraisable(self, unraisable):
        self.note(unraisable.exc_value)

    def note(self, error):
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, SystemError) or "internal error" in text or "panicked" in text:
            self.faults.append(text)


def release_signal_pairs():
    """A loop that is closed outside of the main thread leaves its wake-up descriptor open."""
    signals = sys.modules.get("tokioloop.signals")
    if signals is not None and signals._left_open:
        signal.set_wakeup_fd(-1)
        for pair, _displaced in signals._left_open:
            signals._disown(pair)
            signals._close(pair)
        signals._left_open.clear()


def run_chaos(program, factory, native, quiet):
    """Why the program failed, or ``None``."""
    before = descriptors()
    world = chaos.World(factory, program, native)
    try:
        world.play()
    except BaseException as error:  # a signal of the program's own may come late
        world.look_at(error)
    faults = world.faults + quiet.faults
    quiet.faults = []
    del world
    if faults:
        return "; ".join(faults[:3])
    release_signal_pairs()
    for _ in range(20):  # a thread may hold what it just let go of
        gc.collect()
        # `Popen` keeps one whose child was killed and is not quite dead, with pipes that no
        # transport had yet.
        subprocess._cleanup()
        left = {fd: what for fd, what in descriptors().items() if fd not in before}
        if not left:
            break
        time.sleep(0.005)
    if left:
        return f"descriptors left open: {left}"
    after = descriptors()
    lost = {fd: what for fd, what in before.items() if after.get(fd) != what}
    if lost:
        return f"descriptors of others closed: {lost}"
    return chaos.canary(factory, native)


def programs_of(kind, seeds):
    module = {"chaos": chaos, "decided": decided}[kind]
    for seed in seeds:
        if seed < 0:
            yield seed, FOUND[kind][-1 - seed]
            continue
        yield seed, generate(f"{kind} {seed}", module.NAMES, module.FLAGS, *module.SIZE)


def run(kind, program, factory, native, quiet):
    if kind == "chaos":
        return run_chaos(program, factory, native, quiet)
    return decided.compare(program, factory, native, stock)


def shrink_here(kind, program, factory, native, quiet, out, times, seconds):
    """Makes a failing program smaller; each attempt runs in a fork of this process."""
    end = time.monotonic() + seconds

    def fails(candidate):
        if time.monotonic() > end:
            return False
        pid = os.fork()
        if pid == 0:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 2)
            os.close(null)
            signal.alarm(4)
            failed = 1
            try:
                failed = any(run(kind, candidate, factory, native, quiet) for _ in range(times))
            finally:
                os._exit(failed)
        failed = os.waitpid(pid, 0)[1] != 0
        if failed:
            out.write(f"smaller {candidate!r}\n")
        return failed

    return shrink(program, fails, 10**9) if fails(program) else None


def main():
    kind, loop_name, first, last, seconds = sys.argv[1:6]
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    faulthandler.enable()
    faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)
    factory, native = loop_kind(loop_name)
    quiet = Quiet()
    chaos.prepare(os.environ.get("RANDOM_PROGRAMS_CERTIFICATES", ""))
    warm = factory()
    warm.run_until_complete(asyncio.sleep(0))
    warm.close()
    gc.collect()
    gc.freeze()  # present objects need not be looked at after each program
    if len(sys.argv) > 6:
        program = eval(sys.stdin.read(), {"Step": Step, "Program": Program})
        shrink_here(kind, program, factory, native, quiet, out, int(sys.argv[6]), float(seconds))
        return
    end = time.monotonic() + float(seconds)
    for seed, program in programs_of(kind, range(int(first), int(last))):
        if time.monotonic() > end:
            break
        out.write(f"?{seed}\n")
        signal.alarm(LONGEST)
        fault = run(kind, program, factory, native, quiet)
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
