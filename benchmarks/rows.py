"""The rows of the table: what is measured, how it is called, and what is aimed at."""

from __future__ import annotations

from fnmatch import fnmatch

from benchmarks.goals import Above, AtMost, OfLimit, OfRival
from benchmarks.kinds import KIB, Bridged, Micro, Row, Service


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
# What a Rust future may cost that needs not wait.
LITTLE_MORE = Above("bridge-empty", 0.5)

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
    Micro("asyncgen", "an asynchronous generator begun and ended", "tasks", 50_000),
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
        "aiohttp-small",
        protocol="http",
        connections=WEB,
        size=13,
        needs=("aiohttp",),
        goal=OfRival(1.05),
    ),
    Service(
        "aiohttp-100k",
        f"aiohttp server, 100 KiB, {WEB} connections",
        "http",
        "aiohttp-100k",
        protocol="http",
        connections=WEB,
        size=100 * KIB,
        needs=("aiohttp",),
    ),
    Service(
        "aiohttp-tls",
        f"aiohttp server over TLS, 13 B, {WEB} connections",
        "http",
        "aiohttp-small",
        protocol="http",
        transport="tls",
        connections=WEB,
        size=13,
        needs=("aiohttp", "trustme"),
    ),
    Service(
        "aiohttp-tls-100k",
        f"aiohttp server over TLS, 100 KiB, {WEB} connections",
        "http",
        "aiohttp-100k",
        protocol="http",
        transport="tls",
        connections=WEB,
        size=100 * KIB,
        needs=("aiohttp", "trustme"),
    ),
    Service(
        "websockets",
        "websockets echo, 1 KiB, 10 connections",
        "websocket",
        "websockets",
        protocol="websocket",
        needs=("websockets",),
    ),
    # Rust futures, awaited.
    Bridged(
        "bridge-empty",
        "an empty Python coroutine, for comparison",
        "bridge",
        500_000,
        goal=None,
        embedded=None,
    ),
    Bridged(
        "bridge-ready",
        "a future that is ready",
        "bridge",
        100_000,
        upstream_operations=3_000,
        goal=LITTLE_MORE,
        embedded=LITTLE_MORE,
    ),
    Bridged(
        "bridge-spawned",
        "the same, started at once (`spawn_into_py`)",
        "bridge",
        100_000,
        upstream_operations=3_000,
        goal=None,
        embedded=None,
    ),
    Bridged(
        "bridge-yield",
        "a future that yields once (`yield_now`)",
        "bridge",
        100_000,
        upstream_operations=3_000,
        embedded=AtMost(1.5),
    ),
    Bridged(
        "bridge-hand-over",
        "a pass between two futures: a `oneshot` made, sent, received, its waiter woken",
        "bridge",
        100_000,
        goal=None,
        embedded=AtMost(1.5),
    ),
    Bridged(
        "bridge-thread",
        "a question to another thread, which answers by a `oneshot`",
        "bridge",
        10_000,
        upstream_operations=3_000,
        goal=OfRival(2),
    ),
    Bridged(
        "bridge-gather",
        "`gather` of 100 futures that are ready, each",
        "bridge",
        100_000,
        upstream_operations=3_000,
        embedded=OfRival(10),
    ),
    Bridged(
        "bridge-gather-native",
        "`gather` of 100 futures that are ready, each (native)",
        "bridge",
        100_000,
        operation="bridge-gather",
        upstream_operations=3_000,
        native=True,
        embedded=OfRival(10),
    ),
    Bridged(
        "bridge-sleep",
        "`tokio::time::sleep` of 1 ms, overshoot",
        "bridge",
        200,
        goal=None,
        embedded=None,
    ),
    Bridged(
        "bridge-http",
        "a request by reqwest, 10 at once",
        "bridge",
        1_000,
        peer="http",
    ),
    Bridged(
        "bridge-opendal",
        "OpenDAL, unchanged: `read` of 1 KiB from memory",
        "bridge",
        20_000,
        upstream_operations=3_000,
        opendal=True,
    ),
    Bridged(
        "bridge-opendal-gather",
        "OpenDAL, unchanged: `gather` of 100 such reads, each",
        "bridge",
        20_000,
        upstream_operations=3_000,
        opendal=True,
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
