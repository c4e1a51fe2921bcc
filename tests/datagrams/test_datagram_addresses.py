"""Every address a datagram can have."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from datagrams.recorders import LOCAL, Echo, name_of, pair
from support.recording import Reports

# --- addresses ---


def test_every_spelling_of_an_address(run, endpoint):
    async def scenario():
        server, received = await endpoint(local_addr=LOCAL)
        sender, _ = await endpoint(local_addr=LOCAL)
        port = name_of(server)[1]
        hosts = ["127.0.0.1", "localhost", "127.1", "0x7f.0.0.1", b"127.0.0.1", ""]
        for host in hosts:
            sender.sendto(repr(host).encode(), (host, port))
        await received.count(len(hosts))
        assert received.contents == [repr(host).encode() for host in hosts]
        assert {addr for _, addr in received.datagrams} == {name_of(sender)}

    run(scenario)


def test_every_length_of_an_ipv6_address(run, endpoint):
    async def scenario():
        server, received = await endpoint(local_addr=("::1", 0))
        sender, _ = await endpoint(local_addr=("::1", 0))
        port = name_of(server)[1]
        for rest in ((), (0,), (0, 0), (0, 1)):
            sender.sendto(b"%d" % len(rest), ("::1", port, *rest))
        sender.sendto(b"long", ("0:0:0:0:0:0:0:1", port))
        sender.sendto(b"name", ("localhost", port))
        await received.count(5)
        assert received.contents[:5] == [b"0", b"1", b"2", b"2", b"long"]

    run(scenario)


def test_flow_information_is_sent_as_sockets_send_it(run, endpoint):
    async def scenario():
        server, received = await endpoint(local_addr=("::1", 0))
        sender, sent = await endpoint(local_addr=("::1", 0))
        port = name_of(server)[1]
        sender.sendto(b"flow", ("::1", port, 0xFFFFF, 0))
        await received.count(1)
        assert received.datagrams[0][1] == name_of(sender)
        # Out of range: an error of the caller's, which ends the transport, as any but OSError.
        reports = Reports(asyncio.get_running_loop())
        sender.sendto(b"flow", ("::1", port, 0x100000, 0))
        assert isinstance(await sent.lost(), OverflowError)
        assert reports.only()["message"] == "Fatal write error on datagram transport"

    run(scenario)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        (None, TypeError),
        ("127.0.0.1", TypeError),
        (("127.0.0.1",), TypeError),
        (("127.0.0.1", "9"), TypeError),
        (("127.0.0.1", 9, 9), TypeError),
        ((1, 9), TypeError),
        (["127.0.0.1", 9], TypeError),
        (("127.0.0.1", -1), OverflowError),
        (("127.0.0.1", 65536), OverflowError),
        (("127.0.0.1\0", 9), (ValueError, TypeError)),
    ],
    ids=repr,
)
def test_an_invalid_address_ends_the_transport(loop, run, endpoint, address, error):
    async def scenario():
        reports = Reports(loop)
        transport, protocol = await endpoint(local_addr=LOCAL)
        transport.sendto(b"x", address)
        assert transport.is_closing()
        assert isinstance(await protocol.lost(), error)
        report = reports.only()
        assert report["message"] == "Fatal write error on datagram transport"
        assert report["transport"] is transport
        assert report["protocol"] is protocol
        assert report["exception"] is protocol.loss
        assert protocol.errors == []

    run(scenario)


def test_a_port_of_another_integer_type(run, endpoint):
    class Port(int):
        pass

    class Index:
        def __index__(self):
            return int(port)

    async def scenario():
        nonlocal port
        server, received = await endpoint(local_addr=LOCAL)
        sender, _ = await endpoint(local_addr=LOCAL)
        port = name_of(server)[1]
        sender.sendto(b"int", ("127.0.0.1", Port(port)))
        sender.sendto(b"index", ("127.0.0.1", Index()))
        await received.count(2)

    port = 0
    run(scenario)


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", ("::1", 9)), ("::1", ("127.0.0.1", 9))]
)
def test_an_address_of_the_other_family_is_the_protocols_error(run, endpoint, host, address):
    async def scenario():
        transport, protocol = await endpoint(local_addr=(host, 0))
        transport.sendto(b"x", address)
        assert [type(error) for error in protocol.errors] == [socket.gaierror]
        assert not transport.is_closing()

    run(scenario)


def test_a_connected_endpoint_has_one_address(run, endpoint):
    async def scenario():
        server, received, client, _answers = await pair(endpoint)
        address = name_of(server)
        for wrong in ((address[0], 1), ("::1", 1), "x", 1):
            with pytest.raises(ValueError) as caught:
                client.sendto(b"x", wrong)
            assert str(caught.value) == f"Invalid address: must be None or {address}"
        client.sendto(b"x", (str(address[0]), int(address[1])))
        await received.count(1)
        assert client.get_extra_info("peername") == address
        assert server.get_extra_info("peername") is None

    run(scenario)


def test_a_connected_socket_ignores_the_address(run, endpoint):
    async def scenario():
        server, received = await endpoint(local_addr=LOCAL)
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.connect(name_of(server))
        client, _ = await endpoint(sock=sock)
        client.sendto(b"here", ("127.0.0.1", 9))
        client.sendto(b"there")
        await received.count(2)
        assert received.contents == [b"here", b"there"]

    run(scenario)


def test_broadcasts_need_permission(run, endpoint):
    async def scenario():
        refused, errors = await endpoint(local_addr=("0.0.0.0", 0))
        refused.sendto(b"x", ("255.255.255.255", 9))
        assert [error.errno for error in errors.errors] == [errno.EACCES]
        assert isinstance(errors.errors[0], PermissionError)
        allowed, protocol = await endpoint(local_addr=("0.0.0.0", 0), allow_broadcast=True)
        sock = allowed.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        allowed.sendto(b"x", ("127.255.255.255", 9))
        assert protocol.errors == []

    run(scenario)


def test_a_broadcasters_remote_address_is_not_connected_to(run, endpoint):
    async def scenario():
        server, received = await endpoint(local_addr=LOCAL)
        client, _ = await endpoint(remote_addr=name_of(server), allow_broadcast=True)
        assert client.get_extra_info("peername") is None
        client.sendto(b"x")
        with pytest.raises(ValueError, match="Invalid address"):
            client.sendto(b"x", ("127.0.0.1", 9))
        await received.count(1)

    run(scenario)


def test_a_port_can_be_shared(run, endpoint):
    async def scenario():
        first, one = await endpoint(local_addr=LOCAL, reuse_port=True)
        second, two = await endpoint(local_addr=name_of(first), reuse_port=True)
        assert name_of(first) == name_of(second)
        with pytest.raises(OSError):
            await endpoint(local_addr=name_of(first))
        for _ in range(50):
            sender, _ = await endpoint(remote_addr=name_of(first))
            sender.sendto(b"x")
        await one.until(lambda: len(one.datagrams) + len(two.datagrams) == 50 or two.datagrams)
        while len(one.datagrams) + len(two.datagrams) < 50:
            await asyncio.sleep(0.001)
        assert one.datagrams and two.datagrams

    run(scenario)


# --- Unix datagrams ---


def test_unix_datagrams(run, endpoint, tmp_path):
    async def scenario():
        path = str(tmp_path / "server")
        own = str(tmp_path / "client")
        server, received = await endpoint(Echo, local_addr=path, family=socket.AF_UNIX)
        client, answers = await endpoint(local_addr=own, remote_addr=path, family=socket.AF_UNIX)
        client.sendto(b"hello")
        await answers.count(1)
        assert received.datagrams == [(b"hello", own)]
        assert answers.datagrams == [(b"hello", path)]
        assert name_of(server) == path
        assert client.get_extra_info("peername") == path

    run(scenario)


def test_unix_addresses_of_every_spelling(run, endpoint, tmp_path):
    async def scenario():
        sender, sent = await endpoint(local_addr=str(tmp_path / "sender"), family=socket.AF_UNIX)
        path = str(tmp_path / "empfänger")
        abstract = f"\0tokioloop-{os.getpid()}-{id(path)}"
        _plain, plain = await endpoint(local_addr=path, family=socket.AF_UNIX)
        _hidden, hidden = await endpoint(local_addr=abstract, family=socket.AF_UNIX)
        sender.sendto(b"str", path)
        sender.sendto(b"bytes", os.fsencode(path))
        await plain.count(2)
        sender.sendto(b"str", abstract)
        sender.sendto(b"bytes", abstract.encode())
        await hidden.count(2)
        assert {addr for _, addr in plain.datagrams} == {str(tmp_path / "sender")}
        sender.sendto(b"x", str(tmp_path / "nobody"))
        assert [type(error) for error in sent.errors] == [FileNotFoundError]
        sender.sendto(b"x", "/" * 200)
        assert str(sent.errors[-1]) == "AF_UNIX path too long"

    run(scenario)


def test_abstract_senders_are_named_by_bytes(run, endpoint, tmp_path):
    async def scenario():
        path = str(tmp_path / "server")
        _server, received = await endpoint(Echo, local_addr=path, family=socket.AF_UNIX)
        abstract = f"\0tokioloop-{os.getpid()}-{id(path)}"
        client, answers = await endpoint(local_addr=abstract, family=socket.AF_UNIX)
        client.sendto(b"x", path)
        await answers.count(1)
        assert received.datagrams == [(b"x", abstract.encode())]

    run(scenario)


def test_a_nameless_unix_sender_has_no_address(run, endpoint, tmp_path):
    async def scenario():
        path = str(tmp_path / "server")
        _server, received = await endpoint(local_addr=path, family=socket.AF_UNIX)
        named, _ = await endpoint(local_addr=str(tmp_path / "named"), family=socket.AF_UNIX)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            named.sendto(b"named", path)
            peer.sendto(b"nameless", path)
            named.sendto(b"named", path)
            await received.count(3)
        name = str(tmp_path / "named")
        assert received.datagrams == [(b"named", name), (b"nameless", None), (b"named", name)]

    run(scenario)


def test_a_large_unix_datagram(run, endpoint, tmp_path):
    async def scenario():
        path = str(tmp_path / "server")
        _server, received = await endpoint(local_addr=path, family=socket.AF_UNIX)
        client, _ = await endpoint(remote_addr=path, family=socket.AF_UNIX)
        data = os.urandom(150_000)
        client.sendto(data)
        await received.count(1)
        assert received.contents == [data]

    run(scenario)
