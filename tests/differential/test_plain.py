"""Random scripts on TCP and Unix connections: the same events on both loops.

The same scripts are run each time. To run 5000 new ones in each test::

    DIFFERENTIAL_SCRIPTS=5000 pytest tests/differential -n 2 --timeout 0

``--hypothesis-seed=n`` makes such a run repeatable. A script that a failure shows can be put into
`FOUND` as it is.
"""

from __future__ import annotations

import pytest

from differential.ends import (
    End,
    Script,
    Spec,
    connected_sockets,
    leave,
    perform_burst,
    scripts,
)
from differential.harness import CASES, compare

# What once came out differently.
FOUND = [
    Script("", (Spec(), Spec()), ((0, (("write_eof",), ("writelines", ()))),)),
    # Limits below data that only waits for the end of the iteration.
    Script("", (Spec(), Spec()), ((0, (("write", 10), ("limits", 1, 1))),)),
    # write_eof() on a connection that is gone.
    Script(
        "",
        (Spec(keep_open=True), Spec()),
        ((1, (("close",),)), (0, (("write", 1), ("write_eof",)))),
    ),
    # The last data of a protocol that fails.
    Script(
        "",
        (Spec(), Spec(reactions=(("data_received", (("write", 1), ("raise",))),))),
        ((0, (("write", 1),)),),
    ),
]


async def connect(stage, script):
    """Two ends on one loop, both over sockets that exist already."""
    loop = stage.loop
    near, far = connected_sockets(script.link)
    stage.connected(near, far)
    ends = [End(stage, name, spec) for name, spec in zip("AB", script.ends, strict=True)]
    ends[0].peer, ends[1].peer = ends[1], ends[0]
    await loop.create_connection(lambda: ends[0].ear, sock=near)
    await stage.settle()
    await loop.connect_accepted_socket(lambda: ends[1].ear, far)
    await stage.settle()
    stage.close_step("connect")
    return ends


async def play(stage, script: Script):
    ends = await connect(stage, script)
    for which, operations in script.steps:
        await perform_burst(stage, ends, which, operations)
        stage.close_step(f"{'AB'[which]}: {operations}")
    await leave(stage, ends)


@pytest.mark.parametrize("link", CASES["plain"])
def test_both_ends_see_the_same_events(loop_factory, link):
    pinned = [script._replace(link=link) for script in FOUND]
    compare(loop_factory, "plain", play, scripts(link), pinned)
