"""``install(accelerate=True)`` and ``uninstall()``: the functions behind asyncio's names."""

from __future__ import annotations

import asyncio
import sys

import pytest

pytestmark = pytest.mark.native_only
NAMES = ("sleep", "gather", "run_coroutine_threadsafe")


@pytest.fixture
def tokioloop():
    import tokioloop

    before = {name: getattr(asyncio.tasks, name) for name in NAMES}
    yield tokioloop
    tokioloop.uninstall()
    for name in NAMES:
        assert getattr(asyncio, name) is getattr(asyncio.tasks, name) is before[name]


def held(name):
    return {
        module: vars(sys.modules[module])[name]
        for module in ("asyncio", "asyncio.tasks", "asyncio.streams")
        if name in vars(sys.modules[module])
    }


def test_every_module_of_asyncio_gets_ours_and_its_own_back(tokioloop):
    before = {name: held(name) for name in NAMES}
    for _ in range(2):
        tokioloop.install(accelerate=True)
        for name in NAMES:
            assert set(held(name).values()) == {getattr(tokioloop, name)}
    for _ in range(2):
        tokioloop.uninstall()
        assert {name: held(name) for name in NAMES} == before


def test_without_accelerate_nothing_is_replaced(tokioloop):
    tokioloop.install()
    for name in NAMES:
        assert getattr(asyncio, name) is not getattr(tokioloop, name)
    tokioloop.install(accelerate=True)
    tokioloop.install()
    assert asyncio.sleep is tokioloop.sleep


def test_a_function_replaced_by_another_library_stays(tokioloop, monkeypatch):
    def others(delay, result=None):
        raise NotImplementedError

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "sleep", others)
        tokioloop.install(accelerate=True)
        assert asyncio.sleep is others
        assert asyncio.tasks.sleep is tokioloop.sleep
    tokioloop.install(accelerate=True)
    assert asyncio.sleep is tokioloop.sleep
    original = asyncio.gather
    asyncio.gather = others
    tokioloop.uninstall()
    assert asyncio.gather is others
    assert asyncio.tasks.gather is not original
    asyncio.gather = asyncio.tasks.gather


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_policy_that_was_there_comes_back(tokioloop):
    class Policy(asyncio.DefaultEventLoopPolicy):
        pass

    policy = Policy()
    asyncio.set_event_loop_policy(policy)
    try:
        tokioloop.install()
        tokioloop.install(accelerate=True)
        assert isinstance(asyncio.get_event_loop_policy(), tokioloop.EventLoopPolicy)
        tokioloop.uninstall()
        assert asyncio.get_event_loop_policy() is policy
        tokioloop.install()
        later = Policy()
        asyncio.set_event_loop_policy(later)
        tokioloop.uninstall()
        assert asyncio.get_event_loop_policy() is later
    finally:
        asyncio.set_event_loop_policy(None)


def test_an_unmodified_program_runs_on_them(tokioloop):
    async def child(value):
        await asyncio.sleep(0.001)
        return value

    async def main():
        loop = asyncio.get_running_loop()

        def submit():
            return asyncio.run_coroutine_threadsafe(child(3), loop).result(10)

        return await asyncio.gather(child(1), child(2), asyncio.to_thread(submit))

    tokioloop.install(accelerate=True)
    assert asyncio.run(main()) == [1, 2, 3]


PROGRAM = "import asyncio, tokioloop; print(asyncio.sleep is tokioloop.sleep)"


@pytest.mark.parametrize("options", [[], ["--accelerate"], ["--debug", "--accelerate"]])
@pytest.mark.parametrize("how", ["-c", "-m", "script"])
def test_the_command_line(tmp_path, options, how):
    import subprocess

    (tmp_path / "program.py").write_text(PROGRAM)
    what = {"-c": ["-c", PROGRAM], "-m": ["-m", "program"], "script": ["program.py"]}[how]
    done = subprocess.run(
        [sys.executable, "-m", "tokioloop", *options, *what],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == str("--accelerate" in options)
    assert done.stderr == ""
