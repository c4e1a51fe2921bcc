"""Loops, connections and timers by the thousand leave neither descriptors nor memory behind.

Each test is a program that does the same work in five equal parts, after a warm-up, and counts
what the process holds after each. Growth in one part may be a table; growth in every part is a
leak.
"""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

COUNTING = """
import asyncio, ctypes, gc, json, os, resource, sys

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]

libc = ctypes.CDLL(None)

def held():
    for _ in range(3):
        gc.collect()
    found = {
        "descriptors": len(os.listdir("/proc/self/fd")),
        # What Python's own allocator handed out, in blocks of up to 512 bytes.
        "blocks": sys.getallocatedblocks(),
        "resident": int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize(),
    }
    if hasattr(libc, "mallinfo2"):
        # What malloc handed out: Rust's memory, and Python's larger objects.
        libc.mallinfo2.restype = Mallinfo
        info = libc.mallinfo2()
        found["malloc"] = info.uordblks + info.hblkhd
    return found

def count(work, items):
    work(max(items // 5, 1))
    states = [held()]
    for _ in range(5):
        work(items // 5)
        states.append(held())
    print(json.dumps(states))
"""


def check(programs, source, items):
    """Run ``count(work, items)`` and judge what each part of the work has left behind."""
    done = programs.run(COUNTING + source, timeout=220, flags=("-W", "ignore"))
    states = json.loads(done.stdout)
    part = items // 5
    growth = {
        name: min(after[name] - before[name] for before, after in pairwise(states))
        for name in states[0]
    }
    shown = f"least growth in a part: {growth}, of: {states}"
    assert len({state["descriptors"] for state in states}) == 1, shown
    # Half of what a leak of 100 bytes, or of one small object, an item would amount to.
    assert growth["blocks"] < part // 2, shown
    assert growth.get("malloc", 0) < part * 50, shown
    # Pages come in larger steps: for few items only the two above are fine enough.
    assert growth["resident"] < max(part * 50, 1 << 20), shown


def test_loops_leave_nothing_behind(programs):
    items = 1000
    source = """
class Greets(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()

async def main():
    loop = asyncio.get_running_loop()
    loop.call_later(1000, print)
    server = await loop.create_server(Greets, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()

def work(items):
    for _ in range(items):
        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()

count(work, 1000)
"""
    check(programs, source, items)


def test_loops_never_run_leave_nothing_behind(programs):
    source = """
def work(items):
    for _ in range(items):
        loop = new_event_loop()
        loop.call_soon(print)
        loop.call_later(1000, print)
        loop.close()

count(work, 1000)
"""
    check(programs, source, 1000)


def test_connections_leave_nothing_behind(programs):
    items = 100_000
    # Ten addresses, because one has not enough ports for so many connections in a minute.
    source = """
class Greets(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")

class Leaves(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        assert data == b"hello"
        self.transport.close()

    def connection_lost(self, exc):
        self.lost.set_result(exc)

async def visits(address, times):
    loop = asyncio.get_running_loop()
    for _ in range(times):
        _, protocol = await loop.create_connection(Leaves, *address)
        assert await protocol.lost is None

async def serve_visits(items):
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Greets, f"127.0.0.{10 + i}", 0) for i in range(10)]
    addresses = [server.sockets[0].getsockname() for server in servers]
    await asyncio.gather(*(visits(address, items // 10) for address in addresses))
    for server in servers:
        server.close()
        await server.wait_closed()
    await asyncio.sleep(0.05)

loop = new_event_loop()
count(lambda items: loop.run_until_complete(serve_visits(items)), 100_000)
loop.close()
"""
    check(programs, source, items)


def test_stream_connections_leave_nothing_behind(programs):
    items = 20_000
    source = """
import tempfile

async def answer(reader, writer):
    writer.write(await reader.readline())
    writer.close()

async def visits(path, times):
    for _ in range(times):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"line\\n")
        assert await reader.readline() == b"line\\n"
        writer.close()
        await writer.wait_closed()

async def serve_visits(items):
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/socket"
        server = await asyncio.start_unix_server(answer, path)
        await asyncio.gather(*(visits(path, items // 20) for _ in range(20)))
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)

loop = new_event_loop()
count(lambda items: loop.run_until_complete(serve_visits(items)), 20_000)
loop.close()
"""
    check(programs, source, items)


def test_cancelled_timers_leave_nothing_behind(programs):
    source = """
async def set_and_cancel(items):
    loop = asyncio.get_running_loop()
    for i in range(items):
        loop.call_later(1000 + i % 7, print, i).cancel()
        if i % 1000 == 0:
            await asyncio.sleep(0)

loop = new_event_loop()
count(lambda items: loop.run_until_complete(set_and_cancel(items)), 1_000_000)
loop.close()
"""
    check(programs, source, 1_000_000)


def test_tasks_sockets_and_descriptors_leave_nothing_behind(programs):
    source = """
import socket

async def one(loop, near, far):
    receiving = asyncio.ensure_future(loop.sock_recv(near, 10))
    await asyncio.sleep(0)
    far.send(b"x")
    assert await receiving == b"x"
    try:
        await asyncio.wait_for(loop.sock_recv(near, 10), 0)
    except asyncio.TimeoutError:
        pass
    loop.add_reader(near, print)
    loop.remove_reader(near)
    await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)

async def many(items):
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        for _ in range(items):
            await one(loop, near, far)

loop = new_event_loop()
count(lambda items: loop.run_until_complete(many(items)), 20_000)
loop.close()
"""
    check(programs, source, 20_000)


def test_datagram_endpoints_leave_nothing_behind(programs):
    source = """
class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)

class Leaves(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.lost = asyncio.get_running_loop().create_future()
        self.left = 5
        transport.sendto(b"hello")

    def datagram_received(self, data, addr):
        self.left -= 1
        if self.left:
            self.transport.sendto(data)
        else:
            self.transport.close()

    def connection_lost(self, exc):
        self.lost.set_result(exc)

async def visit(items):
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    for _ in range(items):
        _, protocol = await loop.create_datagram_endpoint(Leaves, remote_addr=address)
        assert await protocol.lost is None
    server.close()
    await asyncio.sleep(0.05)

loop = new_event_loop()
count(lambda items: loop.run_until_complete(visit(items)), 20_000)
loop.close()
"""
    check(programs, source, 20_000)


def test_datagrams_the_kernel_does_not_take_leave_nothing_behind(programs):
    source = """
import socket, tempfile

async def overflow(items):
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder, \\
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(folder + "/receiver")
        receiver.setblocking(False)
        for _ in range(items // 50):
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=folder + "/receiver", family=socket.AF_UNIX
            )
            for _ in range(50):
                transport.sendto(b"x" * 100)
            await asyncio.sleep(0)
            transport.abort()
            await asyncio.sleep(0)
            try:
                while True:
                    receiver.recv(100)
            except BlockingIOError:
                pass

loop = new_event_loop()
count(lambda items: loop.run_until_complete(overflow(items)), 100_000)
loop.close()
"""
    check(programs, source, 100_000)


def test_pipes_leave_nothing_behind(programs):
    source = """
import os

async def one(loop):
    near, far = os.pipe()
    reader = asyncio.StreamReader()
    receiver, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(near, "rb", 0))
    sender, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(far, "wb", 0))
    sender.write(bytes(100_000))
    sender.close()
    assert len(await reader.read()) == 100_000
    receiver.close()

async def many(items):
    loop = asyncio.get_running_loop()
    for _ in range(items):
        await one(loop)
    await asyncio.sleep(0.05)

loop = new_event_loop()
count(lambda items: loop.run_until_complete(many(items)), 20_000)
loop.close()
"""
    check(programs, source, 20_000)


def test_processes_leave_nothing_behind(programs):
    source = """
from asyncio.subprocess import PIPE

async def one(number):
    if number % 4 == 0:
        try:
            await asyncio.create_subprocess_exec("/nowhere", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        except FileNotFoundError:
            return
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    if number % 4 == 1:
        process._transport.close()
        assert await process.wait() == -9
    else:
        assert await process.communicate(b"through") == (b"through", b"")

async def many(items):
    for start in range(0, items, 20):
        await asyncio.gather(*(one(number) for number in range(start, start + 20)))
    await asyncio.sleep(0.05)

loop = new_event_loop()
count(lambda items: loop.run_until_complete(many(items)), 3000)
loop.close()
"""
    check(programs, source, 3000)
