"""The websockets library's server and client, both on the tested loop."""

from __future__ import annotations

import asyncio
import random
import ssl

import pytest
import websockets
from websockets.asyncio import client as client_module
from websockets.asyncio import server as server_module


@pytest.fixture
def on_server(run, security):
    """Run ``scenario(connect)`` beside a server; ``connect()`` opens a connection to it."""

    def on_server(handler, scenario, **options):
        async def wrapper():
            context = security and security.server_context()
            async with server_module.serve(
                handler, "127.0.0.1", 0, ssl=context, **options
            ) as server:
                host, port = server.sockets[0].getsockname()

                def connect(**client_options):
                    address = f"{'wss' if security else 'ws'}://{host}:{port}"
                    if security:
                        client_options.setdefault("ssl", security.client_context())
                    return client_module.connect(address, proxy=None, **client_options)

                await scenario(connect)

        run(wrapper())

    return on_server


async def echo(socket):
    async for message in socket:
        await socket.send(message)


def test_messages_come_back(on_server):
    async def scenario(connect):
        async with connect() as socket:
            for message in ("text", "", b"bytes", b"", "ünïcode" * 1000):
                await socket.send(message)
                assert await socket.recv() == message

    on_server(echo, scenario)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_large_message(on_server, compression):
    payload = random.Random(1).randbytes(4 << 20)

    async def scenario(connect):
        async with connect(max_size=None, compression=compression) as socket:
            await socket.send(payload)
            assert await socket.recv() == payload

    on_server(echo, scenario, max_size=None, compression=compression)


def test_many_clients_at_once(on_server):
    async def scenario(connect):
        async def client(i):
            async with connect() as socket:
                for j in range(10):
                    await socket.send(f"{i}.{j}")
                    assert await socket.recv() == f"{i}.{j}"

        await asyncio.gather(*(client(i) for i in range(30)))

    on_server(echo, scenario)


def test_a_broadcast_reaches_all_clients(on_server):
    connected = set()

    async def handler(socket):
        connected.add(socket)
        try:
            async for message in socket:
                server_module.broadcast(connected, message)
        finally:
            connected.discard(socket)

    async def scenario(connect):
        sockets = [await connect() for _ in range(20)]
        while len(connected) < 20:
            await asyncio.sleep(0.005)
        await sockets[0].send("to all")
        assert [await socket.recv() for socket in sockets] == ["to all"] * 20
        await asyncio.gather(*(socket.close() for socket in sockets))

    on_server(handler, scenario)
    assert connected == set()


def test_pings_are_answered(on_server):
    async def scenario(connect):
        async with connect() as socket:
            latency = await asyncio.wait_for(await socket.ping(), 10)
            assert 0 <= latency < 10

    on_server(echo, scenario)


def test_the_reason_of_the_close_arrives(on_server):
    async def handler(socket):
        await socket.close(4321, "that is all")

    async def scenario(connect):
        async with connect() as socket:
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await socket.recv()
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4321, "that is all")

    on_server(handler, scenario)


def test_a_client_that_vanishes_ends_its_handler(on_server):
    ended = asyncio.Event()

    async def handler(socket):
        try:
            await socket.recv()
        except websockets.ConnectionClosedError:
            ended.set()

    async def scenario(connect):
        socket = await connect()
        socket.transport.abort()
        await ended.wait()
        await socket.wait_closed()

    on_server(handler, scenario)
    assert ended.is_set()


@pytest.mark.parametrize("security", ["tls"], indirect=True)
def test_a_client_that_does_not_trust_the_server(on_server, certificates):
    async def scenario(connect):
        for _ in range(3):
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                await connect(ssl=certificates.untrusting_context())
            assert caught.value.verify_code == 20
        async with connect() as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"

    on_server(echo, scenario)
