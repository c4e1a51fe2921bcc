"""Wrong arguments to every public method, and objects that lie: as asyncio, and nothing breaks.

A share of the cases each time; `HOSTILE_EVERY=1` runs all of them (some minutes).
"""

from __future__ import annotations

import os
import sys

import pytest

from hostile import cases, children, differences
from hostile.subjects import SUBJECTS

EVERY = int(os.environ.get("HOSTILE_EVERY", "8"))

pytestmark = [
    pytest.mark.native_only(reason="looks at both loops already"),
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize("group", sorted(cases.GROUPS.keys() - {"arguments"}))
def test_nothing_breaks(group):
    outcomes = children.run("tokioloop", group, list(SUBJECTS), every=EVERY)
    assert len(outcomes) > 100
    defects = {name: why for name, kept in outcomes.items() if (why := children.defect(kept))}
    assert not defects


def test_wrong_arguments_are_refused_as_asyncio_refuses_them():
    subjects = list(SUBJECTS)
    got = children.run("tokioloop", "arguments", subjects, every=EVERY)
    assert len(got) > 100
    defects = {name: why for name, kept in got.items() if (why := children.defect(kept))}
    assert not defects
    if sys.version_info[:2] not in COMPARED or sys.version_info < (3, 11, 7):
        return
    expected = children.run("asyncio", "arguments", subjects, every=EVERY)
    differ = {
        name: (expected[name], kept)
        for name, kept in got.items()
        if name in expected
        and children.differs(expected[name], kept)
        and differences.reason(name) is None
        # What takes its time may be over in one run and not in the next.
        and children.differ_again("arguments", name)
    }
    assert not differ


# Other versions have differences of their own in what they refuse, and how.
COMPARED = [(3, 11)]
