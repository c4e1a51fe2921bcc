"""Carries out programs that leave nothing to chance, and compares what both loops make of them.

Everything belongs to an *actor*: the program itself, a transport, a reader. What an actor schedules
belongs to it, too, and works on its things only. So the order within an actor is decided even where
the kernel may wake two of them in any order, and the story is kept for each actor by itself. After
each step the loop runs until nothing moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import os
import re
import signal
import socket
import sys
import tempfile
import time

from random_programs.chaos import TLS

FLAGS = {"own clock": 0.3, "debug": 0.15, "handler raises": 0.15}
SIZE = (10, 2)
FUEL = 150
# What reports are not compared in, because of a difference that is to be mended.
KNOWN: set[str] = set()
VARIABLE = contextvars.ContextVar("variable", default=0)
STILL = 3  # looks without a move
LIMIT = 400  # looks
REPEATS = 4


def plain(text):
    text = re.sub(r"<[^<>]*>", "<...>", re.sub(r"<[^<>]*>", "<...>", str(text)))
    return re.sub(r"\(_ssl\.c:\d+\)", "(_ssl.c)", re.sub(r"0x[0-9a-f]+", "0x...", text))


def told(error):
    return "None" if error is None else f"{type(error).__name__}: {plain(error)}"[:150]


class Actor:
    """Who does something: its story, and what it may work on."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.lines = []
        self.handles, self.futures, self.tasks, self.contexts = [], [], [], []
        self.transport = None
        self.lost, self.closes = False, 0
        self.received = 0

    def note(self, *words):
        self.world.moves += 1
        self.lines.append(" ".join(map(str, words)))

    def heard(self, size):
        """Data: how it is cut into calls is the kernel's business, and up to when writes leave."""
        self.world.moves += 1
        if not self.received:
            self.lines.append("data")
        self.received += size

    def take(self):
        """What happened since the last time."""
        lines, self.lines = self.lines, []
        if self.received:
            lines.append(f"received {self.received}")
            self.received = 0
        return lines


class Ear(asyncio.Protocol):
    secure = False

    def __init__(self, world, step, name):
        self.actor = world.actor(name)
        self.world, self.step = world, step
        self.reactions = 3
        self.reacted = set()

    def react(self, which):
        # asyncio watches a pipe that is closed in connection_made, and then its number.
        # A pause in connection_made holds asyncio's handshake up.
        if which == 0 and (self.secure or self.actor.name.startswith(("reading", "writing"))):
            return
        if self.reactions > 0 and (self.step.b + which) % 3 == 0 and which not in self.reacted:
            self.reactions -= 1
            if which == 1:
                self.reacted.add(which)
            self.world.do(self.actor, self.step.then)
            if self.step.c % 7 == 0:
                raise ZeroDivisionError("in a protocol")

    def connection_made(self, transport):
        self.actor.transport = transport
        self.actor.note("connection_made", VARIABLE.get())
        self.react(0)

    def data_received(self, data):
        self.actor.heard(len(data))
        self.react(1)

    def eof_received(self):
        self.actor.note("eof_received")
        self.react(2)
        return self.step.c % 2

    def pause_writing(self):
        self.actor.note("pause_writing")
        self.react(3)

    def resume_writing(self):
        self.actor.note("resume_writing")
        self.react(4)

    def connection_lost(self, error):
        self.actor.lost = True
        self.actor.note("connection_lost", told(error))
        self.react(5)

    def datagram_received(self, data, address):
        self.actor.note("datagram", len(data))
        self.react(1)

    def error_received(self, error):
        self.actor.note("error_received", told(error))
        self.react(2)


class BufferEar(Ear, asyncio.BufferedProtocol):
    def get_buffer(self, hint):
        self.buffer = bytearray((7, 1000, 65536)[self.step.a % 3])
        return self.buffer

    def buffer_updated(self, count):
        self.actor.heard(count)
        self.react(1)


class World:
    def __init__(self, factory, program, native):
        self.native = native
        self.program = program
        self.fuel = FUEL
        self.moves = 0
        self.waits = 0  # for what takes its time: threads and processes
        self.story = []
        self.kinds = {}
        self.busy = set()
        self.signalled = False
        self.now = 1000.0
        self.loop = factory()
        self.main = Actor(self, "main")
        self.reports = Actor(self, "reports")
        self.actors = [self.main, self.reports]
        self.sockets, self.ears, self.servers, self.closing = [], [], [], []
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.ticked = None
        if "own clock" in program.flags:
            self.loop.time = lambda: self.now
        self.loop.set_debug("debug" in program.flags)
        self.loop.slow_callback_duration = 1000
        self.loop.set_exception_handler(self.reported)
        self.loop.add_reader(self.near, self.tick)

    def actor(self, kind):
        """A new one; its number tells it from others of its kind."""
        self.kinds[kind] = number = self.kinds.get(kind, 0) + 1
        made = Actor(self, f"{kind} {number}")
        self.actors.append(made)
        return made

    # -- the ground ---------------------------------------------------------------------------

    def reported(self, loop, context):
        text = plain(context["message"].split("\n")[0])
        if text.startswith("Exception in callback"):
            text = "Exception in callback"  # asyncio names its own methods
        self.reports.note(text, told(context.get("exception")), sorted(set(context) - KNOWN))
        if "handler raises" in self.program.flags:
            raise ValueError("in the handler")

    def tick(self):
        self.near.recv(100)
        if self.ticked is not None and not self.ticked.done():
            self.ticked.set_result(None)

    async def look(self):
        self.ticked = self.loop.create_future()
        self.far.send(b".")
        await self.ticked

    async def looks(self):
        still, last = 0, None
        for _ in range(LIMIT):
            await self.look()
            current = self.moves
            if current == last and not self.waits:
                still += 1
                if still >= STILL:
                    return
            else:
                still, last = 0, current
                if self.waits:
                    time.sleep(0.0002)

    def settle(self):
        if self.loop.is_closed():
            return
        task = asyncio.Task(self.looks(), loop=self.loop)
        for _ in range(20):
            try:
                self.loop.run_until_complete(task)
                return
            except (RuntimeError, KeyboardInterrupt, SystemExit, ZeroDivisionError) as error:
                self.main.note("the run ended", told(error))

    def do(self, actor, steps):
        for step in steps:
            if self.fuel <= 0:
                return
            self.fuel -= 1
            try:
                getattr(self, f"do_{step.name}")(actor, step)
            except Exception as error:
                actor.note(step.name, "raises", told(error))
            except (KeyboardInterrupt, SystemExit) as error:
                if step.name != "handle":  # out of Handle._run()
                    raise
                actor.note(step.name, "raises", told(error))

    def callback(self, actor, step, *args):
        actor.note("called", step.name, len(args), VARIABLE.get())
        if step.c % 3 == 0:
            VARIABLE.set(step.c)
        self.do(actor, step.then)
        if step.c % 11 == 1:
            raise ZeroDivisionError("in a callback")
        if step.c % 41 == 2:
            raise KeyboardInterrupt("in a callback")
        if step.c % 41 == 3:
            raise SystemExit("in a callback")

    def args(self, actor, step):
        return (actor, step, *range(step.b % 5))

    def context(self, actor, step):
        if step.c % 5 == 0:
            context = contextvars.Context()
            actor.contexts.append(context)
            return context
        if step.c % 5 == 1:
            return self.pick(actor.contexts, step.a)
        return None

    @staticmethod
    def pick(pool, number):
        return pool[number % len(pool)] if pool else None

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
                actor.note("task", told(error))
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
                    actor.note("await raises", each.a % 16, told(error))
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

    # -- descriptors ----------------------------------------------------------------------------

    def do_pair(self, actor, step):
        if actor is self.main and len(self.sockets) < 12:
            pair = socket.socketpair()
            for sock in pair:
                sock.setblocking(False)
            self.sockets += pair

    def do_reader(self, actor, step):
        sock = self.pick(self.sockets, step.a)
        if sock is None or actor is not self.main:
            return
        heard = self.actor("reader")

        def ready():
            try:
                data = len(sock.recv(1000))
            except OSError as error:
                data = told(error)
            heard.note("ready", data)
            if not data or isinstance(data, str):
                self.loop.remove_reader(sock)
            self.do(heard, step.then)

        self.loop.add_reader(sock, ready)

    def do_writer(self, actor, step):
        sock = self.pick(self.sockets, step.a)
        if sock is None or actor is not self.main:
            return
        heard = self.actor("writer")
        left = [step.b % 3 + 1]

        def ready():
            left[0] -= 1
            if not left[0]:
                heard.note("removed", self.loop.remove_writer(sock))
            heard.note("ready")
            self.do(heard, step.then)

        self.loop.add_writer(sock, ready)

    def do_remove(self, actor, step):
        sock = self.pick(self.sockets, step.a)
        if sock is not None and actor is self.main:
            actor.note(self.loop.remove_reader(sock), self.loop.remove_writer(sock))

    def do_send(self, actor, step):
        sock = self.pick(self.sockets, step.a)
        if sock is not None and actor is self.main:
            sock.send(b"x" * (step.b % 100 + 1))

    def do_close_socket(self, actor, step):
        if self.sockets and actor is self.main:
            sock = self.sockets.pop(step.a % len(self.sockets))
            if sock.fileno() >= 0:
                if not self.loop.is_closed():
                    actor.note(self.loop.remove_reader(sock), self.loop.remove_writer(sock))
                sock.close()

    def do_shut(self, actor, step):
        sock = self.pick(self.sockets, step.a)
        if sock is not None and actor is self.main:
            sock.shutdown(step.b % 3)

    def do_sock(self, actor, step):
        sock = self.pick(self.sockets, step.a)
        if sock is None or actor is not self.main:
            return
        if sock in self.busy:
            return  # asyncio's second call takes the first one's place, which never ends
        self.busy.add(sock)
        heard = self.actor("sock")

        async def run():
            try:
                return await call()
            finally:
                self.busy.discard(sock)

        async def call():
            loop, kind = self.loop, step.b % 6
            if kind == 0:
                return len(await loop.sock_recv(sock, 1000))
            if kind == 1:
                return await loop.sock_recv_into(sock, bytearray(10))
            if kind == 2:
                return await loop.sock_sendall(sock, b"y" * (step.c % 200))
            if kind == 3:
                return await loop.sock_recvfrom_into(sock, bytearray(10))
            if kind == 4:
                return await loop.sock_connect(sock, "/nonexistent")
            return await loop.sock_accept(sock)

        self.task(heard, run())

    # -- connections ------------------------------------------------------------------------------

    def ear(self, step, name):
        kind = BufferEar if step.a % 4 == 0 else Ear
        made = kind(self, step, name)
        self.ears.append(made)
        return made

    def connect(self, actor, coroutine):
        async def run():
            self.waits += 1  # a handshake moves without a word to anybody
            try:
                made = await coroutine
            finally:
                self.waits -= 1
            return isinstance(made, tuple) and len(made)

        try:
            self.task(actor, run())
        except BaseException:
            coroutine.close()
            raise

    def do_connection(self, actor, step):
        """Both ends of a connection on the loop; plain, TLS, or of datagrams."""
        if actor is not self.main or len(self.ears) > 8:
            return
        loop, kind = self.loop, step.b % 4
        if kind == 3 and not TLS:
            kind = 0
        near, far = socket.socketpair(type=socket.SOCK_DGRAM if kind == 2 else socket.SOCK_STREAM)
        near.setblocking(False)
        far.setblocking(False)
        one, two = self.ear(step, "near"), self.ear(step, "far")
        if kind == 2:
            made = [
                loop.create_datagram_endpoint(lambda: one, sock=near),
                loop.create_datagram_endpoint(lambda: two, sock=far),
            ]
        elif kind == 3:
            made = [
                loop.create_connection(
                    lambda: one, sock=near, ssl=TLS["client"], server_hostname=""
                ),
                loop.connect_accepted_socket(lambda: two, far, ssl=TLS["server"]),
            ]
        else:
            made = [
                loop.create_connection(lambda: one, sock=near),
                loop.connect_accepted_socket(lambda: two, far),
            ]
        for ear, coroutine in zip((one, two), made, strict=True):
            ear.secure = kind == 3
            self.connect(ear.actor, coroutine)

    def do_pipe(self, actor, step):
        if actor is not self.main or len(self.ears) > 8:
            return
        reading, writing = os.pipe()
        one, two = self.ear(step, "reading"), self.ear(step, "writing")
        files = os.fdopen(reading, "rb", 0), os.fdopen(writing, "wb", 0)
        self.closing += files
        self.connect(one.actor, self.loop.connect_read_pipe(lambda: one, files[0]))
        self.connect(two.actor, self.loop.connect_write_pipe(lambda: two, files[1]))

    def do_server(self, actor, step):
        if actor is not self.main or len(self.servers) > 2:
            return

        async def run():
            if step.b % 2:
                path = os.path.join(self.folder, f"s{len(self.servers)}")
                server = await self.loop.create_unix_server(
                    lambda: self.ear(step, "accepted"), path
                )
            else:
                server = await self.loop.create_server(
                    lambda: self.ear(step, "accepted"), "127.0.0.1", 0
                )
            self.servers.append(server)
            return server.is_serving()

        self.task(actor, run())

    def do_client(self, actor, step):
        server = self.pick(self.servers, step.a)
        if actor is not self.main or server is None or len(self.ears) > 8 or not server.sockets:
            return
        name = server.sockets[0].getsockname()
        client = self.ear(step, "client")
        if isinstance(name, str):
            made = self.loop.create_unix_connection(lambda: client, name)
        else:
            made = self.loop.create_connection(lambda: client, *name)
        self.connect(client.actor, made)

    def do_close_server(self, actor, step):
        server = self.pick(self.servers, step.a)
        if server is not None and actor is self.main:
            server.close()
            actor.note(server.is_serving(), len(server.sockets))

    def do_transport(self, actor, step):
        """On its own transport, or from the program on any of them."""
        if actor is self.main:
            ear = self.pick(self.ears, step.a)
            if ear is None:
                return
            actor = ear.actor
        transport = actor.transport
        if transport is None:
            return
        kind = step.b % 16
        # What asyncio's pipes do then differs from version to version, and from ours.
        if kind in (5, 6) and (self.loop.is_closed() or actor.lost):
            return
        if (actor.lost or actor.closes > 1) and hasattr(transport, "_ssl_protocol"):
            return  # asyncio's has forgotten what it needs to answer
        if kind == 12 and step.c % 4 == 0 and hasattr(transport, "_ssl_protocol"):
            return  # asyncio's pauses the protocol for ever
        try:
            result = self.use(actor, transport, kind, step)
        except Exception as error:
            # asyncio's transports forget what they need once they are lost.
            if isinstance(error, AttributeError) and "object has no attribute" in str(error):
                return
            actor.note("transport", kind, told(error))
        else:
            actor.note("transport", kind, plain(result))

    def use(self, actor, transport, kind, step):
        if kind in (0, 1, 2):
            data = (b"", b"1" * (step.c % 300), bytearray(b"2" * 20))[kind]
            if hasattr(transport, "sendto"):
                return transport.sendto(data or b"3")
            return transport.write(data)
        if kind == 3:
            return transport.writelines([b"a", b"b" * (step.c % 100 + 1)])
        if kind == 4:
            return transport.write_eof()
        if kind == 5:
            actor.closes += 1
            return transport.close()
        if kind == 6:
            return transport.abort()
        if kind == 7:
            return transport.pause_reading()
        if kind in (8, 9):
            return transport.resume_reading()
        if kind == 10:
            return transport.is_closing()
        if kind == 11:
            # Before, asyncio's datagram transports have no such method.
            return sys.version_info < (3, 11, 7) or transport.is_reading()
        if kind == 12:
            return transport.set_write_buffer_limits(
                *((0, 0), (10, 5), (5, 10), (None, 10))[step.c % 4]
            )
        if kind == 13:
            return transport.get_write_buffer_limits(), transport.get_write_buffer_size()
        if kind == 14:
            names = "sockname", "peername", "nothing", "cipher"
            return [transport.get_extra_info(name) is None for name in names]
        return transport.get_protocol() is None

    def do_streams(self, actor, step):
        if actor is not self.main:
            return
        near, far = socket.socketpair()
        heard = [self.actor("stream"), self.actor("stream")]

        async def end(actor, sock, first):
            reader, writer = await asyncio.open_connection(sock=sock, limit=(20, 65536)[step.b % 2])
            if first:
                writer.write(b"line one\nand two\nrest" + b"." * (step.c % 60))
                await writer.drain()
                writer.write_eof()
            got = []
            with contextlib.suppress(asyncio.IncompleteReadError):
                got.append(await reader.readline())
                got.append(await reader.readexactly(4))
                got.append(await reader.readuntil(b"t"))
            got.append(await reader.read())
            writer.close()
            await writer.wait_closed()
            return got

        for one, sock, first in zip(heard, (near, far), (True, False), strict=True):
            self.task(one, end(one, sock, first))

    # -- around the loop -----------------------------------------------------------------------

    def do_executor(self, actor, step):
        heard = self.actor("executor")

        async def run():
            self.waits += 1
            try:
                return await self.loop.run_in_executor(None, divmod, step.a, step.b % 3)
            finally:
                self.waits -= 1

        self.task(heard, run())

    def do_signal(self, actor, step):
        # One at a time: which handler hears of a signal while another comes is up to when the
        # loop reads the bytes that the interpreter wrote.
        if actor is not self.main or self.signalled:
            return
        heard = self.actor("signal")

        def handler():
            self.signalled = False
            heard.note("signal", step.a)

        self.loop.add_signal_handler(signal.SIGUSR1, handler)
        self.signalled = True
        os.kill(os.getpid(), signal.SIGUSR1)

    def do_process(self, actor, step):
        if actor is not self.main:
            return
        heard = self.actor("process")

        async def run():
            self.waits += 1
            try:
                killed = step.b % 3 == 0
                # Whether a process that ends by itself does so before it is killed is up to chance.
                kinds = ["cat"], ["false"], ["sh", "-c", "echo out; echo err >&2; exit 3"]
                process = await asyncio.create_subprocess_exec(
                    *kinds[0 if killed else step.a % 3], stdin=-1, stdout=-1, stderr=-1
                )
                if killed:
                    process.kill()
                    return await process.wait()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    out = await process.communicate(b"input")
                    return out, process.returncode
            finally:
                self.waits -= 1

        if self.loop.is_closed() or "own clock" in self.program.flags:
            return
        self.task(heard, run())

    # -- a whole program --------------------------------------------------------------------------

    def play(self):
        with tempfile.TemporaryDirectory() as self.folder:
            try:
                for number, step in enumerate(self.program.steps):
                    if step.c % 3 and not self.loop.is_closed():
                        self.loop.call_soon(self.do, self.main, (step,))
                    else:
                        self.do(self.main, (step,))
                    self.settle()
                    self.end_step(f"{number} {step.name}")
                self.finish()
            finally:
                self.dispose()
        return self.story

    def end_step(self, title):
        self.reports.lines.sort()
        told = [(actor.name, actor.take()) for actor in self.actors]
        self.story.append((title, sorted(each for each in told if each[1])))

    def finish(self):
        if self.loop.is_closed():
            self.end_step("closed")
            return
        self.fuel = 0
        for ear in self.ears:
            if ear.actor.transport is not None:
                with contextlib.suppress(Exception):
                    if ear.secure:
                        # asyncio's ends no connection whose peer's end waits behind a pause.
                        ear.actor.transport.resume_reading()
                    ear.actor.transport.close()
        self.settle()
        for ear in self.ears:
            if ear.actor.transport is not None:
                with contextlib.suppress(Exception):
                    ear.actor.transport.abort()
        for server in self.servers:
            server.close()
        for task in list(itertools.chain(*(actor.tasks for actor in self.actors))):
            task.cancel()
        self.settle()
        self.end_step("the end")
        self.loop.set_task_factory(None)
        for method in (self.loop.shutdown_asyncgens, self.loop.shutdown_default_executor):
            with contextlib.suppress(RuntimeError, KeyboardInterrupt, SystemExit):
                self.loop.run_until_complete(method())
        self.settle()
        self.end_step("shut down")

    def dispose(self):
        with contextlib.suppress(Exception):
            self.loop.remove_reader(self.near)
        self.loop.close()
        self.near.close()
        self.far.close()
        for sock in self.sockets:
            sock.close()
        for thing in self.closing:
            with contextlib.suppress(Exception):
                thing.close()
        self.loop.__dict__.pop("time", None)


def tell(factory, program, native):
    context = contextvars.Context()
    world = World(factory, program, native)
    try:
        return context.run(world.play)
    finally:
        world.actors.clear()
        del world


def side_by_side(expected, got):
    """The first step in which the stories part."""
    for (title, one), (_, two) in itertools.zip_longest(expected, got, fillvalue=("-", [])):
        if one != two:
            left, right = dict(one), dict(two)
            rows = [f"at step {title}:"]
            for name in sorted(left.keys() | right.keys()):
                if left.get(name) != right.get(name):
                    rows.append(f"  {name}: asyncio   {left.get(name)}")
                    rows.append(f"  {name}: this loop {right.get(name)}")
            return "\n".join(rows)
    return "the stories differ"


def compare(program, factory, native, stock):
    """How the two stories differ, or ``None``; ``""`` if they leave something to chance."""
    expected = tell(stock, program, asyncio)
    got = tell(factory, program, native)
    gc.collect(0)
    if got == expected:
        return None
    for _ in range(REPEATS):
        if got == tell(stock, program, asyncio) or tell(factory, program, native) == expected:
            return ""
    if by_chance(expected) or by_chance(got):
        return ""
    return side_by_side(expected, got)


def by_chance(story):
    """Whether writing met a peer that was gone.

    Which of two errors ends a connection, and what was received before, is up to the kernel and
    to when a write leaves: at once on asyncio, after the callback here.
    """
    text = repr(story)
    # The last one is asyncio's own mistake: a pipe that is closed twice.
    found = ("Broken pipe", "ConnectionReset", "'NoneType' object has no attribute 'close'")
    return any(each in text for each in found)


WEIGHTS = {
    "transport": 10,
    "connection": 3,
    "soon": 4,
    "later": 3,
    "task": 5,
    "future": 2,
    "set": 2,
    "cancel": 2,
    "handle": 3,
    "pair": 2,
    "process": 0.1,
    "close": 0.3,
    "stop": 0.5,
    "run": 0.3,
    "signal": 0.3,
    "executor": 0.5,
    "debug": 0.2,
    "task_factory": 0.3,
}
NAMES = {name[3:]: WEIGHTS.get(name[3:], 1.0) for name in vars(World) if name.startswith("do_")}
