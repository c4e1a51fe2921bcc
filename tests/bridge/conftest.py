"""Builds extensions once a run, and runs the tests on the three kinds of loops they meet.

The test extension is embedded (a loop of its own crate). As a library, which has the bridge alone
and is limited to CPython's stable ABI, it is beside (the installed tokioloop's loop) and on
asyncio's loop.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pathlib
import subprocess
import sys

import pytest

from bridge.builds import Loops, build, load, with_pyo3

HERE = pathlib.Path(__file__).parent
KINDS = ("embedded", "beside", "asyncio")


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            # The first test of a run waits for the build.
            item.add_marker(pytest.mark.timeout(900))
            # Which loop these run on is their own affair.
            item.add_marker(pytest.mark.native_only())


@pytest.fixture(scope="session")
def extension_folder():
    """Where the test extension is."""
    return build(HERE / "extension", "bridge_extension")


@pytest.fixture(scope="session")
def embedding(extension_folder):
    """The extension with a loop of its own."""
    return load(extension_folder, "bridge_extension")


@pytest.fixture(scope="session")
def library_folder():
    """Where the library is; BRIDGE_PYO3 chooses another version of PyO3."""
    project = HERE / "extension"
    if version := os.environ.get("BRIDGE_PYO3"):
        project = with_pyo3(project, version)
    return build(project, "bridge_library", "library", crate="bridge_extension")


@pytest.fixture(scope="session")
def library(library_folder):
    """The extension with the bridge alone."""
    return load(library_folder, "bridge_library")


@pytest.fixture
def extension(request, embedding):
    """The one that fits the loops of the test."""
    params = getattr(getattr(request.node, "callspec", None), "params", {})
    kind = params.get("loops") or params.get("inline") or KINDS[0]
    return embedding if kind == KINDS[0] else request.getfixturevalue("library")


def loops_of(kind, embedding):
    if kind == "embedded":
        return Loops(kind, embedding.new_event_loop)
    if kind == "beside":
        import tokioloop

        return Loops(kind, tokioloop.new_event_loop)
    return Loops(kind, asyncio.new_event_loop)


@pytest.fixture(params=KINDS)
def loops(request, embedding):
    """The three kinds of loops."""
    return loops_of(request.param, embedding)


@pytest.fixture(params=(*KINDS, "uvloop"))
def on(request, embedding):
    """The three kinds of loops, and uvloop's."""
    if request.param == "uvloop":
        return Loops("uvloop", pytest.importorskip("uvloop").new_event_loop)
    return loops_of(request.param, embedding)


@pytest.fixture
def rust(on, embedding, request):
    """The extension that fits `on`."""
    return embedding if on.kind == "embedded" else request.getfixturevalue("library")


@pytest.fixture(params=KINDS[:2])
def inline(request, embedding):
    """The two kinds on which futures are polled where they are awaited."""
    return loops_of(request.param, embedding)


@pytest.fixture
def embedded(embedding):
    return loops_of("embedded", embedding)


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
def extension_programs(extension_folder, library_folder):
    """Runs source in a process of its own, where the extension can be imported.

    It is the one with a loop if the source names that, else the library by the same name.
    """

    def run(source, *, check=True, timeout=60):
        import textwrap

        folders = [str(extension_folder), str(library_folder), os.environ.get("PYTHONPATH")]
        path = os.pathsep.join(filter(None, folders))
        has_loop = "bridge_extension.new_event_loop" in source or "bridge_extension.run(" in source
        module = "bridge_extension" if has_loop else "bridge_library as bridge_extension"
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}\n" + textwrap.dedent(source)],
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
