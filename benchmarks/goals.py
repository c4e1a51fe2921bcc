"""What a row aims at, and whether a run got there."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks.results import Series


@dataclass(frozen=True)
class OfRival:
    """At least this many times as fast as the best rival."""

    ratio: float
    alone: float | None = None
    """The same of the best rival that has its transports from no other package."""


@dataclass(frozen=True)
class OfLimit:
    """At least this part of what a server without an interpreter does."""

    ratio: float


@dataclass(frozen=True)
class AtMost:
    """A median of no more than this."""

    value: float


@dataclass(frozen=True)
class Above:
    """A median of no more than this above that of another row, in the same column."""

    row: str
    value: float


Goal = OfRival | OfLimit | AtMost | Above

MET, NEAR, MISSED = "✓", "≈", "✗"


def speedup(one: Series, other: Series, higher_is_better: bool) -> float:
    """How many times as fast as ``other`` is ``one``, by their medians."""
    return _faster(one.median, other.median, higher_is_better)


def ratios(one: Series, other: Series, higher_is_better: bool) -> list[float]:
    """How many times as fast as ``other`` is ``one``, round by round: a machine that is slower for
    some minutes is so for both. A round that was interrupted has only one of them.
    """
    rounds = zip(one.values, other.values, strict=False)
    return [_faster(mine, theirs, higher_is_better) for mine, theirs in rounds]


def paired_speedup(one: Series, other: Series, higher_is_better: bool) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(ratios(one, other, higher_is_better))


def level(one: Series, other: Series, higher_is_better: bool) -> bool:
    """Whether each of the two is ahead in some of the rounds."""
    found = ratios(one, other, higher_is_better)
    return min(found) <= 1 <= max(found)


def overlap(one: Series, other: Series) -> bool:
    """Whether the rounds of one reach into those of the other, which is of another run."""
    return min(one.values) <= max(other.values) and min(other.values) <= max(one.values)


def verdict(
    goal: Goal,
    ours: Series,
    rival: Series | None,
    limit: Series | None,
    higher_is_better: bool,
    base: Series | None = None,
) -> str | None:
    """``MET`` or ``MISSED``; ``NEAR`` if missed while some round reached the goal; ``None`` where
    there is nothing to hold it against.
    """
    if not ours.usable:
        return None
    if isinstance(goal, Above):
        if base is None or not base.usable:
            return None
        if ours.median - base.median <= goal.value:
            return MET
        return NEAR if min(ours.values) - max(base.values) <= goal.value else MISSED
    if isinstance(goal, AtMost):
        if ours.median <= goal.value:
            return MET
        return NEAR if min(ours.values) <= goal.value else MISSED
    other = rival if isinstance(goal, OfRival) else limit
    if other is None or not other.usable:
        return None
    found = ratios(ours, other, higher_is_better)
    if statistics.median(found) >= goal.ratio:
        return MET
    return NEAR if max(found) >= goal.ratio else MISSED


def _faster(one: float, other: float, higher_is_better: bool) -> float:
    above, below = (one, other) if higher_is_better else (other, one)
    return above / below if below > 0 else float("inf")
