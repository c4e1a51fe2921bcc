"""Writes that memory has no room for: a ``MemoryError``, and the transport is as it was before.

Programs of their own, under a limit on their address space. The data is a mapping of zeros that
takes up no memory until it is copied.
"""

from __future__ import annotations

import pytest

PROGRAM = """
    import asyncio, gc, itertools, mmap, os, resource, socket, ssl, sys

    SIZE = 1 << 29
    huge = memoryview(mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    class Recorder(asyncio.Protocol):
        def __init__(self):
            self.calls, self.transport = [], None

        def __getattribute__(self, name):
            if name in ("connection_lost", "error_received"):
                self.calls.append(name)
            return super().__getattribute__(name)

        def error_received(self, exc):
            pass

        def datagram_received(self, data, address):
            pass

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    def limited():
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * mmap.PAGESIZE
        limit = used + SIZE // 2
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))

    def refused(call, *args):
        try:
            call(*args)
        except MemoryError:
            print("MemoryError")
        else:
            print("no error")

    def drained(sock, size):
        sock.settimeout(20)
        data = b""
        while len(data) < size:
            piece = sock.recv(1 << 16)
            assert piece
            data += piece
        return data

    async def connected(make):
        loop = asyncio.get_running_loop()
        protocol = Recorder()
        protocol.lost = loop.create_future()
        transport, _ = await make(loop, lambda: protocol)
        reports = []
        loop.set_exception_handler(lambda _loop, context: reports.append(context["message"]))
        return loop, transport, protocol, reports

    def ended(transport, protocol, reports):
        assert protocol.calls == ["connection_lost"], protocol.calls
        assert reports == [], reports
        print("as before")
"""

STREAM = """
    async def main():
        near, far = socket.socketpair()
        near.setblocking(False)
        loop, transport, protocol, reports = await connected(
            lambda loop, factory: loop.create_connection(factory, sock=near))
        transport.write(b"first ")
        limited()
        refused(transport.write, huge)
        refused(transport.writelines, [b"lost with it", huge])
        refused(transport.writelines, itertools.repeat(b"without end"))
        transport.write(b"second")
        data = await loop.run_in_executor(None, drained, far, 12)
        assert data == b"first second", data
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.lost
        ended(transport, protocol, reports)

    run(main())
"""

PIPE = """
    async def main():
        reader, writer = os.pipe()
        loop, transport, protocol, reports = await connected(
            lambda loop, factory: loop.connect_write_pipe(factory, open(writer, "wb", 0)))
        limited()
        refused(transport.write, huge)
        assert transport.get_write_buffer_size() == 0
        transport.write(b"first ")
        refused(transport.write, huge)
        transport.write(b"second")
        assert os.read(reader, 100) == b"first second"
        transport.close()
        await protocol.lost
        ended(transport, protocol, reports)

    run(main())
"""

DATAGRAMS = """
    async def main():
        near, far = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
        far.bind(sys.argv[1])
        near.connect(sys.argv[1])
        near.setblocking(False)
        loop, transport, protocol, reports = await connected(
            lambda loop, factory: loop.create_datagram_endpoint(factory, sock=near))
        sent = 0
        while transport.get_write_buffer_size() == 0:
            transport.sendto(b"%d" % sent)
            sent += 1
        limited()
        size = transport.get_write_buffer_size()
        refused(transport.sendto, huge)
        assert transport.get_write_buffer_size() == size
        transport.sendto(b"%d" % sent)
        far.settimeout(20)
        for number in range(sent + 1):
            data = await loop.run_in_executor(None, far.recv, 100)
            assert data == b"%d" % number, (data, number)
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.lost
        ended(transport, protocol, reports)

    run(main())
"""


@pytest.mark.native_only(reason="asyncio raises it, and is left with a writer that has nothing")
def test_a_stream(programs):
    done = programs.run(PROGRAM + STREAM)
    assert done.stdout.splitlines() == ["MemoryError"] * 3 + ["as before"]


@pytest.mark.native_only(reason="asyncio raises it, and is left with a writer that has nothing")
def test_a_pipe(programs):
    done = programs.run(PROGRAM + PIPE)
    assert done.stdout.splitlines() == ["MemoryError"] * 2 + ["as before"]


def test_datagrams(programs, tmp_path):
    done = programs.run(PROGRAM + DATAGRAMS, str(tmp_path / "far"))
    assert done.stdout.splitlines() == ["MemoryError", "as before"]


TLS = """
    def contexts(certificate, key):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate, key)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        return server, client

    async def main():
        context, client = contexts(*sys.argv[1:])
        accepted = []

        class Accepted(asyncio.Protocol):
            def __init__(self):
                self.data = bytearray()
                accepted.append(self)

            def data_received(self, data):
                self.data += data

        loop = asyncio.get_running_loop()
        server = await loop.create_server(Accepted, "127.0.0.1", 0, ssl=context)
        address = server.sockets[0].getsockname()
        _, transport, protocol, reports = await connected(
            lambda loop, factory: loop.create_connection(factory, *address, ssl=client))
        transport.write(b"first ")
        limited()
        refused(transport.writelines, [b"lost with it", huge])
        refused(transport.writelines, itertools.repeat(b"without end"))
        transport.write(b"second")
        while len(accepted[0].data) < 12:
            await asyncio.sleep(0.001)
        assert accepted[0].data == b"first second"
        # Encrypted from where it lies, until the ciphertext has no room: nothing that follows
        # could be distinguished from the rest of it.
        transport.write(huge)
        error = await protocol.lost
        print(type(error).__name__)
        server.close()

    run(main())
"""


@pytest.mark.native_only(reason="asyncio encrypts each as it comes")
def test_tls(programs, certificates):
    done = programs.run(PROGRAM + TLS, *certificates.server)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["MemoryError"] * 2
    # OpenSSL, too, may be the one without memory; newer CPythons raise a plain OSError then.
    assert lines[2] in ("MemoryError", "SSLError", "OSError")
