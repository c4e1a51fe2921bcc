"""The samples of the documentation run: Python blocks, and lines with ``python -m tokioloop``.

Those of docs/recipes/ need frameworks, and are run by tests/recipes; those of docs/rust.md need
extension modules, and tests/bridge has them.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.native_only

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"docs/rust.md", *(f"docs/recipes/{page.name}" for page in ROOT.glob("docs/recipes/*"))}
PAGES = [
    path
    for page in sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
    if (path := str(page.relative_to(ROOT))) not in ELSEWHERE
]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM = """
import asyncio

async def main():
    print(type(asyncio.get_running_loop()).__module__)

asyncio.run(main())
"""


def blocks(language):
    for page in PAGES:
        text = (ROOT / page).read_text()
        for found in FENCE.finditer(text):
            if found[1] == language:
                yield f"{page}:{text[: found.start()].count(chr(10)) + 1}", found[2]


SAMPLES = dict(blocks("python"))
COMMANDS = {
    f"{place} {line}": line
    for place, body in blocks("sh")
    for line in body.splitlines()
    if line.startswith("python -m tokioloop")
}


def run(folder, *arguments, given=None):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONASYNCIODEBUG"},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("place", SAMPLES)
def test_a_sample_runs_and_what_it_prints_of_its_loop_is_true(place, tmp_path):
    sample = SAMPLES[place]
    if "asyncio.Runner" in sample and sys.version_info < (3, 11):
        pytest.skip("asyncio.Runner is new in 3.11")
    (tmp_path / "sample.py").write_text(sample)
    done = run(tmp_path, "-W", "error", "sample.py")
    assert done.stderr == ""
    if "print(" in sample and "get_running_loop()" in sample:
        assert "<tokioloop.Loop running=True" in done.stdout


@pytest.mark.parametrize("shown", COMMANDS)
def test_a_command_runs_its_program_on_the_loop(shown, tmp_path):
    (tmp_path / "script.py").write_text(PROGRAM)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text(PROGRAM)
    words = shlex.split(COMMANDS[shown])[1:]
    if words == ["-m", "tokioloop"]:
        done = run(tmp_path, *words, given="await asyncio.sleep(0)\nasyncio.get_running_loop()\n")
        assert "<tokioloop.Loop running=True" in done.stdout
    elif "--verbose" in words:
        done = run(tmp_path, *words)
        assert re.fullmatch(r"tokioloop: process \d+ runs tokioloop\.Loop\n", done.stderr)
    else:
        done = run(tmp_path, *words)
        assert done.stdout == "tokioloop.loop\n"
        assert done.stderr == ""


def test_the_pages_that_users_read_first_have_samples():
    found = {place.partition(":")[0] for place in SAMPLES}
    assert {"README.md", "docs/start.md", "docs/moving-from-uvloop.md"} <= found
    assert COMMANDS
