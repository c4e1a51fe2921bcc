"""Data is received where there is no memory for the loop's buffer of 256 KiB."""

from __future__ import annotations

import ssl

import pytest

pytestmark = pytest.mark.native_only(reason="asyncio has no buffer of its own")

# What a program can do about its memory: keep all large pieces from everybody, for a while.
HOARD = """
import asyncio, contextlib, ctypes, fcntl, os, resource, signal, socket, ssl, termios, time

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
# CPython has room for small objects from here on.
small = [bytes(size % 500) for size in range(40_000)]
del small[::2]

@contextlib.contextmanager
def only_small_pieces():
    pieces = [libc.malloc(64_000) for _ in range(40)]
    for piece in pieces[::2]:
        libc.free(piece)
    limit = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used, limit[1]))
    hoard = []
    for size in (200_000, 100_000):  # mapped by themselves, and not
        while piece := libc.malloc(size):
            hoard.append(piece)
    try:
        yield
    finally:
        for piece in hoard:
            libc.free(piece)
        resource.setrlimit(resource.RLIMIT_AS, limit)
"""

KINDS = {
    "transport": """
class Receives(asyncio.Protocol):
    def data_received(self, data):
        received.set_result(data)

async def prepare():
    transport, _ = await loop.create_connection(Receives, sock=near)
    return received, transport.close
""",
    "streams": """
async def prepare():
    reader, writer = await asyncio.open_connection(sock=near)
    return asyncio.ensure_future(reader.read(5000)), writer.close
""",
    "sock_recv": """
async def prepare():
    return asyncio.ensure_future(loop.sock_recv(near, 100_000)), near.close
""",
    "read_pipe": """
class Receives(asyncio.Protocol):
    def data_received(self, data):
        received.set_result(data)

async def prepare():
    transport, _ = await loop.connect_read_pipe(Receives, near)
    return received, transport.close
""",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_data(programs, kind):
    done = programs.run(
        f"""{HOARD}{KINDS[kind]}
async def main():
    data, close = await prepare()
    await asyncio.sleep(0)
    with only_small_pieces():
        far.send(b"x" * 5000)
        print(len(await data))
    close()

near, far = socket.socketpair()
near.setblocking(False)
loop = new_event_loop()
received = loop.create_future()
loop.run_until_complete(main())
"""
    )
    assert done.stdout == "5000\n", done.stderr


@pytest.mark.skipif(
    ssl.OPENSSL_VERSION_INFO < (3,), reason="through the methods of ssl it passes in copies"
)
def test_much_ciphertext_of_which_most_waits(programs, certificates):
    """The loop's buffer stays with the connection, for which there is no room to copy the rest."""
    done = programs.run(
        f"""{HOARD}
class Pauses(asyncio.Protocol):
    def __init__(self):
        self.received, self.count = bytearray(2 + len(DATA)), 0
        self.paused = loop.create_future()
        self.lost = loop.create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received[self.count : self.count + len(data)] = data
        self.count += len(data)
        if not self.paused.done():
            self.transport.pause_reading()
            self.paused.set_result(len(data))

    def connection_lost(self, exc):
        self.lost.set_result(exc)

def waiting():
    found = ctypes.c_int()
    assert fcntl.ioctl(near.fileno(), termios.FIONREAD, found) == 0
    return found.value

def peer(sock):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*{tuple(map(str, certificates.server))!r})
    secure = context.wrap_socket(sock, server_side=True)
    secure.sendall(b"go")
    os.read(reader, 1)
    secure.sendall(DATA)
    secure.unwrap()

async def main():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    transport, protocol = await loop.create_connection(
        Pauses, sock=near, ssl=context, server_hostname="localhost"
    )
    await protocol.paused
    protocol.paused = loop.create_future()
    transport.resume_reading()
    with only_small_pieces():
        os.write(writer, b"x")
        while waiting() < len(DATA):  # all of it is received at once
            time.sleep(0.001)
        first = await asyncio.wait_for(protocol.paused, 5)
        await asyncio.sleep(0.05)
        assert protocol.count == 2 + first <= 40_000, (first, protocol.count)
        transport.resume_reading()
        while protocol.count < 2 + len(DATA) and not protocol.lost.done():
            await asyncio.sleep(0.001)
    if error := await protocol.lost:
        raise error
    assert protocol.received == b"go" + DATA
    print("all of it")

signal.alarm(20)
reader, writer = os.pipe()
near, far = socket.socketpair()
for each in (near, far):
    each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
near.setblocking(False)
DATA = os.urandom(120_000)
child = os.fork()
if not child:
    near.close()
    try:
        peer(far)
    finally:
        os._exit(0)
far.close()
loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
os.waitpid(child, 0)
"""
    )
    assert done.stdout == "all of it\n", done.stderr
