"""``loop.sendfile`` and ``loop.sock_sendfile``: files to sockets, without and with TLS."""

from __future__ import annotations

import asyncio
import io
import os
import socket

import pytest

from support.recording import Recorder, blocking_pair, in_thread, read_all, read_exactly

SIZE = 3 << 20


@pytest.fixture(scope="module")
def content():
    return os.urandom(1 << 16) * (SIZE >> 16)


@pytest.fixture
def file(tmp_path, content):
    path = tmp_path / "content"
    path.write_bytes(content)
    with path.open("rb") as file:
        yield file


def narrow(transport, far):
    """Let the kernel hold little, so that sending has to wait for the peer."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)


def test_a_whole_file_to_a_transport(loop, on_pair, file, content):
    async def scenario(transport, _protocol, far):
        reading = asyncio.ensure_future(in_thread(read_exactly, far, SIZE))
        assert await loop.sendfile(transport, file) == SIZE
        assert await reading == content
        assert file.tell() == SIZE

    on_pair(scenario)


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, 10), (100, 1000), (SIZE - 10, None), (SIZE - 10, 100), (12345, 1 << 20), (SIZE, None)],
)
def test_a_part_of_a_file(loop, on_pair, file, content, offset, count):
    expected = content[offset : None if count is None else offset + count]

    async def scenario(transport, _protocol, far):
        reading = asyncio.ensure_future(in_thread(read_exactly, far, len(expected)))
        assert await loop.sendfile(transport, file, offset, count) == len(expected)
        assert await reading == expected
        # Where the position is if nothing is left to send depends on the version.
        assert file.tell() == offset + len(expected) or not expected

    on_pair(scenario)


def test_data_written_around_it_keeps_its_place(loop, on_pair, file, content):
    head, tail = b"head" * 50_000, b"tail" * 50_000

    async def scenario(transport, _protocol, far):
        everything = len(head) + SIZE + len(tail)
        reading = asyncio.ensure_future(in_thread(read_exactly, far, everything))
        transport.write(head)
        await loop.sendfile(transport, file)
        transport.write(tail)
        assert await reading == head + content + tail

    on_pair(scenario)


def test_nothing_can_be_written_meanwhile(loop, on_pair, file, content):
    async def scenario(transport, _protocol, far):
        narrow(transport, far)
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="unable to write; sendfile is in progress"):
            transport.write(b"between")
        reading = asyncio.ensure_future(in_thread(read_exactly, far, SIZE))
        assert await sending == SIZE
        transport.write(b"after")
        assert await reading == content
        assert await in_thread(read_exactly, far, 5) == b"after"

    on_pair(scenario)


def test_reading_goes_on_afterwards(loop, on_pair, file):
    async def scenario(transport, protocol, far):
        far.sendall(b"before")
        await protocol.got(6)
        reading = asyncio.ensure_future(in_thread(read_exactly, far, SIZE))
        await loop.sendfile(transport, file)
        await reading
        assert transport.is_reading()
        far.sendall(b"after")
        await protocol.got(11)

    on_pair(scenario)


def test_a_transport_that_is_closing_is_refused(loop, on_pair, file):
    async def scenario(transport, protocol, _far):
        transport.close()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(transport, file)
        await protocol.lost()

    on_pair(scenario)


def test_a_file_without_a_descriptor_is_read_and_sent(loop, on_pair, content):
    async def scenario(transport, _protocol, far):
        reading = asyncio.ensure_future(in_thread(read_exactly, far, SIZE))
        assert await loop.sendfile(transport, io.BytesIO(content)) == SIZE
        assert await reading == content

    on_pair(scenario)


def test_without_the_fallback_it_is_refused(loop, on_pair, content):
    async def scenario(transport, _protocol, far):
        with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
            await loop.sendfile(transport, io.BytesIO(content), fallback=False)
        transport.write(b"still usable")
        assert await in_thread(read_exactly, far, 12) == b"still usable"

    on_pair(scenario)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"offset": -1}, ValueError, "offset must be a non-negative integer"),
        ({"count": -1}, ValueError, "count must be a positive integer"),
        ({"count": 0}, ValueError, "count must be a positive integer"),
        ({"offset": 1.5}, TypeError, "offset must be a non-negative integer"),
    ],
)
def test_impossible_parts_are_refused(loop, file, arguments, error, text):
    near, far = blocking_pair()
    with near, far, pytest.raises(error, match=text):
        loop.run_until_complete(loop.sock_sendfile(near, file, **arguments))


def test_a_text_file_is_refused(loop, tmp_path):
    path = tmp_path / "text"
    path.write_text("text")
    near, far = blocking_pair()
    with near, far, path.open() as file, pytest.raises(ValueError, match="binary mode"):
        loop.run_until_complete(loop.sock_sendfile(near, file))


def test_a_datagram_socket_is_refused(loop, file):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with pytest.raises(ValueError, match="SOCK_STREAM"):
            loop.run_until_complete(loop.sock_sendfile(sock, file))


def test_a_file_to_a_socket(loop, file, content):
    near, far = blocking_pair()

    async def main():
        reading = asyncio.ensure_future(in_thread(read_exactly, far, SIZE))
        assert await loop.sock_sendfile(near, file) == SIZE
        assert await reading == content

    with near, far:
        loop.run_until_complete(main())


def test_an_empty_file(loop, tmp_path):
    path = tmp_path / "empty"
    path.touch()
    near, far = blocking_pair()
    with near, far, path.open("rb") as file:
        assert loop.run_until_complete(loop.sock_sendfile(near, file)) == 0


def test_a_peer_that_is_gone(loop, on_pair, file):
    async def scenario(transport, _protocol, far):
        narrow(transport, far)
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        await in_thread(read_exactly, far, 1000)
        far.close()
        with pytest.raises(OSError) as caught:
            await sending
        assert isinstance(caught.value, ConnectionError)
        # Where it stopped can be read off the file.
        assert 1000 <= file.tell() < SIZE

    on_pair(scenario)


def test_cancelling_leaves_the_connection_usable(loop, on_pair, file, content):
    async def scenario(transport, _protocol, far):
        narrow(transport, far)
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        received = await in_thread(read_exactly, far, 1000)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        transport.write(b"end")
        transport.write_eof()
        received += await in_thread(read_all, far)
        assert received.endswith(b"end")
        assert content.startswith(received[:-3])

    on_pair(scenario)


def test_a_file_over_tls(loop, certificates, file, content):
    """TLS has no system call for it: it is read and sent."""

    async def main():
        received = Recorder()
        server = await loop.create_server(
            lambda: received, "127.0.0.1", 0, ssl=certificates.server_context()
        )
        transport, sender = await loop.create_connection(
            Recorder,
            *server.sockets[0].getsockname(),
            ssl=certificates.client_context(),
            server_hostname="localhost",
        )
        with pytest.raises(RuntimeError, match="fallback is disabled"):
            await loop.sendfile(transport, file, fallback=False)
        transport.write(b"head")
        assert await loop.sendfile(transport, file, 1000) == SIZE - 1000
        transport.write(b"tail")
        await received.got(SIZE - 1000 + 8)
        assert received.received == b"head" + content[1000:] + b"tail"
        assert transport.get_protocol() is sender
        transport.close()
        await sender.lost()
        await received.lost()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
