"""Short forms of the machines that run for minutes by hand (docs/testing.md)."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

MACHINES = pathlib.Path(__file__).parents[1] / "machines"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def run(machine, *args):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", MACHINES / machine, *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"


def test_clients_that_misbehave_leave_nothing_behind(loop_name):
    pytest.importorskip("trustme")
    run("soak.py", "--loop", loop_name, "--cycles", "30", "--seed", "1")


@pytest.mark.parametrize("seed", (1, 1000))
def test_threads_meet_loops_that_end(loop_name, seed):
    run("thread_stress.py", "--loop", loop_name, "--seconds", "10", "--seed", str(seed))


@pytest.mark.native_only()
def test_processes_end_while_rust_futures_are_in_flight():
    run("exits.py", "--processes", "1", "--builds", "release")
