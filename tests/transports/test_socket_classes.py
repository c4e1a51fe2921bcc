"""Connections over sockets of a class of the program's own, whose methods carry the data."""

from __future__ import annotations

import asyncio
import socket

import pytest


class Counting(socket.socket):
    """A socket that counts the bytes that pass through its methods."""

    received = sent = 0

    def recv(self, *args):
        data = super().recv(*args)
        self.received += len(data)
        return data

    def recv_into(self, *args):
        count = super().recv_into(*args)
        self.received += count
        return count

    def send(self, *args):
        count = super().send(*args)
        self.sent += count
        return count

    def sendmsg(self, *args):
        count = super().sendmsg(*args)
        self.sent += count
        return count


class Plain(socket.socket):
    """A class that overrides nothing of what a transport calls."""


async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()


async def exchanged(sock, **options):
    """What comes back from the server that echoes, over a connection of this socket."""
    reader, writer = await asyncio.open_connection(sock=sock, **options)
    writer.writelines([b"he", b"llo"])
    await writer.drain()
    data = await reader.readexactly(5)
    kind = type(writer.get_extra_info("socket")._sock)
    writer.close()
    await writer.wait_closed()
    return data, kind


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("kind", [Counting, Plain])
def test_the_methods_of_the_class_carry_the_data(loop, certificates, kind, encrypted):
    async def scenario():
        server = await asyncio.start_server(
            echo, "127.0.0.1", 0, ssl=certificates.server_context() if encrypted else None
        )
        async with server:
            sock = kind(socket.AF_INET, socket.SOCK_STREAM)
            sock.connect(server.sockets[0].getsockname())
            sock.setblocking(False)
            options = {"ssl": certificates.client_context(), "server_hostname": "localhost"}
            assert await exchanged(sock, **options if encrypted else {}) == (b"hello", kind)
            if kind is Counting:
                assert (sock.sent, sock.received) >= (5, 5)

    loop.run_until_complete(scenario())


def test_an_accepted_socket_of_a_class_of_ones_own(loop):
    async def scenario():
        near, far = socket.socketpair()
        with far:
            sock = Counting(near.family, near.type, 0, near.detach())
            reader = asyncio.StreamReader()
            transport, _ = await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader), sock
            )
            far.sendall(b"question")
            assert await reader.readexactly(8) == b"question"
            transport.write(b"answer")
            assert (sock.received, sock.sent) == (8, 6)
            assert far.recv(10) == b"answer"
            transport.close()
            await asyncio.sleep(0)

    loop.run_until_complete(scenario())


def test_a_listening_socket_whose_class_accepts_in_a_way_of_its_own(loop):
    class Listening(socket.socket):
        def accept(self):
            near, address = super().accept()
            return Counting(near.family, near.type, 0, near.detach()), address

    async def scenario():
        kinds = []

        async def answer(reader, writer):
            kinds.append(type(writer.get_extra_info("socket")._sock))
            await echo(reader, writer)

        listening = Listening(socket.AF_INET, socket.SOCK_STREAM)
        listening.bind(("127.0.0.1", 0))
        async with await asyncio.start_server(answer, sock=listening):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            await writer.wait_closed()
        assert kinds == [Counting]

    loop.run_until_complete(scenario())


def test_methods_that_replace_those_of_all_sockets_are_heard(loop, monkeypatch):
    heard = []

    def hearing(name):
        replaced = getattr(socket.socket, name)

        def method(self, *args):
            heard.append(name)
            return replaced(self, *args)

        monkeypatch.setattr(socket.socket, name, method)

    async def scenario():
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            await writer.wait_closed()
        # The client's and the server's connections do both.
        assert heard.count("send") == 2
        assert heard.count("recv") >= 2

    for name in ("recv", "send"):
        hearing(name)
    loop.run_until_complete(scenario())


def test_datagrams_hear_methods_that_replace_those_of_all_sockets(loop, monkeypatch):
    sent = []
    send = socket.socket.sendto

    def sendto(self, data, *address):
        sent.append(data)
        return send(self, data, *address)

    async def scenario():
        near, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        near.sendto(b"hello", near.get_extra_info("sockname"))
        near.close()
        await asyncio.sleep(0)
        assert sent == [b"hello"]

    monkeypatch.setattr(socket.socket, "sendto", sendto)
    loop.run_until_complete(scenario())
