"""Runs programs in workers, which may die, and makes those that fail smaller."""

from __future__ import annotations

import ast
import atexit
import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Seeds of programs that came out differently, and then the same: chance had a part in them.
UNDECIDED: list[int] = []
TESTS = Path(__file__).parent.parent


def command(*args):
    return [sys.executable, "-m", "random_programs.worker", *map(str, args)]


def environment():
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHONASYNCIO")}
    path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    # The debug allocator reports memory that is written to, or read, after it was freed.
    env.update(PYTHONPATH=path, PYTHONMALLOC="debug", PYTHONFAULTHANDLER="1", RUST_BACKTRACE="1")
    env["RANDOM_PROGRAMS_CERTIFICATES"] = certificates()
    return env


@functools.cache
def certificates():
    """A folder with a server's certificate for all workers of this process."""
    try:
        from support.certificates import Certificates
    except ImportError:  # without trustme: no TLS
        return ""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    Certificates(Path(folder.name))
    return folder.name


def work(*args):
    """What one worker said: (how it ended, the last seed it began, faults by seed, stderr)."""
    process = subprocess.Popen(
        command(*args),
        env=environment(),
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate()
    begun, faults, done = None, {}, 0
    for line in out.splitlines():
        if line.startswith("?"):
            begun = int(line[1:])
        elif line.startswith("="):
            seed, _, fault = line[1:].partition(" ")
            done += 1
            begun = None
            fault = ast.literal_eval(fault)
            if fault == "":
                UNDECIDED.append(int(seed))
            elif fault is not None:
                faults[int(seed)] = fault
    if process.returncode == 0 and out.endswith("again\n"):
        return "again", begun, faults, err, done
    clean = process.returncode == 0 and out.endswith("end\n")
    return None if clean else process.returncode, begun, faults, err, done


def run(kind, loop, first, last, seconds=1e9, report=lambda *_: None):
    """The faults of the programs of these seeds, by seed, and how many programs ran."""
    faults, count, start = {}, 0, first
    end = time.monotonic() + seconds
    while start < last:
        ended, begun, found, err, done = work(kind, loop, start, last, end - time.monotonic())
        for seed, fault in found.items():
            report(seed, fault)
        faults |= found
        count += done
        if ended is None:
            break
        if ended == "again":
            start = max(found) + 1
            continue
        seed = begun if begun is not None else start + done - 1
        fault = f"the process ended with {ended}: {brief(err)}"
        faults[seed] = fault
        report(seed, fault)
        count += 1
        start = seed + 1
    return faults, count


def brief(err):
    """The relevant lines of the stderr of a process that died."""
    lines = [line for line in err.splitlines() if line.strip()]
    starts = [
        place
        for place, line in enumerate(lines)
        if "Fatal" in line
        or "panicked" in line
        or "Debug memory" in line
        or "Current thread" in line
    ]
    return "\n".join(lines[starts[0] :][:25] if starts else lines[-10:])


def shrunk(kind, loop, program, times=2, seconds=60):
    """A smaller program that still fails, if it fails again at all."""
    process = subprocess.run(
        command(kind, loop, 0, 0, seconds, times),
        env=environment(),
        text=True,
        errors="replace",
        input=repr(program),
        capture_output=True,
    )
    found = [line for line in process.stdout.splitlines() if line.startswith("smaller ")]
    return found[-1].removeprefix("smaller ") if found else None


def script(kind, loop, program):
    """A script that runs the program by itself, with tests/ on the path."""
    return f"""import sys
from random_programs import chaos, worker
from random_programs.programs import Program, Step
program = {program}
factory, native = worker.loop_kind("asyncio" if "--stock" in sys.argv else {loop!r})
quiet = worker.Quiet()
chaos.prepare("")  # name a folder with certificates here where TLS matters
for _ in range(20):
    print(worker.run({kind!r}, program, factory, native, quiet))
"""
