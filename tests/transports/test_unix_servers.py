"""Servers on Unix sockets: their paths, and when these are removed."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import sys

import pytest

from support.recording import Recorder

since_3_13 = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="servers remove their socket since Python 3.13"
)


class Echo(Recorder):
    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


async def answered(path):
    """Does a server answer there?"""

    def ask():
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(path)
            client.sendall(b"question")
            return client.recv(100) == b"question"

    answer = await asyncio.get_running_loop().run_in_executor(None, ask)
    await asyncio.sleep(0.01)  # until the server has seen the client go
    return answer


async def ended(server):
    server.close()
    await server.wait_closed()


def test_a_unix_server_answers(loop, tmp_path):
    path = tmp_path / "socket"

    async def scenario():
        server = await loop.create_unix_server(Echo, path)
        [sock] = server.sockets
        assert sock.family == socket.AF_UNIX
        assert sock.getsockname() == str(path)
        assert await answered(str(path))
        await ended(server)

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("kind", [str, bytes])
def test_the_path_may_be_text_or_bytes(loop, tmp_path, kind):
    path = tmp_path / "socket"

    async def scenario():
        server = await loop.create_unix_server(Echo, kind(path))
        assert await answered(str(path))
        await ended(server)

    loop.run_until_complete(scenario())


def test_an_abstract_name_leaves_no_file(loop, tmp_path):
    name = f"\0{tmp_path}"

    async def scenario():
        server = await loop.create_unix_server(Echo, name)
        assert await answered(name)
        await ended(server)

    loop.run_until_complete(scenario())
    assert list(tmp_path.iterdir()) == []


def test_a_socket_left_by_a_dead_server_is_replaced(loop, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    assert os.path.exists(path)

    async def scenario():
        server = await loop.create_unix_server(Echo, path)
        assert await answered(path)
        await ended(server)

    loop.run_until_complete(scenario())


def test_a_file_that_is_no_socket_stays(loop, tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(
        OSError, match=re.escape(f"Address {str(path)!r} is already in use")
    ) as caught:
        loop.run_until_complete(loop.create_unix_server(Echo, str(path)))
    assert caught.value.errno == errno.EADDRINUSE
    assert path.read_text() == "precious"


def test_a_missing_directory(loop, tmp_path):
    with pytest.raises(FileNotFoundError):
        loop.run_until_complete(loop.create_unix_server(Echo, tmp_path / "none" / "socket"))


def test_a_path_too_long_for_a_socket(loop, tmp_path):
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        loop.run_until_complete(loop.create_unix_server(Echo, tmp_path / ("x" * 200)))


@since_3_13
def test_closing_removes_the_socket(loop, tmp_path):
    path = tmp_path / "socket"

    async def scenario():
        server = await loop.create_unix_server(Echo, path)
        assert path.exists()
        await ended(server)
        assert not path.exists()

    loop.run_until_complete(scenario())


@since_3_13
def test_closing_leaves_the_socket_when_asked_to(loop, tmp_path):
    path = tmp_path / "socket"

    async def scenario():
        server = await loop.create_unix_server(Echo, path, cleanup_socket=False)
        await ended(server)
        assert path.exists()

    loop.run_until_complete(scenario())


@since_3_13
def test_closing_leaves_the_socket_of_a_successor(loop, tmp_path):
    path = tmp_path / "socket"

    async def scenario():
        first = await loop.create_unix_server(Echo, path)
        second = await loop.create_unix_server(Echo, path)
        await ended(first)
        assert path.exists()
        assert await answered(str(path))
        await ended(second)
        assert not path.exists()

    loop.run_until_complete(scenario())


@since_3_13
def test_closing_ignores_a_socket_already_removed(loop, tmp_path):
    path = tmp_path / "socket"

    async def scenario():
        server = await loop.create_unix_server(Echo, path)
        path.unlink()
        await ended(server)

    loop.run_until_complete(scenario())
    assert not path.exists()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="removed on closing since Python 3.13")
def test_the_socket_stays_behind(loop, tmp_path):
    path = tmp_path / "socket"

    async def scenario():
        server = await loop.create_unix_server(Echo, path)
        await ended(server)

    loop.run_until_complete(scenario())
    assert path.exists()


def test_a_given_socket_is_listened_on(loop, tmp_path):
    path = str(tmp_path / "socket")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)

    async def scenario():
        server = await loop.create_unix_server(Echo, sock=sock)
        assert await answered(path)
        await ended(server)

    loop.run_until_complete(scenario())


def test_a_unix_server_can_be_started_later(loop, tmp_path):
    path = str(tmp_path / "socket")

    async def scenario():
        server = await loop.create_unix_server(Echo, path, start_serving=False)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await answered(path)
        await server.start_serving()
        assert await answered(path)
        await ended(server)

    loop.run_until_complete(scenario())


def test_arguments_that_contradict_each_other_are_refused(loop, tmp_path):
    def refused(exception, message, *args, **options):
        with pytest.raises(exception, match=message):
            loop.run_until_complete(loop.create_unix_server(Echo, *args, **options))

    path = str(tmp_path / "socket")
    refused(ValueError, "path was not specified, and no sock specified")
    refused(TypeError, "ssl argument must be an SSLContext or None", path, ssl=True)
    refused(
        ValueError,
        "ssl_handshake_timeout is only meaningful with ssl",
        path,
        ssl_handshake_timeout=1,
    )
    with (
        socket.socket(socket.AF_UNIX) as sock,
        socket.socket() as tcp,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        refused(ValueError, "path and sock can not be specified at the same time", path, sock=sock)
        refused(ValueError, "A UNIX Domain Stream Socket was expected", sock=tcp)
        refused(ValueError, "A UNIX Domain Stream Socket was expected", sock=datagrams)
    assert list(tmp_path.iterdir()) == []
