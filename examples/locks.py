"""Tasks that share data: a lock, a semaphore, an event and a condition."""

from __future__ import annotations

import asyncio

import tokioloop


class Account:
    def __init__(self) -> None:
        self.balance = 0
        self.lock = asyncio.Lock()

    async def deposit(self, amount: int) -> None:
        # Other tasks run between the reading and the writing of the balance: without the lock
        # their deposits would be lost.
        async with self.lock:
            balance = self.balance
            await asyncio.sleep(0)
            self.balance = balance + amount


async def at_most_three_at_once() -> int:
    limit = asyncio.Semaphore(3)
    working = most = 0

    async def work() -> None:
        nonlocal working, most
        async with limit:
            working += 1
            most = max(most, working)
            await asyncio.sleep(0.005)
            working -= 1

    await asyncio.gather(*(work() for _ in range(12)))
    return most


async def start_together() -> list[str]:
    start = asyncio.Event()
    order: list[str] = []

    async def runner(name: str) -> None:
        await start.wait()
        order.append(name)

    tasks = [asyncio.create_task(runner(name)) for name in ("a", "b", "c")]
    await asyncio.sleep(0.01)
    order.append("go!")
    start.set()
    await asyncio.gather(*tasks)
    return order


async def wait_for_stock() -> int:
    stock = 0
    changed = asyncio.Condition()

    async def deliver() -> None:
        nonlocal stock
        for _ in range(5):
            async with changed:
                stock += 2
                changed.notify_all()
            await asyncio.sleep(0)

    delivery = asyncio.create_task(deliver())
    async with changed:
        await changed.wait_for(lambda: stock >= 7)
        seen = stock
    await delivery
    return seen


async def main() -> None:
    account = Account()
    await asyncio.gather(*(account.deposit(1) for _ in range(100)))
    print("balance:", account.balance)
    print("at work at once:", await at_most_three_at_once())
    print("order:", " ".join(await start_together()))
    print("stock when it was enough:", await wait_for_stock())


if __name__ == "__main__":
    tokioloop.run(main())
