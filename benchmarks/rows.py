"""The rows of the table: what is measured, and how it is called."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import ClassVar, Literal

KIB = 1024


@dataclass(frozen=True)
class Micro:
    """One operation of the loop, repeated; microseconds each, so less is better."""

    id: str
    title: str
    operations: int
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "us"


@dataclass(frozen=True)
class Echo:
    """An echo server under load; requests a second, so more is better."""

    id: str
    title: str
    server: str
    connections: int = 10
    size: int = KIB
    transport: Literal["tcp", "udp", "unix"] = "tcp"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "req/s"


Row = Micro | Echo

ROWS: tuple[Row, ...] = (
    Micro("call-soon-batch", "`call_soon`, a batch", 100_000),
    Micro("call-soon-chain", "`call_soon`, a chain", 200_000),
    Micro("call-soon-args", "`call_soon` with three arguments, a batch", 100_000),
    Micro("call-later-cancel", "`call_later` and `cancel`", 100_000),
    Micro("timers-firing", "timers firing", 50_000),
    Micro("sleep-zero", "`asyncio.sleep(0)`", 200_000),
    Echo("protocol-1", "protocol echo, 1 KiB, 1 connection", "protocol", connections=1),
    Echo("protocol-10", "protocol echo, 1 KiB, 10 connections", "protocol"),
    Echo("protocol-100k", "protocol echo, 100 KiB, 10 connections", "protocol", size=100 * KIB),
    Echo("unix-10", "Unix socket echo, 1 KiB, 10 connections", "protocol", transport="unix"),
    Echo("streams-read", "streams echo, `read`, 1 KiB, 10 connections", "streams-read"),
    Echo(
        "streams-readline",
        "streams echo, `readline` and `drain`, 1 KiB, 10 connections",
        "streams-readline",
    ),
    Echo("sockets", "`sock_recv` and `sock_sendall`, 1 KiB, 10 connections", "sockets"),
    Echo("udp-10", "UDP echo, 1 KiB, 10 sockets", "datagrams", transport="udp"),
)


def select(patterns: list[str]) -> list[Row]:
    """Rows whose id matches one of ``patterns``, in table order; all of them for an empty list."""
    if not patterns:
        return list(ROWS)
    for pattern in patterns:
        if not any(fnmatch(row.id, pattern) for row in ROWS):
            raise ValueError(f"no row is called {pattern!r}; --list shows them all")
    return [row for row in ROWS if any(fnmatch(row.id, pattern) for pattern in patterns)]
