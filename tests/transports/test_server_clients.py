"""The connections that a server accepted: counted, waited for, closed and aborted by it."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from support.recording import Recorder
from transports.serving import Echo, ended, since_3_12, since_3_13


def test_connections_survive_the_server_that_accepted_them(loop):
    protocol = Echo()

    async def scenario():
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            await protocol.called("connection_made")
            server.close()
            client.sendall(b"still there?")
            await protocol.got(12)
            assert await loop.run_in_executor(None, client.recv, 100) == b"still there?"
        await protocol.lost()
        await server.wait_closed()

    loop.run_until_complete(scenario())


@since_3_12
def test_wait_closed_waits_for_the_last_connection(loop):
    protocol = Echo()

    async def scenario():
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await protocol.called("connection_made")
            server.close()
            task = loop.create_task(server.wait_closed())
            await asyncio.sleep(0.02)
            assert not task.done()
        await asyncio.wait_for(task, 20)
        assert protocol.losses == 1

    loop.run_until_complete(scenario())


@since_3_13
def test_close_clients_closes_accepted_connections(loop):
    protocol = Recorder()

    async def scenario():
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            await protocol.called("connection_made")
            protocol.transport.write(b"x" * 1_000_000)
            server.close()
            server.close_clients()
            received = bytearray()

            def read():
                while chunk := client.recv(1 << 16):
                    received.extend(chunk)

            await loop.run_in_executor(None, read)
            # Closing is polite: what was written is delivered first.
            assert len(received) == 1_000_000
            await asyncio.wait_for(server.wait_closed(), 20)
        assert await protocol.lost() is None

    loop.run_until_complete(scenario())


@since_3_13
def test_abort_clients_drops_accepted_connections(loop):
    protocol = Recorder()

    async def scenario():
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await protocol.called("connection_made")
            protocol.transport.write(bytes(16 << 20))
            server.close()
            server.abort_clients()
            # Although the peer reads nothing of what was written.
            await asyncio.wait_for(server.wait_closed(), 20)
        assert await protocol.lost() is None

    loop.run_until_complete(scenario())


@since_3_13
def test_a_server_knows_its_own_clients_and_no_others(loop):
    """Also those that read nothing, which the loop itself does not keep alive."""
    protocols = {"one": [], "two": []}

    def factory(name):
        protocol = Recorder()
        protocols[name].append(protocol)
        return protocol

    def transports(name):
        return {protocol.transport for protocol in protocols[name]}

    async def scenario():
        servers = {
            name: await loop.create_server(lambda name=name: factory(name), "127.0.0.1", 0)
            for name in protocols
        }
        clients = [
            socket.create_connection(servers[name].sockets[0].getsockname())
            for name in ("one", "one", "two", "one")
        ]
        while sum(map(len, protocols.values())) < len(clients):
            await asyncio.sleep(0.001)
        for protocol in protocols["one"] + protocols["two"]:
            await protocol.called("connection_made")
        protocols["one"][0].transport.pause_reading()
        for name, server in servers.items():
            assert set(server._clients) == transports(name)
            assert len(server._clients) == len(protocols[name])
            assert all(transport in server._clients for transport in transports(name))
        assert not transports("two") & set(servers["one"]._clients)
        servers["one"].close()
        servers["one"].close_clients()
        await asyncio.wait_for(servers["one"].wait_closed(), 20)
        assert len(servers["one"]._clients) == 0
        assert len(servers["two"]._clients) == 1
        assert await asyncio.gather(*(p.lost() for p in protocols["one"])) == [None] * 3
        servers["two"].close()
        servers["two"].abort_clients()
        await asyncio.wait_for(servers["two"].wait_closed(), 20)
        for client in clients:
            client.close()

    loop.run_until_complete(scenario())


@since_3_13
def test_an_abandoned_connection_is_no_longer_its_servers(loop):
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async def scenario():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            while not protocols:
                await asyncio.sleep(0.001)
            await protocols[0].called("connection_made")
            protocols.pop().transport.pause_reading()
            with pytest.warns(ResourceWarning, match="unclosed transport"):
                gc.collect()
            assert len(server._clients) == 0
            assert list(server._clients) == []
        await ended(server)

    loop.run_until_complete(scenario())
