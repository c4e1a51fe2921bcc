"""Results that are kept in a file and read again; and the requirements of an extra."""

import pytest
from benchmarks.install import requirements
from benchmarks.processes import Failure, finish, reason
from benchmarks.results import Run, Sample, Series
from benchmarks.rows import select
from benchmarks.runner import sample

from benchmarking.runs import make_run, series


def test_a_series_collects_what_samples_have():
    found = Series()
    found.add(Sample(value=2.0, cpu_us=1.0, rss_mib=30.0))
    found.add(Sample(value=4.0, cpu_us=1.5, minimum=0.5))
    assert found.values == [2.0, 4.0]
    assert (found.cpu_us, found.rss_mib, found.minimum) == ([1.0, 1.5], [30.0], [0.5])
    assert found.p50_us == []
    assert found.usable
    assert found.median == 3.0
    assert found.spread == pytest.approx(1 / 3)


def test_a_series_with_an_error_or_without_values_is_not_usable():
    assert not Series().usable
    assert not series(1.0, error="it broke").usable


def test_a_file_keeps_everything(tmp_path):
    run = make_run({"sleep-zero": {"uvloop": series(1.0, 2.0), "asyncio": series(error="no")}})
    path = tmp_path / "deep" / "run.json"
    run.save(path)
    assert Run.load(path) == run


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 0}', '{"format": 1, "results": {"a": {"b": {"c": 1}}}}']
)
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json is not a file of results"):
        Run.load(path)


REPORT = {
    "requests": 1000,
    "bytes": 2 * 1024 * 1024,
    "seconds": 0.5,
    "p50_us": 10.0,
    "p99_us": 20.0,
    "client_busy": 0.9,
    "server_cpu_seconds": 0.25,
    "server_rss_bytes": 3 * 1024 * 1024,
    "bytes_per_connection": 900.0,
}


def test_the_load_generators_report_in_the_units_of_rows():
    requests, bulk, memory = select(["protocol-10", "bulk-send", "idle-memory"])
    assert sample(requests, REPORT) == Sample(2000.0, 250.0, 10.0, 20.0, 3.0, 0.9)
    assert sample(bulk, REPORT) == Sample(4.0, 125_000.0, 10.0, 20.0, 3.0, 0.9)
    assert sample(memory, REPORT).value == 900.0
    with pytest.raises(Failure, match="no request was answered"):
        sample(requests, REPORT | {"requests": 0})


def test_the_reason_is_the_last_line_of_the_output():
    assert reason("Traceback\n  ...\nValueError: no\n\n", 1) == "ValueError: no (exit status 1)"
    assert reason("", -11) == "killed by signal 11"


def test_a_process_that_fails_is_a_failure():
    assert finish(["echo", "all is well"]) == "all is well\n"
    with pytest.raises(Failure, match=r"^oh \(exit status 3\)$"):
        finish(["sh", "-c", "echo oh >&2; exit 3"])


def test_requirements_are_the_lines_that_name_a_package():
    text = """
    # The rivals.
    uvloop>=0.21; python_version < '3.15'

    rich>=13  # for the table
    """
    assert requirements(text) == ["uvloop>=0.21; python_version < '3.15'", "rich>=13"]
