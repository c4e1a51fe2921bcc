"""Read pipes: the data that arrives, when, and how they end."""

import asyncio
import contextvars
import errno
import os
import pty
import socket
import sys
import tty

import pytest

from support.pipe_ends import opened, reading
from support.recording import Recorder, Reports, blocking_pair, in_thread, reset

before_3_11 = pytest.mark.native_only(
    when=sys.version_info < (3, 11), reason="its read pipes lack is_reading, and pausing early"
)


@before_3_11
def test_written_data_and_the_end_arrive(loop, ends):
    near, far = ends

    async def main():
        transport, protocol = await reading(loop, near)
        assert isinstance(transport, asyncio.ReadTransport)
        assert not isinstance(transport, asyncio.WriteTransport)
        assert transport.get_extra_info("pipe") is near
        assert transport.get_extra_info("nothing", "default") == "default"
        assert transport.get_protocol() is protocol
        assert transport.is_reading() and not transport.is_closing()
        far.write(b"one ")
        await protocol.got(4)
        far.write(b"two")
        await protocol.got(7)
        far.close()
        loss = await protocol.lost()
        assert transport.is_closing() and not transport.is_reading()
        return protocol, loss

    protocol, loss = loop.run_until_complete(main())
    assert protocol.received == b"one two"
    assert near.closed
    if near.kind == "terminal":  # says so with an error
        assert loss.errno == errno.EIO
        assert protocol.story == ["connection_made", "data_received", "connection_lost"]
    else:
        assert loss is None
        assert protocol.story == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]


def test_the_answer_to_the_end_does_not_keep_a_pipe_open(loop, pipe):
    near, far = pipe

    async def main():
        _, protocol = await reading(loop, near, Recorder(keep_open_at_eof=True))
        far.close()
        return await protocol.lost()

    assert loop.run_until_complete(main()) is None


def test_a_stream_reader_over_a_pipe(loop, ends):
    near, far = ends

    async def main():
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), near
        )
        far.write(b"first\nsecond\nrest")
        assert await reader.readline() == b"first\n"
        assert await reader.readline() == b"second\n"
        assert await reader.readexactly(4) == b"rest"
        waiting = asyncio.ensure_future(reader.readline())
        await asyncio.sleep(0)
        far.write(b"awaited\n")
        assert await waiting == b"awaited\n"
        transport.close()
        assert await reader.read() == b""

    loop.run_until_complete(main())


def test_a_flood_through_a_stream_reader(loop, pipe):
    near, far = pipe
    data = os.urandom(1 << 16) * 40

    def flood():
        sent = 0
        while sent < len(data):
            sent += far.write(data[sent : sent + 100_000])
        far.close()

    async def main():
        reader = asyncio.StreamReader(limit=1000)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), near)
        flooding = asyncio.ensure_future(in_thread(flood))
        await asyncio.sleep(0.05)
        # The reader holds twice its limit and one read more, then it pauses.
        assert len(reader._buffer) <= 2 * 1000 + 256 * 1024
        received = b"".join([chunk async for chunk in chunks_of(reader)])
        await flooding
        return received

    async def chunks_of(reader):
        while chunk := await reader.read(50_000):
            yield chunk

    assert loop.run_until_complete(main()) == data


def test_a_patched_or_derived_stream_reader_is_called(loop, pipe):
    near, far = pipe

    class Shouting(asyncio.StreamReader):
        def feed_data(self, data):
            super().feed_data(data.upper())

    async def main():
        reader = Shouting()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), near
        )
        far.write(b"quiet\n")
        assert await reader.readline() == b"QUIET\n"
        transport.close()

    loop.run_until_complete(main())


def test_one_read_takes_available_data_up_to_asyncios_limit(loop):
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    far.setblocking(False)

    class Sizes(Recorder):
        sizes = ()

        def data_received(self, data):
            assert type(data) is bytes
            self.sizes = (*self.sizes, len(data))
            super().data_received(data)

    async def main():
        sent = far.send(bytes(400_000))
        _, protocol = await reading(loop, opened(near.detach(), "rb"), Sizes())
        await protocol.got(sent)
        far.close()
        await protocol.lost()
        return sent, protocol.sizes

    sent, sizes = loop.run_until_complete(main())
    assert sum(sizes) == sent
    assert max(sizes) <= 256 * 1024


def test_packets_that_wait_together_all_arrive(loop):
    """Each read of such a pipe gives one packet, however many there are."""
    near, far = os.pipe2(os.O_DIRECT)

    async def main():
        _, protocol = await reading(loop, opened(near, "rb"))
        for number in range(10):
            os.write(far, b"packet %d" % number)
        await protocol.got(10 * 8)
        os.close(far)
        await protocol.lost()
        return protocol

    protocol = loop.run_until_complete(main())
    assert protocol.calls.count("data_received") == 10


def test_lines_of_a_terminal_that_wait_together_all_arrive(loop):
    near, far = pty.openpty()

    async def main():
        transport, protocol = await reading(loop, opened(far, "rb"))
        os.write(near, b"one\ntwo\nthree\n")
        await protocol.got(14)
        transport.close()
        await protocol.lost()
        return protocol

    protocol = loop.run_until_complete(main())
    os.close(near)
    assert protocol.received == b"one\ntwo\nthree\n"
    assert protocol.calls.count("data_received") == 3


def test_a_fifo_waits_for_its_first_writer(loop, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    near = opened(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK), "rb")

    async def main():
        _, protocol = await reading(loop, near)
        await asyncio.sleep(0.02)
        assert protocol.calls == ["connection_made"]
        with open(tmp_path / "fifo", "wb", buffering=0) as far:
            far.write(b"late")
            await protocol.got(4)
        await protocol.lost()

    loop.run_until_complete(main())


def test_a_fifo_whose_next_writer_comes_before_the_end_is_seen(loop, tmp_path):
    """The hang-up is over by the time the loop looks: there is nothing to read, and no end."""
    os.mkfifo(tmp_path / "fifo")
    near = opened(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK), "rb")

    def writer():
        return open(tmp_path / "fifo", "wb", buffering=0)

    async def main():
        _, protocol = await reading(loop, near)
        first = writer()
        first.write(b"one")
        await protocol.got(3)
        first.close()
        second = writer()
        await asyncio.sleep(0.02)
        first = writer()
        second.close()
        await asyncio.sleep(0.02)
        assert "eof_received" not in protocol.calls
        first.write(b"two")
        await protocol.got(6)
        first.close()
        assert await protocol.lost() is None

    loop.run_until_complete(main())


def test_a_terminal_that_is_opened_again_before_its_end_is_seen(loop):
    near, far = pty.openpty()
    tty.setraw(far)
    name = os.ttyname(far)

    async def main():
        transport, protocol = await reading(loop, opened(near, "rb"))
        os.close(far)
        again = os.open(name, os.O_RDWR | os.O_NOCTTY)
        await asyncio.sleep(0.02)
        os.write(again, b"still here")
        await protocol.got(10)
        transport.close()
        await protocol.lost()
        os.close(again)

    loop.run_until_complete(main())


@before_3_11
def test_pausing_and_resuming(loop, ends):
    near, far = ends

    async def main():
        transport, protocol = await reading(loop, near)
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        far.write(b"later")
        await asyncio.sleep(0.02)
        assert protocol.received == b""
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        await protocol.got(5)
        transport.close()
        await protocol.lost()
        transport.pause_reading()
        transport.resume_reading()

    loop.run_until_complete(main())


@before_3_11
def test_pausing_before_the_first_byte(loop, pipe):
    near, far = pipe
    far.write(b"early")

    class Pauses(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        transport, protocol = await reading(loop, near, Pauses())
        await asyncio.sleep(0.02)
        assert protocol.received == b""
        transport.resume_reading()
        await protocol.got(5)
        transport.close()
        await protocol.lost()

    loop.run_until_complete(main())


def test_nothing_is_received_after_close(loop, ends):
    near, far = ends

    async def main():
        transport, protocol = await reading(loop, near)
        far.write(b"unread")
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert not near.closed
        await protocol.lost()
        assert near.closed
        transport.close()
        return protocol

    assert loop.run_until_complete(main()).calls == ["connection_made", "connection_lost"]


def test_close_in_connection_made(loop, pipe):
    near, far = pipe
    far.write(b"unread")

    class Leaves(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.close()

    async def main():
        _, protocol = await reading(loop, near, Leaves())
        await protocol.lost()
        return protocol.calls

    assert loop.run_until_complete(main()) == ["connection_made", "connection_lost"]


def test_close_in_data_received(loop, pipe):
    near, far = pipe

    class Leaves(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.close()

    async def main():
        _, protocol = await reading(loop, near, Leaves())
        far.write(b"x")
        await protocol.lost()
        return protocol.story

    story = loop.run_until_complete(main())
    assert story == ["connection_made", "data_received", "connection_lost"]


def test_another_protocol_in_the_middle(loop, pipe):
    near, far = pipe

    async def main():
        transport, first = await reading(loop, near)
        far.write(b"one")
        await first.got(3)
        reader = asyncio.StreamReader()
        transport.set_protocol(asyncio.StreamReaderProtocol(reader))
        far.write(b"two\n")
        assert await reader.readline() == b"two\n"
        last = Recorder()
        transport.set_protocol(last)
        assert transport.get_protocol() is last
        far.write(b"three")
        await last.got(5)
        far.close()
        await last.lost()
        return first.story, last.story

    assert loop.run_until_complete(main()) == (
        ["connection_made", "data_received"],
        ["data_received", "eof_received", "connection_lost"],
    )


def test_an_error_of_the_protocol_is_reported_and_the_pipe_goes_on(loop, pipe):
    near, far = pipe
    reports = Reports(loop)

    class Fails(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if data == b"bad":
                raise LookupError("of the protocol")

    async def main():
        _, protocol = await reading(loop, near, Fails())
        far.write(b"bad")
        await protocol.got(3)
        far.write(b"good")
        await protocol.got(7)
        far.close()
        await protocol.lost()

    loop.run_until_complete(main())
    context = reports.only()
    assert context["message"].startswith("Exception in callback ")
    assert str(context["exception"]) == "of the protocol"


@pytest.mark.parametrize("method", ["connection_made", "eof_received", "connection_lost"])
def test_an_error_of_another_callback_is_reported(loop, pipe, method):
    near, far = pipe
    reports = Reports(loop)

    class Fails(Recorder):
        pass

    def fail(self, *args):
        getattr(Recorder, method)(self, *args)
        raise LookupError("of the protocol")

    setattr(Fails, method, fail)

    async def main():
        _, protocol = await reading(loop, near, Fails())
        far.close()
        await protocol.lost()
        await asyncio.sleep(0)
        return protocol.calls

    assert loop.run_until_complete(main()) == ["connection_made", "eof_received", "connection_lost"]
    assert str(reports.only()["exception"]) == "of the protocol"
    assert near.closed


def test_an_error_of_reading_is_reported_and_ends_the_transport(loop):
    reports = Reports(loop)

    async def main():
        near, far = blocking_pair()
        transport, protocol = await reading(loop, opened(near.detach(), "rb"))
        reset(far)
        return transport, await protocol.lost()

    transport, loss = loop.run_until_complete(main())
    assert isinstance(loss, ConnectionResetError)
    context = reports.only()
    assert context["message"] == "Fatal read error on pipe transport"
    assert context["exception"] is loss
    assert context["transport"] is transport


def test_the_end_of_a_terminal_is_not_reported(loop):
    reports = Reports(loop)
    near, far = pty.openpty()

    async def main():
        _, protocol = await reading(loop, opened(near, "rb"))
        os.close(far)
        return await protocol.lost()

    assert loop.run_until_complete(main()).errno == errno.EIO
    assert reports.contexts == []


def test_a_context_variable_of_the_connecting_task_is_seen(loop, pipe):
    name = contextvars.ContextVar("name")
    near, far = pipe

    class Looks(Recorder):
        def _note(self, called):
            super()._note((called, name.get()))

    async def main():
        name.set("set before")
        _, protocol = await reading(loop, near, Looks())
        name.set("set after")
        far.write(b"x")
        await protocol.got(1)
        far.close()
        await protocol.until(lambda: protocol.losses)
        return protocol.calls

    assert loop.run_until_complete(main()) == [
        ("connection_made", "set before"),
        ("data_received", "set before"),
        ("eof_received", "set before"),
        ("connection_lost", "set before"),
    ]
