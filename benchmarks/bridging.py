"""Rust futures awaited from Python: the ways to do it, and the extension that has the futures.

``tokioloop::bridge`` and pyo3-async-runtimes are compared, not loops: a way is a loop and the
library that its futures come through.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import opendal
from benchmarks.loops import EXTENSION, EXTENSIONS_LOOP, LIBRARY, OURS
from benchmarks.processes import ROOT, Failure, cargo

FOLDER = ROOT / "benchmarks" / "extension"
UPSTREAM = "pyo3-async-runtimes"


@dataclass(frozen=True)
class Way:
    of: str
    """The loop without which this way is left out, as the command line names it."""
    loop: str
    through: Literal["bridge", "upstream", "library"]
    """The extension's functions, or the library's."""

    @property
    def opendal(self) -> str:
        """The folder of the OpenDAL that is read this way, where extension and library are."""
        return opendal.UPSTREAM if self.through == "upstream" else opendal.PATCHED


# A library of the stable ABI on asyncio's loop and on the installed one, which it reaches by a
# table of functions; the extension's own loop.
FALL_BACK, BESIDE, EMBEDDED = f"{OURS} fall-back", f"{OURS} beside", f"{OURS} embedded"
BRIDGES = (FALL_BACK, BESIDE, EMBEDDED)
# Column order of the table.
WAYS = {
    **{f"{UPSTREAM} on {loop}": Way(loop, loop, "upstream") for loop in ("asyncio", "uvloop")},
    f"{UPSTREAM} on {OURS}": Way(OURS, OURS, "upstream"),
    FALL_BACK: Way("asyncio", "asyncio", "library"),
    BESIDE: Way(OURS, OURS, "library"),
    EMBEDDED: Way(OURS, EXTENSIONS_LOOP, "bridge"),
}


def upstream_version() -> str:
    """The version of pyo3-async-runtimes that the extension is built with."""
    lines = (FOLDER / "Cargo.lock").read_text()
    found = re.search(rf'name = "{UPSTREAM}"\nversion = "(.*)"', lines)
    return found[1] if found else "of unknown version"


def fetch_crates() -> None:
    """Downloads what extension and library are built from, for a build that has no network."""
    cargo(FOLDER, "fetch", "--quiet", "--locked")
    with suppress(OSError, subprocess.CalledProcessError):  # whose rows are then left out
        opendal.fetch()


def _target() -> Path:
    """Where builds go, which need not be in a tree that can be written to."""
    builds = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return builds / "bench" / str(sys.implementation.cache_tag)


def build_extension() -> Path:
    """Compiles extension and library for this interpreter; returns the folder to import from."""
    target = _target()
    if not target.exists():
        print("building the extension; the first time takes minutes", file=sys.stderr, flush=True)
    folder = target / "import"
    folder.mkdir(parents=True, exist_ok=True)
    of_stable_abi = target / LIBRARY
    builds_of = {
        f"{EXTENSION}{sysconfig.get_config_var('EXT_SUFFIX')}": (target, []),
        f"{LIBRARY}.abi3.so": (of_stable_abi, ["--no-default-features", "--features", "library"]),
    }
    for name, (into, options) in builds_of.items():
        command = ["build", "--quiet", "--release", "--locked", "--target-dir", str(into)]
        cargo(FOLDER, *command, *options)
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(into / "release" / f"lib{EXTENSION}.so")
    return folder


def build_opendal() -> None:
    """Compiles OpenDAL for this interpreter, both ways, into that folder."""
    try:
        opendal.build(_target(), _target() / "import")
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure(f"OpenDAL cannot be built here: {error}") from None
