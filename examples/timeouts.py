"""Time limits: for one task, for several, and for one that must not be cancelled."""

from __future__ import annotations

import asyncio

import tokioloop


async def answer(after: float) -> str:
    try:
        await asyncio.sleep(after)
    except asyncio.CancelledError:
        print("  (cancelled: clean up here)")
        raise
    return f"answered after {after} s"


async def main() -> None:
    print(await asyncio.wait_for(answer(0.05), timeout=1))

    try:
        await asyncio.wait_for(answer(60), timeout=0.05)
    except asyncio.TimeoutError:
        print("no answer within 0.05 s")

    # wait() has a time limit, too, but cancels nothing: the caller decides about pending tasks.
    tasks = [asyncio.create_task(answer(after)) for after in (0.01, 60)]
    done, pending = await asyncio.wait(tasks, timeout=0.2)
    print(f"{len(done)} done, {len(pending)} pending")
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)

    # shield() keeps the task running although the wait for it has timed out.
    important = asyncio.create_task(answer(0.2))
    try:
        await asyncio.wait_for(asyncio.shield(important), timeout=0.05)
    except asyncio.TimeoutError:
        print("stopped waiting, but:", await important)


if __name__ == "__main__":
    tokioloop.run(main())
