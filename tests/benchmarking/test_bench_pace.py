"""A measurement that the machine disturbed is taken again."""

import os

import pytest
from benchmarks.kinds import Micro
from benchmarks.pace import TOLERATED, Pace
from benchmarks.results import Sample
from benchmarks.runner import ATTEMPTS, Runner, Settings
from benchmarks.system import Cores, choose_cores

QUIET, SLOW, SLOWER = 1.0, TOLERATED + 0.1, TOLERATED + 0.5


class Told:
    """The pace as a test has it: what is found before and after each measurement."""

    def __init__(self, *pairs):
        self._found = [slowness for pair in pairs for slowness in pair]

    def settle(self, cores):
        return self._found.pop(0)

    slowness = settle


ROW = Micro("some", "some", "some", 1)


@pytest.fixture
def runner(monkeypatch):
    made = Runner(Settings(), Cores(0, None), None)
    values = iter(range(1, 100))
    monkeypatch.setattr(made, "_measure", lambda row, column: Sample(float(next(values))))
    return made


@pytest.mark.parametrize(
    ("pairs", "counts", "retaken"),
    [
        ([(QUIET, QUIET)], 1, 0),
        ([(QUIET, SLOW), (QUIET, QUIET)], 2, 1),
        ([(SLOW, QUIET), (QUIET, QUIET)], 2, 1),
        ([(SLOW, SLOWER), (QUIET, SLOW), (SLOWER, QUIET)], 2, ATTEMPTS - 1),
    ],
)
def test_the_least_disturbed_measurement_counts(runner, pairs, counts, retaken):
    runner._pace = Told(*pairs)
    assert runner._undisturbed(ROW, "tokioloop").value == counts
    assert runner.retaken == retaken


def test_a_core_is_as_slow_as_the_work_on_it(monkeypatch):
    taken = iter([1.0] * 5 + [1.5] * 5 + [0.75] * 5)
    monkeypatch.setattr("benchmarks.pace.work", lambda: next(taken))
    pace, cores = Pace(), [choose_cores().server]
    assert [pace.slowness(cores) for _ in range(3)] == [1.0, 1.5, 1.0]


def test_looking_at_the_cores_leaves_the_runner_where_it_was():
    allowed = os.sched_getaffinity(0)
    assert Pace().slowness([choose_cores().server]) >= 1
    assert os.sched_getaffinity(0) == allowed
