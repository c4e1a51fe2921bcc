from collections.abc import AsyncIterator, Awaitable
from typing import final

__all__ = ["Client", "FetchError", "Limiter", "Response", "StatusError"]

@final
class Limiter:
    """A token bucket: `rate` tokens a second, up to `burst` saved up."""

    def __new__(cls, rate: float, burst: int = 1) -> Limiter: ...
    def acquire(self) -> Awaitable[None]: ...

@final
class Client:
    """Fetches by plain HTTP/1.1, no faster than the limiter allows."""

    def __new__(cls, limiter: Limiter | None = None) -> Client: ...
    def get(self, url: str) -> Awaitable[Response]:
        """Raises StatusError for statuses from 400 on, OSError, and FetchError for the rest."""

@final
class Response:
    """The head of an answer; the body is read once, whole or in pieces (`async for`)."""

    @property
    def status(self) -> int: ...
    def header(self, name: str) -> str | None: ...
    def read(self) -> Awaitable[bytes]: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...

class FetchError(Exception):
    def __new__(cls, _message: str) -> FetchError: ...

@final
class StatusError(FetchError):
    def __new__(cls, status: int, url: str) -> StatusError: ...
    @property
    def status(self) -> int: ...
    @property
    def url(self) -> str: ...
