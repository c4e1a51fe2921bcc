"""Pipe transports: the files they take, their lifetime, their repr and logs."""

import asyncio
import gc
import logging
import os
import time

import pytest

from support.iterations import run_iterations
from support.pipe_ends import make_pipe, opened, reading, writing
from support.recording import Recorder, Reports

# -- what is taken ------------------------------------------------------------------------------


def test_regular_files_are_refused(loop, tmp_path):
    async def main(file):
        with pytest.raises(ValueError) as caught:
            await loop.connect_read_pipe(Recorder, file)
        assert str(caught.value) == "Pipe transport is for pipes/sockets only."
        with pytest.raises(ValueError) as caught:
            await loop.connect_write_pipe(Recorder, file)
        text = "Pipe transport is only for pipes, sockets and character devices"
        assert str(caught.value) == text
        assert not file.closed

    with open(tmp_path / "file", "wb+", buffering=0) as file:
        loop.run_until_complete(main(file))


# asyncio's half-made transports say so when they go.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_closed_files_are_refused(loop, pipe):
    near, far = pipe
    near.close()
    far.close()
    for connect, file in ((loop.connect_read_pipe, near), (loop.connect_write_pipe, far)):
        with pytest.raises(ValueError, match="closed file"):
            loop.run_until_complete(connect(Recorder, file))


def test_a_device_that_cannot_be_watched_can_be_written_to(loop):
    async def main():
        transport, protocol = await writing(loop, opened(os.open("/dev/null", os.O_WRONLY), "wb"))
        for _ in range(100):
            transport.write(bytes(10_000))
        assert transport.get_write_buffer_size() == 0
        transport.close()
        return await protocol.lost()

    assert loop.run_until_complete(main()) is None


def test_a_device_that_cannot_be_watched_cannot_be_read(loop):
    reports = Reports(loop)

    async def main():
        transport, protocol = await reading(loop, opened(os.open("/dev/null", os.O_RDONLY), "rb"))
        assert protocol.calls == ["connection_made"]
        transport.pause_reading()
        with pytest.raises(PermissionError):
            transport.resume_reading()
        transport.close()
        return await protocol.lost()

    assert loop.run_until_complete(main()) is None
    context = reports.only()
    assert isinstance(context["exception"], PermissionError)
    assert context["message"].startswith("Exception in callback ")


def test_buffered_and_text_files_serve_as_pipes(loop):
    near, far = os.pipe()

    async def main():
        _, received = await reading(loop, os.fdopen(near, "rb", 1024))
        sender, sent = await writing(loop, os.fdopen(far, "w", 1024, encoding="utf-8"))
        sender.write(b"through")
        await received.got(7)
        sender.close()
        await sent.lost()
        assert await received.lost() is None

    loop.run_until_complete(main())


def test_extra_and_waiter_of_the_private_hook(loop, pipe):
    """asyncio's own `connect_read_pipe` and what derives from the loop call it."""
    near, _ = pipe

    async def main():
        waiter = loop.create_future()
        extra = {"given": 1}
        protocol = Recorder()
        transport = loop._make_read_pipe_transport(near, protocol, waiter=waiter, extra=extra)
        assert protocol.calls == []
        assert await waiter is None
        assert protocol.calls == ["connection_made"]
        assert transport.get_extra_info("given") == 1
        assert transport.get_extra_info("pipe") is near
        transport.close()
        await protocol.lost()

    loop.run_until_complete(main())


def test_a_cancelled_connection_closes_the_pipe(loop, pipe):
    near, _ = pipe

    async def main():
        protocol = Recorder()
        task = asyncio.ensure_future(loop.connect_read_pipe(lambda: protocol, near))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await protocol.lost()

    loop.run_until_complete(main())
    assert near.closed


# -- lifetime -----------------------------------------------------------------------------------


def test_a_transport_that_reads_is_kept_alive_by_the_loop(loop, pipe):
    near, far = pipe

    async def main():
        protocol = Recorder()
        await loop.connect_read_pipe(lambda: protocol, near)
        protocol.transport = None
        gc.collect()
        far.write(b"still read")
        await protocol.got(10)
        far.close()
        await protocol.lost()

    loop.run_until_complete(main())


def test_an_unreferenced_paused_transport_warns_and_closes(loop, pipe):
    near, _ = pipe

    async def main():
        transport, protocol = await reading(loop, near)
        transport.pause_reading()
        protocol.transport = None
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            del transport, protocol
            gc.collect()
        assert near.closed

    loop.run_until_complete(main())


@pytest.mark.native_only(reason="most versions of asyncio cannot close then")
def test_close_after_the_loop_was_closed(loop, pipe):
    near, far = pipe

    async def main():
        return await reading(loop, near), await writing(loop, far)

    (receiver, received), (sender, sent) = loop.run_until_complete(main())
    loop.close()
    assert not near.closed and not far.closed
    assert "open" in repr(receiver) and "open" in repr(sender)
    receiver.close()
    sender.close()
    assert near.closed and far.closed
    assert "closed" in repr(receiver) and "closed" in repr(sender)
    assert "connection_lost" not in received.calls + sent.calls


@pytest.mark.native_only(reason="the standard library's loop is shared with a child")
def test_a_child_that_closes_its_copies_leaves_the_parents_working(programs):
    done = programs.run(
        """
        import asyncio, os, warnings

        warnings.simplefilter("ignore")

        async def main():
            loop = asyncio.get_running_loop()
            near, far = os.pipe()
            reader = asyncio.StreamReader()
            receiver, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(near, "rb", 0))
            sender, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(far, "wb", 0))
            pid = os.fork()
            if not pid:
                receiver.pause_reading()
                receiver.resume_reading()
                receiver.close()
                sender.close()
                os._exit(0)
            os.waitpid(pid, 0)
            sender.write(b"after the fork\\n")
            print(await asyncio.wait_for(reader.readline(), 20))
            sender.close()
            assert await asyncio.wait_for(reader.read(), 20) == b""

        run(main())
        """
    )
    assert done.stdout == "b'after the fork\\n'\n"


@pytest.mark.native_only(reason="the standard library's loop is shared with a child")
def test_a_child_that_runs_the_loop_has_the_pipes_too(programs):
    done = programs.run(
        """
        import asyncio, os, signal, warnings

        warnings.simplefilter("ignore")

        loop = new_event_loop()
        near, far = os.pipe()
        reader = asyncio.StreamReader(loop=loop)

        async def connect():
            return await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader, loop=loop), os.fdopen(near, "rb", 0))

        loop.run_until_complete(connect())
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            assert loop.run_until_complete(reader.readline()) == b"for the child\\n"
            os._exit(7)
        os.write(far, b"for the child\\n")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        os.write(far, b"for the parent\\n")
        print(loop.run_until_complete(asyncio.wait_for(reader.readline(), 20)))
        os._exit(0)
        """
    )
    assert done.stdout == "b'for the parent\\n'\n"


def test_transports_describe_themselves(loop, pipe):
    near, far = pipe

    async def main():
        receiver, received = await reading(loop, near)
        sender, sent = await writing(loop, far)
        assert f" fd={near.fileno()} polling>" in repr(receiver)
        receiver.pause_reading()
        assert f" fd={near.fileno()} idle>" in repr(receiver)
        assert f" fd={far.fileno()} idle bufsize=0>" in repr(sender)
        sender.write(bytes(100_000))
        size = sender.get_write_buffer_size()
        assert f" fd={far.fileno()} polling bufsize={size}>" in repr(sender)
        sender.close()
        receiver.close()
        assert " closing " in repr(receiver) and " closing " in repr(sender)
        await received.lost()
        await sent.lost()
        assert " closed " in repr(receiver) and " closed " in repr(sender)

    loop.run_until_complete(main())


def test_debug_mode_logs_pipes(loop, pipe, caplog):
    near, far = pipe
    loop.set_debug(True)

    async def main():
        receiver, received = await reading(loop, near)
        receiver.pause_reading()
        receiver.resume_reading()
        far.close()
        await received.lost()
        again, far_again = make_pipe(None)
        _, sent = await writing(loop, far_again)
        again.close()
        await sent.lost()

    with caplog.at_level(logging.DEBUG, "asyncio"):
        loop.run_until_complete(main())
    texts = [record.getMessage() for record in caplog.records]
    for end in ("pauses reading", "resumes reading", "was closed by peer"):
        assert any(text.endswith(end) for text in texts), (end, texts)
    assert sum(text.endswith("was closed by peer") for text in texts) == 2


def test_a_pipe_does_not_spin(loop, ends):
    """Idle transports cost no processor time, and neither does data that is not read."""
    near, far = ends

    async def main():
        receiver, received = await reading(loop, near)
        sender, sent = await writing(loop, far)
        receiver.pause_reading()
        sender.write(b"unread")
        await asyncio.sleep(0.01)
        before = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - before < 0.15
        receiver.close()
        sender.close()
        await received.lost()
        await sent.lost()

    loop.run_until_complete(main())
    run_iterations(loop, 2)
