"""Cores, and processes that do not outlive the benchmark."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Cores:
    """Where the server and the load generator run; no load generator on a single core."""

    server: int
    client: int | None


def choose_cores() -> Cores:
    """The first core for the server, and for its client one that is not the same core's twin."""
    usable = sorted(os.sched_getaffinity(0))
    server, others = usable[0], usable[1:]
    siblings = _siblings(server)
    strangers = [core for core in others if core not in siblings]
    client = next(iter(strangers or others), None)
    return Cores(server, client)


def _siblings(core: int) -> set[int]:
    """Hardware threads that share ``core``, as far as the system tells."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    siblings: set[int] = set()
    try:
        for part in path.read_text().strip().split(","):
            first, _, last = part.partition("-")
            siblings.update(range(int(first), int(last or first) + 1))
    except (OSError, ValueError):
        return {core}
    return siblings


def pin_to_core(core: int) -> None:
    os.sched_setaffinity(0, {core})


def tie_to_parent() -> None:
    """Makes this process end with its parent, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def raise_file_limit() -> None:
    """Allows this process as many open files as it may allow itself."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def describe() -> dict[str, str]:
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
