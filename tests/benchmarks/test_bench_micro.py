"""What the operations are given, and sleeps that end early."""

import asyncio

import pytest
from benchmarks.micro.context import Context, Primitives
from benchmarks.micro.sleeping import EarlySleep, overshoots

import tokioloop


async def awake(delay):
    pass


@pytest.fixture
def package_with_sleep(monkeypatch):
    monkeypatch.setattr(tokioloop, "sleep", awake, raising=False)


def test_native_primitives_are_the_packages_own_on_its_loop_only(package_with_sleep):
    assert Primitives.of("tokioloop", native=True).sleep is awake
    assert Primitives.of("tokioloop", native=False).sleep is asyncio.sleep
    assert Primitives.of("uvloop", native=True).sleep is asyncio.sleep


def test_a_primitive_that_the_package_lacks_is_asyncios(monkeypatch):
    monkeypatch.delattr(tokioloop, "gather", raising=False)
    assert Primitives.of("tokioloop", native=True).gather is asyncio.gather


def test_an_early_sleep_is_no_result(package_with_sleep):
    loop = tokioloop.new_event_loop()
    try:
        with pytest.raises(EarlySleep, match="5 of 5 sleeps ended early"):
            overshoots(Context(loop, 5, Primitives.of("tokioloop", native=True)))
        found = overshoots(Context(loop, 5, Primitives.of("tokioloop", native=False)))
    finally:
        loop.close()
    assert len(found) == 5
    assert min(found) >= 0
