"""The pytest plugin by itself: options, header, marks, and what it leaves alone."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.native_only

RUN = """
    import asyncio

    async def kind():
        await asyncio.sleep(0)
        return type(asyncio.get_running_loop()).__qualname__

    def test_which(request):
        expected = request.config.getini("expected") or "_UnixSelectorEventLoop"
        assert asyncio.run(kind()) == expected
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(kind()) == expected
        loop.close()
"""
EXPECTED = """
    def pytest_addoption(parser):
        parser.addini("expected", "the type of loops")
"""
OTHERS = ("asyncio", "aiohttp", "anyio", "hypothesispytest", "xdist", "xdist.looponfail", "timeout")


@pytest.fixture(autouse=True)
def conftest(suites):
    suites.write("conftest.py", EXPECTED)
    suites.without("asyncio", "aiohttp")


@pytest.mark.parametrize(
    ("settings", "options"),
    [("tokioloop = true", []), ("", ["--tokioloop"]), ("tokioloop = false", ["--tokioloop"])],
)
def test_an_option_or_a_setting_makes_loops_tokioloops(suites, settings, options):
    import tokioloop

    suites.write("test_it.py", RUN)
    suites.settings = f"{settings}\nexpected = Loop"
    outcome = suites.run(*options)
    assert outcome.all_passed() == ["test_which"]
    assert f"event loop: tokioloop {tokioloop.__version__}\n" in outcome.header


def test_without_them_the_loops_are_asyncios(suites):
    suites.write("test_it.py", RUN)
    outcome = suites.run()
    assert outcome.all_passed() == ["test_which"]
    assert "event loop" not in outcome.header


def test_a_run_that_does_not_use_it_does_not_import_the_package(suites):
    suites.without(*OTHERS)
    suites.write(
        "test_it.py",
        """
        import sys

        def test_modules(request):
            assert request.config.pluginmanager.has_plugin("tokioloop")
            assert "_tokioloop_pytest" in sys.modules
            assert "tokioloop" not in sys.modules
        """,
    )
    assert suites.run().all_passed() == ["test_modules"]


def test_the_plugin_itself_imports_nothing():
    program = """
import sys, collections.abc, functools, typing, pytest
before = set(sys.modules)
import _tokioloop_pytest
print(*sys.modules.keys() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "_tokioloop_pytest\n", done.stderr


def test_the_plugin_can_be_left_out(suites):
    suites.without("tokioloop")
    suites.write("test_it.py", RUN)
    assert suites.run().all_passed() == ["test_which"]
    assert suites.run("--tokioloop").status == pytest.ExitCode.USAGE_ERROR


def test_the_mark_is_known(suites):
    suites.write("test_it.py", "def test_it(): pass")
    assert "@pytest.mark.tokioloop(*, autojump=False, start=0.0" in suites.run("--markers").output


MARKED = """
    import asyncio, pytest, sys, tokioloop

    def times():
        async def main():
            loop = asyncio.get_running_loop()
            before = loop.time()
            await asyncio.sleep(3600)
            return type(loop).__name__, before, loop.time()
        return asyncio.run(main())

    @pytest.mark.tokioloop(autojump=True)
    def test_virtual():
        assert times() == ("VirtualTimeLoop", 0, 3600)

    @pytest.mark.tokioloop(autojump=True, start=5.0, autojump_threshold=0.01)
    def test_options():
        assert times() == ("VirtualTimeLoop", 5, 3605)

    @pytest.mark.tokioloop
    def test_real():
        async def main():
            return type(asyncio.get_running_loop())
        assert asyncio.run(main()) is tokioloop.Loop

    def test_other():
        loop = asyncio.new_event_loop()
        loop.close()
        expected = "Loop" if "--tokioloop" in sys.argv else "_UnixSelectorEventLoop"
        assert type(loop).__name__ == expected

    @pytest.mark.tokioloop(autojump=True)
    class TestGroup:
        def test_inherits(self):
            assert times() == ("VirtualTimeLoop", 0, 3600)

        @pytest.mark.tokioloop(autojump=True, start=1.0)
        def test_overrides(self):
            assert times() == ("VirtualTimeLoop", 1, 3601)
"""


@pytest.mark.parametrize("options", [[], ["--tokioloop"]])
def test_marks_choose_the_loop_of_a_test(suites, options):
    suites.write("test_it.py", MARKED)
    assert suites.run(*options).all_passed() == [
        *("test_inherits", "test_options", "test_other"),
        *("test_overrides", "test_real", "test_virtual"),
    ]


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        ("True", "mark tokioloop does not take positional arguments"),
        ("jump=True", "mark tokioloop does not take jump"),
        ("start=1.0", "mark tokioloop: start without autojump=True"),
    ],
)
def test_a_mark_that_is_wrong_is_refused(suites, mark, text):
    suites.write(
        "test_it.py",
        f"""
        import pytest

        @pytest.mark.tokioloop({mark})
        def test_it():
            pass
        """,
    )
    outcome = suites.run()
    assert outcome.status == pytest.ExitCode.USAGE_ERROR
    assert f"test_it.py::test_it: {text}" in outcome.output


@pytest.mark.parametrize("options", [[], ["--tokioloop"]])
def test_a_mark_without_effect_fails_the_test(suites, options):
    suites.write(
        "test_it.py",
        """
        import asyncio, pytest

        @pytest.fixture(scope="module")
        def wide():
            loop = asyncio.new_event_loop()
            yield loop
            loop.close()

        @pytest.mark.tokioloop(autojump=True)
        def test_without_a_loop():
            pass

        @pytest.mark.tokioloop(autojump=True)
        def test_on_a_loop_of_the_module(wide):
            wide.run_until_complete(asyncio.sleep(0))

        @pytest.mark.tokioloop(autojump=True)
        def test_on_a_loop_of_its_own(wide):
            asyncio.run(asyncio.sleep(3600))

        @pytest.mark.tokioloop(autojump=True)
        def test_that_fails_anyway():
            assert False, "for its own reason"
        """,
    )
    outcome = suites.run(*options)
    assert outcome.tests == {
        "test_without_a_loop": "failure",
        "test_on_a_loop_of_the_module": "failure",
        "test_on_a_loop_of_its_own": "passed",
        "test_that_fails_anyway": "failure",
    }
    assert outcome.output.count("\nthe mark tokioloop had no effect: no event loop") == 2
    assert "for its own reason" in outcome.output


def test_a_deadlock_fails_the_test_and_shows_where_its_tasks_wait(suites):
    suites.write(
        "test_it.py",
        """
        import asyncio, pytest

        async def consumer(queue):
            return await queue.get()  # nothing is ever put

        @pytest.mark.tokioloop(autojump=True)
        def test_hang():
            asyncio.run(consumer(asyncio.Queue()))
        """,
    )
    outcome = suites.run()
    assert outcome.tests == {"test_hang": "failure"}
    assert "DeadlockError: Deadlock: no callback is ready" in outcome.output
    assert "return await queue.get()  # nothing is ever put" in outcome.output
    assert "def _before_blocking" not in outcome.output


def test_processes_of_xdist_use_the_loop_as_well(suites):
    pytest.importorskip("xdist")
    suites.write("test_it.py", RUN)
    suites.settings = "expected = Loop"
    outcome = suites.run("--tokioloop", "-n2")
    assert outcome.all_passed() == ["test_which"]
    assert outcome.output.count("event loop: tokioloop") == 1


def test_after_the_run_asyncio_has_its_own_loops_again(suites):
    suites.write("test_it.py", RUN)
    program = """
import asyncio, pytest, sys, warnings
def kind():
    loop = asyncio.new_event_loop()
    loop.close()
    return type(loop).__name__
class Plugin:
    def pytest_sessionfinish(self):
        print("during", kind())
status = pytest.main(["-q", "--tokioloop", "-p", "no:cacheprovider"], plugins=[Plugin()])
print("after", kind())
sys.exit(status)
"""
    (suites.folder / "pytest.ini").write_text("[pytest]\nexpected = Loop\n")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=suites.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "during Loop\n" in done.stdout
    assert "after _UnixSelectorEventLoop\n" in done.stdout
