"""Protocols, factories, resolvers and handlers that raise whatever they are called with."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
import sys

import pytest

from faults.harness import TOO_MUCH, endure, until
from support.recording import Recorder, blocking_pair, in_thread, read_all, reset, transport_pair


class Trouble(Exception):
    pass


def raising(base=Recorder):
    """A protocol that notes every call, and raises in every one."""

    def make(name):
        def callback(self, *args):
            getattr(base, name)(self, *args)
            raise Trouble(name)

        callback.__qualname__ = name  # what reports call it
        return callback

    names = (
        *("connection_made", "data_received", "eof_received", "connection_lost"),
        *("pause_writing", "resume_writing"),
    )
    return type("RaisesAlways", (base,), {name: make(name) for name in names})


def test_every_callback_of_a_connection(loop):
    async def fault():
        _, protocol, far = await transport_pair(loop, raising()())
        far.sendall(b"x")
        assert str(await protocol.lost()) == "data_received"
        assert protocol.calls == ["connection_made", "data_received", "connection_lost"]
        far.close()

    reports = endure(loop, fault)
    assert len(reports) == 3
    assert len(set(reports.values())) == 1  # each as often as the others
    assert "Fatal error: protocol.data_received() call failed." in reports


def test_flow_control_and_the_end(loop):
    async def fault():
        transport, protocol, far = await transport_pair(loop, raising()())
        transport.write(bytes(TOO_MUCH))
        transport.close()
        assert len(await in_thread(read_all, far)) == TOO_MUCH
        assert await protocol.lost() is None
        far.close()

    # The pieces that were read are put together in another thread, with an arena of its own.
    reports = endure(loop, fault, rounds=6, most=4096)
    assert {"protocol.pause_writing() failed", "protocol.resume_writing() failed"} < set(reports)


def test_a_reset(loop):
    async def fault():
        _, protocol, far = await transport_pair(loop, raising()())
        reset(far)
        assert isinstance(await protocol.lost(), ConnectionResetError)

    assert len(endure(loop, fault)) == 2


@pytest.mark.native_only(reason="asyncio leaves the socket to the collector, with a warning")
def test_a_factory_that_raises(loop):
    def factory():
        raise Trouble("factory")

    async def fault():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        # The connection is closed, not forgotten.
        with (
            socket.create_connection(address, timeout=20) as client,
            contextlib.suppress(ConnectionResetError),
        ):
            assert await in_thread(client.recv, 1) == b""
        server.close()
        await server.wait_closed()

    # As asyncio: reported in debug mode only.
    assert not endure(loop, fault)


def test_a_clients_factory_that_raises(loop):
    def factory():
        raise Trouble("factory")

    async def fault():
        near, far = blocking_pair()
        with pytest.raises(Trouble):
            await loop.create_connection(factory, sock=near)
        near.close()
        far.close()

    assert not endure(loop, fault)


@pytest.mark.skipif(
    sys.version_info < (3, 11, 7), reason="older asyncio leaves the connection open"
)
def test_a_stream_callback_that_raises(loop):
    async def callback(reader, writer):
        raise Trouble("callback")

    async def fault():
        server = await asyncio.start_server(callback, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname(), timeout=20) as client:
            client.sendall(b"x")
            client.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.002)
        server.close()
        await asyncio.sleep(0.002)

    reports = endure(loop, fault)
    assert set(reports) <= {
        "Unhandled exception in client_connected_cb",
        "Task exception was never retrieved",
    }


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.calls = []

    def connection_made(self, transport):
        self.calls.append("connection_made")

    def datagram_received(self, data, address):
        self.calls.append("datagram_received")

    def error_received(self, error):
        self.calls.append("error_received")

    def connection_lost(self, error):
        self.calls.append("connection_lost")


def test_a_handler_of_exceptions_that_raises(loop, caplog):
    def handler(loop, context):
        raise Trouble("handler")

    async def scenario():
        loop.set_exception_handler(handler)
        _, protocol, far = await transport_pair(loop, raising()())
        far.sendall(b"x")
        assert str(await protocol.lost()) == "data_received"
        far.close()
        await asyncio.sleep(0)

    loop.run_until_complete(scenario())
    assert caplog.text.count("Unhandled error in exception handler") >= 3


# --- names ---


def test_a_resolver_that_fails(loop, monkeypatch):
    def getaddrinfo(*args, **kwargs):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def fault():
        with pytest.raises(socket.gaierror, match="Temporary failure"):
            await loop.create_connection(Recorder, "example.test", 80)
        with pytest.raises(socket.gaierror, match="Temporary failure"):
            await loop.getaddrinfo("example.test", 80)
        with pytest.raises(socket.gaierror, match="Temporary failure"):
            await loop.create_server(Recorder, "example.test", 0)

    assert not endure(loop, fault)


def test_a_resolver_that_raises_an_unexpected_exception(loop, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: 1 / 0)

    async def fault():
        with pytest.raises(ZeroDivisionError):
            await loop.create_connection(Recorder, "example.test", 80)

    assert not endure(loop, fault)


def test_a_resolver_thread_that_cannot_be_started(loop):
    class Broken(concurrent.futures.ThreadPoolExecutor):
        def submit(self, *args, **kwargs):
            raise RuntimeError("can't start new thread")

    async def fault():
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await loop.create_connection(Recorder, "example.test", 80)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await loop.getaddrinfo("example.test", 80)

    loop.set_default_executor(Broken(1))
    assert not endure(loop, fault)


def test_a_resolver_that_answers_after_it_was_given_up(loop, monkeypatch):
    resolve = socket.getaddrinfo
    release = concurrent.futures.Future()

    def getaddrinfo(host, *args, **kwargs):
        if host == "slow.test":
            release.result(20)
            host = "127.0.0.1"
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def fault():
        nonlocal release
        release = concurrent.futures.Future()
        connecting = asyncio.ensure_future(loop.create_connection(Recorder, "slow.test", 80))
        await asyncio.sleep(0.001)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        release.set_result(None)
        await asyncio.sleep(0.001)

    assert not endure(loop, fault)


# --- datagrams ---


def test_every_callback_of_a_datagram_endpoint(loop):
    def make(name):
        def callback(self, *args):
            getattr(Datagrams, name)(self, *args)
            raise Trouble(name)

        callback.__qualname__ = name
        return callback

    names = ("connection_made", "datagram_received", "connection_lost")
    protocol_class = type("Raises", (Datagrams,), {name: make(name) for name in names})

    async def fault():
        transport, protocol = await loop.create_datagram_endpoint(
            protocol_class, local_addr=("127.0.0.1", 0)
        )
        # The endpoint survives: each datagram is a message of its own.
        for i in range(3):
            sender.sendto(b"x", transport.get_extra_info("sockname"))
            await until(lambda i=i: protocol.calls.count("datagram_received") > i)
        transport.close()
        await until(lambda: "connection_lost" in protocol.calls)

    # Always the same: addresses of peers may be remembered.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        reports = endure(loop, fault)
    assert len(reports) >= 3
