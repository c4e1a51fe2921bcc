"""Growth: its sizes, what its processes measure, and its tables."""

import asyncio

import pytest
from benchmarks.growth import operations, report
from benchmarks.growth.chart import limits, panels
from benchmarks.growth.runner import columns, connections, handshakes
from benchmarks.growth.scales import SCALES, fitted, key, select
from benchmarks.results import Series

import tokioloop
from benchmarking.runs import make_run, series


def lines(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def scale(id):
    [found] = select([id])
    return found


def figure(id):
    [found] = [each for scale in SCALES for each in scale.figures if each.id == id]
    return found


def timers_run(**more):
    sizes = {1_000: (0.5, 0.7), 10_000: (0.4, 0.5), 100_000: (0.9, 1.0)}
    results = {
        f"timers-set@{size}": {
            "asyncio": series(2 * wall, cpu_us=[2 * cpu]),
            "tokioloop": series(wall, cpu_us=[cpu]),
        }
        for size, (cpu, wall) in sizes.items()
    }
    return make_run({**results, **more})


def test_figures_have_names_of_their_own_that_say_to_which_scale_they_belong():
    ids = [figure.id for scale in SCALES for figure in scale.figures]
    assert len(set(ids)) == len(ids)
    for each in SCALES:
        assert all(figure.id.startswith(f"{each.id}-") for figure in each.figures)
        assert list(each.sizes) == sorted(each.sizes)


def test_scales_are_chosen_by_name():
    assert select([]) == list(SCALES)
    assert [each.id for each in select(["children", "timers"])] == ["timers", "children"]
    with pytest.raises(ValueError, match="'nonsense' is none of timers, "):
        select(["nonsense"])


def test_a_quick_run_leaves_out_the_greatest_sizes():
    assert fitted(scale("timers"), quick=True, files=1024).sizes == (1_000, 10_000, 100_000)
    assert fitted(scale("timers"), quick=False, files=1024).sizes[-1] == 1_000_000


def test_there_are_no_more_connections_than_open_files():
    crowd = scale("connections")
    assert fitted(crowd, quick=False, files=1 << 20).sizes == crowd.sizes
    assert fitted(crowd, quick=False, files=20_000).sizes[-2:] == (10_000, 19_900)
    # Two sizes that come to the same are one.
    assert fitted(crowd, quick=False, files=1_024).sizes == (1, 10, 100, 924)


def test_the_limit_takes_part_where_there_is_a_server_of_its_kind():
    assert columns(scale("connections"), ["asyncio"]) == ["asyncio", "limit"]
    assert columns(scale("handshakes"), ["asyncio"]) == ["asyncio"]


@pytest.mark.parametrize("name", operations.OPERATIONS)
@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, tokioloop.new_event_loop])
def test_an_operation_finds_its_scales_figures(name, make_loop):
    loop = make_loop()
    try:
        found = operations.OPERATIONS[name][0](loop, 20, 2)
    finally:
        loop.close()
    timed = {figure.id for figure in scale(name).figures if "memory" not in figure.id}
    assert set(found) == timed
    assert all(each["value"] > 0 and each["cpu_us"] >= 0 for each in found.values())


def test_memory_is_told_of_many_and_of_the_first_that_are_held(monkeypatch):
    pages = iter([1_000_000, 3_000_000, 9_000_000])
    monkeypatch.setattr(operations, "resident", lambda: next(pages))
    memory = operations.Memory()
    memory.look(20_000)
    memory.look(20_000)
    assert memory.found("timers-memory", 20_000) == {"timers-memory": {"value": 100.0}}
    assert memory.found("timers-memory", 9_999) == {}


def test_a_stopwatch_divides_all_spans_among_all_units():
    stopwatch = operations.Stopwatch(clock=2.0, cpu=1.0, units=1000)
    assert stopwatch.each() == {"value": 2000.0, "cpu_us": 1000.0}


LOADED = {
    "requests": 50_000,
    "seconds": 0.5,
    "server_cpu_seconds": 0.4,
    "client_busy": 0.9,
    "bytes_per_connection": None,
    "parts": [
        {"percent": 50, "client_busy": 0.5, "p50_us": 10.0, "p99_us": 30.0, "p999_us": 90.0},
        {"percent": 90, "client_busy": 0.8, "p50_us": 20.0, "p99_us": 60.0, "p999_us": 180.0},
    ],
}


def test_the_load_generators_answer_has_all_figures_of_connections():
    found = connections(LOADED)
    assert found["connections-rate"].value == 100_000
    assert found["connections-rate"].cpu_us == pytest.approx(8.0)
    assert found["connections-p99-50"].value == 30.0
    assert found["connections-p999-90"].value == 180.0
    ids = {figure.id for figure in scale("connections").figures}
    assert ids - set(found) == {"connections-memory"}
    found = connections({**LOADED, "bytes_per_connection": 800.0})
    assert set(found) == ids
    assert found["connections-memory"].value == 800.0


def test_handshakes_are_divided_by_their_number():
    found = handshakes({"requests": 2_000, "seconds": 1.0, "server_cpu_seconds": 0.5})
    assert found["handshakes-each"].value == 500.0
    assert found["handshakes-each"].cpu_us == 250.0


def test_growth_is_the_last_cost_as_a_multiple_of_the_first_and_of_the_least():
    run = timers_run()
    heads, _, theirs, ours = lines(report.tables(run))
    assert heads == [
        "Timers held",
        "loop",
        "1,000",
        "10,000",
        "100,000",
        "growth",
        "over its least",
    ]
    assert theirs[:3] == ["set, us", "asyncio", "1.40 [1.00]"]
    assert ours[1:] == [
        "tokioloop",
        "**0.700 [0.500]**",
        "**0.500 [0.400]**",
        "**1.00 [0.900]**",
        "1.80x",
        "2.25x",
    ]


def test_a_rate_grows_by_the_processor_time_of_a_request():
    rates = {1: (80_000, 12.0), 10: (130_000, 7.0), 100: (120_000, 8.4)}
    run = make_run(
        {
            key(figure("connections-rate"), size): {
                "tokioloop": series(rate, cpu_us=[cpu]),
                "limit": series(2 * rate, cpu_us=[cpu / 2]),
            }
            for size, (rate, cpu) in rates.items()
        }
    )
    _, _, ours, limit = lines(report.tables(run))
    assert ours[2:] == [
        "**80.0k [12.0]**",
        "**130.0k [7.00]**",
        "**120.0k [8.40]**",
        "0.70x",
        "1.20x",
    ]
    # What no loop is held to is not the best of them.
    assert limit[1:3] == ["limit", "160.0k [6.00]"]


def test_what_fails_says_so_in_its_row_and_why_below():
    run = timers_run()
    for size in (1_000, 10_000, 100_000):
        run.results[f"timers-fire@{size}"] = {"uvloop": series(error="it hung")}
        run.results[f"timers-set@{size}"]["uvloop"] = series(error="it hung")
    failed = [line for line in lines(report.tables(run)) if line[1] == "uvloop"]
    assert failed[0][2:] == ["fails", "fails", "fails", "-", "-"]
    assert len(failed) == 2
    assert report.failures(run)[0] == "timers, 1,000: uvloop: it hung"
    assert len(report.failures(run)) == 3
    assert "- timers, 10,000: uvloop: it hung" in report.document(run)


def test_a_size_without_a_figure_is_left_empty_and_growth_begins_after_it():
    run = make_run(
        {
            "timers-memory@1000": {"asyncio": series()},
            "timers-memory@10000": {"asyncio": series(200.0, 202.0)},
            "timers-memory@100000": {"asyncio": series(402.0)},
        }
    )
    _, _, memory = lines(report.tables(run))
    assert memory == ["memory, bytes", "asyncio", "-", "**201**", "**402**", "2.00x", "2.00x"]


def test_a_figure_that_no_size_has_is_no_line():
    run = timers_run(**{"timers-memory@1000": {"asyncio": series(), "tokioloop": series()}})
    assert {line[0] for line in lines(report.tables(run))[2:]} == {"set, us"}


def test_rounds_of_several_runs_are_one_run():
    one, other = timers_run(), timers_run()
    other.results["children-each@1"] = {"asyncio": series(700.0)}
    other.results["timers-set@1000"]["uvloop"] = series(error="it hung")
    run = report.merged([one, other])
    assert run.results["timers-set@1000"]["tokioloop"].values == [0.7, 0.7]
    assert run.results["timers-set@1000"]["tokioloop"].cpu_us == [0.5, 0.5]
    assert run.results["timers-set@1000"]["uvloop"].error == "it hung"
    assert run.results["children-each@1"]["asyncio"].values == [700.0]
    assert run.settings["rounds"] == 2
    assert one.results["timers-set@1000"]["tokioloop"].values == [0.7]


def test_runs_of_different_machines_are_not_one():
    other = timers_run()
    other.machine = {**other.machine, "cores": "64"}
    with pytest.raises(ValueError, match="not one run"):
        report.merged([timers_run(), other])


def test_the_chart_has_a_panel_for_each_figure_of_more_than_one_size():
    run = timers_run(**{"children-each@1": {"asyncio": series(700.0)}})
    [(of, shown, costs)] = panels(run)
    assert (of.id, shown.id) == ("timers", "timers-set")
    assert costs["tokioloop"] == {1_000: 0.5, 10_000: 0.4, 100_000: 0.9}


def test_latencies_share_a_scale_of_whole_powers_of_ten():
    assert limits([{"a": {1: 12.0, 10: 30.0}}, {"b": {1: 4_000.0}}]) == (10.0, 10_000.0)
    assert limits([]) == (1.0, 1.0)


def test_a_cost_is_processor_time_where_that_is_known():
    assert figure("timers-set").cost(Series(values=[3.0], cpu_us=[2.0])) == 2.0
    assert figure("timers-set").cost(Series(values=[3.0, 5.0, 4.0])) == 4.0


def test_numbers_are_as_long_as_they_tell_something():
    found = [report.number(value, None) for value in (0.1234, 1.234, 12.34, 1234.5)]
    assert found == ["0.123", "1.23", "12.3", "1,234"]
