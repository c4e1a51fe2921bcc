"""Operations on descriptors, sockets, transports and servers."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import weakref

from random_programs.chaos.objects import TLS, Bomb, BufferEar, Ear


class Connections:
    """Watched descriptors, and all that is connected over them."""

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

    def do_sendfile(self, step):
        transport = self.pick(self.transports, step.a)
        if transport is not None:
            with open(__file__, "rb") as file:
                self.connect(self.current(step).sendfile(transport, file), step)
