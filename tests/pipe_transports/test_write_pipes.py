"""Write pipes: data that leaves, data that waits, and how they end."""

import asyncio
import os
import threading

import pytest

from support.pipe_ends import Writer, make_sockets, read_until, writing
from support.recording import Reports, in_thread


def test_data_is_written_at_once(loop, ends):
    near, far = ends

    async def main():
        transport, protocol = await writing(loop, far)
        assert isinstance(transport, asyncio.WriteTransport)
        assert transport.get_extra_info("pipe") is far
        assert transport.can_write_eof() and not transport.is_closing()
        transport.write(b"bytes ")
        # Before the loop has turned: a child that is waited for the blocking way gets its input.
        assert read_until(near, 6) == b"bytes "
        transport.write(bytearray(b"array "))
        transport.write(memoryview(b"view "))
        transport.write(b"")
        transport.writelines([b"and ", b"", bytearray(b"lines")])
        assert read_until(near, 20) == b"array view and lines"
        assert transport.get_write_buffer_size() == 0
        transport.close()
        assert transport.is_closing()
        assert await protocol.lost() is None
        assert far.closed
        return protocol.calls

    assert loop.run_until_complete(main()) == ["connection_made", "connection_lost"]


@pytest.mark.parametrize("data", ["text", 1, None, [b"x"]])
def test_data_that_cannot_be_written(loop, pipe, data):
    _, far = pipe

    async def main():
        transport, protocol = await writing(loop, far)
        with pytest.raises(AssertionError) as caught:
            transport.write(data)
        assert str(caught.value) == repr(data)
        transport.close()
        await protocol.lost()

    loop.run_until_complete(main())


@pytest.mark.parametrize("ends", ["pipe", "fifo", "sockets"], indirect=True)
def test_more_than_fits_waits_and_flows(loop, ends):
    near, far = ends
    data = os.urandom(1 << 16) * 24

    async def main():
        transport, protocol = await writing(loop, far)
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.write(data)
        assert protocol.calls == ["connection_made", "pause_writing"]
        assert 0 < transport.get_write_buffer_size() < len(data)
        received = await in_thread(read_until, near, len(data))
        await protocol.called("resume_writing")
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.lost()
        return received, protocol.calls

    received, calls = loop.run_until_complete(main())
    assert received == data
    assert calls == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]


def test_many_chunks_wait_in_order(loop, pipe):
    near, far = pipe
    chunks = [bytes([number % 256]) * (number * 7 % 3000 + 1) for number in range(500)]
    kinds = [bytes, bytearray, memoryview]

    async def main():
        transport, protocol = await writing(loop, far)
        for at, chunk in enumerate(chunks):
            transport.write(kinds[at % 3](chunk))
        transport.close()
        received = await in_thread(read_until, near, 10_000_000)
        assert await protocol.lost() is None
        return received

    assert loop.run_until_complete(main()) == b"".join(chunks)


def test_a_buffer_that_is_changed_after_write(loop, pipe):
    near, far = pipe

    async def main():
        transport, protocol = await writing(loop, far)
        data = bytearray(b"x" * 200_000)
        transport.write(data)
        data[:] = b"y" * 200_000
        data.clear()
        transport.close()
        received = await in_thread(read_until, near, 10_000_000)
        await protocol.lost()
        return received

    assert loop.run_until_complete(main()) == b"x" * 200_000


def test_the_marks(loop, pipe):
    near, far = pipe

    async def main():
        transport, protocol = await writing(loop, far)
        transport.set_write_buffer_limits(high=1000, low=10)
        assert transport.get_write_buffer_limits() == (10, 1000)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(1, 2)
        transport.set_write_buffer_limits(0)
        transport.write(bytes(1 << 16))  # what a pipe holds
        assert protocol.calls == ["connection_made"]
        transport.write(b"x")
        assert protocol.calls == ["connection_made", "pause_writing"]
        assert transport.get_write_buffer_size() == 1
        read_until(near, 1 << 16)
        await protocol.called("resume_writing")
        # Limits that are set below the buffered size pause at once.
        transport.set_write_buffer_limits(100_000)
        transport.write(bytes(1 << 17))
        assert protocol.calls.count("pause_writing") == 1
        transport.set_write_buffer_limits(1000)
        assert protocol.calls.count("pause_writing") == 2
        transport.abort()
        await protocol.lost()

    loop.run_until_complete(main())


@pytest.mark.parametrize("method", ["close", "write_eof"])
def test_an_end_that_waits_for_buffered_data(loop, pipe, method):
    near, far = pipe

    async def main():
        transport, protocol = await writing(loop, far)
        transport.write(bytes(300_000))
        getattr(transport, method)()
        getattr(transport, method)()
        assert transport.is_closing()
        transport.write(b"too late")
        received = await in_thread(read_until, near, 10_000_000)
        assert await protocol.lost() is None
        return len(received), protocol.losses

    assert loop.run_until_complete(main()) == (300_000, 1)


def test_abort_loses_buffered_data(loop, pipe):
    near, far = pipe

    async def main():
        transport, protocol = await writing(loop, far)
        transport.write(bytes(300_000))
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        received = await in_thread(read_until, near, 10_000_000)
        assert await protocol.lost() is None
        return len(received)

    assert loop.run_until_complete(main()) < 300_000


def test_abort_after_close(loop, pipe):
    _, far = pipe

    async def main():
        transport, protocol = await writing(loop, far)
        transport.write(bytes(300_000))
        transport.close()
        transport.abort()
        assert await protocol.lost() is None
        await asyncio.sleep(0)
        return protocol.losses

    assert loop.run_until_complete(main()) == 1


@pytest.mark.parametrize("ends", ["pipe", "fifo", "sockets"], indirect=True)
def test_the_end_of_the_reader_is_noticed(loop, ends):
    near, far = ends

    async def main():
        transport, protocol = await writing(loop, far)
        near.close()
        assert await protocol.lost() is None
        assert transport.is_closing()

    loop.run_until_complete(main())
    assert far.closed


def test_the_end_of_the_reader_while_something_waits(loop, pipe):
    near, far = pipe

    async def main():
        transport, protocol = await writing(loop, far)
        transport.write(bytes(300_000))
        near.close()
        loss = await protocol.lost()
        assert transport.get_write_buffer_size() == 0
        return loss

    assert isinstance(loop.run_until_complete(main()), BrokenPipeError)


def test_a_write_to_a_reader_that_is_gone(loop, pipe, caplog):
    near, far = pipe
    reports = Reports(loop)

    async def main():
        transport, protocol = await writing(loop, far)
        near.close()
        transport.write(b"into the void")
        loss = await protocol.lost()
        for _ in range(10):
            transport.write(b"more")
        return loss

    assert isinstance(loop.run_until_complete(main()), BrokenPipeError)
    assert reports.contexts == []
    texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert texts == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 6


def test_writes_after_close_warn_from_the_sixth_on(loop, pipe, caplog):
    _, far = pipe

    async def main():
        transport, protocol = await writing(loop, far)
        transport.close()
        for _ in range(8):
            transport.write(b"more")
        await protocol.lost()

    loop.run_until_complete(main())
    texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert texts == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 3


def test_a_peer_that_writes_to_a_write_pipe_ends_it(loop, tmp_path):
    """As asyncio: what is readable is taken for closed."""
    near, far = make_sockets(tmp_path)

    async def main():
        _, protocol = await writing(loop, far)
        os.write(near.fileno(), b"unexpected")
        return await protocol.lost()

    with near:
        assert loop.run_until_complete(main()) is None


def test_resume_writing_may_write_more(loop, pipe):
    near, far = pipe

    class More(Writer):
        def resume_writing(self):
            super().resume_writing()
            if self.calls.count("resume_writing") < 4:
                self.transport.write(b"m" * 200_000)
            else:
                self.transport.close()

    async def main():
        transport, protocol = await writing(loop, far, More())
        transport.write(b"m" * 200_000)
        received = await in_thread(read_until, near, 10_000_000)
        assert await protocol.lost() is None
        return len(received)

    assert loop.run_until_complete(main()) == 800_000


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_an_error_of_flow_control_is_reported(loop, pipe, method):
    near, far = pipe
    reports = Reports(loop)

    class Fails(Writer):
        pass

    def fail(self):
        getattr(Writer, method)(self)
        raise LookupError("of the protocol")

    setattr(Fails, method, fail)

    async def main():
        transport, protocol = await writing(loop, far, Fails())
        transport.write(bytes(300_000))
        transport.close()
        received = await in_thread(read_until, near, 10_000_000)
        await protocol.lost()
        return len(received)

    assert loop.run_until_complete(main()) == 300_000
    context = reports.only()
    assert context["message"] == f"protocol.{method}() failed"


def test_a_stream_writer_over_a_pipe(loop, pipe):
    near, far = pipe

    async def main():
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop=loop), far
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        received = asyncio.ensure_future(in_thread(read_until, near, 10_000_000))
        for _ in range(50):
            writer.write(bytes(20_000))
            await writer.drain()
        writer.close()
        return len(await received)

    assert loop.run_until_complete(main()) == 1_000_000


def test_a_pipe_that_other_code_made_blocking(loop, pipe):
    """A write may wait then; the thread that reads must get to run."""
    near, far = pipe

    async def main():
        transport, protocol = await writing(loop, far)
        os.set_blocking(far.fileno(), True)
        received = []
        thread = threading.Thread(target=lambda: received.append(read_until(near, 10_000_000)))
        thread.start()
        transport.write(bytes(1 << 20))
        transport.close()
        await protocol.lost()
        await in_thread(thread.join)
        return len(received[0])

    assert loop.run_until_complete(main()) == 1 << 20


def test_a_view_of_bytes_that_do_not_lie_in_a_row_ends_it(loop, pipe):
    _, far = pipe
    reports = Reports(loop)

    async def main():
        transport, protocol = await writing(loop, far)
        transport.write(memoryview(b"gaps")[::2])
        assert isinstance(await protocol.lost(), BufferError)
        assert reports.only()["message"] == "Fatal write error on pipe transport"

    loop.run_until_complete(main())
