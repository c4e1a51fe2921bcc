"""Child processes, one after the other."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import PIPE

from benchmarks.micro.context import Context
from benchmarks.micro.tasks import timed

CHILD = shutil.which("true") or "/bin/true"


@timed
async def spawn(context: Context) -> None:
    for _ in range(context.count):
        child = await asyncio.create_subprocess_exec(CHILD)
        if await child.wait():
            raise SystemExit(f"{CHILD} failed")


@timed
async def spawn_with_pipes(context: Context) -> None:
    for _ in range(context.count):
        child = await asyncio.create_subprocess_exec(CHILD, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        await child.communicate()
        if child.returncode:
            raise SystemExit(f"{CHILD} failed")
