"""Some seeds of both kinds; `python -m random_programs` runs more of them."""

from __future__ import annotations

import pytest

from random_programs import runs
from random_programs.found import FOUND

SEEDS = {"decided": (1000, 2000), "chaos": (0, 1000)}
#: Of programs whose loops run inside of their own callbacks. nest_asyncio2 decides in another way
#: which other callbacks run before such a run returns, so these are chaos, and `tests/nesting` has
#: what is the same.
NESTED = (1000, 1300)


def check(kind, loop, first, last):
    reported = []
    faults, count = runs.run(
        kind, loop, first, last, 280, lambda seed, fault: reported.append(f"{seed}: {fault}")
    )
    assert not reported
    assert not faults
    assert count == last - first


@pytest.mark.native_only(reason="looks at both loops already")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", SEEDS)
def test_programs(kind):
    check(kind, "tokioloop", -len(FOUND[kind]), 0)
    check(kind, "tokioloop", *SEEDS[kind])


@pytest.mark.native_only(reason="asyncio's loop does not nest")
@pytest.mark.timeout(300)
def test_programs_that_run_the_loop_inside_of_its_callbacks():
    check("chaos", "nested", -len(FOUND["chaos"]), 0)
    check("chaos", "nested", *NESTED)
