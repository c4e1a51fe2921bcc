"""Datagram transports: their extra information, their lifetime, their end."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
import warnings
import weakref

import pytest

from datagrams.recorders import LOCAL, DatagramRecorder, Echo, name_of, pair, pausing

# --- what a transport is ---


def test_the_extra_info_and_the_repr_of_a_transport(loop, run, endpoint):
    async def scenario():
        server, received, client, _answers = await pair(endpoint)
        assert isinstance(server, asyncio.Transport)
        sock = server.get_extra_info("socket")
        assert type(sock).__name__ == "TransportSocket"
        assert sock is server.get_extra_info("socket")
        assert sock.type == socket.SOCK_DGRAM
        assert name_of(server) == sock.getsockname()
        assert client.get_extra_info("peername") == name_of(server)
        assert server.get_extra_info("nothing") is None
        assert server.get_extra_info("nothing", 1) == 1
        assert server.get_protocol() is received
        assert not server.is_closing()
        assert f"fd={sock.fileno()} read=polling write=<idle, bufsize=0>" in repr(server)
        assert server._sock.fileno() == server._sock_fd == sock.fileno()
        assert server._loop is loop
        assert server._address is None
        assert client._address == name_of(server)
        for method in (server.write, server.write_eof, server.can_write_eof):
            with pytest.raises(NotImplementedError):
                method(*([b"x"] if method == server.write else []))
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(sock.fileno(), print)
        server.close()
        assert " closing " in repr(server)
        await received.lost()
        assert " closed " in repr(server)
        assert server._sock is None
        assert server._loop is None
        assert server.get_protocol() is None
        assert server.get_extra_info("sockname") == client.get_extra_info("peername")

    run(scenario)


@pytest.mark.native_only(when=sys.version_info < (3, 12), reason="not a DatagramTransport there")
def test_it_is_a_datagram_transport(run, endpoint):
    async def scenario():
        transport, _ = await endpoint(local_addr=LOCAL)
        assert isinstance(transport, asyncio.DatagramTransport)

    run(scenario)


@pytest.mark.native_only()
def test_the_class_is_the_cores(run, endpoint):
    async def scenario():
        transport, _ = await endpoint(local_addr=LOCAL)
        assert type(transport).__module__ == "tokioloop._core"
        with pytest.raises(TypeError):
            type(transport)()

    run(scenario)


@pytest.mark.native_only()
def test_datagrams_of_one_sender_share_its_name(run, endpoint):
    async def scenario():
        server, received = await endpoint(local_addr=LOCAL)
        clients = [(await endpoint(remote_addr=name_of(server)))[0] for _ in range(3)]
        for _ in range(2):
            for client in clients:
                client.sendto(b"x")
        await received.count(6)
        names = [addr for _, addr in received.datagrams]
        assert names[:3] == names[3:] == [name_of(client) for client in clients]
        assert all(one is other for one, other in zip(names[:3], names[3:], strict=True))

    run(scenario)


def test_hundreds_of_senders_are_distinguished(run, endpoint):
    async def scenario():
        server, received = await endpoint(Echo, local_addr=LOCAL)
        senders = []
        try:
            for number in range(500):
                # Several hosts, so that ports repeat.
                sock = socket.socket(type=socket.SOCK_DGRAM)
                senders.append(sock)
                sock.bind((f"127.0.0.{1 + number % 3}", 0))
                sock.settimeout(20)
            for skipped in range(3):
                for sock in senders[:: skipped + 1]:
                    sock.sendto(b"%d" % sock.fileno(), name_of(server))
                    await received.count(1)
                    assert received.datagrams.pop() == (b"%d" % sock.fileno(), sock.getsockname())
                    assert sock.recvfrom(100) == (b"%d" % sock.fileno(), name_of(server))
        finally:
            for sock in senders:
                sock.close()

    run(scenario)


def test_a_socket_class_of_the_users_own_is_called(run, endpoint):
    class Shouting(socket.socket):
        def sendto(self, data, *rest):
            return super().sendto(bytes(data).upper(), *rest)

    async def scenario():
        server, received = await endpoint(local_addr=LOCAL)
        sock = Shouting(socket.AF_INET, socket.SOCK_DGRAM)
        client, _ = await endpoint(sock=sock)
        client.sendto(b"hello", name_of(server))
        await received.count(1)
        assert received.contents == [b"HELLO"]

    run(scenario)


def test_a_stream_socket_is_refused(loop, run):
    async def scenario():
        with socket.socket() as sock, pytest.raises(ValueError, match="ocket was expected"):
            await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)

    run(scenario)


# --- ends ---


@pytest.mark.parametrize("way", ["close", "abort"])
def test_connection_lost_is_called_once_and_never_within_the_call(run, endpoint, way):
    async def scenario():
        transport, protocol = await endpoint(local_addr=LOCAL)
        for _ in range(2):
            assert getattr(transport, way)() is None
        assert transport.is_closing()
        assert protocol.losses == 0
        assert await protocol.lost() is None
        transport.close()
        transport.abort()
        await asyncio.sleep(0.01)
        assert protocol.calls == ["connection_made", "connection_lost"]
        assert transport.get_extra_info("socket").fileno() == -1

    run(scenario)


def test_sends_after_the_end_of_a_connected_endpoint_are_dropped_with_a_warning(
    run, endpoint, caplog
):
    async def scenario():
        server, received, client, answers = await pair(endpoint)
        client.close()
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(4):
                client.sendto(b"x")
            assert caplog.messages == []
            client.sendto(b"x")
            await answers.lost()
            client.sendto(b"x")
        assert caplog.messages == ["socket.send() raised exception."] * 2
        server.sendto(b"end", name_of(server))
        await received.count(1)
        assert received.contents == [b"end"]

    run(scenario)


def test_an_unconnected_endpoint_may_send_right_after_close(run, endpoint):
    async def scenario():
        server, received = await endpoint(local_addr=LOCAL)
        client, protocol = await endpoint(local_addr=LOCAL)
        client.close()
        client.sendto(b"bye", name_of(server))
        await received.count(1)
        await protocol.lost()
        with pytest.raises(AttributeError, match="NoneType"):
            client.sendto(b"x", name_of(server))

    run(scenario)


@pausing
def test_an_unclosed_transport_warns(loop, run):
    async def scenario():
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=LOCAL
        )
        transport.pause_reading()
        await asyncio.sleep(0)
        sock = transport.get_extra_info("socket")
        watch = weakref.ref(transport)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport
            gc.collect()
        texts = [str(one.message) for one in caught if one.category is ResourceWarning]
        assert len([text for text in texts if "unclosed transport" in text]) == 1
        caught.clear()  # a warning keeps what it warns of
        gc.collect()
        assert watch() is None
        assert sock.fileno() == -1

    run(scenario)


def test_a_transport_that_reads_lives_without_its_users_reference(loop, run):
    async def scenario():
        protocol = DatagramRecorder()
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, local_addr=LOCAL)
        name = name_of(transport)
        protocol.transport = None
        watch = weakref.ref(transport)
        del transport
        gc.collect()
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.sendto(b"x", name)
            await protocol.count(1)
        watch().close()
        await protocol.lost()
        protocol = None
        await asyncio.sleep(0.01)
        gc.collect()
        assert watch() is None

    run(scenario)


def test_a_loop_closed_under_an_open_endpoint(loop_factory):
    loop = loop_factory()
    transport, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=LOCAL)
    )
    name = name_of(transport)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        transport._sock.close()
        del transport
        gc.collect()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(name)


def test_a_waiter_that_is_cancelled_closes_the_socket(loop, run):
    class Cancels(DatagramRecorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            task.cancel()

    async def scenario():
        nonlocal task
        protocol = Cancels()
        task = loop.create_task(loop.create_datagram_endpoint(lambda: protocol, local_addr=LOCAL))
        with pytest.raises(asyncio.CancelledError):
            await task
        await protocol.lost()
        assert protocol.transport.get_extra_info("socket").fileno() == -1
        protocol.transport = None

    task = None
    run(scenario)


# --- forks ---


@pytest.mark.native_only(reason="the standard library's loop is shared with a child")
def test_a_forked_child_goes_on_with_its_endpoint(programs):
    done = programs.run(
        """
        import asyncio, os, signal, socket, sys, warnings

        warnings.simplefilter("ignore", DeprecationWarning)

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                self.transport.sendto(data + b" from %d" % os.getpid(), addr)

        loop = new_event_loop()
        transport, _ = loop.run_until_complete(
            loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        )
        name = transport.get_extra_info("sockname")
        peer = socket.socket(type=socket.SOCK_DGRAM)
        peer.settimeout(20)

        def ask():
            peer.sendto(b"hello", name)
            return loop.run_until_complete(loop.run_in_executor(None, peer.recv, 100))

        assert ask() == b"hello from %d" % os.getpid()
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            loop.set_default_executor(__import__("concurrent.futures").futures.ThreadPoolExecutor())
            assert ask() == b"hello from %d" % os.getpid()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert ask() == b"hello from %d" % os.getpid()
        transport.close()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        print("fine")
        """
    )
    assert done.stdout == "fine\n"
