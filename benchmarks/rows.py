"""The rows of the table: what is measured, how it is called, and what is aimed at."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import KW_ONLY, dataclass
from fnmatch import fnmatch
from typing import Literal

from benchmarks.goals import AtMost, Goal, OfLimit, OfRival

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
Load = Literal["requests", "churn", "idle", "send", "receive"]


@dataclass(frozen=True)
class Common:
    id: str
    title: str
    group: str
    _: KW_ONLY
    goal: Goal = NO_SLOWER
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
    fixed: bool = False
    """The number of operations is a part of what is measured."""

    @property
    def unit(self) -> Unit:
        return MICROSECONDS


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
    memory: bool = False
    """The value is the memory of an idle connection, not a rate."""
    limit: str | None = None
    """The load generator's own server for this row."""

    @property
    def unit(self) -> Unit:
        if self.memory:
            return BYTES
        return MEBIBYTES if self.load in ("send", "receive") else REQUESTS


Row = Micro | Service


def echo(id: str, size: int, size_name: str, connections: int) -> Service:
    plural = "" if connections == 1 else "s"
    return Service(
        id,
        f"protocol echo, {size_name}, {connections} connection{plural}",
        "echo",
        "protocol",
        size=size,
        connections=connections,
        limit="echo",
        goal=OfLimit(0.95),
    )


FAST = OfRival(1.20)
NEAR_TIMER = AtMost(60.0)
CROWD = 10_000
WEB = 32
UVICORN = ("uvicorn", "httptools")

ROWS: tuple[Row, ...] = (
    # Scheduling.
    Micro("call-soon-batch", "`call_soon`, a batch", "scheduling", 100_000, goal=FAST),
    Micro("call-soon-chain", "`call_soon`, a chain", "scheduling", 200_000, goal=FAST),
    Micro(
        "call-soon-args",
        "`call_soon` with three arguments, a batch",
        "scheduling",
        100_000,
        goal=FAST,
    ),
    Micro("call-later-cancel", "`call_later` and `cancel`", "scheduling", 100_000, goal=FAST),
    Micro("timers-firing", "timers firing", "scheduling", 50_000, goal=FAST),
    # Sleeping.
    Micro("sleep-zero", "`sleep(0)`", "sleeping", 200_000),
    Micro(
        "sleep-zero-native",
        "`sleep(0)` (native)",
        "sleeping",
        200_000,
        operation="sleep-zero",
        native=True,
        goal=OfRival(1.3),
    ),
    Micro("sleepers-50k", "50,000 sleepers, each", "sleeping", 50_000, fixed=True),
    Micro(
        "sleepers-50k-native",
        "50,000 sleepers, each (native)",
        "sleeping",
        50_000,
        operation="sleepers-50k",
        native=True,
        fixed=True,
        goal=OfRival(1.3),
    ),
    Micro("sleep-200us", "`sleep` of 200 us, overshoot", "sleeping", 500, goal=NEAR_TIMER),
    Micro(
        "sleep-200us-native",
        "`sleep` of 200 us, overshoot (native)",
        "sleeping",
        500,
        operation="sleep-200us",
        native=True,
        goal=NEAR_TIMER,
    ),
    # Tasks and what is made of them.
    Micro("futures", "a future made, set and awaited", "tasks", 100_000, goal=FAST),
    Micro("task", "a task made and awaited", "tasks", 50_000),
    Micro("gather", "`gather`, a trivial coroutine", "tasks", 100_000),
    Micro(
        "gather-native",
        "`gather`, a trivial coroutine (native)",
        "tasks",
        100_000,
        operation="gather",
        native=True,
        goal=OfRival(1.8),
    ),
    Micro("queues", "a queue between two tasks, an item", "tasks", 50_000),
    Micro("wait-for", "`wait_for` of a trivial coroutine", "tasks", 50_000),
    Micro("timeout", "`timeout` around a trivial coroutine", "tasks", 50_000, since=(3, 11)),
    # Threads.
    Micro("thread-flood", "`call_soon_threadsafe` from 4 threads", "threads", 100_000),
    Micro("thread-round-trip", "`run_coroutine_threadsafe(…).result()`", "threads", 5_000),
    Micro(
        "thread-round-trip-native",
        "`run_coroutine_threadsafe(…).result()` (native)",
        "threads",
        5_000,
        operation="thread-round-trip",
        native=True,
        goal=OfRival(1.2),
    ),
    Micro("executor", "`run_in_executor` of nothing", "threads", 5_000),
    # Processes.
    Micro("process-spawn", "a child started and awaited", "processes", 100),
    Micro("process-pipes", "a child with three pipes, `communicate`", "processes", 60),
    # As a client.
    Micro("getaddrinfo-literal", "`getaddrinfo` of a literal", "clients", 20_000),
    Micro(
        "connect-close",
        "a connection, one line to and fro, closed",
        "clients",
        2_000,
        peer="echo",
    ),
    Micro(
        "aiohttp-client",
        "aiohttp client, a request, 10 at once",
        "clients",
        2_000,
        peer="http",
        needs=("aiohttp",),
        goal=OfRival(1.05),
    ),
    # Protocols over sockets.
    echo("protocol-64", 64, "64 B", 10),
    echo("protocol-1", KIB, "1 KiB", 1),
    echo("protocol-10", KIB, "1 KiB", 10),
    echo("protocol-256", KIB, "1 KiB", 256),
    echo("protocol-10k", 10 * KIB, "10 KiB", 10),
    echo("protocol-100k", 100 * KIB, "100 KiB", 10),
    Service(
        "buffered-10",
        "`BufferedProtocol` echo, 1 KiB, 10 connections",
        "echo",
        "buffered",
        limit="echo",
    ),
    Service(
        "unix-10",
        "Unix socket echo, 1 KiB, 10 connections",
        "echo",
        "protocol",
        transport="unix",
        limit="echo",
    ),
    Service(
        "churn",
        "a connection for each request, 1 KiB, 10 at once",
        "echo",
        "protocol",
        load="churn",
        limit="echo",
    ),
    Service(
        "streams-read",
        "streams echo, `read`, 1 KiB, 10 connections",
        "streams",
        "streams-read",
        limit="echo",
        goal=OfRival(1.10),
    ),
    Service(
        "streams-readline",
        "streams echo, `readline` and `drain`, 1 KiB, 10 connections",
        "streams",
        "streams-readline",
        limit="echo",
        goal=OfRival(1.10),
    ),
    Service(
        "sockets",
        "`sock_recv` and `sock_sendall`, 1 KiB, 10 connections",
        "sockets",
        "sockets",
        limit="echo",
        goal=OfRival(1.10),
    ),
    Service(
        "udp-10",
        "UDP echo, 1 KiB, 10 sockets",
        "datagrams",
        "datagrams",
        transport="udp",
        limit="echo",
        goal=OfRival(1.05),
    ),
    Service(
        "tls-10",
        "TLS protocol echo, 1 KiB, 10 connections",
        "tls",
        "protocol",
        transport="tls",
        needs=("trustme",),
        goal=OfRival(1.35),
    ),
    Service(
        "tls-100k",
        "TLS protocol echo, 100 KiB, 10 connections",
        "tls",
        "protocol",
        transport="tls",
        size=100 * KIB,
        needs=("trustme",),
    ),
    Service(
        "tls-streams",
        "TLS streams echo, `read`, 1 KiB, 10 connections",
        "tls",
        "streams-read",
        transport="tls",
        needs=("trustme",),
        goal=OfRival(1.35),
    ),
    Service(
        "bulk-receive",
        "the server receives, 1 connection, MiB/s",
        "bulk",
        "sink",
        load="send",
        connections=1,
        size=64 * KIB,
        limit="sink",
    ),
    Service(
        "bulk-send",
        "the server sends, 1 connection, MiB/s",
        "bulk",
        "source",
        load="receive",
        connections=1,
        size=64 * KIB,
        limit="source",
    ),
    Service(
        "idle-memory",
        f"memory of an idle connection, {CROWD:,} held, bytes",
        "idle",
        "protocol",
        load="idle",
        connections=CROWD,
        size=64,
        memory=True,
    ),
    Service(
        "idle-wake",
        f"waking {CROWD:,} connections, 64 B each",
        "idle",
        "protocol",
        load="idle",
        connections=CROWD,
        size=64,
        limit="echo",
    ),
    Service(
        "uvicorn-small",
        f"uvicorn, httptools, 13 B, {WEB} connections",
        "http",
        "uvicorn-small",
        protocol="http",
        connections=WEB,
        size=13,
        needs=UVICORN,
        goal=OfRival(1.05),
    ),
    Service(
        "uvicorn-10k",
        f"uvicorn, httptools, 10 KiB, {WEB} connections",
        "http",
        "uvicorn-10k",
        protocol="http",
        connections=WEB,
        size=10 * KIB,
        needs=UVICORN,
        goal=OfRival(1.05),
    ),
    Service(
        "aiohttp-server",
        f"aiohttp server, 13 B, {WEB} connections",
        "http",
        "aiohttp",
        protocol="http",
        connections=WEB,
        size=13,
        needs=("aiohttp",),
        goal=OfRival(1.05),
    ),
    Service(
        "websockets",
        "websockets echo, 1 KiB, 10 connections",
        "websocket",
        "websockets",
        protocol="websocket",
        needs=("websockets",),
    ),
)

GROUPS = tuple(dict.fromkeys(row.group for row in ROWS))


def select(patterns: list[str]) -> list[Row]:
    """Rows whose id or group matches one of ``patterns``, in table order; all for an empty list."""
    if not patterns:
        return list(ROWS)
    for pattern in patterns:
        if not any(_matches(row, pattern) for row in ROWS):
            raise ValueError(f"no row or group is called {pattern!r}; --list shows them all")
    return [row for row in ROWS if any(_matches(row, pattern) for pattern in patterns)]


def _matches(row: Row, pattern: str) -> bool:
    return fnmatch(row.id, pattern) or fnmatch(row.group, pattern)
