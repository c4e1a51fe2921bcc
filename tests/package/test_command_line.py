"""``python -m tokioloop`` runs a program as ``python`` itself does, on another loop."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile

import pytest

pytestmark = pytest.mark.native_only

WHICH_LOOP = """
    import asyncio

    async def main():
        print(type(asyncio.get_running_loop()).__module__.partition(".")[0])
        print(asyncio.get_running_loop().get_debug())

    asyncio.run(main())
"""
WHERE = """
    import __main__, os, sys

    print(sys.argv)
    print(sys.path[0])
    print(__name__, sys.modules["__main__"] is __main__, __main__.__dict__ is globals())
    print(globals().get("__file__"), __package__, __doc__)
    print(type(globals().get("__loader__")).__name__, globals().get("__spec__") is not None)
"""
FAILS = """
    def inner():
        raise LookupError("lost")

    def outer():
        inner()

    outer()
"""


@pytest.fixture
def run(tmp_path):
    def run(*args, command=(sys.executable, "-m", "tokioloop"), stdin="", env=None):
        return subprocess.run(
            [*command, *args],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHON_COLORS": "0", "NO_COLOR": "1", **(env or {})},
        )

    return run


@pytest.fixture
def same_as_python(run):
    """Run with the command and with Python alone: all that can be seen must be the same."""

    def compare(*args):
        ours, pythons = run(*args), run(*args, command=(sys.executable,))
        assert ours.stdout == pythons.stdout
        assert ours.stderr == pythons.stderr
        assert ours.returncode == pythons.returncode
        return ours

    return compare


@pytest.fixture
def script(tmp_path):
    def script(source, name="program.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return name

    return script


@pytest.mark.parametrize("way", ["script", "module", "code"])
def test_asyncio_run_of_an_unmodified_program_uses_the_loop(run, script, way):
    name = script(WHICH_LOOP)
    how = {
        "script": [name],
        "module": ["-m", "program"],
        "code": ["-c", textwrap.dedent(WHICH_LOOP)],
    }[way]
    assert run(*how).stdout == "tokioloop\nFalse\n"
    assert run("--debug", *how).stdout == "tokioloop\nTrue\n"


@pytest.mark.parametrize("name", ["program.py", "folder/program.py", "no_suffix"])
def test_a_script_finds_itself_as_python_would_have_it(same_as_python, script, name):
    done = same_as_python(script(WHERE, name), "one", "--two", "-m", "3")
    assert repr([name, "one", "--two", "-m", "3"]) in done.stdout


def test_code_finds_itself_as_python_would_have_it(same_as_python):
    done = same_as_python("-c", textwrap.dedent(WHERE), "one", "--debug")
    assert "['-c', 'one', '--debug']" in done.stdout


def test_a_module_finds_itself_as_python_would_have_it(same_as_python, script):
    script(WHERE, "package/sub.py")
    script(WHERE, "package/__main__.py")
    script("", "package/__init__.py")
    script(WHERE)
    for module in ("program", "package.sub", "package"):
        assert "__main__ True True" in same_as_python("-m", module, "one", "-c").stdout


def test_a_folder_and_an_archive_run_as_python_would_run_them(same_as_python, script, tmp_path):
    script(WHERE, "folder/__main__.py")
    same_as_python("folder", "one")
    with zipfile.ZipFile(tmp_path / "archive.pyz", "w") as archive:
        archive.write(tmp_path / "folder" / "__main__.py", "__main__.py")
    same_as_python("archive.pyz", "one")


def test_a_script_imports_what_lies_beside_it(same_as_python, script):
    script("value = 'beside'", "folder/beside.py")
    done = same_as_python(script("import beside; print(beside.value)", "folder/program.py"))
    assert done.stdout == "beside\n"


def test_a_script_can_pickle_its_own_functions(same_as_python, script):
    source = """
        import pickle

        def function():
            return "unpickled"

        if __name__ == "__main__":
            print(pickle.loads(pickle.dumps(function))())
    """
    assert same_as_python(script(source)).stdout == "unpickled\n"


@pytest.mark.parametrize(
    "leave",
    ["sys.exit()", "sys.exit(0)", "sys.exit(3)", "sys.exit('a message')", "os._exit(5)", "pass"],
)
def test_the_exit_status_is_the_programs(same_as_python, script, leave):
    same_as_python(script(f"import os, sys\n{leave}\n"))


def test_the_traceback_shows_the_program_and_nothing_else(same_as_python, script):
    done = same_as_python(script(FAILS))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "LookupError: lost"
    assert "tokioloop" not in done.stderr


def test_the_traceback_of_a_chained_exception_shows_the_program_and_nothing_else(
    same_as_python, script
):
    source = """
        try:
            1 / 0
        except ZeroDivisionError as error:
            raise LookupError("lost") from error
    """
    assert "direct cause" in same_as_python(script(source)).stderr


def test_a_mistake_in_the_text_is_shown_as_python_shows_it(same_as_python, script):
    done = same_as_python(script("def broken(:\n"))
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr


def test_a_missing_script_is_reported_as_python_reports_it(same_as_python):
    assert same_as_python("missing.py").returncode == 2


def test_a_missing_module_is_reported_as_python_reports_it(same_as_python):
    assert "No module named missing" in same_as_python("-m", "missing").stderr


def test_the_programs_own_exit_handlers_run(same_as_python, script):
    source = "import atexit; atexit.register(print, 'at exit'); print('program')"
    assert same_as_python(script(source)).stdout == "program\nat exit\n"


def test_ctrl_c_ends_the_program_as_it_ends_it_under_python(script, tmp_path):
    source = """
        import asyncio

        async def main():
            print("ready", flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
    """
    name = script(source)
    ends = []
    for command in ([sys.executable, "-m", "tokioloop"], [sys.executable]):
        process = subprocess.Popen(
            [*command, name],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        ends.append((process.returncode, errors.rstrip().splitlines()[-1]))
    assert ends[0] == ends[1] == (-signal.SIGINT, "KeyboardInterrupt")


def test_without_arguments_it_is_the_asyncio_repl_on_the_loop(run):
    done = run(
        stdin="import asyncio\n"
        "print('loop:', type(asyncio.get_running_loop()).__module__)\n"
        "await asyncio.sleep(0.01, 'slept')\n"
        "1 + 1\n"
    )
    assert done.returncode == 0, done.stderr
    assert "loop: tokioloop" in done.stdout
    assert "'slept'" in done.stdout
    assert "2" in done.stdout


def test_the_help_names_every_way_to_run(run):
    done = run("--help")
    assert done.returncode == 0
    for word in ("SCRIPT", "-m MODULE", "-c CODE", "--debug"):
        assert word in done.stdout


@pytest.mark.parametrize("arguments", [["--unknown"], ["-m"], ["-c"]])
def test_a_wrong_command_line_prints_the_usage(run, arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_deprecation_warning_comes_from_the_command(tmp_path, run, script):
    done = run(script(WHICH_LOOP), command=(sys.executable, "-W", "error", "-m", "tokioloop"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
