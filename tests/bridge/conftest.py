"""Builds the test extension once a run, and runs the tests on the three kinds of loops it meets.

The same extension is embedded (a loop of its own crate), beside (the installed tokioloop's loop)
and on asyncio's loop, where pyo3-async-runtimes does the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import warnings

import pytest

HERE = pathlib.Path(__file__).parent
# A build for each Python, where builds go (which need not be in a tree that can be written to).
BUILDS = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parents[1] / "target")
TARGET = BUILDS / "bridge" / sys.implementation.cache_tag

KINDS = ("embedded", "beside", "asyncio")


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            # The first test of a run waits for the build.
            item.add_marker(pytest.mark.timeout(900))
            # Which loop these run on is their own affair.
            item.add_marker(pytest.mark.native_only())


def cargo():
    found = shutil.which("cargo") or shutil.which("cargo", path=os.path.expanduser("~/.cargo/bin"))
    assert found, "cargo not found: the bridge is tested with an extension module of its own"
    return found


@pytest.fixture(scope="session")
def extension_folder():
    """The folder to import the extension from; cargo sees to it that one builds at a time."""
    done = subprocess.run(
        [cargo(), "build", "--release", "--quiet", "--target-dir", TARGET],
        cwd=HERE / "extension",
        env={**os.environ, "PYO3_PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    folder = TARGET / "import"
    folder.mkdir(exist_ok=True)
    link = folder / f"bridge_extension{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not link.is_symlink():
        with contextlib.suppress(FileExistsError):  # another process of this run was quicker
            link.symlink_to(TARGET / "release" / "libbridge_extension.so")
    return folder


@pytest.fixture(scope="session")
def extension(extension_folder):
    sys.path.insert(0, str(extension_folder))
    try:
        return importlib.import_module("bridge_extension")
    finally:
        sys.path.remove(str(extension_folder))


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


def loops_of(kind, extension):
    if kind == "embedded":
        return Loops(kind, extension.new_event_loop)
    if kind == "beside":
        import tokioloop

        return Loops(kind, tokioloop.new_event_loop)
    return Loops(kind, asyncio.new_event_loop)


@pytest.fixture(params=KINDS)
def loops(request, extension):
    """The three kinds of loops."""
    return loops_of(request.param, extension)


@pytest.fixture(params=KINDS[:2])
def inline(request, extension):
    """The two kinds on which futures are polled where they are awaited."""
    return loops_of(request.param, extension)


@pytest.fixture
def embedded(extension):
    return loops_of("embedded", extension)


@pytest.fixture
def flag(extension):
    return extension.DropFlag()


@pytest.fixture
def eventually():
    """Awaits, on any loop, what another thread is about to do."""

    async def wait(condition):
        async with asyncio.timeout(20) if sys.version_info >= (3, 11) else Untimed():
            while not condition():
                gc.collect()
                await asyncio.sleep(0.001)

    return wait


class Untimed:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None


@pytest.fixture
def extension_programs(extension_folder):
    """Runs source in a process of its own, where the extension can be imported."""

    def run(source, *, check=True, timeout=60):
        import textwrap

        path = os.pathsep.join(filter(None, [str(extension_folder), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            [sys.executable, "-c", "import bridge_extension\n" + textwrap.dedent(source)],
            env={**os.environ, "PYTHONPATH": path, "PYTHONFAULTHANDLER": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
