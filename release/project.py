"""The project that is released, and how the steps of a release run commands and fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
TOOLS = Path(sys.executable).parent


class Failure(Exception):
    """What was built is not to be published, and why."""


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def run(command: list[str], **options: Any) -> None:
    if subprocess.run(command, **options).returncode:
        raise Failure(f"failed: {' '.join(command)}")


def output(*command: str, **options: Any) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, **options)
    if done.returncode:
        raise Failure(f"failed: {' '.join(command)}")
    said: bytes = done.stdout
    return said.decode().strip()


def is_checkout(folder: Path) -> bool:
    return (folder / ".git").exists()


def source_date(folder: Path) -> str:
    """When the last commit was made, in seconds since 1970; an unpacked sdist's files have that."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return os.environ["SOURCE_DATE_EPOCH"]
    if is_checkout(folder):
        if shutil.which("git") is None:
            ask = "git log -1 --format=%ct"
            raise Failure(f"no git to ask for the commit's date: set SOURCE_DATE_EPOCH to {ask}")
        return output("git", "log", "-1", "--format=%ct", cwd=folder)
    if (folder / "PKG-INFO").exists():
        return str(int((folder / "PKG-INFO").stat().st_mtime))
    raise Failure(f"{folder} is neither a checkout nor an unpacked sdist: set SOURCE_DATE_EPOCH")


def step(name: str, work: Callable[[], None]) -> int:
    """Do the work of a program; its exit status."""
    try:
        work()
    except Failure as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0
