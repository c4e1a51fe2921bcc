"""Times one operation of one loop, in a process of its own; prints a line of JSON.

Run by ``benchmarks.runner``, or by hand: ``python -m benchmarks.micro uvloop sleep-zero 200000``.
The garbage collector stays on, as it is in the programs that use a loop.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import statistics
import sys
import time
from pathlib import Path

from benchmarks import loops, system
from benchmarks.micro import bridging, clients, processes, scheduling, sleeping, tasks, threads
from benchmarks.micro.context import Context, Operation, Primitives

OPERATIONS: dict[str, Operation] = {
    "call-soon-batch": scheduling.call_soon_batch,
    "call-soon-chain": scheduling.call_soon_chain,
    "call-soon-args": scheduling.call_soon_args,
    "call-later-cancel": scheduling.call_later_cancel,
    "timers-firing": scheduling.timers_firing,
    "sleep-zero": sleeping.sleep_zero,
    "sleepers-50k": sleeping.sleepers,
    "futures": tasks.futures,
    "task": tasks.task,
    "gather": tasks.gather,
    "queues": tasks.queues,
    "asyncgen": tasks.asyncgen,
    "wait-for": tasks.wait_for,
    "timeout": tasks.timeout,
    "thread-flood": threads.flood,
    "thread-round-trip": threads.round_trip,
    "executor": threads.executor,
    "process-spawn": processes.spawn,
    "process-pipes": processes.spawn_with_pipes,
    "getaddrinfo-literal": clients.getaddrinfo_literal,
    "connect-close": clients.connect_close,
    "start-tls": clients.start_tls,
    "aiohttp-client": clients.aiohttp_client,
    "bridge-empty": bridging.empty,
    "bridge-ready": bridging.ready,
    "bridge-spawned": bridging.spawned,
    "bridge-yield": bridging.yields,
    "bridge-hand-over": bridging.hand_over,
    "bridge-thread": bridging.thread,
    "bridge-gather": bridging.gather,
    "bridge-http": bridging.http,
    "bridge-opendal": bridging.opendal,
    "bridge-opendal-gather": bridging.opendal_gather,
}
# Each operation of these is timed by itself: the median counts, and the least is kept.
PRECISION = {"sleep-200us": sleeping.overshoots, "bridge-sleep": bridging.overshoots}


def least(context: Context, operation: Operation, repeats: int) -> dict[str, float]:
    """The least of some repeats, because whatever else the machine does only adds to them."""
    operation(context.with_count(max(context.count // 10, 1)))
    gc.collect()
    times, cpu = [], []
    for _ in range(repeats):
        cpu_before = time.process_time()
        times.append(operation(context))
        cpu.append(time.process_time() - cpu_before)
    return {
        "value": min(times) / context.count * 1e6,
        "cpu_us": min(cpu) / context.count * 1e6,
    }


def precision(context: Context, name: str) -> dict[str, float]:
    # Not before the loop has slept: its first sleep may set things up.
    PRECISION[name](context.with_count(max(context.count // 10, 1)))
    found = PRECISION[name](context)
    return {"value": statistics.median(found) * 1e6, "minimum": min(found) * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time one operation of one loop.")
    parser.add_argument("loop")
    parser.add_argument("operation", choices=[*OPERATIONS, *PRECISION])
    parser.add_argument("count", type=int)
    parser.add_argument("--repeats", type=int, default=3, help="the least of these is printed")
    parser.add_argument("--native", action="store_true", help="use the loop's own primitives")
    parser.add_argument("--peer", type=int, metavar="PORT", help="where the server listens")
    parser.add_argument("--core", type=int, help="the core to run on")
    parser.add_argument("--extension", help="the folder that has the extension with Rust futures")
    parser.add_argument("--through", help="the library by which its futures are awaited")
    parser.add_argument("--opendal", help="the folder in it that has OpenDAL for that")
    args = parser.parse_args()

    system.tie_to_parent()
    if args.core is not None:
        system.pin_to_core(args.core)
    rust = None
    if args.extension:
        sys.path.append(args.extension)
        sys.path.append(str(Path(args.extension, args.opendal)))
        library = args.through == "library"
        module = importlib.import_module(loops.LIBRARY if library else loops.EXTENSION)
        rust = getattr(module, "bridge" if library else args.through)
    loops.hide_foreign_transports(args.loop)
    loop = loops.load(args.loop)()
    peer = ("127.0.0.1", args.peer) if args.peer else None
    primitives = Primitives.of(args.loop, native=args.native)
    context = Context(loop, args.count, primitives, peer, rust)
    try:
        if args.operation in PRECISION:
            found = precision(context, args.operation)
        else:
            found = least(context, OPERATIONS[args.operation], args.repeats)
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    print(json.dumps(found), flush=True)
    if rust is not None:
        # The threads of pyo3-async-runtimes may be about to take the GIL, which aborts a process
        # whose interpreter is being finalized (before CPython 3.14).
        os._exit(0)


if __name__ == "__main__":
    main()
