"""Shows how far the run is: a bar on a terminal that has rich, a line a row elsewhere."""

from __future__ import annotations

import importlib.util
import sys
import time
from types import TracebackType
from typing import Protocol


class Progress(Protocol):
    def __enter__(self) -> Progress: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def step(self, label: str) -> None:
        """One measurement begins."""

    def done(self, what: str, found: str) -> None:
        """All rounds of something are over."""


def show(steps: int) -> Progress:
    if sys.stderr.isatty() and importlib.util.find_spec("rich"):
        return _Bar(steps)
    return _Lines(steps)


class _Lines:
    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._begun = 0
        self._started = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def step(self, label: str) -> None:
        self._begun += 1

    def done(self, what: str, found: str) -> None:
        elapsed = time.monotonic() - self._started
        percent = 100 * self._begun // self._steps
        print(f"[{percent:3}% {elapsed:4.0f} s] {what}: {found}", file=sys.stderr, flush=True)


class _Bar:
    def __init__(self, steps: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=steps)
        self._begun = 0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, label: str) -> None:
        self._bar.update(self._task, completed=self._begun, description=label)
        self._begun += 1

    def done(self, what: str, found: str) -> None:
        pass
