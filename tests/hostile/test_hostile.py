"""Every public method with wrong arguments, and objects that lie: nothing crashes or breaks.

How the errors compare with asyncio's is what `python -m hostile` prints.
"""

from __future__ import annotations

import pytest

from hostile import cases, children
from hostile.subjects import SUBJECTS

pytestmark = [
    pytest.mark.native_only(reason="compared with asyncio's by hand"),
    pytest.mark.timeout(300),
]


@pytest.mark.parametrize("group", cases.GROUPS)
def test_nothing_breaks(group):
    outcomes = children.run("tokioloop", group, list(SUBJECTS), every=3)
    assert len(outcomes) > 100
    defects = {
        name: why
        for name, kept in outcomes.items()
        # A program that puts something else in the place of its loop's `stop` never stops it.
        if (why := children.defect(kept)) and ".stop = " not in name
    }
    assert not defects
