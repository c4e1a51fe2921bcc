"""CPython's own asyncio tests, those of the running interpreter, on the tested loop.

See cpython.py for what is run, what is left out, and what is expected to fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import tempfile
import unittest

import pytest

from conformance.cpython import (
    ACCELERATED_MODULES,
    MODULES,
    MODULES_LEFT_OUT,
    NOT_ABOUT_A_LOOP,
    expected_failure,
    is_about_a_loop,
    modules_here,
    modules_to_run,
)

test_asyncio = pytest.importorskip(
    "test.test_asyncio",
    reason="this interpreter was installed without CPython's own tests (test.test_asyncio)",
)

# Set by the session fixture below: what the generated classes make their loops with.
make_loop = None


def new_loop_for_runner_tests(case):
    """The loop test_runners wants: one that records whether its generators were shut down."""
    loop = make_loop()
    loop.shutdown_ag_run = False
    shutdown_asyncgens = loop.shutdown_asyncgens

    async def recording_shutdown():
        loop.shutdown_ag_run = True
        await shutdown_asyncgens()

    loop.shutdown_asyncgens = recording_shutdown
    return loop


def new_test_loop(case, gen=None):
    """The tested loop in place of CPython's simulated one, unless a test scripts its time.

    The script answers to each single iteration of the standard library's loop; those tests are
    about tasks, and keep the simulation.
    """
    if gen is not None:
        return super(type(case), case).new_test_loop(gen)
    loop = make_loop()
    case.set_event_loop(loop)
    return loop


def on_tested_loop(module, case, accelerated=False):
    """A subclass of a CPython test class that makes its loops with the tested factory."""
    name = f"{module.__name__.rpartition('.')[2]}_{case.__name__}"
    if accelerated:
        name = f"accelerated_{name}"
    body = {
        "accelerated": accelerated,
        "__module__": __name__,
        "__qualname__": name,
        "__doc__": case.__doc__,
        "cpython_origin": (module.__name__.rpartition(".")[2], case.__name__),
    }
    if hasattr(case, "create_event_loop"):
        body["create_event_loop"] = lambda self: make_loop()
    if hasattr(case, "new_loop"):
        if module.__name__.endswith("test_runners"):
            body["new_loop"] = new_loop_for_runner_tests
        else:
            body["new_loop"] = lambda self: make_loop()
    if hasattr(case, "new_test_loop"):
        body["new_test_loop"] = new_test_loop
    if issubclass(case, unittest.IsolatedAsyncioTestCase) and hasattr(case, "loop_factory"):
        body["loop_factory"] = staticmethod(lambda: make_loop())
    return type(name, (case,), body)


@contextlib.contextmanager
def working_in(folder):
    """CPython's tests write files by relative names, some of them when imported."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def generate():
    for module_name in modules_to_run():
        module = importlib.import_module(f"test.test_asyncio.{module_name}")
        for case in list(vars(module).values()):
            if (
                isinstance(case, type)
                and issubclass(case, unittest.TestCase)
                and case.__module__ == module.__name__
                and is_about_a_loop(module_name, case.__name__)
            ):
                for accelerated in {False, module_name in ACCELERATED_MODULES}:
                    generated = on_tested_loop(module, case, accelerated)
                    globals()[generated.__name__] = generated


with tempfile.TemporaryDirectory() as folder, working_in(folder):
    generate()


@pytest.fixture(scope="module", autouse=True)
def in_a_directory_of_their_own(tmp_path_factory):
    with working_in(tmp_path_factory.mktemp("cpython")):
        yield


@pytest.fixture(autouse=True)
def tested_loop_is_the_default(monkeypatch, loop_name, loop_factory):
    """Whatever way a test asks asyncio for a loop, it gets the tested one."""
    if loop_name == "asyncio":
        # Not the factory: that one asks the policy, which some of the tests replace.
        monkeypatch.setitem(globals(), "make_loop", asyncio.SelectorEventLoop)
    else:
        monkeypatch.setitem(globals(), "make_loop", loop_factory)
        # The tests set the policy back to None all the time, so it is the default policy that
        # has to make other loops.
        policy = getattr(asyncio.unix_events, "_DefaultEventLoopPolicy", None)
        policy = policy or asyncio.DefaultEventLoopPolicy
        monkeypatch.setattr(policy, "_loop_factory", staticmethod(loop_factory))
        import tokioloop

        monkeypatch.setattr(asyncio, "SelectorEventLoop", tokioloop.Loop)
        if hasattr(asyncio, "EventLoop"):
            monkeypatch.setattr(asyncio, "EventLoop", tokioloop.Loop)
    reset_policy()
    yield
    reset_policy()


@pytest.fixture(autouse=True)
def native_primitives(request, loop_name):
    """For the classes that run a second time: asyncio's names stand for what is native."""
    if loop_name == "asyncio" or not getattr(request.cls, "accelerated", False):
        yield
        return
    from tokioloop import accelerate

    accelerate.switch_on()
    yield
    accelerate.switch_off()


def reset_policy():
    """What the tearDownModule of CPython's modules does."""
    events = asyncio.events
    (getattr(events, "_set_event_loop_policy", None) or events.set_event_loop_policy)(None)


def test_asyncio_makes_the_tested_loop_whichever_way_it_is_asked(loop_name):
    """Else all of this would be about the standard library's loop, and pass."""
    ways = [make_loop, asyncio.new_event_loop, asyncio.SelectorEventLoop]
    if hasattr(asyncio, "EventLoop"):
        ways.append(asyncio.EventLoop)
    for way in ways:
        loop = way()
        assert type(loop).__module__.partition(".")[0] == loop_name
        loop.close()


def test_every_module_is_run_or_left_out_for_a_reason():
    """A new CPython brings new modules; one that this file does not list must not pass."""
    assert not set(MODULES) & set(MODULES_LEFT_OUT)
    assert modules_here(test_asyncio) - set(MODULES_LEFT_OUT) == set(modules_to_run())


def test_every_module_that_runs_has_tests():
    ran = {case.cpython_origin[0] for case in generated_classes()}
    assert ran == set(modules_to_run())


def test_every_class_that_is_left_out_is_left_out_for_one_reason():
    """A class listed twice would keep one reason when the other is dealt with."""
    names = [name for names in NOT_ABOUT_A_LOOP.values() for name in names]
    assert sorted(names) == sorted(set(names))
    assert {name.partition(".")[0] for name in names} <= set(MODULES)


def test_fewer_than_eight_of_the_tests_are_expected_to_fail():
    """Over all the interpreter's tests, whichever of them this run selects."""
    names = [
        f"{'.'.join(case.cpython_origin)}.{test}"
        for case in generated_classes()
        for test in unittest.defaultTestLoader.getTestCaseNames(case)
        if expected_failure(*case.cpython_origin, test, case.accelerated)[0] is not None
    ]
    assert len(names) < 8, names


def generated_classes():
    return [value for value in globals().values() if hasattr(value, "cpython_origin")]
