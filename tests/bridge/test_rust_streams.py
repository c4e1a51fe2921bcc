"""Async generators as Rust streams, Rust streams as async iterators."""

from __future__ import annotations

import asyncio
import contextvars
import gc

import pytest


@pytest.mark.parametrize("kind", ["v1", "v2", "own"])
def test_rust_reads_a_generator(loops, extension, kind):
    async def generate():
        for number in range(5):
            await asyncio.sleep(0)
            yield number

    async def main():
        return await extension.collects(generate(), 10, kind)

    assert loops.run(main) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["v1", "own"])
def test_an_exception_of_a_generator_is_an_item(loops, extension, kind):
    async def generate():
        yield 1
        raise LookupError("no more")

    async def main():
        with pytest.raises(LookupError, match="no more"):
            await extension.collects(generate(), 10, kind)

    loops.run(main)


def test_items_alone_end_with_a_report(loops, extension):
    async def generate():
        yield 1
        raise LookupError("no more")

    async def main():
        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: reported.append(about))
        items = await extension.collects(generate(), 10, "v2")
        return items, reported[0]["exception"]

    items, error = loops.run(main)
    assert items == [1]
    assert isinstance(error, LookupError)


def test_a_generator_is_resumed_only_for_items_that_are_wanted(loops, extension):
    asked = []

    async def generate():
        for number in range(10):
            asked.append(number)
            yield number

    async def main():
        generator = generate()
        items = await extension.collects(generator, 3, "own")
        await generator.aclose()
        return items

    assert loops.run(main) == [0, 1, 2]
    assert asked == [0, 1, 2]


def test_an_object_that_is_no_generator_is_refused(loops, extension):
    async def main():
        with pytest.raises(AttributeError):
            await extension.collects(3, 3, "own")

    loops.run(main)


def test_python_reads_a_stream(loops, extension, flag):
    async def main():
        return [number async for number in extension.counts(50, [], flag)]

    assert loops.run(main) == list(range(50))


def test_a_stream_is_polled_only_when_an_item_is_wanted(loops, extension, flag):
    async def main():
        notes = []
        stream = extension.counts(5, notes, flag)
        seen = []
        async for number in stream:
            seen.append((number, list(notes)))
            await asyncio.sleep(0.002)
        return seen

    assert loops.run(main) == [(number, list(range(number + 1))) for number in range(5)]


def test_an_ended_stream_stays_ended_and_is_dropped(loops, extension, flag):
    async def main():
        stream = extension.counts(1, [], flag)
        assert stream.__aiter__() is stream
        assert await stream.__anext__() == 0
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await stream.__anext__()
        assert flag.dropped

    loops.run(main)


def test_an_error_does_not_end_a_stream(loops, extension):
    async def main():
        stream = extension.stream_fails(False)
        assert await stream.__anext__() == 1
        with pytest.raises(ValueError, match="no second item"):
            await stream.__anext__()
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()

    loops.run(main)


def test_a_panic_ends_a_stream(loops, extension):
    async def main():
        stream = extension.stream_fails(True)
        assert await stream.__anext__() == 1
        with pytest.raises(extension.RustPanic):
            await stream.__anext__()
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()

    loops.run(main)


def test_closing_a_stream_drops_it(loops, extension, flag):
    async def main():
        stream = extension.counts(5, [], flag)
        assert await stream.__anext__() == 0
        await stream.aclose()
        assert flag.dropped
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()

    loops.run(main)


def test_a_stream_with_given_locals(loops, extension):
    variable = contextvars.ContextVar("variable", default="unset")
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    async def main():
        loop = asyncio.get_running_loop()
        return [value async for value in extension.stream_of_given(loop, context, variable)]

    assert loops.run(main) == ["given"] * 2


def test_an_unreferenced_stream_is_dropped(inline, extension, flag):
    async def main():
        stream = extension.counts(5, [], flag)
        await stream.__anext__()
        del stream
        gc.collect()
        assert flag.dropped

    inline.run(main)


def test_a_cancelled_wait_loses_no_item(inline, extension, flag):
    async def main():
        stream = extension.counts(3, [], flag)
        task = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [number async for number in stream]

    assert inline.run(main) == [0, 1, 2]


def test_one_waits_at_a_time(inline, extension, flag):
    async def main():
        stream = extension.counts(3, [], flag)
        first = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="waited for already"):
            await stream.__anext__()
        return await first

    assert inline.run(main) == 0
