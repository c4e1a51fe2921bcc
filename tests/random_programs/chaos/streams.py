"""Operations on stream readers and writers, most of them without a connection below."""

from __future__ import annotations

import asyncio
import contextlib

from random_programs.chaos.objects import Bomb


class Streams:
    """Readers that are fed by hand, and all that a program may do to them meanwhile."""

    def package(self, step):
        """Whose streams an operation is about."""
        return asyncio if step.c % 5 == 0 else self.native

    def do_streams(self, step):
        server = self.pick(self.servers, step.a)
        if server is None or not server.sockets:
            return
        streams = self.package(step)

        async def run():
            name = server.sockets[0].getsockname()
            if isinstance(name, str):
                reader, writer = await streams.open_unix_connection(name)
            else:
                reader, writer = await streams.open_connection(
                    *name, limit=(10, 1 << 16)[step.b % 2]
                )
            self.readers.append(reader)
            writer.write(b"line\n" * 10)
            self.do(step.then)
            if step.a % 2:
                await writer.drain()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.readline(), 0.002)
            writer.close()

        self.connect(run(), step)

    def do_new_reader(self, step):
        if len(self.readers) < 10:
            limit = (3, 100, 1 << 16, 2.5)[step.a % 4]
            self.readers.append(self.package(step).StreamReader(limit, self.current(step)))

    def do_read(self, step):
        reader = self.pick(self.readers, step.a)
        if reader is None:
            return
        kind = step.b % 8
        if kind == 0:
            call = reader.read(step.c % 9 - 1)
        elif kind == 1:
            call = reader.readline()
        elif kind == 2:
            call = reader.readexactly(step.c % 12)
        elif kind == 3:
            call = reader.readuntil((b"b", b"ab", b"\n")[step.c % 3])
        elif kind == 4:
            call = reader.__anext__()
        elif kind == 5:
            call = reader.read(Bomb(self, step.then))
        elif kind == 6:
            call = reader.readuntil(bytearray(b"ab"))
        else:
            call = reader.read()
        if step.c % 4 == 0:
            self.awaitables.append(call)
        else:
            self.task(self.reading(call, step), step)

    async def reading(self, call, step):
        try:
            self.things.append(await call)
        finally:
            self.do(step.then)

    def do_feed(self, step):
        reader = self.pick(self.readers, step.a)
        if reader is None:
            return
        kind = step.b % 12
        if kind < 5:
            reader.feed_data((b"a", b"ab\n", b"\n", b"xyz" * 50, bytearray(b"ab"))[kind])
        elif kind == 5:
            reader.feed_eof()
        elif kind == 6:
            reader.set_exception(OSError("by hand"))
        elif kind == 7:
            self.current(step).call_soon(reader.feed_data, b"later\n")
        else:
            self.disturb(reader, kind, step)

    def disturb(self, reader, kind, step):
        if kind == 8:
            self.things.append((reader._buffer, memoryview(reader._buffer)))
        elif kind == 9:
            what = step.c % 6
            if what == 0:
                reader._waiter = Bomb(self, step.then, step.then)
            elif what == 1:
                reader._transport = Bomb(self, step.then, step.then)
            elif what == 2:
                reader._buffer = (bytearray(b"new"), b"fixed", Bomb(self, step.then))[step.a % 3]
            elif what == 3:
                reader._limit = (1, 1.5, Bomb(self, step.then, step.then))[step.a % 3]
            elif what == 4:
                reader._paused = True
            else:
                reader._loop = self.current(step)
        elif kind == 10:
            feed = reader.feed_data

            def replaced(data):
                self.do(step.then)
                feed(data)

            reader.feed_data = replaced
        else:
            self.things += [repr(reader), reader.at_eof(), reader.exception(), vars(reader)]

    def do_step_call(self, step):
        """One step of a coroutine that nobody awaits."""
        call = self.pick(self.awaitables, step.a)
        if not hasattr(call, "send"):
            return
        kind = step.b % 4
        if kind == 0:
            call.close()
        elif kind == 1:
            call.throw(OSError("thrown"))
        else:
            with contextlib.suppress(StopIteration):
                self.things.append(call.send(None))
