"""Operations on futures, tasks and what is awaited."""

from __future__ import annotations

import asyncio
import contextlib

from random_programs.chaos.objects import Bomb


class Awaitables:
    """Futures, tasks, generators and coroutines, stepped by hand as well."""

    def do_future(self, step):
        future = self.current(step).create_future()
        future.add_done_callback(lambda _: self.callback(step), context=self.context(step))
        self.futures.append(future)

    def do_set_result(self, step):
        future = self.pick(self.futures, step.a)
        if future is not None and not future.done():
            if step.b % 3 == 0:
                future.set_exception(ZeroDivisionError())
            else:
                future.set_result(Bomb(self, step.then))

    def do_cancel_future(self, step):
        future = self.pick(self.futures + self.tasks, step.a)
        if future is not None:
            future.cancel()

    def do_drop_futures(self, step):
        self.futures, self.tasks = [], []

    def task(self, coroutine, step):
        try:
            task = self.current(step).create_task(coroutine)
        except BaseException:
            coroutine.close()
            raise
        task.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        self.tasks.append(task)
        return task

    def awaitable(self, step):
        """Something to await, made at once."""
        kind = step.a % 14
        loop = self.loop
        if kind == 0:
            return self.native.sleep(0, Bomb(self, step.then))
        if kind == 1:
            return self.native.sleep(self.delay(step), Bomb(self, step.then))
        if kind == 2:
            return asyncio.sleep(0.001)
        if kind == 3 and self.futures:
            return self.pick(self.futures, step.b)
        if kind == 4 and self.tasks:
            return self.pick(self.tasks, step.b)
        if kind == 5:
            children = [self.pick(self.futures, step.b), self.pick(self.tasks, step.c)]
            children = [each for each in children if each is not None]
            children += [self.native.sleep(0), asyncio.sleep(0)]
            return self.native.gather(*children, return_exceptions=bool(step.c % 2))
        if kind == 6 and self.sockets:
            return loop.sock_recv(self.pick(self.sockets, step.b), (10, 0, 1 << 20)[step.c % 3])
        if kind == 7 and self.sockets:
            data = (b"x" * 10, b"x" * 500_000, bytearray(100))[step.c % 3]
            return loop.sock_sendall(self.pick(self.sockets, step.b), data)
        if kind == 8 and self.sockets:
            buffer = bytearray((0, 10, 100_000)[step.c % 3])
            return loop.sock_recv_into(self.pick(self.sockets, step.b), buffer)
        if kind == 9 and self.awaitables:
            return self.pick(self.awaitables, step.b)
        if kind == 10 and not self.forked:
            return self.submit(loop, step)
        if kind == 11:
            return Bomb(self, step.then, step.then)
        if kind == 12:
            return asyncio.wait_for(self.native.sleep(0.001), 0.002)
        if kind == 13 and self.sockets:
            return loop.sock_connect(self.pick(self.sockets, step.b), ("127.0.0.1", 9))
        return self.native.sleep(1e-4)

    def do_task(self, step):
        async def run():
            self.do(step.then)
            for each in step.then or (step,):
                await asyncio.wait_for(self.wrap(self.awaitable(each)), 0.01)
            self.do(step.then)

        self.task(run(), step)

    async def wrap(self, awaitable):
        return await awaitable

    def do_awaitable(self, step):
        self.awaitables.append(self.awaitable(step))

    def do_step_awaitable(self, step):
        """Drives one by hand."""
        thing = self.pick(self.awaitables, step.a)
        if thing is None:
            return
        kind = step.b % 8
        if kind == 0:
            thing.close()
        elif kind == 1:
            thing.throw(ZeroDivisionError())
        elif kind == 2:
            thing.throw(asyncio.CancelledError, None, None)
        elif kind == 3:
            self.awaitables.remove(thing)
        elif kind == 4:
            future = thing.__await__().__next__()
            self.futures.append(future)
        elif kind == 5:
            self.things.append(repr(thing))
        else:
            future = thing.send(None)
            if step.c % 2 and asyncio.isfuture(future):
                self.futures.append(future)

    def do_gather(self, step):
        children = [self.pick(self.futures, step.a), self.pick(self.tasks, step.b)]
        children = [each for each in children if each is not None]
        outer = self.native.gather(*children, self.native.sleep(0), return_exceptions=step.c % 2)
        outer.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        outer.add_done_callback(lambda _: self.callback(step))
        self.futures.append(outer)
        if step.c % 5 == 0 and hasattr(outer, "_children"):
            outer._children.reverse()

    def do_coroutine_threadsafe(self, step):
        loop = self.current(step)

        async def run():
            self.do(step.then)
            await self.native.sleep(0)
            return Bomb(self, step.then)

        def there():
            coroutine = run()
            try:
                future = self.native.run_coroutine_threadsafe(coroutine, loop)
            except RuntimeError:
                coroutine.close()
                return
            if step.a % 3 == 0:
                future.cancel()
            with contextlib.suppress(Exception):
                future.result(0.01)

        if step.a % 2:
            self.thread(there)
        else:
            coroutine = run()
            try:
                self.native.run_coroutine_threadsafe(coroutine, loop)
            except RuntimeError:
                coroutine.close()
