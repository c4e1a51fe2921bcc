"""aiofiles: file work in threads, awaited on the tested loop."""

from __future__ import annotations

import asyncio
import random

import aiofiles
import aiofiles.os
import pytest


def test_written_data_can_be_read(loop, tmp_path):
    path = tmp_path / "file"

    async def scenario():
        async with aiofiles.open(path, "w") as file:
            assert await file.write("one\ntwo\nthree") == 13
        async with aiofiles.open(path) as file:
            assert await file.readline() == "one\n"
            assert [line async for line in file] == ["two\n", "three"]

    loop.run_until_complete(scenario())
    assert path.read_text() == "one\ntwo\nthree"


def test_bytes_anywhere_in_a_file(loop, tmp_path):
    payload = random.Random(1).randbytes(1 << 20)

    async def scenario():
        async with aiofiles.open(tmp_path / "file", "wb+") as file:
            await file.write(payload)
            await file.seek(1000)
            assert await file.tell() == 1000
            assert await file.read(50) == payload[1000:1050]

    loop.run_until_complete(scenario())


def test_many_files_at_once(loop, tmp_path):
    async def one(i):
        path = tmp_path / str(i)
        async with aiofiles.open(path, "w") as file:
            await file.write(str(i) * 1000)
        async with aiofiles.open(path) as file:
            return await file.read()

    async def scenario():
        return await asyncio.gather(*(one(i) for i in range(100)))

    assert loop.run_until_complete(scenario()) == [str(i) * 1000 for i in range(100)]


def test_errors_reach_the_awaiter(loop, tmp_path):
    async def scenario():
        with pytest.raises(FileNotFoundError):
            async with aiofiles.open(tmp_path / "nothing"):
                raise AssertionError("opened a file that is not there")
        with pytest.raises(FileNotFoundError):
            await aiofiles.os.remove(tmp_path / "nothing")

    loop.run_until_complete(scenario())


def test_the_loop_goes_on_meanwhile(loop, tmp_path):
    ticks = []

    async def tick():
        while True:
            ticks.append(None)
            await asyncio.sleep(0)

    async def scenario():
        ticking = asyncio.ensure_future(tick())
        async with aiofiles.open(tmp_path / "file", "wb") as file:
            for _ in range(5):
                await file.write(bytes(8 << 20))
        ticking.cancel()
        return (await aiofiles.os.stat(tmp_path / "file")).st_size

    assert loop.run_until_complete(scenario()) == 40 << 20
    # Far more iterations than there were file operations to wait for.
    assert len(ticks) > 50
