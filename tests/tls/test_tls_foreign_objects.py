"""TLS through objects of a program's own, which may keep what they are given for later."""

from __future__ import annotations

import asyncio
import gc
import ssl

import pytest

from support.recording import Recorder
from tls.peers import HOST, OLDER_DESIGN, Buffered

pytestmark = pytest.mark.native_only(**OLDER_DESIGN)

SIZE = 300_000


class Keeper:
    """Passes everything on, and keeps the buffers that it sees, as they were."""

    def __init__(self, real):
        self._real = real
        self.kept = []

    def __getattr__(self, name):
        return getattr(self._real, name)

    def _keep(self, buffer):
        view = memoryview(buffer)
        if view.readonly:
            self.kept.append((view, bytes(view)))

    def read(self, size=-1, buffer=None):
        if buffer is None:
            return self._real.read(size)
        assert type(buffer).__name__ != "Window"
        return self._real.read(size, buffer)

    def write(self, data):
        self._keep(data)
        return self._real.write(data)

    def unharmed(self):
        return all(bytes(view) == was for view, was in self.kept)


class WithinContext(ssl.SSLContext):
    """What is behind its SSLObjects is a `Keeper`."""

    def wrap_bio(self, *args, **options):
        made = super().wrap_bio(*args, **options)
        made._sslobj = self.keeper = Keeper(made._sslobj)
        return made


class Around(ssl.SSLObject):
    keeper = None

    def write(self, data):
        Around.keeper._keep(data)
        return super().write(data)


class AroundContext(ssl.SSLContext):
    """Its SSLObjects are of a class of their own."""

    sslobject_class = Around

    def wrap_bio(self, *args, **options):
        Around.keeper = self.keeper = Keeper(None)
        return super().wrap_bio(*args, **options)


@pytest.fixture(params=[WithinContext, AroundContext])
def context(request, certificates):
    context = request.param(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.authority)
    yield context
    # ssl's own objects know their context, which the collector does not see.
    context.keeper = Around.keeper = None


async def echo(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(certificates):
    return await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.server_context())


@pytest.mark.parametrize("kind", [Recorder, lambda: Buffered(70_000)], ids=["plain", "buffered"])
def test_data_that_they_keep_does_not_change(loop, certificates, context, kind):
    async def main():
        server = await serve(certificates)
        address = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(
            kind, *address, ssl=context, server_hostname=HOST
        )
        data = bytes(range(256)) * (SIZE // 256)
        for start in range(0, len(data), 50_000):
            piece = data[start : start + 50_000]
            transport.write(bytearray(piece) if start % 100_000 else piece)
            await protocol.got(min(start + 50_000, len(data)))
        assert protocol.received == data
        transport.close()
        await protocol.lost()
        server.close()
        await asyncio.sleep(0.01)
        gc.collect()
        assert context.keeper.kept
        assert context.keeper.unharmed()

    loop.run_until_complete(main())


def test_streams(loop, certificates, context):
    async def main():
        server = await serve(certificates)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=HOST)
        writer.write(b"x" * SIZE)
        assert await reader.readexactly(SIZE) == b"x" * SIZE
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.sleep(0.01)
        assert context.keeper.unharmed()

    loop.run_until_complete(main())


@pytest.mark.native_only(reason="asyncio's transport has the BIOs to itself")
def test_memory_bios(loop, certificates):
    """A TLS transport may be made with any BIO: it writes copies there."""

    class Parts:
        def __init__(self, **parts):
            self.__dict__.update(parts)

    class KeepingBio:
        def __init__(self):
            self.real, self.kept = ssl.MemoryBIO(), []

        def __getattr__(self, name):
            return getattr(self.real, name)

        def write(self, data):
            self.kept.append((memoryview(data), bytes(data)))
            return self.real.write(data)

    async def main():
        incoming, outgoing = KeepingBio(), ssl.MemoryBIO()
        context = certificates.client_context()
        protocol, waiter = Recorder(), loop.create_future()
        layer = loop._tls_transport(
            Parts(
                protocol=protocol,
                object=context.wrap_bio(incoming.real, outgoing, server_hostname=HOST),
                incoming=incoming,
                outgoing=outgoing,
                context=context,
                waiter=waiter,
                handshake_timeout=20,
                shutdown_timeout=20,
                directly=True,
                upgrade=False,
            )
        )
        server = await serve(certificates)
        await loop.create_connection(lambda: layer, *server.sockets[0].getsockname())
        await waiter
        layer.write(b"x" * SIZE)
        await protocol.got(SIZE)
        layer.close()
        await protocol.lost()
        server.close()
        await asyncio.sleep(0.01)
        assert incoming.kept
        assert all(bytes(view) == was for view, was in incoming.kept)

    loop.run_until_complete(main())


class Boaster(Keeper):
    """Says that it took more than it was given."""

    def write(self, data):
        return super().write(data) + 7


class BoastfulContext(ssl.SSLContext):
    def wrap_bio(self, *args, **options):
        made = super().wrap_bio(*args, **options)
        made._sslobj = Boaster(made._sslobj)
        return made


def test_a_bio_that_reports_too_large_a_write_took_all(loop, certificates):
    async def main():
        context = BoastfulContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certificates.authority)
        server = await serve(certificates)
        transport, protocol = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=context, server_hostname=HOST
        )
        for data in (b"bytes", bytearray(b" and others")):
            transport.write(data)
        await protocol.got(16)
        assert protocol.received == b"bytes and others"
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.lost()
        server.close()

    loop.run_until_complete(main())
