"""Operations on descriptors, sockets, transports, servers and streams."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

from random_programs.chaos import TLS
from random_programs.decided.actors import BufferEar, Ear, plain, shown


class Connections:
    """Watched descriptors, and all that is connected over them."""

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
                data = shown(error)
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
            self.waits += 1  # a handshake moves without any callback
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
            actor.note("transport", kind, shown(error))
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
            streams = self.native if step.a % 2 else asyncio
            reader, writer = await streams.open_connection(sock=sock, limit=(20, 65536)[step.b % 2])
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
