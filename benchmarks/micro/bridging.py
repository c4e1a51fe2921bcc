"""Rust futures, awaited through ``tokioloop::bridge`` or pyo3-async-runtimes."""

from __future__ import annotations

import asyncio
import functools
import importlib
from typing import Any

from benchmarks.micro import sleeping
from benchmarks.micro.clients import WORKERS
from benchmarks.micro.context import Context, trivial
from benchmarks.micro.tasks import CHILDREN, timed

NAP = 1e-3
KIB = 1024


@timed
async def empty(context: Context) -> None:
    """What an `await` costs with nothing behind it."""
    for _ in range(context.count):
        await trivial()


@timed
async def ready(context: Context) -> None:
    ready = context.rust.ready
    for _ in range(context.count):
        await ready()


@timed
async def spawned(context: Context) -> None:
    spawned = context.rust.spawned
    for _ in range(context.count):
        await spawned()


@timed
async def yields(context: Context) -> None:
    yields = context.rust.yields
    for _ in range(context.count):
        await yields()


@timed
async def hand_over(context: Context) -> None:
    """Two futures play; counts passes of either."""
    await asyncio.gather(*context.rust.players(max(context.count // 2, 1)))


@timed
async def thread(context: Context) -> None:
    ask, responder = context.rust.ask, context.rust.Responder()
    for _ in range(context.count):
        await ask(responder)


@timed
async def gather(context: Context) -> None:
    """Counts children, not gatherings."""
    gather, ready = context.primitives.gather, context.rust.ready
    for first in range(0, context.count, CHILDREN):
        children = min(CHILDREN, context.count - first)
        await gather(*[ready() for _ in range(children)])


def overshoots(context: Context) -> list[float]:
    return sleeping.overshoots_of(context.rust.sleep, NAP, context)


@timed
async def http(context: Context) -> None:
    get, client = context.rust.get, context.rust.Client()
    host, port = context.address
    url = f"http://{host}:{port}/"
    left = context.count

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            if not await get(client, url):
                raise SystemExit("the server did not answer")

    await asyncio.gather(*(work() for _ in range(WORKERS)))


@functools.cache
def _store() -> Any:
    """OpenDAL's store of one file, which the run that warms up makes."""
    operator = importlib.import_module("opendal").Operator("memory")
    operator.write("file", bytes(KIB))
    return operator.to_async_operator()


@timed
async def opendal(context: Context) -> None:
    read = _store().read
    for _ in range(context.count):
        await read("file")


@timed
async def opendal_gather(context: Context) -> None:
    """Counts reads, not gatherings."""
    gather, read = context.primitives.gather, _store().read
    for first in range(0, context.count, CHILDREN):
        children = min(CHILDREN, context.count - first)
        await gather(*[read("file") for _ in range(children)])
