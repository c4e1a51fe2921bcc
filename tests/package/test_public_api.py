"""The package as its users meet it: policy, install, run, version, types."""

import asyncio
import importlib.metadata
import importlib.resources
import subprocess
import sys
import warnings

import pytest

pytestmark = pytest.mark.native_only


@pytest.fixture
def tokioloop(loop_name):
    """The package, and asyncio's own policy again when the test is over."""
    import tokioloop

    yield tokioloop
    tokioloop.uninstall()


async def which_loop():
    await asyncio.sleep(0)
    return type(asyncio.get_running_loop())


def test_the_version_is_that_of_the_installed_package(tokioloop):
    assert tokioloop.__version__ == importlib.metadata.version("tokioloop")


def test_the_package_tells_type_checkers_that_it_is_typed(tokioloop):
    assert importlib.resources.files("tokioloop").joinpath("py.typed").is_file()


def test_everything_that_is_public_is_there_and_documented(tokioloop):
    expected = {"EventLoopPolicy", "Loop", "__version__", "install", "new_event_loop", "run"}
    assert expected | {"uninstall"} <= set(tokioloop.__all__)
    for name in tokioloop.__all__:
        assert getattr(tokioloop, name) is not None
        if name != "__version__":
            assert getattr(tokioloop, name).__doc__, name


def test_new_event_loop_makes_a_new_loop_each_time(tokioloop):
    one, two = tokioloop.new_event_loop(), tokioloop.new_event_loop()
    assert type(one) is type(two) is tokioloop.Loop
    assert one is not two
    assert isinstance(one, asyncio.SelectorEventLoop)
    one.close()
    two.close()


def test_run_runs_on_a_new_loop_and_closes_it(tokioloop):
    loops = []

    async def main():
        loops.append(asyncio.get_running_loop())
        return "result"

    assert tokioloop.run(main()) == "result"
    assert type(loops[0]) is tokioloop.Loop
    assert loops[0].is_closed()


def test_run_raises_what_the_program_raises(tokioloop):
    async def main():
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        tokioloop.run(main())


def test_run_cancels_what_is_left_and_finishes_generators(tokioloop):
    ended = []

    async def left_over():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("task")

    async def generator():
        try:
            yield 1
        finally:
            ended.append("generator")

    async def main():
        main.task = asyncio.ensure_future(left_over())
        main.generator = generator()
        await main.generator.__anext__()

    tokioloop.run(main())
    assert sorted(ended) == ["generator", "task"]


def test_run_can_make_another_loop(tokioloop):
    made = []

    def factory():
        made.append(tokioloop.Loop())
        return made[0]

    async def main():
        return asyncio.get_running_loop()

    assert tokioloop.run(main(), loop_factory=factory) is made[0]
    plain = tokioloop.run(which_loop(), loop_factory=asyncio.SelectorEventLoop)
    assert plain is asyncio.SelectorEventLoop


def test_run_cannot_be_called_while_a_loop_runs(tokioloop, loop):
    async def inner():
        pass

    async def main():
        for what in (inner(), 42):
            with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
                tokioloop.run(what)

    with warnings.catch_warnings():
        # Nobody can await what run() refuses.
        warnings.simplefilter("ignore", RuntimeWarning)
        loop.run_until_complete(main())


@pytest.mark.parametrize("what", [42, None, which_loop])
def test_run_refuses_what_is_no_coroutine(tokioloop, what):
    with pytest.raises((TypeError, ValueError), match=r"a coroutine was expected|awaitable"):
        tokioloop.run(what)


def test_a_runner_takes_the_loop_factory(tokioloop):
    if sys.version_info < (3, 11):
        assert not hasattr(asyncio, "Runner")
        return
    with asyncio.Runner(loop_factory=tokioloop.new_event_loop) as runner:
        assert runner.run(which_loop()) is tokioloop.Loop


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run(loop_factory=) is new in 3.12")
def test_asyncio_run_takes_the_loop_factory(tokioloop):
    assert asyncio.run(which_loop(), loop_factory=tokioloop.new_event_loop) is tokioloop.Loop


def test_install_makes_every_new_loop_ours_and_uninstall_gives_asyncio_its_own_back(tokioloop):
    tokioloop.install()
    tokioloop.install()
    assert asyncio.run(which_loop()) is tokioloop.Loop
    loop = asyncio.new_event_loop()
    assert type(loop) is tokioloop.Loop
    loop.close()
    tokioloop.uninstall()
    assert asyncio.run(which_loop()) is asyncio.SelectorEventLoop
    tokioloop.uninstall()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_policy_can_be_set_as_any_other(tokioloop):
    policy = tokioloop.EventLoopPolicy()
    asyncio.set_event_loop_policy(policy)
    assert asyncio.get_event_loop_policy() is policy
    assert isinstance(policy, asyncio.DefaultEventLoopPolicy)
    assert asyncio.run(which_loop()) is tokioloop.Loop
    loop = policy.new_event_loop()
    policy.set_event_loop(loop)
    assert policy.get_event_loop() is loop
    policy.set_event_loop(None)
    loop.close()


def test_using_the_package_warns_of_nothing(tokioloop):
    """Policies are deprecated in CPython 3.14; that is our business, not the user's."""
    program = """
import asyncio, tokioloop

async def main():
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
    return await asyncio.to_thread(abs, -1)

assert tokioloop.run(main()) == 1
tokioloop.install()
asyncio.run(main())
tokioloop.uninstall()
loop = tokioloop.new_event_loop()
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_importing_the_package_changes_nothing_by_itself(tokioloop):
    program = "import asyncio, tokioloop; print(type(asyncio.new_event_loop()).__module__)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "asyncio.unix_events\n"
