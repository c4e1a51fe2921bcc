from asyncio import (
    AbstractEventLoop,
    DefaultEventLoopPolicy,
    SelectorEventLoop,
    StreamReader,
    StreamWriter,
)
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar, final

__all__ = [
    "EventLoopPolicy",
    "Loop",
    "Server",
    "fetch",
    "new_event_loop",
    "run",
    "serve",
    "serve_connection",
]

_T = TypeVar("_T")
# Of a method, a path and a body: a status and a body.
_Handler: TypeAlias = Callable[[str, str, bytes], Awaitable[tuple[int, bytes]]]

@final
class Server:
    """A server that listens; closed when it is dropped."""

    @property
    def port(self) -> int: ...
    def close(self) -> None: ...

def serve(handler: _Handler, host: str = "127.0.0.1", port: int = 0) -> Awaitable[Server]: ...
def serve_connection(
    reader: StreamReader, writer: StreamWriter, handler: _Handler
) -> Awaitable[None]: ...
def fetch(
    host: str, port: int, path: str, body: bytes | None = None
) -> Awaitable[tuple[int, bytes]]: ...

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
