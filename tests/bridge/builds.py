"""Builds extension modules with cargo, and runs coroutines on loops."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import warnings
from importlib.machinery import EXTENSION_SUFFIXES

HERE = pathlib.Path(__file__).parent
# A build for each Python, where builds go (which need not be in a tree that can be written to).
BUILDS = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parents[1] / "target")
TARGET = BUILDS / "bridge" / sys.implementation.cache_tag
# How the file of a stable ABI ends, if there is it of the one that needs no GIL.
STABLE_ABI = next(it for it in (".abi3t.so", ".abi3.so") if it in EXTENSION_SUFFIXES)
# Quick to build, and quick enough to measure. One profile for all extensions, whatever their own
# says: with the features that their manifests agree on, pyo3 and tokio are compiled once.
PROFILE = {
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "2",
    "CARGO_PROFILE_RELEASE_LTO": "false",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    "CARGO_PROFILE_RELEASE_INCREMENTAL": "true",
}


def cargo():
    found = shutil.which("cargo") or shutil.which("cargo", path=os.path.expanduser("~/.cargo/bin"))
    assert found, "cargo not found: the bridge is tested with an extension module of its own"
    return found


def build(project, name, features=None, crate=None, profile="release"):
    """Build an extension; returns the folder to import it from.

    With features named, these take the place of the default ones, and the file that is imported is
    that of the stable ABI. The module may have another name than the crate. The profile is
    `release` or `debug`.

    Several processes of a run may ask for the same: cargo lets one build at a time, and those that
    waited find everything built.
    """
    target, suffix, options = TARGET, sysconfig.get_config_var("EXT_SUFFIX"), []
    if profile == "release":
        options = ["--release"]
    if features is not None:
        target, suffix = TARGET / features, STABLE_ABI
        options += ["--no-default-features", "--features", features]
    done = subprocess.run(
        [cargo(), "build", "--quiet", "--target-dir", target, *options],
        cwd=project,
        env={**os.environ, **PROFILE, "PYO3_PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    folder = TARGET / ("import" if profile == "release" else f"import-{profile}")
    folder.mkdir(exist_ok=True)
    link = folder / f"{name}{suffix}"
    if not link.is_symlink():
        with contextlib.suppress(FileExistsError):  # another process of this run was quicker
            link.symlink_to(target / profile / f"lib{crate or name}.so")
    return folder


def with_pyo3(project, version):
    """A copy of an extension's project that asks for another PyO3; it can only be a library."""
    copy = TARGET / f"pyo3-{version}" / project.name
    shutil.copytree(project, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("Cargo.lock"))
    manifest = (project / "Cargo.toml").read_text()
    # The loop's crate has one version of PyO3, and a program can have no two.
    manifest = re.sub(r"^tokioloop = .*\n", "", manifest, flags=re.MULTILINE)
    manifest = manifest.replace('"dep:tokioloop"', "")
    manifest = re.sub(r'^(pyo3.* = .*)"0\.\d+"', rf'\1"{version}"', manifest, flags=re.MULTILINE)
    if tuple(map(int, version.split("."))) < (0, 29):
        manifest = manifest.replace(', "pyo3/abi3t-py315"', "")
    manifest = manifest.replace("../../../crates", str(HERE.parents[1] / "crates"))
    (copy / "Cargo.toml").write_text(manifest)
    return copy


def load(folder, name):
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


class Loops:
    """Makes loops of one kind, and runs coroutine functions on them."""

    def __init__(self, kind, factory):
        self.kind = kind
        self.factory = factory
        #: Futures are polled where they are awaited.
        self.inline = kind != "asyncio"

    def run(self, main):
        loop = self.factory()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                return loop.run_until_complete(main())
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()


def soon(awaitable):
    """What is awaited may take its time, and must not hang."""
    return asyncio.wait_for(awaitable, 20)
