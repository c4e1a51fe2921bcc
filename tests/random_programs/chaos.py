"""Carries out chaos programs: everything at any moment.

An operation takes what it works on out of pools that earlier ones filled, and does nothing where
a pool is empty, so that any part of a program can be left out. What a step has under ``then`` runs
wherever its callback runs: in the loop, a protocol, a destructor, a signal handler, a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import weakref

# Each with the share of programs that have it.
FLAGS = {
    "threshold": 0.2,
    "debug": 0.2,
    "drop": 0.25,
    "outside first": 0.3,
    "outside last": 0.4,
    "never run": 0.5,
}
FUEL = 250  # operations that one program may carry out
THREADS = 4
VARIABLE = contextvars.ContextVar("variable")
TLS = {}


class Bomb:
    """Runs operations when it goes, or when it is looked at."""

    def __init__(self, world, then, looked_at=()):
        self.world, self.then, self.looked_at = world, then, looked_at

    def __del__(self):
        then, self.then = self.then, ()
        self.world.do(then)

    def __call__(self, *args, **kwargs):
        return self.world.do(self.looked_at)

    def __repr__(self):
        self.world.do(self.looked_at)
        return "Bomb"

    def __bool__(self):
        self.world.do(self.looked_at)
        return True

    def __hash__(self):
        self.world.do(self.looked_at)
        return 1

    def __eq__(self, other):
        self.world.do(self.looked_at)
        return self is other

    def __float__(self):
        self.world.do(self.looked_at)
        return 0.001

    def __index__(self):
        self.world.do(self.looked_at)
        return 1

    def __iter__(self):
        self.world.do(self.looked_at)
        return iter([b"one", bytearray(b"two")])

    def __str__(self):
        self.world.do(self.looked_at)
        return "bomb"

    def __fspath__(self):
        self.world.do(self.looked_at)
        return "/nonexistent"

    def fileno(self):
        self.world.do(self.looked_at)
        return self.world.sockets[0].fileno() if self.world.sockets else -1

    def __await__(self):
        self.world.do(self.looked_at)
        yield
        self.world.do(self.looked_at)


class Duration(float):
    """A number that does something when it is used."""

    world = None
    then = ()

    def _use(self):
        then, self.then = self.then, ()
        self.world.do(then)

    def __add__(self, other):
        self._use()
        return float(self) + other

    __radd__ = __add__

    def __lt__(self, other):
        self._use()
        return float(self) < other

    def __le__(self, other):
        self._use()
        return float(self) <= other

    def __float__(self):
        self._use()
        return 0.001

    def __eq__(self, other):
        self._use()
        return False

    __hash__ = float.__hash__


class Ear(asyncio.Protocol):
    """A protocol of all kinds whose callbacks carry out operations."""

    def __init__(self, world, step):
        self.world, self.step = world, step
        self.left = 6
        self.transport = None

    def __del__(self):
        if self.step.c % 3 == 0:
            self.world.do(self.step.then)

    def _heard(self, which):
        self.left -= 1
        if self.left > 0 and (self.step.b + which) % 3 == 0:
            self.world.do(self.step.then, raising=self.step.c % 4 == 0)

    def connection_made(self, transport):
        self.transport = transport
        self.world.transports.append(transport)
        self._heard(0)

    def data_received(self, data):
        self._heard(1)

    def eof_received(self):
        self._heard(2)
        return self.step.c % 2

    def pause_writing(self):
        self._heard(3)

    def resume_writing(self):
        self._heard(4)

    def connection_lost(self, exc):
        self._heard(5)

    def datagram_received(self, data, address):
        self._heard(1)

    def error_received(self, error):
        self._heard(2)

    def pipe_data_received(self, fd, data):
        self._heard(1)

    def pipe_connection_lost(self, fd, error):
        self._heard(2)

    def process_exited(self):
        self._heard(3)


class BufferEar(Ear, asyncio.BufferedProtocol):
    """Gives out buffers of which some lie."""

    def get_buffer(self, hint):
        self._heard(0)
        self.buffer = bytearray((1, 10, 65536)[self.step.a % 3])
        kind = self.step.c % 7
        if kind == 3:
            return memoryview(self.buffer)
        if kind == 4:
            view = memoryview(self.buffer)
            view.release()
            return view
        if kind == 5:
            return b"read-only"
        if kind == 6:
            return bytearray()
        return self.buffer

    def buffer_updated(self, count):
        with contextlib.suppress(BufferError):
            self.buffer.clear()
        self._heard(1)


class Broken(Exception):
    """A program did what none may do."""


class World:
    """What a program has in its hands."""

    def __init__(self, factory, program, native):
        self.factory = factory
        self.native = native  # the module whose sleep, gather, ... are tried
        self.program = program
        self.fuel = FUEL
        self.depth = 0
        self.loop = None
        self.faults = []
        self.submitting = False  # the executors' lock is held
        self.forked = False  # in the child the executors' locks may be taken for good
        self.threads = []
        self.children = []
        self.folder = None
        self.clear()

    def clear(self):
        self.loops, self.handles, self.futures, self.tasks = [], [], [], []
        self.sockets, self.transports, self.servers = [], [], []
        self.awaitables, self.contexts, self.things, self.generators = [], [], [], []
        self.processes, self.weak = [], []

    # -- carrying out -------------------------------------------------------------------------

    def do(self, steps, raising=False):
        if self.depth > 12 or self.submitting:
            return
        self.depth += 1
        try:
            for step in steps:
                if self.fuel <= 0:
                    return
                self.fuel -= 1
                try:
                    getattr(self, f"do_{step.name}")(step)
                except Exception as error:
                    self.look_at(error)
                    if raising:
                        raise
        finally:
            self.depth -= 1
        return

    def look_at(self, error):
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, SystemError) or any(
            word in text for word in ("internal error", "panicked", "lready borrowed", "mutably")
        ):
            self.faults.append(text)

    def callback(self, step, *args):
        self.do(step.then, raising=step.c % 5 == 0)
        if step.c % 23 == 1:
            raise ZeroDivisionError("in a callback")
        if step.c % 97 == 5:
            raise KeyboardInterrupt("in a callback")
        if step.c % 97 == 6:
            raise SystemExit("in a callback")

    def pick(self, pool, number):
        return pool[number % len(pool)] if pool else None

    def current(self, step):
        """Mostly the one loop, sometimes another."""
        return self.loops[-1] if step.b % 7 == 0 and self.loops else self.loop

    def function(self, step):
        """A callable of some kind that carries out what the step has under ``then``."""
        kind = step.a % 6
        if kind == 0:
            return Bomb(self, step.then, step.then)
        if kind == 1:
            bomb = Bomb(self, step.then)
            return lambda *args: (self.callback(step), bomb)
        return lambda *args: self.callback(step)

    def args(self, step):
        kind = step.b % 5
        if kind == 0:
            return (Bomb(self, step.then),)
        if kind == 1:
            return tuple(range(step.b % 12))
        if kind == 2:
            return (self.pick(self.handles, step.b), self.loop)
        return ()

    def context(self, step):
        kind = step.c % 6
        if kind == 0:
            context = contextvars.Context()
            context.run(VARIABLE.set, Bomb(self, step.then))
            return context
        if kind == 1:
            return self.pick(self.contexts, step.c)
        return None

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

    # -- futures, tasks and what is awaited -----------------------------------------------------

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

    # -- descriptors --------------------------------------------------------------------------

    def do_pair(self, step):
        if len(self.sockets) < 20:
            near, far = socket.socketpair()
            near.setblocking(False)
            far.setblocking(False)
            self.sockets += [near, far]

    def do_reader(self, step):
        sock = self.pick(self.sockets, step.a)
        if sock is not None:
            self.current(step).add_reader(sock, self.function(step), *self.args(step))

    def do_writer(self, step):
        sock = self.pick(self.sockets, step.a)
        if sock is None:
            return
        loop = self.current(step)

        def ready():
            loop.remove_writer(sock)
            self.callback(step)

        loop.add_writer(sock, ready)

    def do_remove(self, step):
        sock = self.pick(self.sockets, step.a)
        if sock is not None:
            loop = self.current(step)
            (loop.remove_reader if step.b % 2 else loop.remove_writer)(sock)

    def do_send(self, step):
        sock = self.pick(self.sockets, step.a)
        if sock is not None:
            sock.send(b"x" * (1, 100, 100_000)[step.b % 3])

    def do_receive(self, step):
        sock = self.pick(self.sockets, step.a)
        if sock is not None:
            sock.recv(100_000)

    def do_close_socket(self, step):
        if self.sockets:
            self.sockets.pop(step.a % len(self.sockets)).close()

    def do_shut_socket(self, step):
        sock = self.pick(self.sockets, step.a)
        if sock is not None:
            sock.shutdown(step.b % 3)

    # -- connections --------------------------------------------------------------------------

    def ear(self, step):
        return (BufferEar if step.a % 3 == 0 else Ear)(self, step)

    def factory_of(self, step):
        def make():
            if step.c % 11 == 0:
                self.do(step.then)
            if step.c % 37 == 0:
                raise ZeroDivisionError("in a factory")
            return self.ear(step)

        return make

    def take_socket(self, step):
        return self.sockets.pop(step.a % len(self.sockets)) if self.sockets else None

    def connect(self, coroutine, step, sock=None):
        async def run():
            try:
                made = await asyncio.wait_for(coroutine, 0.05)
            except BaseException:
                if sock is not None:
                    sock.close()
                raise
            if isinstance(made, tuple):
                self.transports.append(made[0])
            self.do(step.then)

        return self.task(run(), step)

    def do_stream(self, step):
        sock = self.take_socket(step)
        if sock is None or len(self.transports) > 20:
            return
        loop = self.current(step)
        method = loop.create_connection if step.b % 2 else loop.connect_accepted_socket
        self.connect(method(self.factory_of(step), sock=sock), step, sock)

    def do_server(self, step):
        if len(self.servers) > 5:
            return

        async def run():
            loop = asyncio.get_running_loop()
            if step.b % 3 == 0:
                path = os.path.join(self.folder, f"s{len(self.servers)}{step.a}")
                server = await loop.create_unix_server(self.factory_of(step), path)
            else:
                server = await loop.create_server(self.factory_of(step), "127.0.0.1", 0)
            self.servers.append(server)
            self.do(step.then)

        self.task(run(), step)

    def do_connect(self, step):
        server = self.pick(self.servers, step.a)
        if server is None or not server.sockets or len(self.transports) > 20:
            return
        loop, name = self.loop, server.sockets[0].getsockname()
        if isinstance(name, str):
            made = loop.create_unix_connection(self.factory_of(step), name)
        else:
            made = loop.create_connection(self.factory_of(step), *name)
        self.connect(made, step)

    def do_close_server(self, step):
        server = self.pick(self.servers, step.a)
        if server is not None:
            server.close()

    def do_drop_servers(self, step):
        for server in self.servers:
            server.close()
        self.servers.clear()

    def do_datagram(self, step):
        if len(self.transports) > 20:
            return
        loop = self.current(step)
        options = {"local_addr": ("127.0.0.1", 0)}
        if step.b % 3 == 0:
            options["remote_addr"] = ("127.0.0.1", 9)
        self.connect(loop.create_datagram_endpoint(self.factory_of(step), **options), step)

    def do_pipe(self, step):
        if len(self.transports) > 20:
            return
        loop = self.current(step)
        reading, writing = os.pipe()
        files = os.fdopen(reading, "rb", 0), os.fdopen(writing, "wb", 0)
        mine = step.b % 2
        method = (loop.connect_read_pipe, loop.connect_write_pipe)[mine]
        self.things.append(files[1 - mine])
        self.connect(method(self.factory_of(step), files[mine]), step, files[mine])

    def do_process(self, step):
        if len(self.processes) > 2:
            return
        self.processes.append(1)
        loop = self.current(step)
        command = (["cat"], ["true"], ["sh", "-c", "echo; echo 1>&2"])[step.b % 3]
        self.connect(loop.subprocess_exec(self.factory_of(step), *command), step)

    def do_tls(self, step):
        if not TLS or not self.sockets or len(self.transports) > 20:
            return
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        loop = self.current(step)
        self.connect(
            loop.connect_accepted_socket(self.factory_of(step), far, ssl=TLS["server"]), step, far
        )
        self.connect(
            loop.create_connection(
                self.factory_of(step), sock=near, ssl=TLS["client"], server_hostname=""
            ),
            step,
            near,
        )

    def do_start_tls(self, step):
        transport = self.pick(self.transports, step.a)
        if transport is None or not TLS:
            return
        side = bool(step.b % 2)
        context = TLS["server" if side else "client"]
        self.connect(
            self.current(step).start_tls(transport, self.ear(step), context, server_side=side), step
        )

    def do_transport(self, step):
        transport = self.pick(self.transports, step.a)
        if transport is None:
            return
        kind = step.b % 24
        if kind in (0, 1, 2, 3):
            data = (b"", b"x" * 10, bytearray(b"y" * 1000), memoryview(b"z" * 200_000))[kind]
            if hasattr(transport, "sendto"):
                transport.sendto(bytes(data)[:1000], ("127.0.0.1", 9))
            else:
                transport.write(data)
                if kind == 2:
                    data.clear()
        elif kind == 4:
            transport.writelines(Bomb(self, (), step.then))
        elif kind == 5:
            transport.writelines([b"a", b"b" * 1000, bytearray(b"c")])
        elif kind == 6:
            transport.write_eof()
        elif kind in (7, 8):
            transport.close()
        elif kind == 9:
            transport.abort()
        elif kind == 10:
            transport.pause_reading()
        elif kind == 11:
            transport.resume_reading()
        elif kind == 12:
            transport.set_protocol(self.ear(step))
        elif kind == 13:
            transport.set_write_buffer_limits(*((0, 0), (10, 5), (None, 10))[step.c % 3])
        elif kind == 14:
            for name in ("socket", "peername", "pipe", "ssl_object", "subprocess", "peercert"):
                self.things.append(transport.get_extra_info(name, Bomb(self, step.then)))
        elif kind == 15:
            repr(transport)
        elif kind == 16:
            transport._force_close(ZeroDivisionError() if step.c % 2 else None)
        elif kind == 17:
            self.weak.append(weakref.ref(transport, lambda _: self.do(step.then)))
        elif kind == 18:
            self.transports.remove(transport)
        elif kind == 19:
            self.things += [transport.get_protocol(), transport.is_reading()]
        elif kind == 20:
            self.things += [transport.get_write_buffer_size(), transport._sock]
        elif kind == 21:
            transport.__del__()
        elif kind == 22:
            transport.kill()
        else:
            self.things.append(gc.get_referents(transport))

    def do_streams(self, step):
        server = self.pick(self.servers, step.a)
        if server is None or not server.sockets:
            return

        async def run():
            name = server.sockets[0].getsockname()
            if isinstance(name, str):
                reader, writer = await asyncio.open_unix_connection(name)
            else:
                reader, writer = await asyncio.open_connection(
                    *name, limit=(10, 1 << 16)[step.b % 2]
                )
            writer.write(b"line\n" * 10)
            self.do(step.then)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.readline(), 0.002)
            writer.close()

        self.connect(run(), step)

    def do_sendfile(self, step):
        transport = self.pick(self.transports, step.a)
        if transport is not None:
            with open(__file__, "rb") as file:
                self.connect(self.current(step).sendfile(transport, file), step)

    # -- around the loop ----------------------------------------------------------------------

    def thread(self, function):
        if sum(thread.is_alive() for thread in self.threads) >= THREADS:
            return

        def run():
            try:
                function()
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                self.look_at(error)

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def do_thread(self, step):
        self.thread(lambda: [self.do(step.then) for _ in range(step.a % 20)])

    def submit(self, loop, step):
        self.submitting = True  # a destructor that submits in the middle of it waits for itself
        try:
            return loop.run_in_executor(None, self.do, step.then)
        finally:
            self.submitting = False

    def do_executor(self, step):
        if self.forked:
            return
        self.futures.append(self.submit(self.current(step), step))

    def do_signal_handler(self, step):
        self.current(step).add_signal_handler(
            (signal.SIGUSR1, signal.SIGUSR2)[step.a % 2], self.callback, step
        )

    def do_remove_signal_handler(self, step):
        number = (signal.SIGUSR1, signal.SIGUSR2)[step.a % 2]
        self.current(step).remove_signal_handler(number)
        signal.signal(number, lambda *_: None)

    def do_signal(self, step):
        number = (signal.SIGUSR1, signal.SIGUSR2)[step.a % 2]
        if signal.getsignal(number) is not signal.SIG_DFL:
            os.kill(os.getpid(), number)

    def do_alarm(self, step):
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005)

    def do_python_handler(self, step):
        signal.signal(signal.SIGVTALRM, lambda *_: self.do(step.then))

    def do_fork(self, step):
        if len(self.children) > 2:
            return
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            self.children.append(pid)
            return
        try:
            signal.alarm(5)
            self.threads.clear()
            self.forked = True
            self.do(step.then)
            if step.a % 2:
                with contextlib.suppress(BaseException):
                    loop = self.factory()
                    loop.run_until_complete(asyncio.sleep(0))
                    loop.close()
            if step.a % 3 == 0:
                with contextlib.suppress(BaseException):
                    asyncio._set_running_loop(None)
                    self.loop.call_later(0.002, self.loop.stop)
                    self.loop._run()
            if step.a % 5 == 0:
                self.clear()
                gc.collect()
        finally:
            os._exit(1 if self.faults else 0)

    def do_collect(self, step):
        gc.collect()

    def do_bomb(self, step):
        self.things.append(Bomb(self, step.then, step.then))
        if step.a % 3 == 0:
            cycle = [Bomb(self, step.then)]
            cycle.append(cycle)

    def do_drop_things(self, step):
        self.things.clear()

    def do_context(self, step):
        context = contextvars.copy_context()
        self.contexts.append(context)
        context.run(self.do, step.then)

    def do_variable(self, step):
        VARIABLE.set(Bomb(self, step.then))

    def do_sleep_thread(self, step):
        time.sleep(0.0003)

    def do_profile(self, step):
        """A profiler that is called at each call, C functions included."""
        left = [5]

        def profiler(frame, event, arg):
            if left[0] > 0 and event.startswith("c_"):
                left[0] -= 1
                sys.setprofile(None)
                self.do(step.then)
                if left[0]:
                    sys.setprofile(profiler)

        sys.setprofile(profiler if step.a % 2 else None)

    # -- a whole program ----------------------------------------------------------------------

    def play(self):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as self.folder:
            self.run()
        for thread in self.threads:
            thread.join(5)
            if thread.is_alive():
                self.faults.append("a thread hangs")
        self.threads.clear()
        for child in self.children:
            _, status = os.waitpid(child, 0)
            if status:
                self.faults.append(f"a forked child ended with status {status}")

    def run(self):
        if "threshold" in self.program.flags:
            gc.set_threshold(1)
        signal.signal(signal.SIGVTALRM, lambda *_: None)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda *_: None)
        self.loop = self.factory()
        self.loops.append(self.loop)
        self.loop.set_debug("debug" in self.program.flags)
        half = len(self.program.steps) // 2
        try:
            for which, steps in (
                ("first", self.program.steps[:half]),
                ("last", self.program.steps[half:]),
            ):
                self.phase(steps, f"outside {which}" in self.program.flags)
        finally:
            sys.setprofile(None)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            self.end()
            gc.set_threshold(700, 10, 10)

    def phase(self, steps, outside):
        loop = self.loop
        if outside:
            self.do(steps)
            if which_runs(self.program):
                self.phase((), False)
            return

        async def main():
            for number, step in enumerate(steps):
                self.do((step,))
                if number % 2:
                    await asyncio.sleep(0)
            await asyncio.sleep(0.002)

        if loop.is_closed():
            self.do(steps)
            return
        coroutine = main()
        with self.guarded(loop):
            self.run_main(loop, coroutine)

    def run_main(self, loop, coroutine):
        try:
            loop.run_until_complete(coroutine)
        except BaseException as error:
            self.look_at(error)
        finally:
            coroutine.close()

    @contextlib.contextmanager
    def guarded(self, loop):
        """A thread stops the loop after a while: programs cancel whatever they come across."""
        over = threading.Event()

        def guard():
            while not over.wait(0.15):
                with contextlib.suppress(RuntimeError):
                    type(loop).call_soon_threadsafe(loop, type(loop).stop, loop)

        thread = threading.Thread(target=guard, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def end(self):
        """Everything is let go of, some of it with the loop's help and some without."""
        drop = "drop" in self.program.flags or not which_runs(self.program)
        if not drop:
            for thread in self.threads:
                thread.join(5)
        for loop in list(self.loops):
            with contextlib.suppress(BaseException):
                if not drop and not loop.is_closed() and not loop.is_running():
                    for name in (
                        "call_soon",
                        "call_later",
                        "call_at",
                        "time",
                        "create_future",
                        "create_task",
                    ):
                        loop.__dict__.pop(name, None)
                    loop.set_task_factory(None)
                    loop.set_exception_handler(lambda *_: None)
                    self.fuel = 0
                    with self.guarded(loop):
                        loop.run_until_complete(self.close_all(loop))
        for loop in list(self.loops):
            for _ in range(100):  # another thread may run it
                if not loop.is_running():
                    break
                with contextlib.suppress(RuntimeError):
                    type(loop).call_soon_threadsafe(loop, type(loop).stop, loop)
                time.sleep(0.01)
        self.fuel = 60
        for loop in list(self.loops):
            for _ in range(3):
                try:
                    loop.close()
                except BaseException as error:
                    self.look_at(error)
                else:
                    break
        for sock in self.sockets:
            sock.close()
        for server in self.servers:
            with contextlib.suppress(Exception):
                for sock in server.sockets:
                    sock.close()
        self.clear_all()
        self.fuel = 0
        self.clear_all()  # what destructors have made meanwhile
        # Runs within runs, in any order, leave the last one's behind.
        sys.set_asyncgen_hooks(None, None)
        asyncio._set_running_loop(None)
        for number in (signal.SIGVTALRM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda *_: None)

    def clear_all(self):
        loops = self.loops
        self.clear()
        self.loop = None
        VARIABLE.set(None)
        for loop in loops:
            loop.__dict__.pop("kept", None)
            with contextlib.suppress(RuntimeError):
                loop.close()

    async def close_all(self, loop):
        for server in self.servers:
            server.close()
        for transport in self.transports:
            with contextlib.suppress(Exception):
                transport.abort() if hasattr(transport, "abort") else transport.close()
        tasks = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=0.1)
        await asyncio.sleep(0.001)
        await asyncio.wait_for(loop.shutdown_default_executor(), 1)


def canary(factory, native):
    """What is wrong with a new loop after a program; memory that it recycles may be."""
    loop, ran = factory(), []
    try:
        handles = [loop.call_soon(ran.append, number) for number in range(40)]
        timers = [loop.call_later(0, ran.append, number) for number in range(40, 60)]
        if len({id(each) for each in handles + timers}) != 60:
            return "two handles are one"

        async def main():
            sleeps = [native.sleep(0, number) for number in range(60, 80)]
            if len({id(each) for each in sleeps}) != 20:
                return "two sleeps are one"
            ran.extend(await native.gather(*sleeps))
            await asyncio.sleep(0.0001)
            return None

        wrong = loop.run_until_complete(main())
        if sorted(ran) != list(range(80)):
            return f"callbacks were lost or run twice: {ran}"
        return wrong
    finally:
        loop.close()


def which_runs(program):
    """Whether what is scheduled outside of the loop runs before the loop is closed."""
    return "never run" not in program.flags


def prepare(folder):
    """What the programs of a process share; ``folder`` has certificates, or is empty."""
    asyncio.set_event_loop(None)  # the policy makes no loop of its own
    pem = os.path.join(folder, "server.pem")
    if os.path.exists(pem):
        TLS["server"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        TLS["server"].load_cert_chain(pem, os.path.join(folder, "server.key"))
        TLS["client"] = ssl.create_default_context(cafile=os.path.join(folder, "authority.pem"))
        TLS["client"].check_hostname = False


RARE = {
    "fork": 0.15,
    "process": 0.3,
    "tls": 0.6,
    "start_tls": 0.5,
    "sendfile": 0.3,
    "profile": 0.5,
    "collect": 0.3,
    "close_loop": 2,
    "transport": 12,
    "soon": 5,
    "later": 3,
    "bomb": 2,
    "pair": 3,
    "stream": 3,
    "task": 4,
    "awaitable": 3,
    "step_awaitable": 3,
    "cancel": 3,
    "alarm": 0.5,
    "override": 0.6,
}
NAMES = {name[3:]: RARE.get(name[3:], 1.0) for name in vars(World) if name.startswith("do_")}
SIZE = (24, 3)
