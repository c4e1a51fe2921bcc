"""Protocols that lack a method, or whose attribute cannot be looked at or called.

The consequences differ with the transport and the method, as in asyncio: some are errors of the
connecting call, some end the connection, some are only reported.
"""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from support.recording import Recorder, Reports, blocking_pair, in_thread

# How a method is amiss, and the error that it makes.
AMISS = {"missing": AttributeError, "raising": LookupError, "not callable": TypeError}


def without(base, name, how):
    """A class like ``base`` whose method ``name`` is amiss."""

    class Missing:
        def __get__(self, instance, owner=None):
            raise AttributeError(name)

    def raising(_self):
        raise LookupError(name)

    attribute = {"missing": Missing(), "raising": property(raising), "not callable": None}[how]
    return type("Incomplete", (base,), {name: attribute})


class Buffered(Recorder, asyncio.BufferedProtocol):
    def __init__(self):
        super().__init__()
        self.buffer = bytearray(100)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        self.received += self.buffer[:count]
        self._note("buffer_updated")


class Datagrams(Recorder, asyncio.DatagramProtocol):
    def datagram_received(self, data, address):
        self.received += data


@pytest.fixture(params=sorted(AMISS))
def how(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["from the start", "later"])
def later(request):
    """Whether it takes over from one that lacks nothing."""
    return request.param


async def on_stream(loop, kind, later, near):
    transport, protocol = await loop.create_connection(Recorder if later else kind, sock=near)
    if later:
        protocol = kind()
        transport.set_protocol(protocol)
    return transport, protocol


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("data_received", Recorder),
        ("eof_received", Recorder),
        ("get_buffer", Buffered),
        ("buffer_updated", Buffered),
    ],
)
def test_methods_that_a_stream_needs_to_read(loop, how, later, name, base):
    reports = Reports(loop)

    async def scenario():
        near, far = blocking_pair()
        transport, protocol = await on_stream(loop, without(base, name, how), later, near)
        with far:
            if name == "eof_received":
                far.shutdown(socket.SHUT_WR)
            else:
                far.sendall(b"x")
            assert type(await protocol.lost()) is AMISS[how]
        assert transport.is_closing()
        message = f"Fatal error: protocol.{name}() call failed."
        assert reports.only()["message"] == message
        assert type(reports.only()["exception"]) is AMISS[how]

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
def test_methods_that_a_stream_needs_to_write(loop, how, later, name):
    reports = Reports(loop)

    async def scenario():
        near, far = blocking_pair()
        transport, protocol = await on_stream(loop, without(Recorder, name, how), later, near)
        with far:
            transport.set_write_buffer_limits(high=0)
            transport.write(bytes(32 << 20))
            if name == "resume_writing":
                reading = in_thread(lambda: sum(iter(lambda: len(far.recv(1 << 20)), 0)))
                transport.close()
                await reading
            else:
                transport.abort()
            await protocol.lost()
        assert reports.only()["message"] == f"protocol.{name}() failed"
        assert type(reports.only()["exception"]) is AMISS[how]

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("kind", ["stream", "datagram", "pipe"])
def test_the_end_of_a_connection(loop, how, pipe, kind):
    """The file is closed, whatever the protocol lacks."""
    reports = Reports(loop)
    incomplete = without(Recorder, "connection_lost", how)

    async def scenario():
        near, far = blocking_pair()
        with near, far:
            if kind == "stream":
                transport, _ = await loop.create_connection(incomplete, sock=near)
                file = transport.get_extra_info("socket")
            elif kind == "datagram":
                transport, _ = await loop.create_datagram_endpoint(
                    incomplete, local_addr=("127.0.0.1", 0)
                )
                file = transport.get_extra_info("socket")
            else:
                transport, _ = await loop.connect_read_pipe(incomplete, pipe[0])
                file = pipe[0]
            transport.close()
            await asyncio.sleep(0.01)
            assert file.closed if kind == "pipe" else file.fileno() == -1
        assert type(reports.only()["exception"]) is AMISS[how]
        assert reports.only()["message"].startswith("Exception in callback ")

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("name", ["datagram_received", "error_received"])
def test_methods_that_a_datagram_endpoint_needs(loop, how, later, name):
    reports = Reports(loop)
    incomplete = without(Datagrams, name, how)

    async def scenario():
        transport, protocol = await loop.create_datagram_endpoint(
            Datagrams if later else incomplete, local_addr=("127.0.0.1", 0)
        )
        if later:
            protocol = incomplete()
            transport.set_protocol(protocol)
        address = transport.get_extra_info("sockname")
        if name == "error_received":
            # A sender of too much gets the protocol's error.
            with pytest.raises(AMISS[how]):
                transport.sendto(bytes(100_000), address)
            assert reports.contexts == []
        else:
            for number in range(1, 3):
                transport.sendto(b"x", address)
                while len(reports.contexts) < number:
                    await asyncio.sleep(0.001)
            assert {type(report["exception"]) for report in reports.contexts} == {AMISS[how]}
        assert not transport.is_closing()
        transport.close()
        await protocol.lost()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("name", ["data_received"])
def test_methods_that_a_pipe_needs(loop, pipe, how, later, name):
    """asyncio reads on."""
    reports = Reports(loop)
    incomplete = without(Recorder, name, how)

    async def scenario():
        transport, protocol = await loop.connect_read_pipe(
            Recorder if later else incomplete, pipe[0]
        )
        if later:
            protocol = incomplete()
            transport.set_protocol(protocol)
        for number in range(1, 3):
            pipe[1].write(b"x")
            while len(reports.contexts) < number:
                await asyncio.sleep(0.001)
        assert {type(report["exception"]) for report in reports.contexts} == {AMISS[how]}
        assert not transport.is_closing()
        transport.close()
        await protocol.lost()

    loop.run_until_complete(scenario())


needs_3_11 = pytest.mark.native_only(
    when=sys.version_info < (3, 11), reason="the older TLS of CPython 3.10 does otherwise"
)


async def secured(loop, certificates, factory):
    """A TLS connection over the loop's own server, which sends what comes back again."""

    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.server_context())
    try:
        return await asyncio.wait_for(
            loop.create_connection(
                factory,
                *server.sockets[0].getsockname(),
                ssl=certificates.client_context(),
                server_hostname="localhost",
            ),
            20,
        )
    finally:
        server.close()


@needs_3_11
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", ["get_buffer", "buffer_updated"])
def test_methods_that_a_buffered_protocol_needs_over_tls(loop, certificates, how, name):
    """It is looked at once: one that is no buffered protocol after all is fed like others."""
    reports = Reports(loop)
    incomplete = without(Buffered, name, how)

    async def scenario():
        if how == "raising" or (how == "missing" and name == "buffer_updated"):
            with pytest.raises(AMISS[how]):
                await secured(loop, certificates, incomplete)
            transport, _before = await secured(loop, certificates, Recorder)
            protocol = incomplete()
            with pytest.raises(AMISS[how]):
                transport.set_protocol(protocol)
            assert transport.get_protocol() is protocol
            ordinary = True
        else:
            transport, protocol = await secured(loop, certificates, incomplete)
            ordinary = how == "missing"
        transport.write(b"x")
        if ordinary:
            await protocol.got(1)
            transport.close()
            await protocol.lost()
        else:
            assert type(await protocol.lost()) is AMISS[how]
            assert reports.only()["message"] == "Fatal error on SSL protocol"
        await asyncio.sleep(0.01)

    loop.run_until_complete(scenario())


@needs_3_11
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_connection_made_over_tls(loop, certificates, how):
    reports = Reports(loop)

    async def scenario():
        with pytest.raises(AMISS[how]):
            await secured(loop, certificates, without(Recorder, "connection_made", how))
        await asyncio.sleep(0.01)

    loop.run_until_complete(scenario())
    assert reports.contexts


def test_get_buffer_is_called_only_to_fill_the_buffer(loop):
    """Room to write is no reason."""

    class Counts(Buffered):
        asked = 0

        def get_buffer(self, sizehint):
            self.asked += 1
            return super().get_buffer(sizehint)

    async def scenario():
        near, far = blocking_pair()
        transport, protocol = await loop.create_connection(Counts, sock=near)
        with far:
            transport.write(bytes(32 << 20))
            reading = in_thread(lambda: [far.recv(1 << 16) for _ in range(100)])
            await reading
            await asyncio.sleep(0.01)
            assert protocol.asked == 0
            far.sendall(b"x")
            await protocol.until(lambda: protocol.received)
            assert protocol.asked == 1
            transport.abort()
            await protocol.lost()

    loop.run_until_complete(scenario())
