"""Operations on the loop, its handles, futures and tasks."""

from __future__ import annotations

import asyncio
import sys

from random_programs.decided.actors import VARIABLE, plain, shown


class Scheduling:
    """Calls, timers, handles; running, stopping and closing the loop; what is awaited."""

    # -- scheduling ---------------------------------------------------------------------------

    def do_soon(self, actor, step):
        actor.handles.append(
            self.loop.call_soon(
                self.callback, *self.args(actor, step), context=self.context(actor, step)
            )
        )

    def do_threadsafe(self, actor, step):
        actor.handles.append(
            self.loop.call_soon_threadsafe(
                self.callback, *self.args(actor, step), context=self.context(actor, step)
            )
        )

    def delay(self, step):
        # No two alike: the order of equal ones is that of asyncio's heap.
        return (0, -1, 0.05, 0.1, 1000)[
            step.a % (5 if "own clock" in self.program.flags else 2)
        ] + (step.b * 1e-6) * ("own clock" in self.program.flags)

    def do_later(self, actor, step):
        actor.handles.append(
            self.loop.call_later(
                self.delay(step),
                self.callback,
                *self.args(actor, step),
                context=self.context(actor, step),
            )
        )

    def do_at(self, actor, step):
        when = self.loop.time() + self.delay(step)
        actor.handles.append(self.loop.call_at(when, self.callback, *self.args(actor, step)))

    def do_advance(self, actor, step):
        if actor is self.main:
            self.now += (0.01, 0.06, 1)[step.a % 3]

    def do_cancel(self, actor, step):
        handle = self.pick(actor.handles, step.a)
        if handle is not None:
            handle.cancel()

    def do_handle(self, actor, step):
        handle = self.pick(actor.handles, step.a)
        if handle is None:
            return
        kind = step.b % 6
        if kind == 0:
            actor.note(handle.cancelled(), isinstance(handle, asyncio.TimerHandle))
        elif kind == 1:
            actor.note(handle._callback is None, handle._args and len(handle._args))
        elif kind == 2 and not handle.cancelled():
            handle._run()
        elif kind == 3:
            actor.note(plain(repr(handle)).split(" at ")[0].split("when=")[0])
        elif kind == 4:
            actor.handles.remove(handle)
        else:
            actor.note(handle._context.get(VARIABLE), handle._source_traceback is None)

    def do_raise(self, actor, step):
        raise ZeroDivisionError("in a step")

    def do_variable(self, actor, step):
        VARIABLE.set(step.a)

    # -- the loop -----------------------------------------------------------------------------

    def do_stop(self, actor, step):
        self.loop.stop()

    def do_state(self, actor, step):
        loop = self.loop
        actor.note(loop.is_running(), loop.is_closed(), loop.get_debug(), repr(loop)[-40:])

    def do_close(self, actor, step):
        if actor is self.main and step.b % 3 == 0:
            self.loop.close()

    def do_run(self, actor, step):
        coroutine = asyncio.sleep(0)
        try:
            self.loop.run_until_complete(coroutine)
        finally:
            coroutine.close()

    def do_debug(self, actor, step):
        if actor is self.main:
            self.loop.set_debug(step.a % 2 == 1)

    def do_report(self, actor, step):
        self.loop.call_exception_handler({"message": f"report {step.a}"})

    def do_task_factory(self, actor, step):
        def factory(loop, coroutine, **options):
            # asyncio's listener makes a task for each connection it accepts; ours makes none.
            if "_accept_connection2" not in coroutine.__qualname__:
                actor.note("task factory", sorted(options))
            return asyncio.Task(coroutine, loop=loop, **options)

        if actor is self.main:
            self.loop.set_task_factory(factory if step.a % 2 else None)
            actor.note(self.loop.get_task_factory() is None)

    def do_generator(self, actor, step):
        async def generator():
            try:
                yield 1
            finally:
                actor.note("generator closed")
                await asyncio.sleep(0)
                actor.note("generator over")

        async def start():
            made = generator()
            await made.__anext__()
            if step.a % 2:
                self.closing.append(made)

        self.task(actor, start())

    # -- futures and tasks ----------------------------------------------------------------------

    def do_future(self, actor, step):
        future = self.loop.create_future()
        for _ in range(step.a % 3 + 1):
            future.add_done_callback(
                lambda done: self.callback(actor, step), context=self.context(actor, step)
            )
        actor.futures.append(future)

    def do_set(self, actor, step):
        future = self.pick(actor.futures, step.a)
        if future is not None:
            if step.b % 3:
                future.set_result(step.b)
            else:
                future.set_exception(ZeroDivisionError("set"))
                future.exception()

    def do_cancel_future(self, actor, step):
        future = self.pick(actor.futures, step.a)
        if future is not None:
            actor.note("cancel", future.cancel())

    def task(self, actor, coroutine):
        async def run():
            try:
                result = await coroutine
            except (Exception, asyncio.CancelledError) as error:
                actor.note("task", shown(error))
                raise
            else:
                actor.note("task gives", plain(repr(result)))

        outer = run()
        try:
            task = self.loop.create_task(outer)
        except BaseException:
            outer.close()
            coroutine.close()
            raise
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        actor.tasks.append(task)
        return task

    def do_cancel_task(self, actor, step):
        task = self.pick(actor.tasks, step.a)
        if task is not None:
            actor.note("cancel task", task.cancel())

    def do_task(self, actor, step):
        async def run():
            for each in step.then or (step,):
                if self.fuel <= 0:
                    return None
                self.fuel -= 1
                try:
                    result = await self.awaited(actor, each)
                    actor.note("awaited", each.a % 16, plain(repr(result))[:80], VARIABLE.get())
                except (Exception, asyncio.CancelledError) as error:
                    actor.note("await raises", each.a % 16, shown(error))
                    if each.c % 2:
                        raise
                self.do(actor, each.then)
            return step.c

        self.task(actor, run())

    async def awaited(self, actor, step):
        kind = step.a % 16
        sleep, gather = self.native.sleep, self.native.gather
        if kind in (0, 1):
            return await sleep(0, step.b)
        if kind == 2:
            return await sleep(self.delay(step), step.b)
        if kind == 3:
            return await asyncio.wait_for(sleep(0, 3), (0, -1, 1000)[step.b % 3])
        if kind == 4:
            return await asyncio.shield(sleep(0, 4))
        if kind == 5:
            futures = actor.futures[step.b % 2 :: 2]
            return await asyncio.wait_for(
                gather(*futures, sleep(0, 5), return_exceptions=bool(step.b % 2)), 0.0
            )
        if kind == 6:
            return await gather(*(sleep(0, each) for each in range(step.b % 4)))
        if kind == 7:
            return await gather(self.failing(step), sleep(0, 7), return_exceptions=bool(step.b % 2))
        if kind == 8:
            queue = asyncio.Queue(1)
            getting = self.loop.create_task(queue.get())
            await queue.put(1)
            await queue.put(2)
            return await getting, queue.qsize()
        if kind == 9:
            lock = asyncio.Lock()
            async with lock:
                other = self.loop.create_task(lock.acquire())
                await sleep(0)
            return await other
        if kind == 10 and sys.version_info >= (3, 11):
            async with asyncio.timeout((0, 1000)[step.b % 2]):
                return await sleep(0, 10)
        if kind == 11 and sys.version_info >= (3, 11):
            async with asyncio.TaskGroup() as group:
                group.create_task(self.failing(step))
                group.create_task(self.quiet(sleep(0.0)))
            return 11
        if kind == 12:
            done, pending = await asyncio.wait(
                [self.loop.create_task(self.quiet(sleep(0))) for _ in range(step.b % 3 + 1)],
                return_when=(asyncio.FIRST_COMPLETED, asyncio.ALL_COMPLETED)[step.c % 2],
            )
            return len(done), len(pending)
        if kind == 13:
            return [await each for each in asyncio.as_completed([self.quiet(sleep(0, 1))] * 1)]
        if kind == 14:
            future = self.pick(actor.futures, step.b)
            return None if future is None else await asyncio.wait_for(asyncio.shield(future), 0)
        task = asyncio.current_task()
        return task is not None, len(asyncio.all_tasks()) > 0

    async def quiet(self, awaitable):
        return await awaitable

    async def failing(self, step):
        await self.native.sleep(0)
        if step.c % 2:
            raise ZeroDivisionError("failing")
        return "succeeded"
