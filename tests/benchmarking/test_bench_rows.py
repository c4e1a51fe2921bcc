"""The table of rows, and the patterns that select among them."""

import sys
from fnmatch import fnmatch

import pytest
from benchmarks.__main__ import possible
from benchmarks.bridging import BESIDE, EMBEDDED, FALL_BACK, UPSTREAM, WAYS, upstream_version
from benchmarks.goals import Above, OfLimit
from benchmarks.kinds import BYTES, MEBIBYTES, Bridged, Micro, Service
from benchmarks.loops import FACTORIES, LIMIT
from benchmarks.micro.__main__ import OPERATIONS, PRECISION
from benchmarks.rows import ROWS, select
from benchmarks.servers.__main__ import SERVERS


def row(id):
    (found,) = select([id])
    return found


def test_ids_are_unique():
    ids = [row.id for row in ROWS]
    assert len(set(ids)) == len(ids)


def test_every_row_has_something_to_run():
    for row in ROWS:
        if isinstance(row, Micro):
            assert (row.operation or row.id) in {*OPERATIONS, *PRECISION}
        else:
            assert row.server in SERVERS


def test_rows_with_a_goal_of_the_limit_have_a_limit():
    for row in ROWS:
        if isinstance(row.goal, OfLimit):
            assert isinstance(row, Service)
            assert row.limit


def test_no_pattern_selects_all():
    assert select([]) == list(ROWS)


def test_patterns_match_ids_and_groups_in_the_order_of_the_table():
    chosen = select(["tls", "call-soon-*"])
    assert chosen == [r for r in ROWS if r.group == "tls" or fnmatch(r.id, "call-soon-*")]
    assert chosen[0].id == "call-soon-batch"
    assert {r.group for r in chosen} == {"scheduling", "tls"}


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(ValueError, match="no row or group is called 'nonsense'"):
        select(["call-soon-*", "nonsense"])


def test_units_follow_from_what_is_measured():
    assert row("idle-memory").unit is BYTES
    assert row("bulk-send").unit is MEBIBYTES
    assert row("protocol-10").higher_is_better
    assert not row("idle-memory").higher_is_better
    assert not row("sleep-zero").higher_is_better


def test_obstacles_are_named():
    plain = {"operations": 1}
    assert Micro("a", "a", "g", **plain).obstacle() is None
    without = Micro("a", "a", "g", needs=("asyncio", "no_such_module_here"), **plain)
    assert without.obstacle() == "not installed: no_such_module_here"
    next_version = (sys.version_info[0], sys.version_info[1] + 1)
    assert Micro("a", "a", "g", since=next_version, **plain).obstacle().startswith("needs CPython")


def test_rust_futures_are_awaited_in_ways_that_the_loops_allow():
    ready = row("bridge-ready")
    assert ready.columns(list(FACTORIES)) == list(WAYS)
    assert ready.columns(["rloop"]) == []
    assert ready.columns(["asyncio", "tokioloop"]) == [
        f"{UPSTREAM} on asyncio",
        f"{UPSTREAM} on tokioloop",
        FALL_BACK,
        BESIDE,
        EMBEDDED,
    ]
    # OpenDAL has no loop of its own.
    assert row("bridge-opendal").columns(["asyncio"]) == [f"{UPSTREAM} on asyncio", FALL_BACK]
    assert EMBEDDED not in row("bridge-opendal").columns(list(FACTORIES))


def test_columns_of_other_rows_are_the_loops_and_the_limit():
    assert row("sleep-zero").columns(["rloop"]) == ["rloop"]
    assert row("protocol-10").columns(["rloop"]) == ["rloop", LIMIT]


def test_foreign_transports_have_a_column_where_there_are_transports():
    loops = ["asyncio", "asyncio+aiofastnet"]
    for id in ("protocol-10", "tls-10", "aiohttp-tls", "aiohttp-client", "start-tls"):
        assert row(id).columns(loops)[:2] == loops
    for id in ("call-soon-batch", "getaddrinfo-literal", "process-spawn"):
        assert row(id).columns(loops) == ["asyncio"]
    assert row("connect-close").columns(loops) == loops
    assert row("bridge-ready").columns(["uvloop+aiofastnet"]) == []


def test_both_ways_of_ours_have_a_goal_of_their_own():
    assert row("bridge-gather").goal_of(BESIDE).ratio == 1
    assert row("bridge-gather").goal_of(EMBEDDED).ratio == 10


def test_a_goal_above_another_row_names_one_with_the_same_columns():
    for other in ROWS:
        for column in other.columns(list(FACTORIES)):
            if isinstance(goal := other.goal_of(column), Above):
                assert isinstance(row(goal.row), Bridged)


def test_the_version_that_the_ways_are_compared_with_is_known():
    assert upstream_version().startswith("0.")


def test_rows_that_no_chosen_loop_can_run_are_left_out(capsys):
    rows = select(["bridge-ready", "sleep-zero"])
    assert [row.id for row in possible(rows, ["rloop"])] == ["sleep-zero"]
    assert capsys.readouterr().err == "left out: bridge-ready: not for these loops\n"
