"""The tables of a run."""

from benchmarks import report
from benchmarks.bridging import BESIDE, EMBEDDED, UPSTREAM

from benchmarking.runs import make_run, series


def lines(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def echo_run(ours=(100_000, 101_000, 102_000)):
    return make_run(
        {
            "protocol-10": {
                "asyncio": series(40_000, 41_000, 42_000, cpu_us=[20.0]),
                "uvloop": series(error="it hung"),
                "tokioloop": series(
                    *ours, cpu_us=[5.0], rss_mib=[30.0], p50_us=[9.0], client_busy=[0.97]
                ),
                "limit": series(104_000, 105_000, 106_000, cpu_us=[4.0], rss_mib=[2.0]),
            }
        }
    )


def test_a_row_shows_medians_ratio_and_goal():
    heads, _, row = lines(report.table(echo_run()))
    assert heads == [
        "row",
        "asyncio",
        "uvloop",
        "tokioloop",
        "limit",
        "tokioloop / best rival",
        "goal",
    ]
    assert row == [
        "protocol echo, 1 KiB, 10 connections",
        "41.0k ±2% [20.0]",
        "fails",
        "**101.0k ±1% [5.0]**",
        "105.0k ±1% [4.0]",
        "2.46x asyncio",
        "0.96, goal 0.95 of the limit ✓",
    ]


def test_a_ratio_of_which_either_side_is_ahead_in_some_round_is_marked():
    (*_, ratio, goal) = lines(report.table(echo_run(ours=(39_000, 40_000, 42_500))))[2]
    assert ratio == "0.98x ≈ asyncio"
    assert goal.endswith("✗")


def test_the_best_rival_is_the_one_that_ours_is_least_ahead_of_round_by_round():
    run = make_run(
        {
            "sockets": {
                # The better median, of rounds that were better for ours, too.
                "asyncio": series(90, 90, 20),
                "uvloop": series(80, 80, 80),
                "tokioloop": series(150, 150, 50),
            }
        }
    )
    assert lines(report.table(run))[2][-2] == "1.67x asyncio"
    run.results["sockets"]["tokioloop"] = series(150, 100, 120)
    assert lines(report.table(run))[2][-2] == "1.50x uvloop"


def test_a_row_over_tls_is_held_against_all_and_against_those_with_transports_of_their_own():
    run = make_run(
        {
            "tls-10": {
                "uvloop": series(70_000),
                "uvloop+aiofastnet": series(95_000),
                "tokioloop": series(100_000),
            }
        }
    )
    (*_, ratio, goal) = lines(report.table(run))[2]
    assert ratio == "1.05x uvloop+aiofastnet"
    assert goal == "1.10x ✗, 1.35x without aiofastnet ✓"


def test_ours_with_foreign_transports_is_no_rival_and_rivals_with_them_are():
    run = echo_run()
    run.loops["tokioloop+aiofastnet"] = "0.1 with aiofastnet 1.2.0"
    run.results["protocol-10"]["tokioloop+aiofastnet"] = series(300_000)
    assert lines(report.table(run))[2][-2] == "2.46x asyncio"
    run.loops["asyncio+aiofastnet"] = "of CPython with aiofastnet 1.2.0"
    run.results["protocol-10"]["asyncio+aiofastnet"] = series(80_000, 80_000, 81_000)
    assert lines(report.table(run))[2][-2] == "1.26x asyncio+aiofastnet"


def test_a_run_without_ours_has_no_ratios():
    run = echo_run()
    del run.loops["tokioloop"], run.results["protocol-10"]["tokioloop"]
    assert lines(report.table(run))[0] == ["row", "asyncio", "uvloop", "limit"]


def test_an_earlier_build_is_no_rival_and_is_compared_round_by_round():
    run = echo_run(ours=(100_000, 50_000, 102_000))
    run.loops["before"] = "/env/bin/python"
    run.results["protocol-10"]["before"] = series(50_000, 100_000, 51_000, cpu_us=[5.0])
    heads, _, row = lines(report.table(run))
    assert heads[-3:] == ["tokioloop / best rival", "tokioloop / before", "goal"]
    assert row[-3:-1] == ["2.43x asyncio", "2.00x"]


def test_an_interrupted_round_is_not_compared_with_an_earlier_build():
    run = echo_run(ours=(100_000, 100_000, 100_000))
    run.loops["before"] = "/env/bin/python"
    run.results["protocol-10"]["before"] = series(50_000, 50_000, cpu_us=[5.0])
    assert lines(report.table(run))[2][-2] == "2.00x"


def test_rows_without_a_limit_leave_their_cell_empty():
    run = echo_run()
    run.results["gather-native"] = {
        "asyncio": series(4.0),
        "uvloop": series(3.6),
        "tokioloop": series(2.0),
    }
    gather = lines(report.table(run))[2]
    assert gather[1:] == ["4.00", "3.60", "**2.00**", "-", "1.80x uvloop", "1.80x ✓"]


def test_a_precise_row_shows_the_least_of_all():
    run = make_run(
        {
            "sleep-200us": {
                "asyncio": series(900.0, 910.0, minimum=[850.0, 840.0]),
                "uvloop": series(error="early"),
                "tokioloop": series(30.0, 40.0, minimum=[21.0, 19.0]),
            }
        }
    )
    row = lines(report.table(run))[2]
    assert row[1] == "905.00 ±1% (least 840)"
    assert row[-1] == "at most 60 ✓"


def test_only_ours_is_not_rated():
    run = make_run({"sleep-zero": {"tokioloop": series(0.5)}})
    run.loops = {"tokioloop": "0.1"}
    heads, _, row = lines(report.table(run))
    assert heads == ["row", "tokioloop", "goal"]
    assert row == ["`sleep(0)`", "**0.500**", "1.00x -"]


def test_an_interrupted_row_has_gaps():
    run = make_run(
        {"sleep-zero": {"asyncio": series(1.0), "uvloop": series(), "tokioloop": series()}}
    )
    row = lines(report.table(run))[2]
    assert row[1:] == ["**1.00**", "-", "-", "-", "1.00x -"]


def test_failures_come_with_their_reason():
    assert report.failures(echo_run()) == ["protocol-10: uvloop: it hung"]
    assert "- protocol-10: uvloop: it hung" in report.document(echo_run())


def test_details_have_latency_processor_time_and_memory():
    table = lines(report.details(echo_run()))
    ours = next(line for line in table if line[1] == "tokioloop")
    assert ours[3:] == ["9.0", "-", "5.0", "30.0", "97%"]


def test_judged_by_processor_time():
    judged = report.judged_by_cpu(echo_run())
    ours = judged.results["protocol-10"]["tokioloop"]
    assert ours.values == [200_000.0]
    assert judged.results["protocol-10"]["limit"].values == [250_000.0]
    assert judged.results["protocol-10"]["uvloop"].error == "it hung"
    assert lines(report.table(judged))[2][-1] == "0.80, goal 0.95 of the limit ✗"


def test_processor_time_is_less_is_better_for_operations():
    run = make_run(
        {
            "sleep-zero": {"tokioloop": series(0.9, cpu_us=[0.5])},
            "sleep-200us": {"tokioloop": series(30.0)},
            "idle-memory": {"tokioloop": series(900.0, cpu_us=[7.0])},
        }
    )
    judged = report.judged_by_cpu(run).results
    assert judged["sleep-zero"]["tokioloop"].values == [0.5]
    assert judged["sleep-200us"]["tokioloop"].values == [30.0]
    assert judged["idle-memory"]["tokioloop"].values == [900.0]


def test_comparing_two_runs():
    old, new = echo_run(), echo_run(ours=(110_000, 111_000, 112_000))
    new.results["sleep-zero"] = {"tokioloop": series(0.5)}  # not in the old one
    table = lines(report.compare(old, new, ["tokioloop", "uvloop"]))
    assert [line[1] for line in table[2:]] == ["tokioloop", "uvloop"]
    assert table[2][2:] == ["101.0k ±1% [5.0]", "111.0k ±1% [5.0]", "1.10x"]
    assert table[3][2:] == ["fails", "fails", "-"]


def test_comparing_knows_which_way_is_better():
    old = make_run({"sleep-zero": {"tokioloop": series(1.0, 1.1)}})
    new = make_run({"sleep-zero": {"tokioloop": series(0.5, 0.6)}})
    assert lines(report.compare(old, new, ["tokioloop"]))[2][-1] == "1.91x"


ON_ASYNCIO, ON_OURS = f"{UPSTREAM} on asyncio", f"{UPSTREAM} on tokioloop"


def bridge_run():
    columns = (ON_ASYNCIO, ON_OURS, BESIDE, EMBEDDED)

    def row(*values):
        return {column: series(value) for column, value in zip(columns, values, strict=True)}

    return make_run(
        {
            "bridge-empty": row(0.05, 0.05, 0.05, 0.05),
            "bridge-ready": row(100.0, 80.0, 0.65, 0.40),
            "bridge-gather": row(40.0, 30.0, 15.0, 2.0),
        }
    )


def test_rust_futures_have_a_table_of_their_own():
    run = bridge_run()
    heads, _, empty, ready, gather = lines(report.tables(run))
    assert heads == [
        "Rust futures, awaited",
        ON_ASYNCIO,
        ON_OURS,
        BESIDE,
        EMBEDDED,
        "beside / best rival",
        "goal",
        "embedded / best rival",
        "goal",
    ]
    assert empty[-3:] == ["-", "1.00x ≈ asyncio", "-"]
    assert ready[3:5] == ["0.650", "**0.400**"]
    assert ready[5:] == [
        "123.08x tokioloop",
        "at most 0.5 more ✗",
        "200.00x tokioloop",
        "at most 0.5 more ✓",
    ]
    assert gather[5:] == ["2.00x tokioloop", "1.00x ✓", "15.00x tokioloop", "10.00x ✓"]


def test_the_tables_of_loops_and_of_rust_futures_stand_side_by_side():
    run = bridge_run()
    run.results |= echo_run().results
    loops, ways = report.tables(run).split("\n\n")
    assert [line[0] for line in lines(loops)[2:]] == ["protocol echo, 1 KiB, 10 connections"]
    assert len(lines(ways)) == 5
    assert ON_ASYNCIO not in loops


def test_a_goal_above_a_row_that_was_not_run_is_not_judged():
    run = bridge_run()
    del run.results["bridge-empty"]
    assert lines(report.bridge_table(run))[2][-1] == "at most 0.5 more -"


def test_a_way_that_takes_no_part_has_no_ratio():
    run = bridge_run()
    opendal = {ON_ASYNCIO: series(80.0), ON_OURS: series(40.0), BESIDE: series(8.0)}
    run.results["bridge-opendal"] = opendal
    last = lines(report.bridge_table(run))[-1]
    assert last[1:5] == ["80.00", "40.00", "**8.00**", "-"]
    assert last[5:] == ["5.00x tokioloop", "1.00x ✓", "-", "-"]


def test_comparing_two_runs_compares_the_ways_of_a_loop():
    table = lines(report.compare(bridge_run(), bridge_run(), ["tokioloop"]))
    assert [line[1] for line in table[2:5]] == [ON_OURS, BESIDE, EMBEDDED]
