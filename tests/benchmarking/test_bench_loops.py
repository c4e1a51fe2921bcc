"""The names of loops on the command line, and the transports that they get."""

import asyncio
import importlib
import subprocess
import sys

import pytest
from benchmarks import loops
from benchmarks.processes import ROOT


@pytest.fixture
def made():
    """Make loops by their names; they are closed after the test."""
    found = []

    def make(spec):
        found.append(loops.load(spec)())
        return found[-1]

    yield make
    for loop in found:
        loop.close()


def connection_method(loop):
    function = getattr(loop.create_connection, "func", loop.create_connection)
    return function.__module__


@pytest.mark.parametrize("name", ["asyncio", "tokioloop", "asyncio:new_event_loop"])
def test_a_loop_has_its_own_transports_or_the_packages(made, name):
    plain, patched = made(name), made(f"{name}+aiofastnet")
    assert type(patched) is type(plain)
    assert connection_method(plain) == type(plain).create_connection.__module__
    assert connection_method(patched) == "aiofastnet.api_create_connection"


def test_the_version_names_both():
    found = loops.version("asyncio+aiofastnet")
    assert found.startswith(f"{loops.version('asyncio')} with aiofastnet ")


def test_the_package_over_a_loop_that_is_not_installed_is_not_available():
    with pytest.raises(loops.UnavailableLoop, match=r"^no_such_loop:make: No module"):
        loops.load("no_such_loop:make+aiofastnet")


def test_without_the_package_only_its_columns_are_not_available(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiofastnet", None)
    with pytest.raises(loops.UnavailableLoop, match=r"^asyncio\+aiofastnet: import of"):
        loops.load("asyncio+aiofastnet")
    assert loops.load("asyncio") is asyncio.SelectorEventLoop


def test_the_package_is_hidden_from_libraries_on_a_loop_with_its_own_transports(monkeypatch):
    package = importlib.import_module("aiofastnet")
    monkeypatch.setitem(sys.modules, "aiofastnet", package)
    loops.hide_foreign_transports("tokioloop+aiofastnet")
    assert importlib.import_module("aiofastnet") is package
    loops.hide_foreign_transports("tokioloop")
    with pytest.raises(ImportError):
        importlib.import_module("aiofastnet")


@pytest.mark.parametrize("name", ["tokioloop", "tokioloop+aiofastnet"])
def test_an_operation_runs_on_it(name):
    command = [sys.executable, "-m", "benchmarks.micro", name, "sleep-zero", "100"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert '"value": ' in done.stdout, done.stderr
