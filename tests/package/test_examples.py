"""Every example runs and prints its expected lines.

Under ``--loop asyncio`` a stand-in module named tokioloop hands out the standard library's
loop: the examples must say the same there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

STAND_IN = """
import asyncio
from asyncio import new_event_loop

def run(main, *, debug=None, loop_factory=new_event_loop):
    return asyncio.run(main, debug=debug)
"""

EXPECTED = {
    "concurrent_tasks": """
        coffee: started
        tea: started
        water: started
        water: ready after 0.1 s
        tea: ready after 0.2 s
        coffee: ready after 0.3 s
        served: coffee, tea, water
        cocoa: started
        meanwhile something else
        cocoa: ready after 0.1 s
        served: cocoa
        one after the other would have taken 0.7 s; this took less: True
    """,
    "timeouts": """
        answered after 0.05 s
          (cancelled: clean up here)
        no answer within 0.05 s
        1 done, 1 pending
          (cancelled: clean up here)
        stopped waiting, but: answered after 0.2 s
    """,
    "producer_consumer": """
        producer of 0..9 is done
        producer of 10..19 is done
        items handled: 20
        everybody had work: True
        sum of squares: 2470
    """,
    "error_handling": """
        caught: division by zero
        outcomes: ['2.0', "ZeroDivisionError('division by zero')", '3.0']
          attempt 1 failed
          attempt 2 failed
        attempt 3 worked
        cleaned up
        the task was cancelled
        reported to the loop: KeyError('missing')
    """,
    "locks": """
        balance: 100
        at work at once: 3
        order: go! a b c
        stock when it was enough: 8
    """,
    "chat": """
          Ann hears  * Ann joined
          Ann hears  * Bob joined
          Bob hears  * Bob joined
          Ann hears  * Cleo joined
          Bob hears  * Cleo joined
         Cleo hears  * Cleo joined
          Bob hears  Ann: hello everybody
         Cleo hears  Ann: hello everybody
          Ann hears  Bob: hello Ann
         Cleo hears  Bob: hello Ann
          Ann hears  * Cleo left
          Bob hears  * Cleo left
    """,
    "loop_beside_gui": """
        downloads started, the interface goes on
        quick: contents of quick
        broken: ConnectionError('the server hung up')
        slow: contents of slow
        the interface stayed alive: True
        stopped
    """,
    "files": """
        log0.txt: 100 lines, 1290 bytes
        log1.txt: 200 lines, 2690 bytes
        log2.txt: 300 lines, 4090 bytes
        log3.txt: 400 lines, 5490 bytes
        log4.txt: 500 lines, 6890 bytes
        together: 1500 lines
        not there: missing.txt
    """,
}


@pytest.fixture
def output_of(loop_name, tmp_path):
    """Runs an example to its end and returns what it printed."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONASYNCIODEBUG", None)
    if loop_name == "asyncio":
        (tmp_path / "tokioloop.py").write_text(STAND_IN)
        environment["PYTHONPATH"] = str(tmp_path)

    def run(name, *arguments):
        done = subprocess.run(
            [sys.executable, "-W", "error", EXAMPLES / f"{name}.py", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    return run


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_prints_the_expected_lines(output_of, name):
    said = [line.strip() for line in output_of(name).splitlines()]
    assert said == [line.strip() for line in EXPECTED[name].strip().splitlines()]


def test_the_comparison_names_both_loops_and_their_times(output_of):
    said = output_of("fetch_thousand", "--urls", "60", "--think", "5", "--rounds", "2")
    # Not a terminal: a line a turn, and nothing that redraws itself.
    assert "\r" not in said
    assert "\033" not in said
    assert re.findall(r"^round (\d)/2 on (\w+)$", said, re.M) == [
        ("1", "asyncio"),
        ("1", "tokioloop"),
        ("2", "tokioloop"),
        ("2", "asyncio"),
    ]
    assert "60 URLs at once, 5 ms of think time each, median of 2:" in said
    for name in ("asyncio", "tokioloop"):
        [(seconds, rate)] = re.findall(rf"^  {name} +([\d.]+) s +(\d+) requests/s$", said, re.M)
        # They wait for the server together, so it takes far less than 60 times 5 ms.
        assert float(seconds) >= 0.005
        assert int(rate) == pytest.approx(60 / float(seconds), rel=0.1)
    assert re.search(r"^tokioloop is \d+\.\d\d times as fast as asyncio$", said, re.M)


@pytest.mark.parametrize("arguments", [("--urls", "0"), ("--rounds", "-1"), ("--think", "x")])
def test_the_comparison_refuses_nonsense(output_of, arguments):
    with pytest.raises(AssertionError, match="usage: "):
        output_of("fetch_thousand", *arguments)


@pytest.mark.native_only
@pytest.mark.parametrize("count", [1, 2])
def test_processes_on_one_port_share_the_requests(output_of, count):
    said = output_of("reuse_port", "--processes", str(count), "--seconds", "0.5")
    shares = re.findall(r"^  tokioloop\.loop in a process: (\d+)% of the requests$", said, re.M)
    # The kernel chooses a process for each of 32 connections: none of them has all, save by chance
    # (1 in 2,000,000,000).
    assert len(shares) == count
    assert sum(map(int, shares)) == pytest.approx(100, abs=1)
    [rate] = re.findall(rf"^{count} process(?:es)?: (\d+) requests/s$", said, re.M)
    assert int(rate) > 0


def test_every_example_is_tested():
    here = {path.stem for path in EXAMPLES.glob("*.py")}
    assert here == {*EXPECTED, "fetch_thousand", "reuse_port"}
