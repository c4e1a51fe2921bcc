"""The kinds of rows: what each is told, in which unit it answers, and who takes part in it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from benchmarks.bridging import EMBEDDED, WAYS
from benchmarks.goals import Goal, OfRival
from benchmarks.loops import LIMIT, has_foreign_transports

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Unit:
    name: str
    higher_is_better: bool


MICROSECONDS = Unit("us", False)
REQUESTS = Unit("req/s", True)
MEBIBYTES = Unit("MiB/s", True)
BYTES = Unit("bytes", False)

NO_SLOWER = OfRival(1.00)

Peer = Literal["echo", "http"]
Transport = Literal["tcp", "tls", "udp", "unix"]
Load = Literal["requests", "churn", "idle", "schedule", "handshakes", "send", "receive"]


@dataclass(frozen=True)
class Common:
    id: str
    title: str
    group: str
    _: KW_ONLY
    goal: Goal | None = NO_SLOWER
    needs: tuple[str, ...] = ()
    """Modules without which the row is left out."""
    since: tuple[int, int] = (3, 10)
    """The first CPython that has what is measured."""

    @property
    def unit(self) -> Unit:
        raise NotImplementedError

    @property
    def higher_is_better(self) -> bool:
        return self.unit.higher_is_better

    def goal_of(self, column: str) -> Goal | None:
        return self.goal

    def columns(self, loops: list[str]) -> list[str]:
        """Who takes part, if these loops are measured."""
        return loops

    def obstacle(self) -> str | None:
        """Why this interpreter cannot do the row, whatever the loop."""
        if sys.version_info < self.since:
            return f"needs CPython {self.since[0]}.{self.since[1]}"
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(missing)}" if missing else None


@dataclass(frozen=True)
class Micro(Common):
    """One operation of the loop, repeated; microseconds each."""

    operations: int
    _: KW_ONLY
    operation: str = ""
    """What is repeated, where that is not the row's id."""
    native: bool = False
    """With the loop's own primitives, where it has them, instead of asyncio's."""
    peer: Peer | None = None
    """The server that the operation talks to."""
    transports: bool = False
    """The operation has connections, and both ends of them."""
    fixed: bool = False
    """The number of operations is a part of what is measured."""

    @property
    def unit(self) -> Unit:
        return MICROSECONDS

    def columns(self, loops: list[str]) -> list[str]:
        if self.peer is not None or self.transports:
            return loops
        return [loop for loop in loops if not has_foreign_transports(loop)]


@dataclass(frozen=True)
class Bridged(Micro):
    """Rust futures that are awaited; compared are the ways to do it, not the loops."""

    _: KW_ONLY
    embedded: Goal | None = NO_SLOWER
    """The goal of the extension's own loop; the other is that of the loop beside."""
    upstream_operations: int | None = None
    """Where pyo3-async-runtimes takes so long that fewer will do."""
    opendal: bool = False
    """The futures are OpenDAL's, which has no loop of its own."""

    def goal_of(self, column: str) -> Goal | None:
        return self.embedded if column == EMBEDDED else self.goal

    def columns(self, loops: list[str]) -> list[str]:
        ways = [name for name, way in WAYS.items() if way.of in loops]
        return [name for name in ways if not (self.opendal and name == EMBEDDED)]


@dataclass(frozen=True)
class Service(Common):
    """A server under load."""

    server: str
    _: KW_ONLY
    load: Load = "requests"
    protocol: Literal["echo", "http", "websocket"] = "echo"
    connections: int = 10
    size: int = KIB
    transport: Transport = "tcp"
    native: bool = False
    """With the loop's own streams, where it has them, instead of asyncio's."""
    memory: bool = False
    """The value is the memory of an idle connection, not a rate."""
    limit: str | None = None
    """The load generator's own server for this row."""

    @property
    def unit(self) -> Unit:
        if self.memory:
            return BYTES
        return MEBIBYTES if self.load in ("send", "receive") else REQUESTS

    def columns(self, loops: list[str]) -> list[str]:
        return [*loops, LIMIT] if self.limit else loops


Row = Micro | Service
