"""Waits for conditions that can be observed."""

from __future__ import annotations

import asyncio
import os


def open_sockets():
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
        if target.startswith("socket:"):
            found.add(target)
    return found


async def until(condition, timeout=20):
    """Come back when ``condition()`` holds; fail if it does not come to hold."""

    async def watch():
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(watch(), timeout)
