"""Programs that run out of descriptors."""

from __future__ import annotations

import json

# Programs of their own: the limit is the whole process's.
LIMIT = """
import asyncio, contextlib, errno, gc, json, os, resource, socket, sys, time

def descriptors():
    return len(os.listdir("/proc/self/fd")) - 1

@contextlib.contextmanager
def spare(number):
    '''So many more descriptors, and not one beyond.'''
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The limit is on the numbers: all below it that are free are filled up first.
    fillers = []
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    while (fd := os.dup(0)) < highest:
        fillers.append(fd)
    os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (fd + number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)

def exhausted(error):
    return isinstance(error, OSError) and error.errno == errno.EMFILE
"""


def printed(programs, source, **options):
    """What the program prints, as JSON."""
    done = programs.run(LIMIT + source, flags=("-W", "error"), timeout=60, **options)
    assert "Error" not in done.stderr, done.stderr
    return json.loads(done.stdout)
