"""Connections of asyncio's in Rust's hands: transports, pairs of streams, and halves of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import socket
import ssl
import struct
import sys
import threading
import warnings

import pytest

from bridge.builds import soon

BIG = bytes(range(256)) * (8 << 12)  # 8 MiB, larger than what sockets and loops buffer


@contextlib.asynccontextmanager
async def connected(tls=None, **options):
    """A reader, a writer, and the same of the other side."""
    accepted = asyncio.get_running_loop().create_future()
    server_tls, client_tls = tls or (None, None)
    server = await asyncio.start_server(
        lambda *pair: accepted.set_result(pair), "127.0.0.1", 0, ssl=server_tls, **options
    )
    if client_tls:
        options["server_hostname"] = "localhost"
    near = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_tls, **options
    )
    far = await accepted
    try:
        yield (*near, *far)
    finally:
        server.close()
        for _, writer in (near, far):
            if not writer.transport.is_closing():
                writer.transport.abort()
        await asyncio.sleep(0)


@pytest.fixture(params=["tcp", "tls"])
def tls(request):
    """The two contexts, or nothing."""
    if request.param == "tcp":
        return None
    certificates = request.getfixturevalue("certificates")
    return certificates.server_context(), certificates.client_context()


async def send(writer, data):
    writer.write(data)
    await writer.drain()


# --- Both ways ---------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [False, True], ids=["awaited", "spawned"])
@pytest.mark.parametrize("way", ["streams", "transport"])
def test_megabytes_come_back(on, rust, tls, way, apart):
    async def main():
        async with connected(tls) as (reader, writer, far_reader, far_writer):
            what = (far_reader, far_writer) if way == "streams" else (far_writer.transport,)
            echo = asyncio.ensure_future(rust.io_echo(*what, apart=apart))
            sending = asyncio.ensure_future(send(writer, BIG))
            assert await soon(reader.readexactly(len(BIG))) == BIG
            await sending
            if writer.can_write_eof():
                writer.write_eof()
            else:
                writer.close()
            assert await soon(echo) == len(BIG)
            assert await soon(reader.read()) == b""

    on.run(main)


def test_megabytes_in_both_directions_at_once(on, rust):
    """Both sides are Rust's: each writes all of it before it knows that the other reads."""

    async def main():
        async with connected() as (reader, writer, far_reader, far_writer):
            near = rust.io_exchange(BIG, reader, writer)
            far = rust.io_exchange(BIG[1:], far_reader, far_writer)
            received = await soon(asyncio.gather(near, far))
            assert received[0] == BIG[1:]
            assert received[1] == BIG

    on.run(main)


def test_one_side_ends_before_the_other_begins(on, rust):
    async def main():
        async with connected() as (reader, writer, far_reader, far_writer):
            exchange = asyncio.ensure_future(rust.io_exchange(b"question", far_reader, far_writer))
            assert await soon(reader.read()) == b"question"
            await send(writer, b"answer")
            writer.write_eof()
            assert await soon(exchange) == b"answer"

    on.run(main)


# --- Taking over -------------------------------------------------------------------------------


def test_what_the_reader_has_is_read_first(on, rust):
    async def main():
        async with connected() as (_reader, writer, far_reader, far_writer):
            await send(writer, b"a line\nand " + b"x" * 100_000)
            assert await soon(far_reader.readline()) == b"a line\n"
            await send(writer, b" the rest")
            writer.write_eof()
            exchange = rust.io_exchange(b"", far_reader, far_writer)
            assert await soon(exchange) == b"and " + b"x" * 100_000 + b" the rest"

    on.run(main)


def test_a_reader_that_has_paused_its_transport_goes_on(on, rust):
    async def main():
        async with connected(limit=1000) as (_reader, writer, far_reader, far_writer):
            sending = asyncio.ensure_future(send(writer, BIG))
            await soon(far_reader.read(1))
            while far_writer.transport.is_reading():
                await asyncio.sleep(0)
            echo = asyncio.ensure_future(rust.io_exchange(b"", far_reader, far_writer))
            await soon(sending)
            writer.write_eof()
            assert await soon(echo) == BIG[1:]

    on.run(main)


def test_a_connection_that_has_ended_gives_what_it_has_left(on, rust, tls):
    async def main():
        async with connected(tls) as (_, writer, far_reader, far_writer):
            await send(writer, b"last words")
            writer.close()
            while not far_reader._eof:
                await asyncio.sleep(0)
            echo = (
                rust.io_read_all(far_reader)
                if tls
                else rust.io_exchange(b"", far_reader, far_writer)
            )
            assert await soon(echo) == b"last words"

    on.run(main)


def test_a_lost_connection_gives_what_it_has_left_and_refuses_writes(on, rust):
    async def main():
        async with connected() as (_, writer, far_reader, far_writer):
            await send(writer, b"left over")
            writer.write_eof()
            while not far_reader._eof:
                await asyncio.sleep(0)
            far_writer.close()
            await far_writer.wait_closed()
            with pytest.raises(BrokenPipeError):
                await soon(rust.io_exchange(b"reply", far_reader, far_writer))

    on.run(main)


def test_a_task_that_reads_keeps_its_reader(on, rust):
    async def main():
        async with connected() as (_, writer, far_reader, far_writer):
            reading = asyncio.ensure_future(far_reader.read(100))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="already waiting"):
                rust.io_exchange(b"", far_reader, far_writer)
            await send(writer, b"still its own")
            assert await soon(reading) == b"still its own"

    on.run(main)


def test_the_writer_learns_that_the_connection_is_closed(on, rust):
    async def main():
        async with connected() as (_reader, writer, far_reader, far_writer):
            echo = asyncio.ensure_future(rust.io_echo(far_reader, far_writer))
            writer.close()
            assert await soon(echo) == 0
            await soon(far_writer.wait_closed())
            await soon(writer.wait_closed())

    on.run(main)


def test_streams_that_nobody_else_refers_to(on, rust):
    """A StreamWriter closes its transport when it is collected."""

    async def main():
        async with connected() as (reader, writer, *far):
            echo = asyncio.ensure_future(rust.io_echo(*far))
            transport = far[1].transport
            del far[:]
            gc.collect()
            assert not transport.is_closing()
            await send(writer, b"there?")
            assert await soon(reader.readexactly(6)) == b"there?"
            writer.write_eof()
            assert await soon(echo) == 6

    on.run(main)


# --- Back-pressure -----------------------------------------------------------------------------


def test_what_is_not_read_is_not_received(on, rust):
    """The sender comes to a stop, so memory stays bounded."""

    async def main():
        async with connected() as (_, writer, far_reader, far_writer):
            flag = rust.DropFlag()
            held = asyncio.ensure_future(rust.io_held(flag, far_reader, far_writer))
            while far_writer.transport.is_reading():
                writer.write(BIG[:100_000])
                await asyncio.sleep(0)
            held.cancel()
            await asyncio.wait([held])

    on.run(main)


def test_a_writer_waits_for_a_reader_that_does_not_read(on, rust):
    async def main():
        async with connected() as (reader, writer, far_reader, far_writer):
            writer.transport.pause_reading()
            exchange = asyncio.ensure_future(rust.io_exchange(BIG * 2, far_reader, far_writer))
            transport, last = far_writer.transport, -1
            # Until nothing moves any more: kernel, transport and Rust are full.
            for _ in range(2000):
                await asyncio.sleep(0.001)
                size = transport.get_write_buffer_size()
                if size and size == last:
                    break
                last = size
            assert 0 < transport.get_write_buffer_size() < 1 << 20
            writer.transport.resume_reading()
            writer.write_eof()
            received = bytearray()
            while len(received) < 2 * len(BIG):
                received += await soon(reader.read(1 << 20))
            assert received == BIG * 2
            assert await soon(exchange) == b""

    on.run(main)


def test_a_shutdown_waits_until_all_is_sent(on, rust):
    """The program may end after it, without losing what the transport still had."""

    async def main():
        async with connected() as (reader, writer, far_reader, far_writer):
            writer.transport.pause_reading()
            writer.write_eof()
            exchange = asyncio.ensure_future(rust.io_exchange(BIG, far_reader, far_writer))
            while not far_writer.transport.get_write_buffer_size():
                await asyncio.sleep(0)
            assert not exchange.done()
            writer.transport.resume_reading()
            reading = asyncio.ensure_future(reader.read())
            await soon(exchange)
            assert far_writer.transport.get_write_buffer_size() == 0
            assert await soon(reading) == BIG

    on.run(main)


# --- Ends --------------------------------------------------------------------------------------


def reset(writer):
    """Closes a connection so that the peer gets a reset."""
    with socket.socket(fileno=socket.dup(writer.get_extra_info("socket").fileno())) as copy:
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def test_a_reset_is_the_systems_error(on, rust):
    async def main():
        async with connected() as (_, writer, _, far_writer):
            fails = asyncio.ensure_future(rust.io_fails(far_writer.transport))
            await send(writer, b"some")
            reset(writer)
            assert await soon(fails) == [
                f"Err((ConnectionReset, Some({errno.ECONNRESET})))",
                "Ok(0)",
                "Err(ConnectionReset)",
                "Err(BrokenPipe)",
            ]

    on.run(main)


def test_an_exception_comes_back_as_itself(on, rust):
    class Peculiar(Exception):
        pass

    async def main():
        async with connected() as (_, _writer, _, far_writer):
            transport = far_writer.transport
            raises = asyncio.ensure_future(rust.io_raises(transport))
            await asyncio.sleep(0)
            transport.get_protocol().connection_lost(Peculiar("odd"))
            with pytest.raises(Peculiar, match="odd"):
                await soon(raises)

    on.run(main)


@pytest.mark.parametrize("error", [ssl.SSLError(1, "bad record"), socket.gaierror(-2, "no name")])
def test_another_librarys_number_is_not_the_systems(on, rust, error):
    async def main():
        async with connected() as (_, _writer, _, far_writer):
            transport = far_writer.transport
            raises = asyncio.ensure_future(rust.io_raises(transport))
            await asyncio.sleep(0)
            transport.get_protocol().connection_lost(error)
            with pytest.raises(OSError) as caught:
                await soon(raises)
            assert caught.value is error

    on.run(main)


def test_cancelling_drops_the_connection_and_closes_the_transport(on, rust, eventually):
    async def main():
        async with connected() as (reader, _writer, far_reader, far_writer):
            flag = rust.DropFlag()
            held = asyncio.ensure_future(rust.io_held(flag, far_reader, far_writer))
            await asyncio.sleep(0)
            held.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held
            await eventually(lambda: flag.dropped)
            assert await soon(reader.read()) == b""

    on.run(main)


def test_what_was_written_is_sent_after_a_drop(on, rust):
    """Cancelled in the middle of a large write: what the transport has still arrives, in order."""

    async def main():
        async with connected() as (reader, writer, far_reader, far_writer):
            writer.transport.pause_reading()
            exchange = asyncio.ensure_future(rust.io_exchange(BIG, far_reader, far_writer))
            while not far_writer.transport.get_write_buffer_size():
                await asyncio.sleep(0)
            exchange.cancel()
            await asyncio.wait([exchange])
            writer.transport.resume_reading()
            received = await soon(reader.read())
            assert 0 < len(received) < len(BIG)
            assert BIG.startswith(received)

    on.run(main)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_connection_in_an_object_is_closed_with_it(on, rust, elsewhere):
    async def main():
        async with connected() as (reader, _, _, far_writer):
            held = [rust.io_object(far_writer.transport)]
            if elsewhere:
                thread = threading.Thread(target=held.clear)
                thread.start()
                thread.join()
            held.clear()
            assert await soon(reader.read()) == b""

    on.run(main)


def test_a_connection_is_dropped_while_an_exception_is_raised(on, rust):
    async def main():
        async with connected() as (reader, _, _, far_writer):

            def fails():
                held = rust.io_object(far_writer.transport)
                assert held
                raise KeyError("raised")

            with pytest.raises(KeyError, match="raised"):
                fails()
            gc.collect()
            assert await soon(reader.read()) == b""

    on.run(main)


def test_a_loop_that_is_closed_fails_what_waits(on, rust):
    loop = on.factory()
    left, right = socket.socketpair()

    async def begin():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        return rust.io_object_waits(transport)

    with right:
        waits = loop.run_until_complete(begin())
        # uvloop's loop warns of the transport, and does not end where that is an error.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            loop.close()
            gc.collect()
        assert waits.result(30) == "NotConnected"


def test_no_loop(rust, on):
    with pytest.raises(RuntimeError, match="no running event loop"):
        rust.io_object(asyncio.Transport())


# --- Hostile transports ------------------------------------------------------------------------


class Bare:
    """What a transport must have, and nothing else; it notes what is called."""

    def __init__(self, **methods):
        self.calls = []
        self.protocol = None
        self.__dict__.update(methods)

    def is_closing(self):
        return False

    def get_extra_info(self, name, default=None):
        return default

    def set_protocol(self, protocol):
        self.protocol = protocol

    def write(self, data):
        self.calls.append(bytes(data))

    def close(self):
        self.calls.append("close")
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


def test_a_transport_without_the_optional_methods(on, rust):
    async def main():
        transport = Bare()
        exchange = asyncio.ensure_future(rust.io_exchange(b"out", transport))
        await asyncio.sleep(0)
        for _ in range(3):
            transport.protocol.data_received(b"x" * 100_000)
        transport.protocol.data_received(bytearray(b"y"))
        transport.protocol.data_received(memoryview(b"zw")[::-1])
        assert await soon(exchange) == b"x" * 300_000 + b"ywz"
        assert transport.calls[0] == b"out"
        assert transport.calls[1] == "close"

    on.run(main)


def raising(*_):
    raise ValueError("hostile")


@pytest.mark.parametrize("method", ["is_closing", "get_extra_info", "set_protocol"])
def test_a_transport_that_refuses_stays_as_it_is(on, rust, method):
    async def main():
        with pytest.raises(ValueError, match="hostile"):
            rust.io_object(Bare(**{method: raising}))

    on.run(main)


def test_a_write_that_raises_fails_the_write(on, rust):
    async def main():
        transport = Bare(write=raising)
        exchange = asyncio.ensure_future(rust.io_exchange(b"out", transport))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="hostile"):
            await soon(exchange)

    on.run(main)


def test_a_write_that_loses_the_connection(on, rust):
    """The transport calls its protocol from inside of its own methods."""

    async def main():
        transport = Bare()

        def write(data):
            transport.protocol.pause_writing()
            transport.protocol.resume_writing()
            transport.protocol.data_received(b"at once")
            transport.protocol.eof_received()
            transport.protocol.connection_lost(None)
            transport.protocol.connection_lost(OSError(5, "again"))
            transport.protocol.data_received(b"too late")

        transport.write = write
        with contextlib.suppress(BrokenPipeError):
            await soon(rust.io_exchange(b"out", transport))

    on.run(main)


@pytest.mark.parametrize("data", ["text", 5, None, [1]])
def test_data_that_is_none(on, rust, data):
    async def main():
        transport = Bare()
        held = rust.io_object(transport)
        with pytest.raises(TypeError, match="a bytes-like object, not"):
            transport.protocol.data_received(data)
        del held

    on.run(main)


# --- Halves, subclasses, look-alikes -----------------------------------------------------------


class Counting(asyncio.StreamReader):
    reads = 0

    async def read(self, n=-1):
        type(self).reads += 1
        return await super().read(n)


def test_a_subclass_is_read_through_its_method(on, rust):
    async def main():
        async with connected() as (reader, writer, _, far_writer):
            loop = asyncio.get_running_loop()
            counting = Counting(loop=loop)
            protocol = asyncio.StreamReaderProtocol(counting, loop=loop)
            far_writer.transport.set_protocol(protocol)
            counting.set_transport(far_writer.transport)
            mine = asyncio.StreamWriter(far_writer.transport, protocol, counting, loop)
            echo = asyncio.ensure_future(rust.io_echo(counting, mine))
            sending = asyncio.ensure_future(send(writer, BIG))
            assert await soon(reader.readexactly(len(BIG))) == BIG
            await sending
            writer.write_eof()
            assert await soon(echo) == len(BIG)
            assert Counting.reads > 2
            assert await soon(reader.read()) == b""

    on.run(main)


def test_a_child_processs_pipes(on, rust):
    async def main():
        code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        reading = asyncio.ensure_future(rust.io_read_all(child.stdout))
        await soon(rust.io_write_all(child.stdin, BIG))
        assert await soon(reading) == BIG[::-1]
        assert await child.wait() == 0

    on.run(main)


class Lookalike:
    """A reader and a writer in one, without a transport."""

    def __init__(self, chunks):
        self.chunks = list(chunks)
        self.written = []

    async def read(self, most):
        await asyncio.sleep(0)
        return self.chunks.pop(0) if self.chunks else b""

    def write(self, data):
        self.written.append(data)

    async def drain(self):
        await asyncio.sleep(0)

    def can_write_eof(self):
        return False

    def close(self):
        self.written.append("closed")

    async def wait_closed(self):
        await asyncio.sleep(0)


def test_lookalikes(on, rust):
    async def main():
        # More than was asked for: what is over is read next.
        both = Lookalike([b"x" * 200_000, bytearray(b"abc"), memoryview(b"def")])
        assert await soon(rust.io_echo(both, both)) == 200_006
        assert both.written.pop() == "closed"
        assert b"".join(both.written) == b"x" * 200_000 + b"abcdef"

    on.run(main)


def test_dropping_a_reader_cancels_its_read(on, rust):
    """Nobody is left who would take what comes."""

    async def main():
        async with connected() as (_, writer, far_reader, _):
            reading = asyncio.ensure_future(rust.io_read_all(far_reader))
            while far_reader._waiter is None:
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            while far_reader._waiter is not None:
                await asyncio.sleep(0)
            await send(writer, b"for the next\n")
            assert await soon(far_reader.readline()) == b"for the next\n"

    on.run(main)


@pytest.mark.parametrize(
    "method", ["read", "write", "drain", "can_write_eof", "close", "wait_closed"]
)
def test_lookalikes_that_raise(on, rust, method):
    async def main():
        both = Lookalike([b"abc"])
        setattr(both, method, raising)
        with pytest.raises(ValueError, match="hostile"):
            await soon(rust.io_echo(both, both))

    on.run(main)


@pytest.mark.parametrize("result", [None, "text", 3])
def test_a_reader_that_gives_no_bytes(on, rust, result):
    async def main():
        both = Lookalike([result])
        with pytest.raises(TypeError, match="a bytes-like object, not"):
            await soon(rust.io_echo(both, both))

    on.run(main)


def test_what_is_no_stream_is_refused_at_once(on, rust):
    async def main():
        with pytest.raises(AttributeError, match="read"):
            rust.io_read_all(object())
        with pytest.raises(AttributeError, match="write"):
            rust.io_write_all(object(), b"")

    on.run(main)
