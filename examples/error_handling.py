"""Errors in tasks: caught where they are awaited, collected, retried, or reported."""

from __future__ import annotations

import asyncio

import tokioloop


async def divide(a: float, b: float) -> float:
    await asyncio.sleep(0.01)
    return a / b


async def with_retries(attempts: int, fails: int) -> str:
    for attempt in range(1, attempts + 1):
        try:
            await asyncio.sleep(0.001 * 2**attempt)  # wait longer each time
            if attempt <= fails:
                raise ConnectionError(f"attempt {attempt} failed")
        except ConnectionError as error:
            print(" ", error)
            if attempt == attempts:
                raise
        else:
            return f"attempt {attempt} worked"
    raise ValueError("attempts must be positive")


async def clean_up_when_cancelled() -> None:
    try:
        await asyncio.sleep(60)
    finally:
        print("cleaned up")


async def main() -> None:
    # An exception is raised where the task is awaited.
    try:
        await divide(1, 0)
    except ZeroDivisionError as error:
        print("caught:", error)

    # Of several, collect results and exceptions side by side.
    outcomes = await asyncio.gather(
        divide(6, 3), divide(1, 0), divide(9, 3), return_exceptions=True
    )
    print("outcomes:", [repr(outcome) for outcome in outcomes])

    print(await with_retries(attempts=3, fails=2))

    task = asyncio.create_task(clean_up_when_cancelled())
    await asyncio.sleep(0.01)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("the task was cancelled")

    # The error of a callback cannot be caught: the loop calls its exception handler.
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _loop, context: print("reported to the loop:", repr(context["exception"]))
    )
    loop.call_soon(lambda: {}["missing"])
    await asyncio.sleep(0.01)


if __name__ == "__main__":
    tokioloop.run(main())
