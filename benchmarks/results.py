"""What was measured, and the file it is kept in."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

FORMAT = 1
# Beside the settings: how many measurements were taken again because the machine was slow.
RETAKEN = "retaken"


@dataclass
class Sample:
    """What one measurement found; the value is in the row's unit."""

    value: float
    cpu_us: float | None = None
    """The processor time of an operation, a request or, of a bulk transfer, a MiB."""
    p50_us: float | None = None
    p99_us: float | None = None
    rss_mib: float | None = None
    """The server's resident memory at the end."""
    client_busy: float | None = None
    """The part of the time in which the load generator had something to do."""
    minimum: float | None = None
    """The best single operation, where each is timed."""


@dataclass
class Series:
    """What one loop did in one row: a value a round, or the reason it did none."""

    values: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    client_busy: list[float] = field(default_factory=list)
    minimum: list[float] = field(default_factory=list)
    error: str | None = None

    def add(self, sample: Sample) -> None:
        self.values.append(sample.value)
        for name in ("cpu_us", "p50_us", "p99_us", "rss_mib", "client_busy", "minimum"):
            value = getattr(sample, name)
            if value is not None:
                getattr(self, name).append(value)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def usable(self) -> bool:
        return self.error is None and bool(self.values)

    @property
    def spread(self) -> float:
        """Half the distance between the best and the worst round, as a part of the median."""
        if not self.median:
            return 0.0
        return (max(self.values) - min(self.values)) / 2 / abs(self.median)


Results = dict[str, dict[str, Series]]
"""Row id, then loop; the limit is kept beside the loops."""


@dataclass
class Run:
    """One run, as it is kept in a file."""

    date: str
    machine: dict[str, str]
    loops: dict[str, str]
    """Name and version."""
    settings: dict[str, float]
    results: Results

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Run:
        try:
            data = json.loads(path.read_text())
            if data.pop("format") != FORMAT:
                raise ValueError("of another format")
            results = {
                row: {loop: Series(**entry) for loop, entry in loops.items()}
                for row, loops in data.pop("results").items()
            }
            return cls(results=results, **data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a file of results: {error}") from error
