"""What an operation is given to work with."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.loops import PACKAGES


@dataclass(frozen=True)
class Primitives:
    """asyncio's functions, or those that a loop's package offers in their place."""

    sleep: Callable[[float], Coroutine[Any, Any, Any]]
    gather: Callable[..., asyncio.Future[Any]]
    run_coroutine_threadsafe: Callable[
        [Coroutine[Any, Any, Any], asyncio.AbstractEventLoop], concurrent.futures.Future[Any]
    ]

    @classmethod
    def of(cls, loop: str, *, native: bool) -> Primitives:
        package: Any = asyncio
        if native and loop in PACKAGES:
            package = importlib.import_module(PACKAGES[loop])
        return cls(
            **{name: getattr(package, name, getattr(asyncio, name)) for name in cls.__annotations__}
        )


@dataclass(frozen=True)
class Context:
    """One measurement: ``count`` operations on ``loop``."""

    loop: asyncio.AbstractEventLoop
    count: int
    primitives: Primitives
    peer: tuple[str, int] | None = None
    """Where a server listens, for the operations that need one."""
    rust: Any = None
    """The functions that make Rust futures, for the operations that await them."""

    def with_count(self, count: int) -> Context:
        return replace(self, count=count)

    @property
    def address(self) -> tuple[str, int]:
        if self.peer is None:
            raise SystemExit("this operation needs --peer")
        return self.peer


Operation = Callable[[Context], float]
"""Returns the seconds that all operations took together."""


def nothing(*args: object) -> None:
    pass


async def trivial() -> None:
    pass
