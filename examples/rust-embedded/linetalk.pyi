from asyncio import AbstractEventLoop, DefaultEventLoopPolicy, SelectorEventLoop
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar, final

__all__ = ["Connection", "EventLoopPolicy", "Loop", "connect", "new_event_loop", "run", "ticks"]

_T = TypeVar("_T")

@final
class Connection:
    """A connection to a server that answers each line with a line."""

    def ask(self, line: str) -> Awaitable[str]: ...

def connect(host: str, port: int) -> Awaitable[Connection]: ...
def ticks(seconds: float, count: int) -> AsyncIterator[int]: ...

# The loop inside.

class Loop(SelectorEventLoop):
    def __init__(self) -> None: ...

class EventLoopPolicy(DefaultEventLoopPolicy): ...

def new_event_loop() -> Loop: ...
def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], AbstractEventLoop] | None = ...,
) -> _T: ...
