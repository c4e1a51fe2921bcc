"""Runs a loop for a few iterations."""

from __future__ import annotations

import asyncio
import time


def run_one_iteration(loop):
    """Run exactly one iteration: stop() lets the batch that is ready finish."""
    loop.stop()
    loop.run_forever()


def run_briefly(loop):
    """Run what is scheduled already."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def run_until(loop, condition, timeout=10):
    """Run the loop, one iteration after the other, until the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        run_briefly(loop)


def run_iterations(loop, count=5):
    """Let the loop poll its descriptors a few times."""

    async def spin():
        for _ in range(count):
            # Longer than zero: an iteration that has nothing ready must poll the descriptors.
            await asyncio.sleep(0.001)

    loop.run_until_complete(spin())
