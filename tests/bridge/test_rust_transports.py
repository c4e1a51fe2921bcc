"""Rust streams as asyncio's transports and streams."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import gc
import warnings

import pytest

from bridge.builds import soon
from bridge.conftest import KINDS

BIG = bytes(range(256)) * (8 << 12)  # 8 MiB


class Recorder(asyncio.Protocol):
    """Notes what it is told, and whether each call is in its place."""

    def __init__(self):
        self.calls = []
        self.data = bytearray()
        self.changed = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()

    def note(self, *call):
        self.calls.append(call)
        self.changed.set()

    async def until(self, condition):
        while not condition():
            self.changed.clear()
            await soon(self.changed.wait())

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        assert type(data) is bytes
        self.data += data
        self.note("data", len(data))

    def eof_received(self):
        self.note("eof")

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    def connection_lost(self, exc):
        self.note("lost", exc)
        self.lost.set_result(exc)

    @property
    def names(self):
        return [name for name, *_ in self.calls]


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, size):
        self.buffer = bytearray(size)
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint):
        assert sizehint > 0
        return self.buffer

    def buffer_updated(self, count):
        self.data += self.buffer[:count]

    def connection_lost(self, exc):
        self.lost.set_result(exc)


@contextlib.contextmanager
def reports():
    """What the loop's exception handler is told."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    yield told


# --- Streams -----------------------------------------------------------------------------------


@pytest.mark.parametrize("local", [False, True])
def test_megabytes_both_ways(on, rust, local, eventually):
    async def main():
        flag = rust.DropFlag()
        reader, writer, end = rust.io_streams(1 << 14, flag, local)
        assert type(reader) is asyncio.StreamReader
        assert type(writer) is asyncio.StreamWriter

        async def echo():
            while data := await end.read(50_000):
                await end.write(data)
            await end.shutdown()

        echoing = asyncio.ensure_future(echo())

        async def send():
            for at in range(0, len(BIG), 100_000):
                writer.write(BIG[at : at + 100_000])
                await writer.drain()
                assert writer.transport.get_write_buffer_size() <= 64 * 1024
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        assert await soon(reader.readexactly(len(BIG))) == BIG
        assert await soon(reader.read()) == b""
        await sending
        await echoing
        writer.close()
        await soon(writer.wait_closed())
        await eventually(lambda: flag.dropped)

    on.run(main)


@pytest.mark.parametrize("on", KINDS, indirect=True)  # uvloop's takes its own transports alone
def test_start_tls_over_a_rust_stream(on, rust, certificates):
    async def main():
        loop = asyncio.get_running_loop()
        one, other = Recorder(), Recorder()
        rust.io_pair(one, other)
        await one.until(lambda: one.names == ["made"])
        await other.until(lambda: other.names == ["made"])
        server, client = await soon(
            asyncio.gather(
                loop.start_tls(one.transport, one, certificates.server_context(), server_side=True),
                loop.start_tls(
                    other.transport,
                    other,
                    certificates.client_context(),
                    server_hostname="localhost",
                ),
            )
        )
        server.write(BIG)
        client.write(b"hello")
        await one.until(lambda: one.data == b"hello")
        await other.until(lambda: len(other.data) == len(BIG))
        assert other.data == BIG
        client.close()
        assert await soon(one.lost) is None
        assert await soon(other.lost) is None

    on.run(main)


# --- The protocol's calls ----------------------------------------------------------------------


def test_the_order_of_calls(on, rust):
    async def main():
        protocol = Recorder()
        transport, end = rust.io_transport(protocol, 100, rust.DropFlag())
        assert protocol.calls == []
        assert transport.get_protocol() is protocol
        await asyncio.sleep(0)
        assert protocol.names == ["made"]
        assert protocol.transport is transport
        await end.write(b"hello")
        await protocol.until(lambda: protocol.data == b"hello")
        await end.close()
        assert await soon(protocol.lost) is None
        assert protocol.names == ["made", "data", "eof", "lost"]
        assert transport.is_closing()
        assert "closed" in repr(transport)

    on.run(main)


def test_half_closed(on, rust):
    class Keeping(Recorder):
        def eof_received(self):
            super().eof_received()
            return True

    async def main():
        protocol = Keeping()
        transport, end = rust.io_transport(protocol, 100, rust.DropFlag())
        await end.shutdown()
        await protocol.until(lambda: "eof" in protocol.names)
        assert not transport.is_closing()
        transport.write(b"still here")
        assert await soon(end.read(100)) == b"still here"
        transport.write_eof()
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            transport.write(b"x")
        assert await soon(end.read(100)) == b""
        transport.close()
        assert await soon(protocol.lost) is None

    on.run(main)


def test_closing_sends_what_was_written(on, rust):
    async def main():
        protocol = Recorder()
        flag = rust.DropFlag()
        transport, end = rust.io_transport(protocol, 1000, flag)
        transport.write(BIG)
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert not transport.is_reading()
        received = bytearray()
        while data := await soon(end.read(1 << 20)):
            received += data
        assert received == BIG
        assert await soon(protocol.lost) is None
        assert protocol.names == ["made", "pause", "resume", "lost"] or protocol.names == [
            "pause",
            "made",
            "resume",
            "lost",
        ]
        transport.write(b"late")
        transport.abort()

    on.run(main)


def test_aborting_drops_what_was_written(on, rust, eventually):
    async def main():
        protocol = Recorder()
        flag = rust.DropFlag()
        transport, end = rust.io_transport(protocol, 1000, flag)
        await asyncio.sleep(0)
        transport.write(BIG)
        transport.abort()
        await asyncio.sleep(0)
        assert protocol.names[-1] == "lost"
        assert transport.get_write_buffer_size() < len(BIG)
        await eventually(lambda: flag.dropped)
        received = 0
        while data := await soon(end.read(1 << 20)):
            received += len(data)
        assert received < len(BIG)

    on.run(main)


def test_pausing_and_resuming_the_reading(on, rust):
    async def main():
        protocol = Recorder()
        transport, end = rust.io_transport(protocol, 1 << 20, rust.DropFlag())
        await asyncio.sleep(0)
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        writing = asyncio.ensure_future(end.write(BIG))
        for _ in range(20):
            await asyncio.sleep(0)
        assert protocol.names == ["made"]
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        await protocol.until(lambda: len(protocol.data) > 100_000)
        transport.pause_reading()
        before = len(protocol.data)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(protocol.data) == before
        transport.resume_reading()
        await protocol.until(lambda: len(protocol.data) == len(BIG))
        assert protocol.data == BIG
        await soon(writing)
        transport.abort()

    on.run(main)


def test_flow_control(on, rust):
    async def main():
        protocol = Recorder()
        transport, end = rust.io_transport(protocol, 10, rust.DropFlag())
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(high=100)
        assert transport.get_write_buffer_limits() == (25, 100)
        transport.set_write_buffer_limits(low=10)
        assert transport.get_write_buffer_limits() == (10, 40)
        for wrong in ({"high": 1, "low": 2}, {"low": -1}, {"high": -5}):
            with pytest.raises(ValueError, match="must be >= low"):
                transport.set_write_buffer_limits(**wrong)
        await asyncio.sleep(0)
        transport.write(b"x" * 200)
        assert protocol.names == ["made", "pause"]
        received = b""
        while len(received) < 200:
            received += await soon(end.read(7))
        await protocol.until(lambda: protocol.names == ["made", "pause", "resume"])
        transport.write(b"y" * 30)
        transport.set_write_buffer_limits(high=0)
        assert protocol.names[-1] == "pause"
        # With room enough again it is told at once, though nothing moves.
        transport.set_write_buffer_limits(high=1000, low=1000)
        await protocol.until(lambda: protocol.names[-1] == "resume")
        transport.abort()

    on.run(main)


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_a_buffered_protocol(on, rust, size):
    async def main():
        protocol = Buffered(size)
        data = BIG[: size * 1000]
        _, end = rust.io_transport(protocol, 4000, rust.DropFlag())
        await soon(end.write(data))
        await end.close()
        assert await soon(protocol.lost) is None
        assert protocol.data == data

    on.run(main)


def test_another_protocol_takes_over(on, rust):
    async def main():
        first, second, third = Recorder(), Recorder(), Buffered(100)
        transport, end = rust.io_transport(first, 1000, rust.DropFlag())
        await end.write(b"one")
        await first.until(lambda: first.data == b"one")
        transport.set_protocol(second)
        await end.write(b"two")
        await second.until(lambda: second.data == b"two")
        transport.set_protocol(third)
        await end.write(b"three")
        await end.close()
        assert await soon(third.lost) is None
        assert third.data == b"three"

    on.run(main)


def test_a_protocol_is_called_in_the_context_of_the_transport(on, rust):
    variable = contextvars.ContextVar("variable", default="none")

    class Looking(Recorder):
        def data_received(self, data):
            self.note(variable.get())

        def connection_lost(self, exc):
            self.note(variable.get())
            super().connection_lost(exc)

    async def main():
        variable.set("of the transport")
        protocol = Looking()
        _, end = rust.io_transport(protocol, 1000, rust.DropFlag())
        variable.set("changed")
        await end.write(b"x")
        await end.close()
        await soon(protocol.lost)
        assert protocol.names[1:] == ["of the transport", "eof", "of the transport", "lost"]

    on.run(main)


# --- Arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(b"cba")[::-1]]
)
def test_what_can_be_written(on, rust, data):
    async def main():
        protocol = Recorder()
        transport, end = rust.io_transport(protocol, 1000, rust.DropFlag())
        transport.write(data)
        transport.writelines([bytes(data), b"!"])
        transport.write(b"")
        transport.close()
        received = bytearray()
        while piece := await soon(end.read(100)):
            received += piece
        assert received == b"abcabc!"

    on.run(main)


@pytest.mark.parametrize("data", ["text", 5, None, [1]])
def test_what_cannot_be_written(on, rust, data):
    async def main():
        protocol = Recorder()
        transport, _end = rust.io_transport(protocol, 1000, rust.DropFlag())
        name = type(data).__name__
        with pytest.raises(
            TypeError, match=f"data argument must be a bytes-like object, not '{name}'"
        ):
            transport.write(data)
        with pytest.raises(TypeError):
            transport.writelines([b"a", data])
        assert transport.get_write_buffer_size() == 0
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("peername", 5) == 5
        assert transport.can_write_eof()
        transport.abort()

    on.run(main)


def test_no_loop(rust, on):
    with pytest.raises(RuntimeError, match="no running event loop"):
        rust.io_transport(asyncio.Protocol(), 10, rust.DropFlag())


# --- Errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("during", ["read", "write"])
def test_a_stream_that_fails(on, rust, during):
    async def main():
        with reports() as told:
            protocol = Recorder()
            transport = rust.io_faulty(protocol, f"{during} reset")
            transport.write(b"x")
            error = await soon(protocol.lost)
            assert type(error) is ConnectionResetError
            assert error.errno == errno.ECONNRESET
            assert error.strerror == "Connection reset by peer"
            assert told == []

            protocol = Recorder()
            transport = rust.io_faulty(protocol, f"{during} python")
            transport.write(b"x")
            error = await soon(protocol.lost)
            assert type(error) is ValueError
            assert str(error) == "from the stream"
            (report,) = told
            assert report["message"] == f"Fatal {during} error on Rust stream transport"
            assert report["exception"] is error
            assert report["transport"] is transport
            assert report["protocol"] is protocol

    on.run(main)


@pytest.mark.parametrize("during", ["read", "write", "shutdown"])
def test_a_stream_that_panics(on, rust, during):
    async def main():
        with reports() as told:
            protocol = Recorder()
            transport = rust.io_faulty(protocol, f"{during} panic")
            await asyncio.sleep(0)
            transport.write(b"x")
            if during == "shutdown":
                transport.close()
            error = await soon(protocol.lost)
            assert type(error).__name__ == "RustPanic"
            assert "a bug in a stream" in str(error)
            assert [report["exception"] for report in told] == [error]

    on.run(main)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("data_received", "Fatal error: protocol.data_received() call failed."),
        ("eof_received", "Fatal error: protocol.eof_received() call failed."),
        ("pause_writing", "protocol.pause_writing() failed"),
        ("resume_writing", "protocol.resume_writing() failed"),
    ],
)
def test_a_protocol_that_raises(on, rust, method, message):
    async def main():
        with reports() as told:
            protocol = Recorder()

            def raises(*_):
                raise ZeroDivisionError(method)

            setattr(protocol, method, raises)
            transport, end = rust.io_transport(protocol, 1000, rust.DropFlag())
            transport.write(b"x" * 100_000)
            reading = asyncio.ensure_future(end.read(100_000))
            await soon(reading)
            total = len(reading.result())
            while total < 100_000:
                total += len(await soon(end.read(100_000)))
            await end.write(b"x")
            await end.shutdown()
            error = await soon(protocol.lost)
            fatal = message.startswith("Fatal")
            assert (type(error) is ZeroDivisionError) == fatal
            assert [report["message"] for report in told] == [message]
            assert type(told[0]["exception"]) is ZeroDivisionError

    on.run(main)


@pytest.mark.parametrize("method", ["connection_made", "connection_lost"])
def test_a_protocol_that_raises_at_its_ends(on, rust, method):
    async def main():
        with reports() as told:
            protocol = Recorder()
            other = getattr(protocol, method)

            def raises(*args):
                other(*args)
                raise ZeroDivisionError

            setattr(protocol, method, raises)
            _, end = rust.io_transport(protocol, 1000, rust.DropFlag())
            await end.write(b"x")
            await end.close()
            assert await soon(protocol.lost) is None
            await asyncio.sleep(0)
            assert protocol.names == ["made", "data", "eof", "lost"]
            assert [type(report["exception"]) for report in told] == [ZeroDivisionError]

    on.run(main)


@pytest.mark.parametrize("buffer", [b"", b"not writable", None, bytearray(0)])
def test_a_buffer_that_is_none(on, rust, buffer):
    async def main():
        with reports() as told:
            protocol = Buffered(10)
            protocol.get_buffer = lambda _: buffer
            _, end = rust.io_transport(protocol, 1000, rust.DropFlag())
            await end.write(b"x")
            assert await soon(protocol.lost) is not None
            message = "Fatal error: protocol.get_buffer() call failed."
            assert [report["message"] for report in told] == [message]

    on.run(main)


def test_calls_from_inside_of_calls(on, rust):
    class Closing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.write(b"bye")
            self.transport.pause_reading()
            self.transport.close()
            self.transport.resume_reading()

        def pause_writing(self):
            super().pause_writing()
            self.transport.write(b"more")
            self.transport.abort()

    async def main():
        protocol = Closing()
        _, end = rust.io_transport(protocol, 1000, rust.DropFlag())
        await end.write(b"x")
        assert await soon(protocol.lost) is None
        assert await soon(end.read(100)) == b"bye"
        assert protocol.names == ["made", "data", "lost"]

        protocol = Closing()
        transport, end = rust.io_transport(protocol, 1000, rust.DropFlag())
        await asyncio.sleep(0)
        transport.write(BIG)
        assert await soon(protocol.lost) is None
        assert protocol.names == ["made", "pause", "lost"]

    on.run(main)


# --- Lives -------------------------------------------------------------------------------------


def test_a_loop_that_is_closed_drops_the_stream(on, rust):
    flag = rust.DropFlag()
    loop = on.factory()

    async def begin():
        return rust.io_transport(asyncio.Protocol(), 1000, flag)

    kept = loop.run_until_complete(begin())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()
        gc.collect()
        # Another loop does something meanwhile; the stream is dropped in a thread of tokio's.
        on.run(lambda: until_dropped(flag))
        del kept
        gc.collect()


async def until_dropped(flag):
    async def wait():
        while not flag.dropped:
            await asyncio.sleep(0.001)

    await soon(wait())


def test_an_unclosed_transport_warns(on, rust):
    loop = on.factory()

    async def begin():
        _, end = rust.io_transport(asyncio.Protocol(), 1000, rust.DropFlag())
        # What is scheduled refers to it; uvloop keeps that as long as the loop.
        for _ in range(3):
            await asyncio.sleep(0)
        return end

    _end = loop.run_until_complete(begin())
    with pytest.warns(ResourceWarning, match="unclosed transport <RustTransport"):
        loop.close()
        gc.collect()


def test_a_transport_is_collected_with_its_protocol(on, rust):
    """The cycle of the two is no reason to live."""

    class Tracked(asyncio.Protocol):
        gone = False

        def connection_made(self, transport):
            self.transport = transport

        def __del__(self):
            type(self).gone = True

    async def main():
        transport, end = rust.io_transport(Tracked(), 1000, rust.DropFlag())
        await asyncio.sleep(0)
        transport.abort()
        del transport
        await end.close()
        await asyncio.sleep(0)
        gc.collect()
        assert Tracked.gone

    on.run(main)
