"""Sub-interpreters are refused with an ImportError, whichever interpreter comes first."""

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.native_only(reason="the standard library's loop runs in all interpreters")

# `inside(code)` runs code in a new interpreter of the kind that shares the GIL and lets in modules
# of all kinds, and prints what it raised. Names of one version each: tried one after the other.
PREPARE = """
    import sys

    if sys.version_info >= (3, 13):
        import _interpreters as interpreters

        def inside(code):
            made = interpreters.create("legacy")
            failure = interpreters.exec(made, code)
            print(failure.formatted if failure else "no failure")
            interpreters.destroy(made)
    else:
        import _xxsubinterpreters as interpreters

        def inside(code):
            options = {"isolated": False} if sys.version_info >= (3, 12) else {}
            made = interpreters.create(**options)
            try:
                interpreters.run_string(made, code)
                print("no failure")
            except interpreters.RunFailedError as error:
                print(error)
            interpreters.destroy(made)

    USE = (
        "import tokioloop; loop = tokioloop.new_event_loop(); "
        "loop.call_later(0.01, loop.stop); loop.run_forever(); loop.close()"
    )
"""

REFUSED = "tokioloop does not support sub-interpreters"


def test_a_sub_interpreter_that_comes_second(programs):
    done = programs.run(
        PREPARE
        + """
    async def main():
        return 42

    inside(USE)
    assert run(main()) == 42
    inside(USE)
    assert run(main()) == 42
    """,
        timeout=30,
    )
    refused, again = done.stdout.splitlines()
    assert "ImportError" in refused and REFUSED in refused
    assert "ImportError" in again and REFUSED in again
    assert done.stderr == ""


@pytest.mark.parametrize("use", ["tokioloop", "tokioloop._core", "tokioloop.loop"])
def test_a_sub_interpreter_that_comes_first(use):
    code = textwrap.dedent(PREPARE) + textwrap.dedent(
        f"""
        inside("import {use}")
        inside("import {use}")
        exec(USE)
        inside("import {use}")
        """
    )
    # Not by `programs`, where the main interpreter has imported it by then.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("ImportError" in line and REFUSED in line for line in lines)
    assert done.stderr == ""


def test_an_interpreter_of_its_own_kind(programs):
    """One with a GIL of its own, from 3.12 on: CPython refuses by itself, and says so."""
    done = programs.run(
        """
        import sys
        if sys.version_info >= (3, 13):
            import _interpreters as interpreters
            failure = interpreters.exec(interpreters.create("isolated"), "import tokioloop")
            print(failure.formatted)
        else:
            import _xxsubinterpreters as interpreters
            try:
                interpreters.run_string(interpreters.create(), "import tokioloop")
            except interpreters.RunFailedError as error:
                print(error)
        """,
        timeout=30,
    )
    assert "ImportError" in done.stdout
    assert "interpreters" in done.stdout
