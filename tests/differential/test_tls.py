"""Random scripts on TLS connections, secure from the start or upgraded on the way.

See `test_plain.py` for how to run more of them.
"""

from __future__ import annotations

import functools

import pytest
from hypothesis import strategies as st

from differential import test_plain
from differential.ends import leave, perform_burst, scripts
from differential.harness import CASES, compare
from differential.tls import connect_securely, upgrade


async def steps(contexts, stage, script, ends):
    for which, operations in script.steps:
        if which == "advance":
            await stage.advance(operations)
        elif which == "start_tls":
            await upgrade(contexts, stage, ends, *operations)
        else:
            await perform_burst(stage, ends, which, operations)
        stage.close_step(f"{which}: {operations}")
    await leave(stage, ends)


async def play_secure(contexts, stage, script):
    await steps(contexts, stage, script, await connect_securely(contexts, stage, script))


async def play_upgraded(contexts, stage, script):
    await steps(contexts, stage, script, await test_plain.connect(stage, script))


advances = st.tuples(st.just("advance"), st.sampled_from([1.0, 29.0, 31.0]))
upgrades = st.tuples(
    st.just("start_tls"), st.tuples(st.integers(0, 1), st.sampled_from(["1.2", "1.3"]))
)


@pytest.mark.parametrize("link", CASES["tls"])
def test_secure_ends_see_the_same_events(loop_factory, contexts, link):
    compare(
        loop_factory, "tls", functools.partial(play_secure, contexts), scripts(link, (advances,))
    )


@pytest.mark.parametrize("link", CASES["start_tls"])
def test_upgraded_ends_see_the_same_events(loop_factory, contexts, link):
    compare(
        loop_factory,
        "start_tls",
        functools.partial(play_upgraded, contexts),
        scripts(link, (upgrades, advances)),
    )
