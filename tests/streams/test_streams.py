"""StreamReader and StreamWriter on this loop's transports."""

from __future__ import annotations

import asyncio
import socket

from support.recording import in_thread, read_all


def test_drain_waits_for_a_slow_peer(on_streams):
    size = 32 << 20

    async def scenario(_reader, writer, far):
        writer.write(b"d" * size)
        task = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0.02)
        assert not task.done()
        reading = asyncio.ensure_future(in_thread(read_all, far))
        await task
        assert writer.transport.get_write_buffer_size() <= 16 * 1024
        writer.close()
        assert len(await reading) == size

    on_streams(scenario)


def test_drain_does_not_wait_for_a_quick_peer(on_streams):
    async def scenario(_reader, writer, far):
        for _ in range(100):
            writer.write(b"line\n")
            await asyncio.wait_for(writer.drain(), 10)
        writer.close()
        assert await in_thread(read_all, far) == b"line\n" * 100

    on_streams(scenario)


def test_several_tasks_may_drain(on_streams):
    async def scenario(_reader, writer, far):
        writer.write(bytes(32 << 20))
        tasks = [asyncio.ensure_future(writer.drain()) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks)
        reading = asyncio.ensure_future(in_thread(read_all, far))
        await asyncio.gather(*tasks)
        writer.close()
        assert len(await reading) == 32 << 20

    on_streams(scenario)


def test_a_slow_reader_holds_the_peer_back(on_streams):
    """Unread data must not pile up here: at twice the limit reading pauses."""
    limit = 10_000

    async def scenario(reader, writer, far):
        far.setblocking(False)
        sent = 0
        for _ in range(5):
            try:
                while True:
                    sent += far.send(bytes(1 << 16))
            except BlockingIOError:
                await asyncio.sleep(0.01)
        assert not writer.transport.is_reading()
        # One read may go beyond the mark, but only one.
        assert 2 * limit < len(reader._buffer) <= 2 * limit + 256 * 1024
        assert len(await reader.readexactly(sent)) == sent
        far.setblocking(True)
        far.sendall(b"more")
        assert await reader.readexactly(4) == b"more"

    on_streams(scenario, limit=limit)


def test_half_closing(on_streams):
    async def scenario(reader, writer, far):
        assert writer.can_write_eof()
        writer.write(b"question")
        writer.write_eof()
        assert await in_thread(read_all, far) == b"question"
        far.sendall(b"answer")
        far.shutdown(socket.SHUT_WR)
        assert await reader.read() == b"answer"
        assert not writer.is_closing()

    on_streams(scenario)


def test_the_end_leaves_the_writer_open(on_streams):
    async def scenario(reader, writer, far):
        far.shutdown(socket.SHUT_WR)
        assert await reader.read() == b""
        writer.writelines([b"still ", b"here"])
        await writer.drain()
        writer.close()
        assert await in_thread(read_all, far) == b"still here"

    on_streams(scenario)


def test_closing(on_streams):
    async def scenario(reader, writer, far):
        assert not writer.is_closing()
        writer.write(b"bye")
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        assert await in_thread(read_all, far) == b"bye"
        assert await reader.read() == b""

    on_streams(scenario)


def test_a_writer_knows_its_transport(on_streams):
    async def scenario(_reader, writer, far):
        assert isinstance(writer.transport, asyncio.Transport)
        assert writer.get_extra_info("peername") == far.getsockname()
        assert writer.get_extra_info("nothing", "default") == "default"
        assert isinstance(writer.transport.get_protocol(), asyncio.StreamReaderProtocol)

    on_streams(scenario)


# --- servers ---


async def echo_lines(reader, writer):
    async for line in reader:
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def conversation(reader, writer, lines=20):
    try:
        for i in range(lines):
            line = b"line %d\n" % i
            writer.write(line)
            await writer.drain()
            assert await reader.readline() == line
        writer.write_eof()
        assert await reader.read() == b""
    finally:
        writer.close()
        await writer.wait_closed()


def test_many_conversations_with_a_server(loop):
    async def scenario():
        server = await asyncio.start_server(echo_lines, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()

        async def client():
            await conversation(*await asyncio.open_connection(*address))

        await asyncio.gather(*(client() for _ in range(30)))
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)

    loop.run_until_complete(scenario())


def test_conversations_over_unix_sockets(loop, tmp_path):
    path = str(tmp_path / "socket")

    async def scenario():
        server = await asyncio.start_unix_server(echo_lines, path)
        await asyncio.gather(
            *(
                conversation(reader, writer)
                for reader, writer in [await asyncio.open_unix_connection(path) for _ in range(10)]
            )
        )
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)

    loop.run_until_complete(scenario())


def test_a_callback_that_is_a_plain_function(loop):
    served = []

    def serve(reader, writer):
        served.append(isinstance(reader, asyncio.StreamReader))
        writer.write(b"plain")
        writer.close()

    async def scenario():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b"plain"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(scenario())
    assert served == [True]
