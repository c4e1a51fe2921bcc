"""Coroutines for the scripts of the tests of ``gather``."""

from __future__ import annotations

import asyncio
import contextvars

VALUE = contextvars.ContextVar("VALUE", default="default")


async def give(value, after=0):
    for _ in range(after):
        await asyncio.sleep(0)
    return value


async def fail(error, after=0):
    for _ in range(after):
        await asyncio.sleep(0)
    raise error


async def caught(awaitable):
    try:
        return await awaitable
    except BaseException as error:
        return error
