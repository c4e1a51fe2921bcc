"""Loops and programs of both kinds at once."""

from __future__ import annotations

import asyncio

import pytest

from compatibility.rows import observe


@pytest.fixture
def both():
    """``both(look)``: what ``look(loop)`` sees on asyncio's loop, and on ours."""
    import tokioloop

    def run(look):
        return observe((asyncio.new_event_loop, tokioloop.new_event_loop), look)

    return run


@pytest.fixture
def both_programs(programs):
    """``both_programs(source)``: the finished program on asyncio's loop, and on ours."""

    def run(source, **options):
        preludes = [f"from {name} import run" for name in ("asyncio", "tokioloop")]
        return [type(programs)(prelude).run(source, **options) for prelude in preludes]

    return run


@pytest.fixture
def ours():
    """``ours(look)``: what ``look(loop)`` sees on our loop."""
    import tokioloop

    return lambda look: observe((tokioloop.new_event_loop,), look)[0]


@pytest.fixture
def uvloops():
    """``uvloops(look)``: what ``look(loop)`` sees on uvloop, where it is installed."""
    uvloop = pytest.importorskip("uvloop")
    return lambda look: observe((uvloop.new_event_loop,), look)[0]
