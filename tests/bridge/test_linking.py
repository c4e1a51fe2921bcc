"""How the loop is found and linked with: the table, versions, the packed package."""

from __future__ import annotations

import asyncio
import inspect
import linecache
import sys
import traceback

import pytest


def loop_with_capsule(extension, version):
    class Newer(asyncio.SelectorEventLoop):
        _bridge = extension.capsule_of_version(version)

    return Newer()


@pytest.mark.parametrize("make", ["ready", "local_yields"])
def test_a_table_of_another_version_names_both(extension, make):
    import tokioloop

    loop = loop_with_capsule(extension, 999)

    async def main():
        getattr(extension, make)(1)

    with pytest.raises(ImportError) as caught:
        loop.run_until_complete(main())
    loop.close()
    text = str(caught.value)
    assert "99.0.0" in text
    assert "999" in text
    assert tokioloop.__version__ in text


def test_a_table_that_is_too_short_is_refused(extension):
    loop = loop_with_capsule(extension, 1)

    async def main():
        extension.ready(1)

    with pytest.raises(ImportError, match=r"99\.0\.0"):
        loop.run_until_complete(main())
    loop.close()


@pytest.mark.parametrize("whose", ["embedded", "beside"])
def test_a_loop_with_another_loops_table_is_refused(extension, whose):
    import tokioloop

    class Fake(asyncio.SelectorEventLoop):
        _bridge = (extension if whose == "embedded" else tokioloop).Loop._bridge

    loop = Fake()

    async def main():
        with pytest.raises(TypeError, match="no loop of tokioloop's"):
            await extension.ready(1)
        with pytest.raises(TypeError, match="no loop of tokioloop's"):
            await extension.awaits(lambda: asyncio.sleep(0))

    loop.run_until_complete(main())
    loop.close()


def test_an_object_that_is_no_table_is_another_loop(extension):
    class Odd(asyncio.SelectorEventLoop):
        _bridge = "not a capsule"

    loop = Odd()

    async def main():
        future = extension.ready(1)
        return await future, isinstance(future, asyncio.Future)

    assert loop.run_until_complete(main()) == (1, True)
    loop.close()


def test_the_embedded_loop_is_its_own(extension):
    import tokioloop

    assert extension.Loop is not tokioloop.Loop
    assert not issubclass(extension.Loop, tokioloop.Loop)
    assert extension.Loop.__module__ == "bridge_extension.tokioloop.loop"
    # By name: from CPython 3.14 on asking asyncio for the class warns.
    bases = [base.__name__ for base in extension.EventLoopPolicy.__mro__]
    assert any(name.endswith("DefaultEventLoopPolicy") for name in bases)
    loop = extension.new_event_loop()
    assert type(loop) is extension.Loop
    loop.close()


def test_an_embedded_loop_of_another_extension_is_beside_it(extension):
    """Only the class counts: a subclass of either loop is as good."""
    import tokioloop

    for base in (extension.Loop, tokioloop.Loop):
        derived = type("Derived", (base,), {})
        loop = derived()

        async def main():
            return await extension.yields(3)

        assert loop.run_until_complete(main()) == 3
        loop.close()


def test_the_packed_package_needs_no_installed_one(extension_programs):
    extension_programs(
        """
        import sys
        assert "tokioloop" not in sys.modules
        sys.modules["tokioloop"] = None

        async def main():
            import asyncio
            server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
            server.close()
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
            assert await process.wait() == 0
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            return await bridge_extension.sleeps(0.001)

        assert bridge_extension.run(main()) == "rested"
        """
    )


def test_a_forked_child_goes_on_with_the_loop(extension_programs):
    extension_programs(
        """
        import asyncio, os
        pulse = bridge_extension.Pulse()
        loop = bridge_extension.new_event_loop()

        async def start():
            task = asyncio.ensure_future(pulse.wait(1))
            await bridge_extension.sleeps(0.001)
            return task

        async def finish(task):
            loop.call_later(0.01, pulse.beat)
            assert await asyncio.wait_for(task, 30) == 2
            assert await bridge_extension.echoes("text") == "text"
            assert await bridge_extension.spawned_by_tokio(3) == (3, True)

        task = loop.run_until_complete(start())
        child = os.fork()
        loop.run_until_complete(finish(task))
        loop.close()
        if child:
            assert os.waitpid(child, 0)[1] == 0
        """
    )


def test_tracebacks_show_the_packed_source(extension):
    try:
        extension.run("no coroutine")
    except (TypeError, ValueError):
        text = traceback.format_exc()
    assert '<bridge_extension.tokioloop>/runner.py"' in text
    assert "return runner.run(main)" in text or "_run_without_runner" in text


def test_the_packed_source_can_be_inspected(extension):
    module = sys.modules["bridge_extension.tokioloop.loop"]
    assert "class Loop(" in inspect.getsource(module)
    assert "def run_forever" in inspect.getsource(extension.Loop.run_forever)
    linecache.checkcache()
    assert module.__spec__.loader.get_source(module.__name__)
    with pytest.raises(ImportError):
        module.__spec__.loader.get_source("bridge_extension.tokioloop.nowhere")


def test_the_packed_package_checks_its_core(extension):
    loader = sys.modules["bridge_extension.tokioloop"].__spec__.loader
    install = type(loader).__init__.__globals__["install"]

    class Core:
        __name__ = "elsewhere._core"
        __version__ = "0.0.1"

    with pytest.raises(ImportError, match=r"tokioloop 99\.0\.0.*tokioloop 0\.0\.1"):
        install("elsewhere", Core, "99.0.0", {"": ""})
    assert "elsewhere" not in sys.modules
