"""Protocols that write down every call, sockets for them, and reads from the other end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket


class Recorder(asyncio.Protocol):
    """Writes down each callback, in order, and lets a test wait for any of them."""

    def __init__(self, *, keep_open_at_eof=False):
        self.calls = []
        self.received = bytearray()
        self.transport = None
        self.loss = None
        self.losses = 0
        self._keep_open_at_eof = keep_open_at_eof
        self._changed = None

    def _note(self, name):
        self.calls.append(name)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def connection_made(self, transport):
        self.transport = transport
        self._note("connection_made")

    def data_received(self, data):
        self.received += data
        self._note("data_received")

    def eof_received(self):
        self._note("eof_received")
        return self._keep_open_at_eof

    def pause_writing(self):
        self._note("pause_writing")

    def resume_writing(self):
        self._note("resume_writing")

    def connection_lost(self, exc):
        self.loss = exc
        self.losses += 1
        self._note("connection_lost")

    @property
    def story(self):
        """The calls in order, consecutive repeats of data_received written once."""
        names = []
        for name in self.calls:
            if name != "data_received" or names[-1:] != ["data_received"]:
                names.append(name)
        return names

    async def until(self, condition, timeout=20):
        """Wait for ``condition()``, looking again after each callback."""

        async def watch():
            while not condition():
                self._changed = asyncio.get_running_loop().create_future()
                await self._changed

        await asyncio.wait_for(watch(), timeout)

    async def called(self, name):
        await self.until(lambda: name in self.calls)

    async def got(self, size):
        await self.until(lambda: len(self.received) >= size)

    async def lost(self):
        await self.called("connection_lost")
        return self.loss


class Reports:
    """An exception handler that keeps what the loop reported."""

    def __init__(self, loop):
        self.contexts = []
        loop.set_exception_handler(lambda _loop, context: self.contexts.append(context))

    def only(self):
        assert len(self.contexts) == 1, self.contexts
        return self.contexts[0]


def listener(family=socket.AF_INET, address=("127.0.0.1", 0), backlog=100, blocking=False):
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(blocking)
    sock.bind(address)
    sock.listen(backlog)
    return sock


def refused_address(host="127.0.0.1"):
    """An address without a listener: bound, so that nothing else takes it, but not listening."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.bind((host, 0))
    return sock, sock.getsockname()


@contextlib.contextmanager
def unresponsive_address():
    """An address where a connection attempt is neither accepted nor refused.

    The kernel drops the SYN when the queue of connections not yet accepted is full.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(listener(backlog=0))
        address = server.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address


def blocking_pair():
    """A connected TCP pair: the first non-blocking (for the loop), the second blocking."""
    with listener(blocking=True) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    far.settimeout(20)
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


async def transport_pair(loop, protocol=None):
    """A client transport over TCP and the blocking socket of its peer."""
    near, far = blocking_pair()
    protocol = Recorder() if protocol is None else protocol
    transport, protocol = await loop.create_connection(lambda: protocol, sock=near)
    return transport, protocol, far


def reset(sock):
    """Close so that the peer sees a reset instead of an end of file."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def read_all(sock):
    """Everything up to the end of file, from a blocking socket."""
    chunks = []
    while chunk := sock.recv(1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


async def in_thread(function, *args):
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


def fill(fd):
    """Write until the kernel takes no more."""
    total = 0
    try:
        while True:
            total += os.write(fd, bytes(65536))
    except BlockingIOError:
        return total


def read_exactly(sock, size):
    """So many bytes from a blocking socket."""
    data = bytearray()
    while len(data) < size and (chunk := sock.recv(min(size - len(data), 1 << 20))):
        data += chunk
    return bytes(data)
