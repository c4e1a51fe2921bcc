"""Where tasks wait: their stacks through all the coroutines that await each other."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

#: What coroutines, generators and asynchronous generators call their frame, and what they await.
_KINDS = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))


def _frames(awaited: Any) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames of a suspended coroutine and of those that it awaits, outermost first."""
    while awaited is not None:
        for frame_name, awaited_name in _KINDS:
            frame = getattr(awaited, frame_name, None)
            if frame is not None:
                yield frame, frame.f_lineno
                awaited = getattr(awaited, awaited_name)
                break
        else:
            return


def describe(tasks: Iterable[asyncio.Task[Any]]) -> str:
    """Return the stacks of suspended tasks as text, and the future that each of them waits for.

    ``asyncio.Task.print_stack`` shows only the outermost frame of a suspended task.
    """
    lines = []
    for task in sorted(tasks, key=lambda task: (len(task.get_name()), task.get_name())):
        lines.append(f"Task {task.get_name()!r} waits:\n")
        lines += traceback.StackSummary.extract(_frames(task.get_coro())).format()
        awaited = getattr(task, "_fut_waiter", None)
        if awaited is not None:
            lines.append(f"  for {awaited!r}\n")
    return "".join(lines).rstrip("\n")
