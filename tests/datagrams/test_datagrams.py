"""Datagrams there and back, and data that cannot be sent."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from datagrams.recorders import LOCAL, NOBODY, SENDS_EMPTY, Echo, name_of, pair

# --- sending and receiving ---


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_go_there_and_back(run, endpoint, host):
    async def scenario():
        server, _received, client, answers = await pair(endpoint, Echo, host)
        client.sendto(b"one")
        client.sendto(b"two", None)
        client.sendto(b"three", name_of(server))
        await answers.count(3)
        assert answers.datagrams == [(data, name_of(server)) for data in (b"one", b"two", b"three")]
        assert answers.calls[0] == "connection_made"

    run(scenario)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_senders_are_named_as_sockets_name_them(run, endpoint, host):
    async def scenario():
        _server, received, client, _answers = await pair(endpoint, host=host)
        client.sendto(b"x")
        await received.count(1)
        assert received.datagrams == [(b"x", name_of(client))]
        assert type(received.datagrams[0][1]) is tuple

    run(scenario)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_anything_like_bytes_is_sent(run, endpoint, kind):
    async def scenario():
        _server, received, client, _answers = await pair(endpoint)
        client.sendto(kind(b"data"))
        client.sendto(data=kind(b"more"), addr=None)
        await received.count(2)
        assert received.contents == [b"data", b"more"]
        assert {type(data) for data in received.contents} == {bytes}

    run(scenario)


@pytest.mark.parametrize("data", ["text", None, 1, [1], object()])
def test_other_types_are_refused(run, endpoint, data):
    async def scenario():
        _server, _received, client, _answers = await pair(endpoint)
        with pytest.raises(TypeError, match="data argument must be a bytes-like object, not "):
            client.sendto(data)
        assert not client.is_closing()

    run(scenario)


def test_the_refusal_names_the_type(run, endpoint):
    async def scenario():
        _server, _received, client, _answers = await pair(endpoint)
        with pytest.raises(TypeError) as caught:
            client.sendto("text")
        assert str(caught.value) == "data argument must be a bytes-like object, not 'str'"

    run(scenario)


AUDITED = """
    import asyncio, socket, sys

    heard = []

    def hook(name, args):
        if name == "socket.sendto":
            heard.append((isinstance(args[0], socket.socket), *args[1:]))
            if refuse:
                raise LookupError("not to be sent")

    sys.addaudithook(hook)

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            received.append(data)
            if data == b"question":
                self.transport.sendto(b"answer", address)

        def connection_made(self, transport):
            self.transport = transport

    async def main():
        global refuse
        loop = asyncio.get_running_loop()
        asked, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
        asking, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
        address = asked.get_extra_info("sockname")
        asking.sendto(b"question", address)
        while len(received) < 2:
            await asyncio.sleep(0.001)
        assert heard == [(True, address), (True, asking.get_extra_info("sockname"))], heard
        loop.set_exception_handler(lambda _loop, context: print(repr(context["exception"])))
        refuse = True
        asking.sendto(b"refused", address)
        print(asking.is_closing())
        await asyncio.sleep(0.01)
        asked.close()
        await asyncio.sleep(0.01)
        assert received == [b"question", b"answer"]

    refuse, received = False, []
    run(main())
"""


def test_sending_to_an_address_is_audited(programs):
    done = programs.run(AUDITED)
    assert done.stdout.splitlines() == ["LookupError('not to be sent')", "True"]


def test_an_empty_datagram_is_sent_from_3_13_on(run, endpoint):
    async def scenario():
        _server, received, client, _answers = await pair(endpoint)
        client.sendto(b"")
        client.sendto(b"end")
        await received.until(lambda: b"end" in received.contents)
        assert received.contents == ([b"", b"end"] if SENDS_EMPTY else [b"end"])

    run(scenario)


def test_an_empty_datagram_is_received(run, endpoint):
    async def scenario():
        server, received = await endpoint(local_addr=LOCAL)
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.sendto(b"", name_of(server))
            peer.sendto(b"end", name_of(server))
            await received.count(2)
        assert received.contents == [b"", b"end"]

    run(scenario)


def test_many_datagrams_arrive_in_order_and_whole(run, endpoint):
    async def scenario():
        server, received, client, answers = await pair(endpoint, Echo)
        sent = [bytes([number]) * (1 + number * 7) for number in range(100)]
        for data in sent:
            client.sendto(data)
        await answers.count(100)
        assert received.contents == sent
        assert answers.contents == sent
        del server

    run(scenario)


def test_the_largest_datagram(run, endpoint):
    async def scenario():
        _server, received, client, answers = await pair(endpoint, Echo)
        data = os.urandom(65507)
        client.sendto(data)
        await answers.count(1)
        assert received.contents == answers.contents == [data]

    run(scenario)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_too_large_a_datagram_is_the_protocols_error(run, endpoint, host):
    async def scenario():
        server, received, client, answers = await pair(endpoint, host=host)
        client.sendto(bytes(70_000))
        assert [error.errno for error in answers.errors] == [errno.EMSGSIZE]
        server.sendto(bytes(70_000), name_of(client))
        assert [error.errno for error in received.errors] == [errno.EMSGSIZE]
        assert type(received.errors[0]) is OSError
        client.sendto(b"still works")
        await received.count(1)

    run(scenario)


# --- errors from the network ---


@pytest.mark.parametrize("host", [NOBODY, "::1"])
def test_a_refusal_is_reported_without_another_call(run, endpoint, host):
    async def scenario():
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as reserved:
            reserved.bind((host, 0))
            address = reserved.getsockname()[:2]
        client, protocol = await endpoint(remote_addr=address)
        for number in range(1, 4):
            client.sendto(b"x")
            await protocol.until(lambda number=number: len(protocol.errors) == number)
        assert {type(error) for error in protocol.errors} == {ConnectionRefusedError}
        assert not client.is_closing()

    run(scenario)


def test_a_pending_refusal_is_the_next_sendtos(run, endpoint):
    async def scenario():
        with socket.socket(type=socket.SOCK_DGRAM) as reserved:
            reserved.bind((NOBODY, 0))
            address = reserved.getsockname()
        client, protocol = await endpoint(remote_addr=address)
        client.sendto(b"x")
        # The refusal is there already, over the loopback interface.
        client.sendto(b"x")
        assert [type(error) for error in protocol.errors] == [ConnectionRefusedError]

    run(scenario)


def test_an_unconnected_endpoint_gets_no_refusal(run, endpoint):
    async def scenario():
        with socket.socket(type=socket.SOCK_DGRAM) as reserved:
            reserved.bind((NOBODY, 0))
            address = reserved.getsockname()
        transport, protocol = await endpoint(local_addr=LOCAL)
        transport.sendto(b"x", address)
        transport.sendto(b"self", name_of(transport))
        await protocol.count(1)
        assert protocol.errors == []

    run(scenario)


def test_a_socket_that_is_shut_down_does_not_hold_up_the_loop(run, endpoint):
    async def scenario():
        _server, received, client, answers = await pair(endpoint, Echo)
        client.sendto(b"x")
        await answers.count(1)
        client.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        await asyncio.sleep(0.01)
        client.sendto(b"x")
        assert [type(error) for error in answers.errors] == [BrokenPipeError]
        assert not client.is_closing()
        assert len(received.datagrams) == 1

    run(scenario)
