"""Rows about the native streams."""

from __future__ import annotations

import abc
import asyncio
import collections.abc
import inspect

import pytest

from compatibility.rows import row

pytestmark = pytest.mark.native_only(reason="looks at both loops already")


class Closing(asyncio.Transport):
    def is_closing(self):
        return True


def streams():
    import tokioloop

    return (asyncio.StreamReader, asyncio.StreamWriter), (
        tokioloop.StreamReader,
        tokioloop.StreamWriter,
    )


@row(
    "The object that a method of a `tokioloop.StreamReader` or `StreamWriter` gives (`read`, `drain`, …)"  # noqa: E501
)
def test_the_object_that_a_method_gives(ours):
    async def look(loop, reader_class, writer_class):
        reader = reader_class(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        writer = writer_class(Closing(), protocol, reader, loop)
        seen = set()
        for coroutine in (reader.read(1), writer.drain()):
            assert asyncio.iscoroutine(coroutine)
            assert isinstance(coroutine, collections.abc.Coroutine)
            seen.add((inspect.iscoroutine(coroutine), hasattr(coroutine, "cr_frame")))
            coroutine.close()
        return seen

    asyncios, native = streams()
    assert ours(lambda loop: look(loop, *asyncios)) == {(True, True)}
    assert ours(lambda loop: look(loop, *native)) == {(False, False)}


@row("Attributes of a `tokioloop.StreamReader` or `StreamWriter`")
def test_attributes(ours):
    def look(loop, reader_class, _):
        reader = reader_class(loop=loop)
        reader._eof = 1
        in_dict = "_buffer" in vars(reader)
        assert reader._buffer == b"" and reader._waiter is None
        try:
            del reader._waiter
        except AttributeError:
            deleted = False
        else:
            deleted = True
        return in_dict, deleted, type(reader._eof)

    asyncios, native = streams()
    assert ours(lambda loop: look(loop, *asyncios)) == (True, True, int)
    assert ours(lambda loop: look(loop, *native)) == (False, False, bool)


@row("The metaclass of `tokioloop.StreamReader` and `StreamWriter`")
def test_the_metaclass(ours):
    def look(loop, *classes):
        return {type(each) for each in classes}

    asyncios, native = streams()
    assert ours(lambda loop: look(loop, *asyncios)) == {type}
    assert ours(lambda loop: look(loop, *native)) == {abc.ABCMeta}
    reader = ours(lambda loop: asyncio.StreamReader(loop=loop))
    assert isinstance(reader, native[0])
