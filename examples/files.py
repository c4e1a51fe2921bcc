"""Reading and writing files without blocking the loop, with aiofiles (pip install aiofiles).

Files have no readiness to wait for, so the work is done in threads; to the program it looks
like any other await.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import aiofiles
import aiofiles.os

import tokioloop


async def write_log(path: Path, lines: int) -> None:
    async with aiofiles.open(path, "w") as file:
        for i in range(lines):
            await file.write(f"{path.stem} line {i}\n")


async def count_lines(path: Path) -> int:
    count = 0
    async with aiofiles.open(path) as file:
        async for _ in file:
            count += 1
    return count


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"log{i}.txt") for i in range(5)]
        await asyncio.gather(*(write_log(path, 100 * (i + 1)) for i, path in enumerate(paths)))
        counts = await asyncio.gather(*(count_lines(path) for path in paths))
        for path, count in zip(paths, counts, strict=True):
            size = (await aiofiles.os.stat(path)).st_size
            print(f"{path.name}: {count} lines, {size} bytes")
        print("together:", sum(counts), "lines")

        try:
            async with aiofiles.open(Path(folder, "missing.txt")) as file:
                await file.read()
        except FileNotFoundError as error:
            print("not there:", Path(error.filename).name)


if __name__ == "__main__":
    tokioloop.run(main())
