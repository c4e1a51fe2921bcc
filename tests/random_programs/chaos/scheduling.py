"""Operations on the loop and its handles."""

from __future__ import annotations

import asyncio
import gc
import weakref

from random_programs.chaos.objects import Duration


class Scheduling:
    """Calls, timers, handles; running, stopping, closing and overriding loops."""

    # -- scheduling ---------------------------------------------------------------------------

    def do_soon(self, step):
        loop = self.current(step)
        handle = loop.call_soon(self.function(step), *self.args(step), context=self.context(step))
        if step.c % 3:
            self.handles.append(handle)

    def do_threadsafe(self, step):
        handle = self.current(step).call_soon_threadsafe(self.function(step), *self.args(step))
        if step.c % 3:
            self.handles.append(handle)

    def delay(self, step):
        if step.a % 9 == 0:
            number = Duration(0.001)
            number.world, number.then = self, step.then
            return number
        return (0, 0, 1e-4, 1e-3, -1, 100, 1e9)[step.a % 7]

    def do_later(self, step):
        loop = self.current(step)
        handle = loop.call_later(
            self.delay(step), self.function(step), *self.args(step), context=self.context(step)
        )
        if step.c % 3:
            self.handles.append(handle)

    def do_at(self, step):
        loop = self.current(step)
        when = self.delay(step)
        if type(when) is not Duration:
            when += loop.time()
        self.handles.append(loop.call_at(when, self.function(step), *self.args(step)))

    def do_cancel(self, step):
        if self.handles:
            self.pick(self.handles, step.a).cancel()

    def do_drop_handle(self, step):
        if self.handles:
            self.handles.pop(step.a % len(self.handles))

    def do_drop_handles(self, step):
        dropped, self.handles = self.handles, []
        if step.a % 2:
            dropped.reverse()
        while dropped:
            dropped.pop()

    def do_look_at_handle(self, step):
        handle = self.pick(self.handles, step.a)
        if handle is None:
            return
        kind = step.b % 8
        if kind == 0:
            repr(handle)
        elif kind == 1:
            self.things.append((handle._callback, handle._args, handle._context))
        elif kind == 2:
            handle._run()
        elif kind == 3 and hasattr(handle, "when"):
            other = self.pick(self.handles, step.c)
            self.things.append((handle.when(), handle == other, hash(handle)))
            _ = handle < other
        elif kind == 4:
            self.weak.append(weakref.ref(handle, lambda _: self.do(step.then)))
        elif kind == 5:
            self.contexts.append(handle._context)
        elif kind == 6:
            self.things.append(gc.get_referents(handle))
        else:
            handle.cancelled()

    def do_queue(self, step):
        loop = self.current(step)
        ready, scheduled = loop._ready, loop._scheduled
        self.handles.extend(list(ready)[:3])
        self.handles.extend(list(scheduled)[:3])

    # -- the loop -----------------------------------------------------------------------------

    def do_stop(self, step):
        self.current(step).stop()

    def do_close_loop(self, step):
        loop = self.current(step)
        loop.close()

    def do_new_loop(self, step):
        if len(self.loops) < 4:
            self.loops.append(self.factory())

    def do_drop_loop(self, step):
        if len(self.loops) > 1:
            loop = self.loops.pop(step.a % (len(self.loops) - 1) + 1)
            if step.b % 3 and not loop.is_running():
                loop.close()

    def do_run_loop(self, step):
        loop = self.pick(self.loops, step.a)
        if loop.is_running() or loop.is_closed():
            if getattr(loop, "_nests", False) and not loop.is_closed():
                loop.call_later(0.005, loop.stop)
                loop.call_soon(self.do, step.then)
            loop.run_forever()
            return
        kind = step.b % 4
        inside = asyncio._get_running_loop()
        if kind == 0:
            asyncio._set_running_loop(None)  # as nest_asyncio does
        try:
            loop.call_later(0.005, loop.stop)
            loop.call_soon(self.do, step.then)
            with self.guarded(loop):
                loop.run_forever()
        finally:
            if kind == 0:
                asyncio._set_running_loop(inside)

    def do_run_in_thread(self, step):
        loop = self.pick(self.loops, step.a)

        def run():
            if not loop.is_running() and not loop.is_closed():
                loop.call_later(0.005, loop.stop)
                with self.guarded(loop):
                    loop.run_forever()

        self.thread(run)

    def do_set_debug(self, step):
        self.current(step).set_debug(bool(step.a % 2))

    def do_exception_handler(self, step):
        def handler(loop, context):
            self.look_at(context.get("exception") or Exception())
            self.do(step.then, raising=step.c % 3 == 0)

        self.current(step).set_exception_handler(handler if step.a % 4 else None)

    def do_report(self, step):
        self.current(step).call_exception_handler(
            {"message": "text", "future": self.pick(self.futures, step.a)}
        )

    def do_task_factory(self, step):
        def factory(loop, coroutine, **options):
            self.do(step.then)
            return asyncio.Task(coroutine, loop=loop, **options)

        self.current(step).set_task_factory(factory if step.a % 2 else None)

    def do_override(self, step):
        """Methods of the loop that are put on the instance."""
        loop = self.current(step)
        name = ("call_soon", "call_later", "call_at", "time", "create_future", "create_task")[
            step.a % 6
        ]
        if step.b % 3 == 0:
            loop.__dict__.pop(name, None)
            return
        real = getattr(type(loop), name)

        def instead(*args, **kwargs):
            self.do(step.then)
            return real(loop, *args, **kwargs)

        setattr(loop, name, instead)

    def do_attribute(self, step):
        loop = self.current(step)
        loop.kept = (loop, list(self.handles), list(self.transports))

    def do_generator(self, step):
        async def generator():
            try:
                yield 1
                yield 2
            finally:
                self.do(step.then)

        async def start():
            made = generator()
            await made.__anext__()
            self.generators.append(made)
            if step.a % 2:
                self.generators.clear()

        self.task(start(), step)

    def do_shutdown(self, step):
        loop = self.current(step)
        method = (
            loop.shutdown_asyncgens if step.a % 2 or self.forked else loop.shutdown_default_executor
        )
        self.task(method(), step)
