"""What the programs of these tests begin with."""

from __future__ import annotations

PREPARE = '''
import asyncio, contextvars, gc, os, signal, socket, sys, threading, time, traceback, warnings

warnings.simplefilter("ignore")
signal.alarm(50)  # a program that hangs ends by itself


def nested_loop():
    """A loop that runs inside of its own callbacks."""
    try:
        return new_event_loop(nested=True)
    except TypeError:  # asyncio's
        import nest_asyncio2

        loop = new_event_loop()
        asyncio.set_event_loop(loop)
        nest_asyncio2.apply(loop)
        return loop


async def answer(value=42, iterations=3):
    for _ in range(iterations):
        await asyncio.sleep(0)
    return value


loop = nested_loop()
asyncio.set_event_loop(loop)
run = loop.run_until_complete
noted = []
note = noted.append
'''

FINISH = """
assert asyncio._get_running_loop() is None
assert not loop.is_running()
loop.close()
print("fine")
"""


def check(programs, source, **options):
    """Run a program between the two; it asserts for itself, and reports nothing."""
    options.setdefault("timeout", 60)
    done = programs.run(PREPARE + source + FINISH, **options)
    assert done.stdout == "fine\n", done.stdout + done.stderr
    assert done.stderr == "", done.stderr
