"""The objects whose methods are called, and their right arguments."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import io
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path


class Inline(concurrent.futures.ThreadPoolExecutor):
    """Runs what is submitted at once: no thread decides when the answer comes."""

    def submit(self, function, /, *args, **kwargs):
        future = concurrent.futures.Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class Listening(asyncio.Protocol):
    """A protocol of every kind, which keeps quiet."""

    def datagram_received(self, data, address):
        pass

    def error_received(self, error):
        pass

    def pipe_data_received(self, fd, data):
        pass

    def pipe_connection_lost(self, fd, error):
        pass

    def process_exited(self):
        pass


class Stage:
    """A loop with what the cases need, and what it reports."""

    def __init__(self, factory):
        self.loop = factory()
        self.reports = []
        self.stack = contextlib.ExitStack()
        self.loop.set_exception_handler(lambda _loop, context: self.reports.append(context))
        self.loop.set_default_executor(Inline(1))
        self._near, self._far = self.pair()
        self._ticked = None
        self.loop.add_reader(self._near, self._tick)

    def pair(self):
        near, far = socket.socketpair()
        for sock in (near, far):
            sock.setblocking(False)
            self.stack.callback(sock.close)
        return near, far

    def folder(self):
        """A new one for Unix sockets."""
        return self.stack.enter_context(tempfile.TemporaryDirectory())

    def _tick(self):
        self._near.recv(100)
        if not self._ticked.done():
            self._ticked.set_result(None)

    async def looks(self, count):
        for _ in range(count):
            self._ticked = self.loop.create_future()
            self._far.send(b".")
            await self._ticked

    def settle(self, count=4):
        """Let the loop look at its descriptors; how that ended, if not well."""
        if self.loop.is_closed():
            return "closed"
        looks = self.looks(count)
        try:
            self.loop.run_until_complete(looks)
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
        finally:
            looks.close()
        return None

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def dispose(self):
        if not self.loop.is_closed():
            self.loop.remove_reader(self._near)
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.settle_quietly()
            self.loop.close()
        self.stack.close()

    def settle_quietly(self):
        with contextlib.suppress(BaseException):

            async def looks():
                for _ in range(3):
                    await asyncio.sleep(0)

            coroutine = looks()
            try:
                self.loop.run_until_complete(coroutine)
            finally:
                coroutine.close()

    def closing(self, transport):
        self.stack.callback(quietly, transport.close)
        return transport


def quietly(function):
    with contextlib.suppress(BaseException):
        function()


def running_factory(stage):
    return stage.loop


def closed_loop(stage):
    stage.settle()
    stage.dispose()
    return stage.loop


def handle(stage):
    return stage.loop.call_soon(print_nothing)


def cancelled_handle(stage):
    made = stage.loop.call_soon(print_nothing)
    made.cancel()
    return made


def timer(stage):
    return stage.loop.call_later(1000, print_nothing)


def print_nothing(*args):
    pass


def stream(stage):
    near, _far = stage.pair()
    transport, _ = stage.run(stage.loop.create_connection(Listening, sock=near))
    return stage.closing(transport)


def lost_stream(stage):
    transport = stream(stage)
    transport.abort()
    stage.settle()
    return transport


def paused_stream(stage):
    transport = stream(stage)
    transport.pause_reading()
    return transport


def datagram(stage):
    transport, _ = stage.run(
        stage.loop.create_datagram_endpoint(Listening, local_addr=("127.0.0.1", 0))
    )
    return stage.closing(transport)


def connected_datagram(stage):
    near, _far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    stage.stack.callback(_far.close)
    near.setblocking(False)
    transport, _ = stage.run(stage.loop.create_datagram_endpoint(Listening, sock=near))
    return stage.closing(transport)


def read_pipe(stage):
    reading, writing = os.pipe()
    stage.stack.callback(os.close, writing)
    transport, _ = stage.run(stage.loop.connect_read_pipe(Listening, os.fdopen(reading, "rb")))
    return stage.closing(transport)


def write_pipe(stage):
    reading, writing = os.pipe()
    stage.stack.callback(os.close, reading)
    transport, _ = stage.run(stage.loop.connect_write_pipe(Listening, os.fdopen(writing, "wb", 0)))
    return stage.closing(transport)


def process(stage):
    transport, _ = stage.run(
        stage.loop.subprocess_exec(Listening, "/bin/cat", stderr=subprocess.DEVNULL)
    )
    return stage.closing(transport)


def contexts():
    if not CONTEXTS:
        from support.certificates import Certificates

        folder = tempfile.TemporaryDirectory()
        certificates = Certificates(Path(folder.name))
        client = certificates.client_context()
        client.check_hostname = False
        CONTEXTS.update(server=certificates.server_context(), client=client, folder=folder)
    return CONTEXTS


CONTEXTS = {}


async def secured(stage):
    near, far = stage.pair()
    loop, made = stage.loop, contexts()
    (_, _), (transport, _) = await asyncio.gather(
        loop.connect_accepted_socket(Listening, far, ssl=made["server"]),
        loop.create_connection(Listening, sock=near, ssl=made["client"], server_hostname=""),
    )
    return transport


def tls(stage):
    return stage.closing(stage.run(secured(stage)))


def server(stage):
    made = stage.run(stage.loop.create_server(Listening, "127.0.0.1", 0))
    return stage.closing(made)


def sock_operation(stage):
    return stage.loop.sock_recv(stage.pair()[0], 10)


def native(stage):
    """The module whose sleep, gather, ... belong to the loop."""
    if type(stage.loop).__module__.startswith("tokioloop"):
        import tokioloop

        return tokioloop
    return asyncio


class Functions:
    """The functions of the module, called while the loop runs."""

    def __init__(self, stage):
        self._stage = stage
        self._module = native(stage)

    async def sleep(self, delay, result=None):
        return await self._module.sleep(delay, result)

    async def gather(self, *awaitables, return_exceptions=False):
        return await self._module.gather(*awaitables, return_exceptions=return_exceptions)

    async def gather_one(self, awaitable, return_exceptions=False):
        return await self._module.gather(awaitable, return_exceptions=return_exceptions)

    async def run_coroutine_threadsafe(self, coro, loop=None):
        future = self._module.run_coroutine_threadsafe(coro, loop or self._stage.loop)
        return await asyncio.wrap_future(future)

    async def outside_of_a_loop(self, coro):
        return self._module.run_coroutine_threadsafe(coro, None)


def sleeping(stage):
    async def make():
        return native(stage).sleep(1000)

    return stage.run(make())


SUBJECTS = {
    "functions": Functions,
    "sleep": sleeping,
    "loop": running_factory,
    "closed_loop": closed_loop,
    "handle": handle,
    "cancelled_handle": cancelled_handle,
    "timer": timer,
    "stream": stream,
    "lost_stream": lost_stream,
    "paused_stream": paused_stream,
    "datagram": datagram,
    "connected_datagram": connected_datagram,
    "read_pipe": read_pipe,
    "write_pipe": write_pipe,
    "process": process,
    "tls": tls,
    "server": server,
    "operation": sock_operation,
}

# What a parameter of this name wants.
GOOD = {
    "awaitable": lambda stage: asyncio.sleep(0),
    "result": lambda stage: None,
    "loop": lambda stage: stage.loop,
    "return_exceptions": lambda stage: False,
    "fd": lambda stage: stage.pair()[0],
    "sock": lambda stage: stage.pair()[0],
    "callback": lambda stage: print_nothing,
    "func": lambda stage: print_nothing,
    "args": lambda stage: 1,
    "sig": lambda stage: signal.SIGUSR1,
    "signal": lambda stage: signal.SIGCONT,
    "when": lambda stage: stage.loop.time() + 1000,
    "delay": lambda stage: 1000,
    "context": lambda stage: contextvars.copy_context(),
    "protocol_factory": lambda stage: Listening,
    "protocol": lambda stage: Listening(),
    "host": lambda stage: "127.0.0.1",
    "port": lambda stage: 0,
    "local_addr": lambda stage: ("127.0.0.1", 0),
    "remote_addr": lambda stage: None,
    "pipe": lambda stage: stage.pair()[0],
    "coro": lambda stage: asyncio.sleep(0),
    "future": lambda stage: asyncio.sleep(0),
    "path": lambda stage: os.path.join(stage.folder(), "socket"),
    "sockaddr": lambda stage: ("127.0.0.1", 80),
    "address": lambda stage: ("127.0.0.1", 9),
    "addr": lambda stage: None,
    "executor": lambda stage: None,
    "transport": lambda stage: stream(stage),
    "file": lambda stage: io.BytesIO(b"content"),
    "enabled": lambda stage: False,
    "handler": lambda stage: None,
    "factory": lambda stage: None,
    "n": lambda stage: 10,
    "buf": lambda stage: bytearray(10),
    "bufsize": lambda stage: 10,
    "data": lambda stage: b"data",
    "list_of_data": lambda stage: [b"a", b"b"],
    "sslcontext": lambda stage: contexts()["client"],
    "program": lambda stage: "/bin/true",
    "cmd": lambda stage: "true",
    "name": lambda stage: "socket",
    "value": lambda stage: None,
    "high": lambda stage: 100,
    "low": lambda stage: 10,
    "fallback": lambda stage: True,
    "typ": lambda stage: ZeroDivisionError,
    "ssl": lambda stage: None,
    "message": lambda stage: "text",
    "flags": lambda stage: 0,
    "default": lambda stage: None,
    "offset": lambda stage: 0,
    "count": lambda stage: None,
    "timeout": lambda stage: None,
}
