"""Suites of other test frameworks on the loops of the pytest plugin."""

import sys

import pytest

from testing.suites import SETTINGS

pytestmark = pytest.mark.native_only

#: Which loop is expected is the suite's setting: without ``--tokioloop`` asyncio's own.
KIND = """
import asyncio, sys
import pytest

WANTED = "Loop" if "--tokioloop" in sys.argv else "_UnixSelectorEventLoop"

def kind():
    return type(asyncio.get_running_loop()).__name__

async def an_hour():
    loop = asyncio.get_running_loop()
    before = loop.time()
    await asyncio.sleep(3600)
    assert kind() == "VirtualTimeLoop"
    assert loop.time() == before + 3600
"""

both = pytest.mark.parametrize("options", [[], ["--tokioloop"]], ids=["asyncio", "tokioloop"])


@pytest.fixture(autouse=True)
def helpers(suites):
    suites.write("helpers.py", KIND)
    suites.settings = "pythonpath = .\n"


PYTEST_ASYNCIO = """
    import pytest_asyncio
    from helpers import *

    @pytest_asyncio.fixture
    async def where():
        yield kind()
        await asyncio.sleep(0)

    @pytest.mark.asyncio
    async def test_plain(where):
        assert kind() == where == WANTED

    @pytest.mark.asyncio
    @pytest.mark.tokioloop(autojump=True)
    async def test_virtual(where):
        assert where == "VirtualTimeLoop"
        await an_hour()

    @pytest.mark.asyncio
    @pytest.mark.tokioloop
    async def test_real():
        assert kind() == "Loop"

    @pytest.mark.asyncio(loop_scope="module")
    async def test_module_1():
        assert kind() == WANTED

    @pytest.mark.asyncio(loop_scope="module")
    async def test_module_2():
        assert kind() == WANTED

    @pytest.mark.asyncio
    async def test_plain_again():
        assert kind() == WANTED
"""


@both
def test_pytest_asyncio(suites, options):
    suites.use("pytest_asyncio", SETTINGS)
    suites.write("test_it.py", PYTEST_ASYNCIO)
    assert suites.run(*options).all_passed() == [
        *("test_module_1", "test_module_2", "test_plain", "test_plain_again"),
        *("test_real", "test_virtual"),
    ]


@both
def test_pytest_asyncio_in_auto_mode(suites, options):
    suites.use("pytest_asyncio", SETTINGS + "\nasyncio_mode = auto")
    suites.write(
        "test_it.py",
        """
        from helpers import *

        async def test_plain():
            assert kind() == WANTED

        @pytest.mark.tokioloop(autojump=True)
        async def test_virtual():
            await an_hour()
        """,
    )
    assert suites.run(*options).all_passed() == ["test_plain", "test_virtual"]


@both
def test_a_loop_of_a_module_has_no_virtual_time_for_one_test(suites, options):
    suites.use("pytest_asyncio", SETTINGS)
    suites.write(
        "test_it.py",
        """
        from helpers import *

        @pytest.mark.tokioloop(autojump=True)
        @pytest.mark.asyncio(loop_scope="module")
        async def test_it():
            assert kind() == WANTED
        """,
    )
    outcome = suites.run(*options)
    assert outcome.tests == {"test_it": "failure"}
    assert "on a loop of a wider scope than the test" in outcome.output


def test_the_factories_of_pytest_asyncio_go_before(suites):
    plugin = pytest.importorskip("pytest_asyncio.plugin")
    if not hasattr(plugin, "PytestAsyncioSpecs"):
        pytest.skip("the hook for loop factories is new in pytest-asyncio 1.4")
    suites.use("pytest_asyncio", SETTINGS)
    suites.write(
        "conftest.py",
        """
        import tokioloop.testing

        def pytest_asyncio_loop_factories(config, item):
            return {"virtual": tokioloop.testing.new_event_loop}
        """,
    )
    suites.write(
        "test_it.py",
        """
        from helpers import *

        pytestmark = pytest.mark.asyncio(loop_scope="module")

        async def test_1():
            await an_hour()

        async def test_2():
            await an_hour()
            assert asyncio.get_running_loop().time() >= 7200
        """,
    )
    assert suites.run("--tokioloop").all_passed() == ["test_1", "test_2"]


@both
def test_anyio(suites, options):
    suites.use("anyio")
    suites.write(
        "test_it.py",
        """
        import anyio
        from helpers import *

        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.fixture
        async def where(anyio_backend):
            yield kind()
            await anyio.sleep(0)

        async def test_plain(where):
            assert kind() == where == WANTED

        @pytest.mark.tokioloop(autojump=True, start=100.0)
        async def test_virtual(where):
            assert where == "VirtualTimeLoop"
            assert anyio.current_time() == 100
            with anyio.move_on_after(50):
                await anyio.sleep_forever()
            assert anyio.current_time() == 150
            await an_hour()

        @pytest.mark.tokioloop(autojump=True)
        def test_run():
            anyio.run(an_hour)
        """,
    )
    suites.without("asyncio", "aiohttp")
    assert suites.run(*options).all_passed() == ["test_plain", "test_run", "test_virtual"]


def test_the_options_of_anyio_go_before(suites):
    suites.use("anyio")
    suites.write(
        "test_it.py",
        """
        import tokioloop.testing
        from helpers import *

        pytestmark = pytest.mark.anyio

        @pytest.fixture(scope="module")
        def anyio_backend():
            return "asyncio", {"loop_factory": tokioloop.testing.new_event_loop}

        @pytest.fixture(scope="module")
        async def wide(anyio_backend):
            await an_hour()
            yield kind()

        async def test_1(wide):
            assert wide == "VirtualTimeLoop"
            await an_hour()

        async def test_2(wide):
            await an_hour()
            assert asyncio.get_running_loop().time() == 3 * 3600
        """,
    )
    suites.without("asyncio", "aiohttp")
    assert suites.run("--tokioloop").all_passed() == ["test_1", "test_2"]


def test_a_deadlock_in_a_test_of_anyio_fails_that_test_only(suites):
    suites.use("anyio")
    suites.write(
        "test_it.py",
        """
        import anyio
        from helpers import *

        pytestmark = [pytest.mark.anyio, pytest.mark.tokioloop(autojump=True)]

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        async def test_1():
            await anyio.Event().wait()

        async def test_2():
            await an_hour()
        """,
    )
    suites.without("asyncio", "aiohttp")
    outcome = suites.run()
    assert outcome.tests == {"test_1": "failure", "test_2": "passed"}, outcome.output
    assert "await anyio.Event().wait()" in outcome.output


@both
def test_isolated_asyncio_test_cases(suites, options):
    suites.without("asyncio", "aiohttp")
    suites.write(
        "test_it.py",
        """
        import unittest
        from helpers import *

        class Plain(unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self):
                self.where = kind()

            async def test_plain(self):
                assert kind() == self.where == WANTED

            @pytest.mark.tokioloop(autojump=True)
            async def test_virtual(self):
                assert self.where == "VirtualTimeLoop"
                await an_hour()

        @pytest.mark.tokioloop(autojump=True)
        class Virtual(unittest.IsolatedAsyncioTestCase):
            async def test_class(self):
                await an_hour()

            @unittest.skip("for a reason")
            async def test_skipped(self):
                pass
        """,
    )
    outcome = suites.run(*options)
    assert outcome.status == 0, outcome.output
    assert outcome.tests == {
        "test_plain": "passed",
        "test_virtual": "passed",
        "test_class": "passed",
        "test_skipped": "skipped",
    }


@pytest.mark.skipif(sys.version_info < (3, 13), reason="loop_factory is new in 3.13")
def test_the_factory_of_a_test_case_goes_before(suites):
    suites.without("asyncio", "aiohttp")
    suites.write(
        "test_it.py",
        """
        import unittest, tokioloop.testing
        from helpers import *

        class Virtual(unittest.IsolatedAsyncioTestCase):
            loop_factory = tokioloop.testing.VirtualTimeLoop

            async def test_it(self):
                await an_hour()
        """,
    )
    assert suites.run("--tokioloop").all_passed() == ["test_it"]


AIOHTTP = """
    from aiohttp import web
    from helpers import *

    async def answer(request):
        return web.Response(text=kind())

    async def ask(aiohttp_client):
        app = web.Application()
        app.router.add_get("/", answer)
        client = await aiohttp_client(app)
        response = await client.get("/")
        return await response.text()

    {mark}
    async def test_plain(aiohttp_client):
        assert await ask(aiohttp_client) == WANTED

    {mark}
    @pytest.mark.tokioloop
    async def test_real(aiohttp_client):
        assert await ask(aiohttp_client) == "Loop"

    {mark}
    @pytest.mark.tokioloop(autojump=True)
    async def test_virtual(aiohttp_client):
        assert await ask(aiohttp_client) == "VirtualTimeLoop"

    {mark}
    @pytest.mark.tokioloop(autojump=True)
    async def test_without_a_server({loop}):
        await an_hour()
"""
NAMES = ["test_plain", "test_real", "test_virtual", "test_without_a_server"]


@both
def test_pytest_aiohttp(suites, options):
    suites.use("pytest_aiohttp", SETTINGS)
    suites.write("test_it.py", AIOHTTP.format(mark="@pytest.mark.asyncio", loop=""))
    assert suites.run(*options).all_passed() == NAMES


@both
def test_the_plugin_of_aiohttp_itself(suites, options):
    suites.use("aiohttp")
    suites.without("asyncio", "aiohttp")
    suites.options += ["-p", "aiohttp.pytest_plugin"]
    # aiohttp deprecates its plugin in favour of pytest-aiohttp.
    suites.options += ["-W", "ignore:aiohttp.pytest_plugin will be removed:DeprecationWarning"]
    suites.write("test_it.py", AIOHTTP.format(mark="", loop="loop"))
    assert suites.run(*options).all_passed() == [f"{name}[pyloop]" for name in NAMES]
