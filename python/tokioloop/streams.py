"""``StreamReader``, ``StreamWriter`` and what makes them: asyncio's, native on this loop.

Both classes derive from asyncio's: what is not native is asyncio's own code, and so behaves as it
does on the running version of CPython. On another loop, in debug mode, in a subclass that overrides
a method that asyncio's would call, all of it is.
"""

from __future__ import annotations

import abc
import asyncio
import types
from collections.abc import Callable
from typing import Any

from . import _core
from .coroutines import as_coroutine_function, with_signature_of

__all__ = [
    "StreamReader",
    "StreamWriter",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
]

_streams: Any = asyncio.streams

#: asyncio's classes, whatever comes into the place of their names.
_READER, _WRITER = asyncio.StreamReader, asyncio.StreamWriter


class StreamReader(_core.NativeStreamReader, asyncio.StreamReader, metaclass=abc.ABCMeta):
    """A reader of a stream. As ``asyncio.StreamReader``, whose subclass it is.

    Every ``asyncio.StreamReader`` is an instance of it to ``isinstance``, so that it can stand in
    the place of asyncio's name.
    """

    # A method may come into it, of which the core has to know.
    __dict__ = vars(_core.NativeStreamReader)["__dict__"]

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        return _stands_for(cls, StreamReader, _READER, other)


class StreamWriter(_core.NativeStreamWriter, asyncio.StreamWriter, metaclass=abc.ABCMeta):
    """A writer of a stream. As ``asyncio.StreamWriter``, whose subclass it is.

    Every ``asyncio.StreamWriter`` is an instance of it to ``isinstance``, so that it can stand in
    the place of asyncio's name.
    """

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        return _stands_for(cls, StreamWriter, _WRITER, other)


def _stands_for(cls: type, ours: type, asyncios: type, other: type) -> Any:
    """Return True if ``other`` is asyncio's class or derived from it, and ``cls`` is ours."""
    # Of the classes that derive from ours, only they themselves.
    return True if cls is ours and asyncios in other.__mro__ else NotImplemented


class _Names(dict[str, Any]):
    """The names that a function of asyncio's finds: its module's, but for the classes here."""

    def __missing__(self, name: str) -> Any:
        try:
            return getattr(_streams, name)
        except AttributeError:
            raise KeyError(name) from None


_NAMES = _Names(
    StreamReader=StreamReader,
    StreamWriter=StreamWriter,
    __name__=_streams.__name__,
    __builtins__=_streams.__builtins__,
)


class StreamReaderProtocol(asyncio.StreamReaderProtocol):
    """Between a transport and a reader. As ``asyncio.StreamReaderProtocol``."""

    # asyncio's own code, which differs between CPython's versions, makes a writer of ours.
    connection_made = types.FunctionType(
        asyncio.StreamReaderProtocol.connection_made.__code__, _NAMES, "connection_made"
    )


async def _connect(connect: Any, limit: Any, *args: Any, **options: Any) -> Any:
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit=limit, loop=loop)
    protocol = StreamReaderProtocol(reader, loop=loop)
    transport, _ = await connect(lambda: protocol, *args, **options)
    return reader, StreamWriter(transport, protocol, reader, loop)


def _factory(client_connected_cb: Any, limit: Any) -> Callable[[], asyncio.BaseProtocol]:
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.BaseProtocol:
        reader = StreamReader(limit=limit, loop=loop)
        return StreamReaderProtocol(reader, client_connected_cb, loop=loop)

    return factory


@with_signature_of(asyncio.open_connection)
async def open_connection(
    host: Any = None, port: Any = None, *, limit: int = _streams._DEFAULT_LIMIT, **kwds: Any
) -> Any:
    """Connect to a TCP server. Coroutine.

    Return a pair ``(reader, writer)``. As ``asyncio.open_connection``: ``limit`` is in bytes, and
    the other options are those of ``loop.create_connection``, which says what is raised.
    """
    connect = asyncio.get_running_loop().create_connection
    return await _connect(connect, limit, host, port, **kwds)


@with_signature_of(asyncio.start_server)
async def start_server(
    client_connected_cb: Any,
    host: Any = None,
    port: Any = None,
    *,
    limit: int = _streams._DEFAULT_LIMIT,
    **kwds: Any,
) -> Any:
    """Listen for TCP connections, and call back for each with its reader and writer. Coroutine.

    Return an ``asyncio.Server``. As ``asyncio.start_server``: the callback may be a coroutine
    function, ``limit`` is in bytes, and the other options are those of ``loop.create_server``,
    which says what is raised.
    """
    loop = asyncio.get_running_loop()
    return await loop.create_server(_factory(client_connected_cb, limit), host, port, **kwds)


@with_signature_of(asyncio.open_unix_connection)
async def open_unix_connection(
    path: Any = None, *, limit: int = _streams._DEFAULT_LIMIT, **kwds: Any
) -> Any:
    """Connect to a server at a Unix socket. Coroutine.

    As :func:`open_connection`, and as ``asyncio.open_unix_connection``.
    """
    return await _connect(asyncio.get_running_loop().create_unix_connection, limit, path, **kwds)


@with_signature_of(asyncio.start_unix_server)
async def start_unix_server(
    client_connected_cb: Any,
    path: Any = None,
    *,
    limit: int = _streams._DEFAULT_LIMIT,
    **kwds: Any,
) -> Any:
    """Listen at a Unix socket, and call back for each connection with its streams. Coroutine.

    As :func:`start_server`, and as ``asyncio.start_unix_server``.
    """
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(_factory(client_connected_cb, limit), path, **kwds)


for _kind, _original, _methods in (
    (StreamReader, _READER, ("read", "readexactly", "readuntil", "readline", "__anext__")),
    (StreamWriter, _WRITER, ("drain", "wait_closed")),
):
    for _name in _methods:
        _method = getattr(_kind, _name)
        as_coroutine_function(_method, getattr(_original, _name), f"{_kind.__name__}.")
        # With these inspect takes it for a function, and looks into its code, before 3.12.
        _method.__kwdefaults__, _method.__annotations__ = None, {}
del _kind, _original, _methods, _name, _method
