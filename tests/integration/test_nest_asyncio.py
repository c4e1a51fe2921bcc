"""nest_asyncio and nest_asyncio2: code on a loop runs that loop again, as notebooks do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

APPLIED = """
import asyncio, sys

import {package}

{install}
{package}.apply()


async def answer(value):
    await asyncio.sleep(0.001)
    return value


def nested(value):
    return asyncio.get_event_loop().run_until_complete(answer(value))


async def main():
    first = nested(1)
    second, third = await asyncio.gather(answer(2), asyncio.to_thread(int, 3))
    return [first, second, third, asyncio.run(answer(4))]


print(asyncio.run(main()))
print(asyncio.run(answer("again")))
loop = asyncio.new_event_loop()
{package}.apply(loop)
asyncio.set_event_loop(loop)
print(loop.run_until_complete(main()), type(loop).__module__.partition(".")[0])
loop.close()
"""


@pytest.mark.parametrize("package", ["nest_asyncio", "nest_asyncio2"])
def test_a_program_that_nests_runs(loop_name, tmp_path, package):
    if package == "nest_asyncio" and sys.version_info >= (3, 14):
        pytest.skip("written for CPython before 3.14; nest_asyncio2 is its successor")
    install = "" if loop_name == "asyncio" else "import tokioloop; tokioloop.install()"
    program = tmp_path / "program.py"
    program.write_text(APPLIED.format(package=package, install=install))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["[1, 2, 3, 4]", "again", f"[1, 2, 3, 4] {loop_name}"]
