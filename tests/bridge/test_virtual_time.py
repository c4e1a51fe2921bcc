"""Rust futures are real: virtual time does not jump ahead of them."""

import asyncio
import importlib
import time

import pytest

WHILE = 0.2
HOUR = 3600.0


@pytest.fixture(params=["embedded", "beside"])
def loop(request, extension):
    """A loop with virtual time, of the extension's own crate or compiled apart."""
    package = f"{extension.__name__}.tokioloop" if request.param == "embedded" else "tokioloop"
    loop = importlib.import_module(f"{package}.testing").new_event_loop()
    yield loop
    loop.close()


def test_a_rust_future_is_waited_for_in_real_time(loop, extension):
    fired = []

    async def main():
        timer = loop.call_later(HOUR, fired.append, "early")
        await extension.sleeps(WHILE)
        assert not fired
        timer.cancel()
        before = loop.time()
        assert WHILE / 2 < before < HOUR
        await asyncio.sleep(HOUR)
        assert loop.time() == before + HOUR

    began = time.monotonic()
    loop.run_until_complete(main())
    assert WHILE <= time.monotonic() - began < HOUR


def test_a_rust_future_without_timers_is_no_deadlock(loop, extension):
    loop.run_until_complete(extension.sleeps(WHILE))


def test_a_rust_future_that_was_cancelled_does_not_hold_the_clock(loop, extension):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(extension.sleeps(HOUR), WHILE)
        await asyncio.sleep(HOUR)

    began = time.monotonic()
    loop.run_until_complete(main())
    assert time.monotonic() - began < 60
    assert HOUR <= loop.time() < HOUR + 60
