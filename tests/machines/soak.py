"""Servers, pipes and children with clients that misbehave, hundreds of times in one process.

    python tests/machines/soak.py --cycles 500 --seed 7 [--loop asyncio]

A cycle starts servers (TCP, TLS, Unix), has clients misbehave at them in every way below and a few
use them as meant, breaks pipes, kills children and cancels tasks; each loop serves a few cycles
before it closes. After a warm-up the cycles are counted in five equal parts: what the process holds
(descriptors, threads, objects, memory) is flat if at least one part added nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import json
import logging
import os
import pathlib
import random
import resource
import signal
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time
from itertools import pairwise

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import malloc

from support.certificates import Certificates

CYCLES_A_LOOP = 5
HUNG_AFTER = 120
HUGE = b"x" * (1 << 20)


def held():
    for _ in range(3):
        gc.collect()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "objects": len(gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
        "malloc": malloc.bytes_handed_out(),
        "resident": int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        * resource.getpagesize(),
    }


# --- The servers -------------------------------------------------------------------------------


async def serve_lines(reader, writer):
    """Echoes lines, as slowly and as trustfully as a server of a textbook."""
    with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, ssl.SSLError):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Cycle:
    def __init__(self, loop, dice, contexts, folder):
        self.loop = loop
        self.dice = dice
        self.server_context, self.client_context = contexts
        self.folder = folder

    async def run(self):
        async with contextlib.AsyncExitStack() as stack:
            lines = await asyncio.start_server(serve_lines, "127.0.0.1", 0, limit=4096)
            plain = await self.loop.create_server(Echo, "127.0.0.1", 0)
            secure = await asyncio.start_server(
                serve_lines,
                "127.0.0.1",
                0,
                ssl=self.server_context,
                ssl_handshake_timeout=20,
            )
            path = os.path.join(self.folder, "socket")
            unix = await asyncio.start_unix_server(serve_lines, path)
            for server in (lines, plain, secure, unix):
                stack.callback(server.close)
            self.addresses = [
                (socket.AF_INET, each.sockets[0].getsockname()) for each in (lines, plain, secure)
            ] + [(socket.AF_UNIX, path)]
            self.secure = secure.sockets[0].getsockname()
            behaviours = [*MISBEHAVIOURS, *MISBEHAVIOURS[:4], well_behaved, well_behaved_tls]
            self.dice.shuffle(behaviours)
            # One that goes wrong must not leave the others behind for the next cycle.
            results = await asyncio.gather(
                *(each(self) for each in behaviours), return_exceptions=True
            )
            for behaviour, result in zip(behaviours, results, strict=True):
                if isinstance(result, BaseException):
                    raise AssertionError(f"{behaviour.__name__} failed") from result
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        left = [task for task in asyncio.all_tasks(self.loop) if task is not asyncio.current_task()]
        if left:
            # Handlers of connections that went away: a moment later they have got the exception.
            _, left = await asyncio.wait(left, timeout=5)
        assert not left, f"tasks left running: {left}"

    @contextlib.asynccontextmanager
    async def connected(self, where=None):
        """A plain socket that is connected to one of the servers."""
        family, address = where or self.dice.choice(self.addresses)
        with socket.socket(family) as sock:
            sock.setblocking(False)
            await self.loop.sock_connect(sock, address)
            yield sock


# --- The clients, each a way to misbehave -------------------------------------------------------


async def connects_and_vanishes(cycle):
    for _ in range(5):
        async with cycle.connected():
            pass


async def resets(cycle):
    async with cycle.connected() as sock:
        with contextlib.suppress(OSError):
            await cycle.loop.sock_sendall(sock, b"some\n" * 100)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def half_closes(cycle):
    async with cycle.connected(cycle.addresses[0]) as sock:
        await cycle.loop.sock_sendall(sock, b"the last line, without its end")
        sock.shutdown(socket.SHUT_WR)
        answer = await asyncio.wait_for(cycle.loop.sock_recv(sock, 1000), 10)
        assert answer == b"the last line, without its end"


async def reads_nothing(cycle):
    """Sends until the server's buffers and its own are full, then vanishes."""
    async with cycle.connected(cycle.addresses[1]) as sock:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(cycle.loop.sock_sendall(sock, HUGE * 16), 0.05)


async def sends_a_huge_line(cycle):
    async with cycle.connected(cycle.addresses[0]) as sock:
        with contextlib.suppress(OSError):
            await cycle.loop.sock_sendall(sock, HUGE)


async def sends_garbage_for_tls(cycle):
    async with cycle.connected((socket.AF_INET, cycle.secure)) as sock:
        with contextlib.suppress(OSError):
            await cycle.loop.sock_sendall(sock, cycle.dice.randbytes(500))
            await asyncio.wait_for(cycle.loop.sock_recv(sock, 1000), 10)


async def leaves_amid_the_handshake(cycle):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = cycle.client_context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    async with cycle.connected((socket.AF_INET, cycle.secure)) as sock:
        await cycle.loop.sock_sendall(sock, hello[: cycle.dice.randint(1, len(hello))])
        if cycle.dice.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def is_cancelled_anywhere(cycle):
    async def talk():
        reader, writer = await asyncio.open_connection(
            *cycle.secure, ssl=cycle.client_context, server_hostname="localhost"
        )
        try:
            while True:
                writer.write(b"a line\n")
                await writer.drain()
                await reader.readline()
        finally:
            writer.close()

    talking = [cycle.loop.create_task(talk()) for _ in range(3)]
    for task in talking:
        await asyncio.sleep(cycle.dice.random() * 0.01)
        task.cancel()
    await asyncio.wait(talking)


async def aborts_tls(cycle):
    _, writer = await asyncio.open_connection(
        *cycle.secure, ssl=cycle.client_context, server_hostname="localhost"
    )
    writer.write(b"gone\n" * 1000)
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def breaks_a_pipe(cycle):
    near, far = os.pipe()
    file = os.fdopen(far, "wb", 0)
    transport, _ = await cycle.loop.connect_write_pipe(asyncio.BaseProtocol, file)
    transport.write(HUGE)
    os.close(near)
    transport.write(HUGE)
    while not transport.is_closing():
        await asyncio.sleep(0.001)


async def closes_a_pipe_under_a_reader(cycle):
    near, far = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await cycle.loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(near, "rb", 0)
    )
    os.write(far, b"half a li")
    os.close(far)
    assert await reader.read() == b"half a li"
    transport.close()


async def kills_its_child(cycle):
    child = await asyncio.create_subprocess_exec(
        "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    child.stdin.write(b"a line\n")
    assert await child.stdout.readline() == b"a line\n"
    child.stdin.write(HUGE)
    child.kill()
    assert await child.wait() == -signal.SIGKILL


async def leaves_its_child(cycle):
    transport, _ = await cycle.loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000")
    transport.close()
    while transport.get_returncode() is None:
        await asyncio.sleep(0.001)


async def uses_the_executor(cycle):
    task = cycle.loop.run_in_executor(None, time.sleep, 0.002)
    if cycle.dice.random() < 0.5:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def well_behaved(cycle):
    reader, writer = await asyncio.open_connection(*cycle.addresses[0][1])
    for number in range(20):
        writer.write(b"line %d\n" % number)
        assert await reader.readline() == b"line %d\n" % number
    writer.close()
    await writer.wait_closed()


async def well_behaved_tls(cycle):
    reader, writer = await asyncio.open_connection(
        *cycle.secure, ssl=cycle.client_context, server_hostname="localhost"
    )
    for number in range(20):
        writer.write(b"line %d\n" % number)
        assert await reader.readline() == b"line %d\n" % number
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()


MISBEHAVIOURS = [
    connects_and_vanishes,
    resets,
    sends_garbage_for_tls,
    leaves_amid_the_handshake,
    half_closes,
    reads_nothing,
    sends_a_huge_line,
    is_cancelled_anywhere,
    aborts_tls,
    breaks_a_pipe,
    closes_a_pipe_under_a_reader,
    kills_its_child,
    leaves_its_child,
    uses_the_executor,
]


# --- The soak ----------------------------------------------------------------------------------


def quiet(loop, context):
    """Servers report what such clients do to them; that is no news here."""


def contexts_of(issued):
    """A server's and a client's; new ones, because a context keeps the sessions it has seen."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*issued.server)
    return server, ssl.create_default_context(cafile=issued.authority)


def soak(factory, cycles, seed, issued, folder):
    dice = random.Random(seed)
    for done in range(0, cycles, CYCLES_A_LOOP):
        faulthandler.dump_traceback_later(HUNG_AFTER, exit=True)
        loop = factory()
        loop.set_exception_handler(quiet)
        # Tasks of connections die of cancelled handshakes and resets: the handler above gets them.
        asyncio.set_event_loop(loop)
        try:
            contexts = contexts_of(issued)
            for _ in range(min(CYCLES_A_LOOP, cycles - done)):
                loop.run_until_complete(Cycle(loop, dice, contexts, folder).run())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
    faulthandler.cancel_dump_traceback_later()


def judge(states, part):
    least = {
        kind: min(after[kind] - before[kind] for before, after in pairwise(states))
        for kind in states[0]
    }
    shown = f"least growth in {part} cycles: {json.dumps(least)}"
    print(shown)
    # A leak of one object, or of its bytes, a connection would be more than any of these; free
    # lists that still fill stay below.
    bounds = {
        "descriptors": 0,
        "threads": 0,
        "objects": part // 2,
        "blocks": part * 10 + 200,
        "malloc": part * 1000 + 20_000,
        "resident": part * 2000 + (1 << 20),
    }
    grown = [kind for kind, bound in bounds.items() if least[kind] > bound]
    assert not grown, f"{', '.join(grown)} grew: {shown}; of: {states}"
    ends = [(state["descriptors"], state["threads"]) for state in states]
    assert len(set(ends)) == 1, f"descriptors or threads came and stayed: {states}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=500)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--loop", choices=("tokioloop", "asyncio"), default="tokioloop")
    options = parser.parse_args()
    if options.loop == "tokioloop":
        import tokioloop

        factory = tokioloop.new_event_loop
    else:
        factory = asyncio.new_event_loop
    seed = options.seed if options.seed is not None else random.randrange(1 << 31)
    part = max(options.cycles // 6, 1)
    print(f"seed {seed}, {6 * part} cycles", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        issued = Certificates(pathlib.Path(folder))
        soak(factory, part, seed, issued, folder)
        states = [held()]
        for number in range(1, 6):
            soak(factory, part, seed + number, issued, folder)
            states.append(held())
            print(f"{(number + 1) * part} cycles: {json.dumps(states[-1])}", flush=True)
    judge(states, part)
    print(f"{6 * part} cycles passed, 0 failed")


if __name__ == "__main__":
    faulthandler.enable()
    logging.disable(logging.CRITICAL)  # "socket.send() raised exception", a thousand times
    main()
