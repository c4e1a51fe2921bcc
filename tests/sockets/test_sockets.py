"""The sock_* coroutines: plain sockets, driven by the loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import sys
import threading

import pytest

from sockets.awaitables import at_once, waiting
from support.recording import blocking_pair, listener, transport_pair

since_3_11 = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the datagram coroutines came with Python 3.11"
)


@pytest.fixture
def pair():
    """A connected TCP pair: the first end for the loop, the second blocking."""
    near, far = blocking_pair()
    with near, far:
        yield near, far


def datagram_socket():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.fixture
def datagrams():
    with datagram_socket() as one, datagram_socket() as two:
        yield one, two


def test_sock_recv_waits_for_data(loop, pair):
    near, far = pair

    async def scenario():
        task = await waiting(loop.sock_recv(near, 100))
        far.send(b"hello")
        return await task

    assert loop.run_until_complete(scenario()) == b"hello"
    assert loop.remove_reader(near) is False


def test_sock_recv_takes_at_most_the_given_size(loop, pair):
    near, far = pair

    async def scenario():
        far.send(b"hello")
        return [await loop.sock_recv(near, n) for n in (2, 0, 10)]

    assert loop.run_until_complete(scenario()) == [b"he", b"", b"llo"]


def test_sock_recv_returns_nothing_at_the_end(loop, pair):
    near, far = pair

    async def scenario():
        task = await waiting(loop.sock_recv(near, 100))
        far.close()
        return await task, await loop.sock_recv(near, 100)

    assert loop.run_until_complete(scenario()) == (b"", b"")


@pytest.mark.parametrize("make", [bytearray, lambda n: memoryview(bytearray(n))])
def test_sock_recv_into_fills_the_buffer(loop, pair, make):
    near, far = pair

    async def scenario():
        buffer = make(8)
        task = await waiting(loop.sock_recv_into(near, buffer))
        far.send(b"hello")
        assert await task == 5
        far.send(b"longer than the buffer")
        assert await loop.sock_recv_into(near, memoryview(buffer)[5:]) == 3
        assert bytes(buffer) == b"hellolon"

    loop.run_until_complete(scenario())


def test_sock_recv_into_needs_a_writable_buffer(loop, pair):
    near, far = pair

    async def scenario():
        far.send(b"x")
        with pytest.raises((TypeError, BufferError)):
            await loop.sock_recv_into(near, b"read-only")

    loop.run_until_complete(scenario())


def test_ready_operations_finish_without_waiting(loop, pair):
    near, far = pair

    async def scenario():
        far.send(b"abcdef")
        # The data is there when send() returns: both ends are on this machine.
        assert at_once(loop.sock_recv(near, 3)) == b"abc"
        assert at_once(loop.sock_recv_into(near, bytearray(3))) == 3
        assert at_once(loop.sock_sendall(near, b"answer")) is None
        assert far.recv(100) == b"answer"
        with listener() as server, socket.create_connection(server.getsockname()):
            connection, _ = await loop.sock_accept(server)
            connection.close()
            with socket.create_connection(server.getsockname()):
                connection, _ = at_once(loop.sock_accept(server))
                connection.close()

    loop.run_until_complete(scenario())


@since_3_11
def test_datagrams_that_are_ready_are_done_without_waiting(loop, datagrams):
    one, two = datagrams

    async def scenario():
        assert at_once(loop.sock_sendto(one, b"ping", two.getsockname())) == 4
        assert at_once(loop.sock_recvfrom(two, 100)) == (b"ping", one.getsockname())
        at_once(loop.sock_sendto(one, b"ping", two.getsockname()))
        assert at_once(loop.sock_recvfrom_into(two, bytearray(9))) == (4, one.getsockname())

    loop.run_until_complete(scenario())


def test_sock_sendall_to_a_slow_reader_sends_everything_in_order(loop, pair):
    near, far = pair
    payload = random.Random(1).randbytes(8 << 20)
    received = bytearray()

    def read_slowly():
        while chunk := far.recv(100_000):
            received.extend(chunk)

    reader = threading.Thread(target=read_slowly)

    async def scenario():
        task = await waiting(loop.sock_sendall(near, payload))
        reader.start()
        assert await task is None
        near.close()

    loop.run_until_complete(scenario())
    reader.join()
    assert received == payload


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_sock_sendall_takes_any_bytes(loop, pair, kind):
    near, far = pair
    loop.run_until_complete(loop.sock_sendall(near, kind(b"hello")))
    assert far.recv(100) == b"hello"


def test_sock_sendall_of_nothing_is_nothing(loop, pair):
    near, far = pair
    assert loop.run_until_complete(loop.sock_sendall(near, b"")) is None
    near.close()
    assert far.recv(100) == b""


def test_sock_sendall_refuses_text(loop, pair):
    with pytest.raises(TypeError):
        loop.run_until_complete(loop.sock_sendall(pair[0], "text"))


def test_sock_sendall_reports_a_peer_that_is_gone(loop, pair):
    near, far = pair

    async def scenario():
        task = await waiting(loop.sock_sendall(near, bytes(16 << 20)))
        far.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await task

    loop.run_until_complete(scenario())
    assert loop.remove_writer(near) is False


def test_sending_and_receiving_at_once_on_one_socket(loop, pair):
    near, far = pair
    payload = random.Random(2).randbytes(4 << 20)

    def echo():
        data = bytearray()
        while len(data) < len(payload):
            data += far.recv(1 << 16)
        far.sendall(data)

    async def scenario():
        receiving = await waiting(loop.sock_recv(near, 10))
        echoing = loop.run_in_executor(None, echo)
        await loop.sock_sendall(near, payload)
        received = bytearray(await receiving)
        while len(received) < len(payload):
            received += await loop.sock_recv(near, 1 << 16)
        await echoing
        assert received == payload

    loop.run_until_complete(scenario())


def operations(near, datagram):
    """Each coroutine function, called so that it has to wait."""
    yield "sock_recv", lambda loop: loop.sock_recv(near, 10)
    yield "sock_recv_into", lambda loop: loop.sock_recv_into(near, bytearray(10))
    yield "sock_sendall", lambda loop: loop.sock_sendall(near, bytes(16 << 20))
    if sys.version_info >= (3, 11):
        yield "sock_recvfrom", lambda loop: loop.sock_recvfrom(datagram, 10)
        yield "sock_recvfrom_into", lambda loop: loop.sock_recvfrom_into(datagram, bytearray(10))


def test_waiting_calls_can_be_cancelled_and_leave_no_watcher(loop, pair, datagrams):
    near, _ = pair

    async def scenario():
        for name, call in operations(near, datagrams[0]):
            task = await waiting(call(loop))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            for sock in (near, datagrams[0]):
                assert loop.remove_reader(sock) is False, name
                assert loop.remove_writer(sock) is False, name

    loop.run_until_complete(scenario())


def test_data_after_a_cancelled_receive_goes_to_the_next_one(loop, pair):
    near, far = pair

    async def scenario():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.sock_recv(near, 10), 0.01)
        far.send(b"late")
        assert await asyncio.wait_for(loop.sock_recv(near, 10), 10) == b"late"

    loop.run_until_complete(scenario())


def test_a_receive_cancelled_in_the_iteration_its_data_arrives_loses_nothing(loop, pair):
    near, far = pair

    async def scenario():
        task = await waiting(loop.sock_recv(near, 10))
        far.send(b"data")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.wait_for(loop.sock_recv(near, 10), 10) == b"data"

    loop.run_until_complete(scenario())


def test_a_second_reader_outlives_the_cancelled_first(loop, pair):
    """The second takes the socket over; ending the first must not take it away again."""
    near, far = pair

    async def scenario():
        first = await waiting(loop.sock_recv(near, 10))
        second = await waiting(loop.sock_recv(near, 10))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        far.send(b"for the second")
        assert await asyncio.wait_for(second, 10) == b"for the se"

    loop.run_until_complete(scenario())


def test_the_coroutines_work_in_tasks_and_groups(loop, pair):
    near, far = pair

    async def scenario():
        received, _ = await asyncio.gather(
            loop.create_task(loop.sock_recv(near, 10)),
            loop.run_in_executor(None, far.send, b"hello"),
        )
        assert received == b"hello"
        coroutine = loop.sock_recv(near, 10)
        assert asyncio.iscoroutine(coroutine)
        coroutine.close()

    loop.run_until_complete(scenario())


@since_3_11
def test_datagrams_travel_with_their_addresses(loop, datagrams):
    one, two = datagrams

    async def scenario():
        receiving = await waiting(loop.sock_recvfrom(two, 100))
        assert await loop.sock_sendto(one, b"hello", two.getsockname()) == 5
        assert await receiving == (b"hello", one.getsockname())
        buffer = bytearray(10)
        receiving = await waiting(loop.sock_recvfrom_into(two, buffer))
        await loop.sock_sendto(one, b"into", two.getsockname())
        assert await receiving == (4, one.getsockname())
        assert bytes(buffer[:4]) == b"into"
        await loop.sock_sendto(one, b"a long datagram", two.getsockname())
        assert await loop.sock_recvfrom_into(two, buffer, 6) == (6, one.getsockname())
        assert bytes(buffer[:6]) == b"a long"
        await loop.sock_sendto(one, b"", two.getsockname())
        assert await loop.sock_recvfrom(two, 100) == (b"", one.getsockname())

    loop.run_until_complete(scenario())


@since_3_11
def test_a_datagram_too_long_is_refused(loop, datagrams):
    one, two = datagrams
    with pytest.raises(OSError, match="Message too long"):
        loop.run_until_complete(loop.sock_sendto(one, bytes(70_000), two.getsockname()))


@since_3_11
def test_a_datagram_waits_for_room(loop, tmp_path):
    """A Unix datagram socket has a short queue, so sending has to wait for the receiver."""
    with (
        contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver,
        contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sender,
    ):
        path = str(tmp_path / "datagrams")
        receiver.bind(path)
        receiver.setblocking(False)
        sender.setblocking(False)

        async def send_all():
            for i in range(2000):
                assert await loop.sock_sendto(sender, b"%d" % i, path) == len(str(i))

        async def scenario():
            sending = await waiting(send_all())
            received = [(await loop.sock_recvfrom(receiver, 100))[0] for _ in range(2000)]
            await sending
            return received

        assert loop.run_until_complete(scenario()) == [b"%d" % i for i in range(2000)]


def all_calls(loop, sock, address):
    yield lambda: loop.sock_recv(sock, 10)
    yield lambda: loop.sock_recv_into(sock, bytearray(10))
    yield lambda: loop.sock_sendall(sock, b"x")
    yield lambda: loop.sock_accept(sock)
    if address is not None:
        yield lambda: loop.sock_connect(sock, address)
    if sys.version_info >= (3, 11):
        yield lambda: loop.sock_recvfrom(sock, 10)
        yield lambda: loop.sock_recvfrom_into(sock, bytearray(10))
        yield lambda: loop.sock_sendto(sock, b"x", ("127.0.0.1", 9))


def test_debug_mode_refuses_blocking_sockets(loop):
    loop.set_debug(True)

    async def scenario():
        with socket.socket() as blocking:
            for call in all_calls(loop, blocking, ("127.0.0.1", 9)):
                with pytest.raises(ValueError, match="the socket must be non-blocking"):
                    await call()

    loop.run_until_complete(scenario())


def test_a_closed_socket_is_an_error_not_a_wait(loop):
    async def scenario():
        closed = socket.socket()
        closed.setblocking(False)
        closed.close()
        for call in all_calls(loop, closed, ("127.0.0.1", 9)):
            with pytest.raises(OSError, match="Bad file descriptor"):
                await call()

    loop.run_until_complete(scenario())


def test_tls_sockets_are_refused(loop):
    async def scenario():
        context = ssl.create_default_context()
        with context.wrap_socket(socket.socket(), server_hostname="x.test") as wrapped:
            wrapped.setblocking(False)
            for call in all_calls(loop, wrapped, ("127.0.0.1", 9)):
                with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                    await call()

    loop.run_until_complete(scenario())


def test_the_socket_of_a_transport_is_not_for_others(loop):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        with far:
            # A second object for the same descriptor, as a program might have kept one.
            same = socket.socket(fileno=transport.get_extra_info("socket").fileno())
            same.setblocking(False)
            try:
                with pytest.raises(RuntimeError, match="is used by transport"):
                    await loop.sock_recv(same, 10)
            finally:
                same.detach()
            transport.close()
            await protocol.lost()

    loop.run_until_complete(scenario())


def test_a_negative_size_is_refused(loop, pair):
    with pytest.raises(ValueError, match="negative buffersize"):
        loop.run_until_complete(loop.sock_recv(pair[0], -1))
