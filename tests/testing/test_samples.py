"""Each sample of the guide for users is a suite that passes."""

import pathlib
import re

import pytest

from testing.suites import SETTINGS

pytestmark = pytest.mark.native_only

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "testing-your-program.md"
FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def fences(language):
    return [source for each, source in FENCES if each == language]


def test_the_guide_has_samples_of_each_kind():
    assert {language for language, _ in FENCES} == {"sh", "ini", "python", "py", "text"}
    assert len(fences("python")) == 8
    assert all("def test_" in source for source in fences("python"))


def test_the_samples_pass(suites):
    suites.use("pytest_asyncio", SETTINGS)
    suites.use("anyio")
    for number, source in enumerate(fences("python")):
        suites.write(f"test_{number}.py", source)
    outcome = suites.run()
    assert outcome.status == 0, outcome.output
    assert len(outcome.tests) == sum(source.count("def test_") for source in fences("python"))
    assert outcome.tests.pop("test_a_day") in ("passed", "skipped")
    assert set(outcome.tests.values()) == {"passed"}


def test_the_setting_is_one(suites):
    (ini,) = fences("ini")
    suites.settings = ini.removeprefix("[pytest]\n")
    suites.without("asyncio", "aiohttp")
    suites.write("test_it.py", "def test_it(): pass")
    assert "event loop: tokioloop " in suites.run().header


def test_the_hook_gives_the_tests_of_a_module_one_loop(suites):
    plugin = pytest.importorskip("pytest_asyncio.plugin")
    if not hasattr(plugin, "PytestAsyncioSpecs"):
        pytest.skip("the hook is new in pytest-asyncio 1.4")
    suites.use("pytest_asyncio", SETTINGS)
    (hook,) = fences("py")
    suites.write("conftest.py", hook)
    suites.write(
        "test_it.py",
        """
        import asyncio, pytest

        pytestmark = pytest.mark.asyncio(loop_scope="module")

        @pytest.mark.parametrize("number", [1, 2, 3])
        async def test_it(number):
            await asyncio.sleep(3600)
            assert asyncio.get_running_loop().time() == number * 3600
        """,
    )
    assert len(suites.run().all_passed()) == 3
