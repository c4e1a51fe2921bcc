"""``python -m tokioloop`` reaches the Pythons that its program starts."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.native_only

SAYS_ITS_LOOP = """
import asyncio

async def main():
    print(type(asyncio.get_running_loop()).__module__.partition(".")[0])

asyncio.run(main())
"""
STARTS = """
import subprocess, sys

subprocess.run([sys.executable, *sys.argv[1:]], check=True)
"""
WORKERS = """
import asyncio
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

async def which():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]

def work(_):
    return asyncio.run(which())

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with ProcessPoolExecutor(2, context) as workers:
        print(*workers.map(work, range(4)))
"""


@pytest.fixture
def run(tmp_path):
    """Run ``python -m tokioloop`` with files of these texts beside it; what it printed."""

    def run(*arguments, env=None, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, "-m", "tokioloop", *arguments],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver"])
def test_workers_run_on_the_loop(run, way):
    done = run("workers.py", way, workers=WORKERS)
    assert done.stdout.split() == ["tokioloop"] * 4
    assert done.stderr == ""


@pytest.mark.parametrize("way", ["spawn", "forkserver"])
def test_workers_can_be_left_alone(run, way):
    done = run("--no-children", "workers.py", way, workers=WORKERS)
    assert done.stdout.split() == ["asyncio"] * 4


def test_a_programs_own_programs_run_on_the_loop_and_theirs_too(run):
    done = run("starts.py", "starts.py", "says.py", starts=STARTS, says=SAYS_ITS_LOOP)
    assert done.stdout == "tokioloop\n"


def test_a_child_may_leave_its_own_children_alone(run):
    done = run(
        "starts.py",
        *("-m", "tokioloop", "--no-children", "starts.py", "says.py"),
        starts=STARTS,
        says=SAYS_ITS_LOOP,
    )
    assert done.stdout == "asyncio\n"


def test_children_share_the_options(run):
    source = """
        import asyncio, tokioloop
        print(asyncio.sleep is tokioloop.sleep)
    """
    arguments = ("starts.py", "accelerated.py")
    files = {"starts": STARTS, "accelerated": source}
    assert run("--accelerate", *arguments, **files).stdout == "True\n"
    assert run(*arguments, **files).stdout == "False\n"


def test_a_child_that_imports_the_package_first_has_the_loop(run):
    done = run("starts.py", "says.py", starts=STARTS, says="import tokioloop\n" + SAYS_ITS_LOOP)
    assert done.stdout == "tokioloop\n"


def test_a_child_that_needs_no_asyncio_imports_neither(run):
    source = """
        import sys
        print({"asyncio", "tokioloop"} & set(sys.modules))
    """
    assert run("starts.py", "looks.py", starts=STARTS, looks=source).stdout == "set()\n"


def test_children_see_the_path_that_the_environment_names(run, tmp_path):
    extra = str(tmp_path / "extra")
    source = f"""
        import sys
        print(sys.path.index({extra!r}), [name for name in sys.path if "tokioloop" in name])
    """
    done = run("starts.py", "looks.py", starts=STARTS, looks=source, env={"PYTHONPATH": extra})
    # Behind the folder of the script, as Python has it.
    assert done.stdout.startswith("1 ")
    assert "children" not in done.stdout


def start_with_sitecustomize(run, folder, text, child):
    """Run a program with a ``sitecustomize`` of the user's, whose child runs the given source."""
    (folder / "own").mkdir()
    (folder / "own" / "sitecustomize.py").write_text(text)
    environment = {"PYTHONPATH": str(folder / "own")}
    return run("starts.py", "child.py", starts=STARTS, child=child, env=environment)


def test_a_sitecustomize_of_the_users_runs_in_children(run, tmp_path):
    child = "import sitecustomize\nprint(sitecustomize.value)\n" + SAYS_ITS_LOOP
    done = start_with_sitecustomize(run, tmp_path, "value = 'mine'\n", child)
    assert done.stdout == "mine\ntokioloop\n"


def test_a_sitecustomize_that_fails_is_reported_as_python_reports_it(run, tmp_path):
    done = start_with_sitecustomize(run, tmp_path, "1 / 0\n", SAYS_ITS_LOOP)
    assert done.stdout == "tokioloop\n"
    assert "Error in sitecustomize" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_a_python_without_the_package_runs_on_its_own_loop(run, tmp_path):
    """The child of another environment finds the folder in its ``PYTHONPATH``, and no package."""
    environment = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    starts = STARTS.replace("sys.executable", repr(str(environment / "bin" / "python")))
    done = run("starts.py", "says.py", starts=starts, says=SAYS_ITS_LOOP)
    assert done.stdout == "asyncio\n"
    assert done.stderr == ""


def test_verbose_names_the_loop_of_each_process(run):
    number = "import os; print(os.getpid(), flush=True)\n"
    says = number + SAYS_ITS_LOOP
    done = run("--verbose", "both.py", "says.py", both=STARTS + says, says=says)
    child, _, parent, _ = done.stdout.split()
    assert done.stderr.splitlines() == [
        f"tokioloop: process {child} runs tokioloop.Loop",
        f"tokioloop: process {parent} runs tokioloop.Loop",
    ]


NAMES_ITS_LOOP = """
import asyncio

loop = asyncio.SelectorEventLoop()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
"""


def test_a_program_that_names_its_loop_is_told_so(run):
    done = run("names.py", names=NAMES_ITS_LOOP)
    chosen = "asyncio.unix_events._UnixSelectorEventLoop"
    assert done.stderr == f"tokioloop: not used: the program itself chose {chosen}\n"


def test_a_program_that_also_runs_the_loop_is_told_nothing(run):
    assert run("both.py", both=NAMES_ITS_LOOP + SAYS_ITS_LOOP).stderr == ""


def test_a_program_without_loops_is_told_nothing(run):
    assert run("-c", "print(1)").stderr == ""
