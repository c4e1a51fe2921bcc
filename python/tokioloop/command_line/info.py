"""What ``python -m tokioloop --info`` prints: what a bug report should say."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

from tokioloop import _core

#: Packages that create event loops, or that often run on one.
PACKAGES = (
    "aiofastnet",
    "aiohttp",
    "anyio",
    "asyncpg",
    "fastapi",
    "gunicorn",
    "hypercorn",
    "nest-asyncio",
    "redis",
    "tornado",
    "twisted",
    "uvicorn",
    "uvloop",
    "websockets",
)


def report() -> str:
    """Return versions, build, interpreter, system and kernel features, a line each."""
    return "".join(f"{name + ':':12}{value}\n" for name, value in _facts())


def _facts() -> Iterator[tuple[str, str]]:
    build = _core.__build__
    yield "tokioloop", f"{_core.__version__}, {Path(_core.__file__).parent}"
    yield "build", ", ".join(f"{name} {value}" for name, value in build.items())
    compiler = platform.python_compiler()
    yield "Python", f"{platform.python_version()} ({compiler}), {sys.executable}"
    yield "OpenSSL", ssl.OPENSSL_VERSION
    yield "system", f"{_distribution()}, {' '.join(platform.libc_ver())}, {platform.machine()}"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield "limits", f"{len(os.sched_getaffinity(0))} CPUs, {soft} descriptors (at most {hard})"
    yield "kernel", f"{platform.release()}; " + ", ".join(_kernel_features())
    yield "packages", ", ".join(_packages()) or "none of those that are known to run on a loop"


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _kernel_features() -> Iterator[str]:
    yield f"pidfd {_yes(_has_pidfd())}"
    yield f"IPv6 loopback {_yes(_has_ipv6_loopback())}"
    layers = _read("/proc/sys/net/ipv4/tcp_available_ulp").split()
    yield f"TLS in the kernel {_yes('tls' in layers)}"
    yield f"backlog at most {_read('/proc/sys/net/core/somaxconn') or 'unknown'}"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _has_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _packages() -> Iterator[str]:
    for name in PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
