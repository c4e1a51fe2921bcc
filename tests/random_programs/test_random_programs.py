"""Some seeds of both kinds; `python -m random_programs` runs more of them."""

from __future__ import annotations

import pytest

from random_programs import runs
from random_programs.found import FOUND

SEEDS = {"decided": (1000, 2000), "chaos": (0, 1000)}


@pytest.mark.native_only(reason="looks at both loops already")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", SEEDS)
def test_programs(kind):
    faults, count = runs.run(kind, "tokioloop", -len(FOUND[kind]), 0)
    assert not faults
    assert count == len(FOUND[kind])
    first, last = SEEDS[kind]
    reported = []
    faults, count = runs.run(
        kind, "tokioloop", first, last, 280, lambda seed, fault: reported.append(f"{seed}: {fault}")
    )
    assert not reported
    assert not faults
    assert count == last - first
