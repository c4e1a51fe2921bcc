"""The kinds of files that add_reader and add_writer can watch, and their close."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket

import pytest

from support.iterations import run_iterations
from support.recording import fill, transport_pair
from support.reused_numbers import pair_with


@pytest.fixture
def pair():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


@pytest.fixture
def pipe():
    """(read end, write end), both non-blocking; a test may close either itself."""
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, False)
    opened = [os.fstat(fd) for fd in ends]
    yield ends
    for fd, status in zip(ends, opened, strict=True):
        with contextlib.suppress(OSError):  # closed by the test
            if os.path.samestat(os.fstat(fd), status):  # and not the loop's by now
                os.close(fd)


def test_the_end_of_a_socket_makes_it_readable(loop, pair):
    near, far = pair
    received = []

    def readable():
        received.append(near.recv(10))
        loop.remove_reader(near)

    loop.add_reader(near, readable)
    loop.call_soon(far.close)
    run_iterations(loop)
    assert received == [b""]


def test_a_pipe_can_be_watched_at_both_ends(loop, pipe):
    read_end, write_end = pipe
    received = []

    def writable():
        os.write(write_end, b"through the pipe")
        loop.remove_writer(write_end)

    def readable():
        received.append(os.read(read_end, 100))
        loop.remove_reader(read_end)

    loop.add_reader(read_end, readable)
    loop.add_writer(write_end, writable)
    run_iterations(loop)
    assert received == [b"through the pipe"]


def test_a_pipe_whose_writer_is_gone_is_readable(loop, pipe):
    read_end, write_end = pipe
    received = []

    def readable():
        received.append(os.read(read_end, 100))
        loop.remove_reader(read_end)

    loop.add_reader(read_end, readable)
    loop.call_soon(os.close, write_end)
    run_iterations(loop)
    assert received == [b""]


def test_a_full_pipe_whose_reader_is_gone_is_writable(loop, pipe):
    read_end, write_end = pipe
    fill(write_end)
    errors = []

    def writable():
        with pytest.raises(BrokenPipeError) as caught:
            os.write(write_end, b"x")
        errors.append(caught.type)
        loop.remove_writer(write_end)

    loop.add_writer(write_end, writable)
    run_iterations(loop)
    assert errors == []
    os.close(read_end)
    run_iterations(loop)
    assert errors == [BrokenPipeError]


def test_a_terminal_can_be_watched(loop):
    terminal, program = os.openpty()
    try:
        os.set_blocking(terminal, False)
        received = []
        loop.add_reader(terminal, lambda: received.append(os.read(terminal, 100)))
        loop.call_soon(os.write, program, b"typed")
        run_iterations(loop)
        loop.remove_reader(terminal)
        assert b"".join(received) == b"typed"
    finally:
        os.close(terminal)
        os.close(program)


def test_a_regular_file_is_refused(loop, tmp_path):
    with (tmp_path / "file").open("wb") as file:
        with pytest.raises(PermissionError):
            loop.add_reader(file, print)
        with pytest.raises(PermissionError):
            loop.add_writer(file.fileno(), print)
        # A refusal leaves nothing behind.
        assert loop.remove_reader(file) is False
        assert loop.remove_writer(file) is False


def test_descriptors_that_do_not_exist_are_refused(loop):
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        loop.add_reader(-1, print)
    # A high number: a low one, once free, may become a descriptor of the loop's own.
    closed = fcntl.fcntl(0, fcntl.F_DUPFD, 1000)
    os.close(closed)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(closed, print)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_writer(closed, print)
    assert loop.remove_reader(closed) is False


@pytest.mark.parametrize("nonsense", ["0", None, 1.5])
def test_an_object_that_is_no_file_is_refused(loop, nonsense):
    with pytest.raises(ValueError, match="Invalid file object"):
        loop.add_reader(nonsense, print)
    with pytest.raises(ValueError, match="Invalid file object"):
        loop.add_writer(nonsense, print)


def test_an_object_with_fileno_is_a_file(loop, pair):
    near, far = pair

    class Wrapper:
        def fileno(self):
            return near.fileno()

    calls = []
    far.send(b"x")
    loop.add_reader(Wrapper(), calls.append, None)
    run_iterations(loop)
    assert calls
    assert loop.remove_reader(Wrapper()) is True


def test_a_closed_descriptor_can_still_be_removed(loop):
    near, far = socket.socketpair()
    with far:
        near.setblocking(False)
        fd = near.fileno()
        loop.add_reader(fd, print)
        near.close()
        run_iterations(loop)
        assert loop.remove_reader(fd) is True
        assert loop.remove_reader(fd) is False


def test_a_new_socket_under_a_reused_number_does_not_call_the_old_reader(loop):
    """A program that forgets remove_reader must not see its old callback for a new socket."""
    old_calls, new_data = [], []
    near, far = socket.socketpair()
    near.setblocking(False)
    fd = near.fileno()
    loop.add_reader(fd, old_calls.append, "old")
    run_iterations(loop)
    near.close()
    far.close()
    near, far = pair_with(fd)
    with near, far:
        near.setblocking(False)
        far.send(b"for the new one")
        run_iterations(loop)
        assert old_calls == []
        assert loop.remove_reader(fd) is True
        loop.add_reader(fd, lambda: new_data.append(near.recv(100)))
        run_iterations(loop)
        assert loop.remove_reader(fd) is True
    assert new_data == [b"for the new one"]
    assert old_calls == []


def test_many_sockets_may_come_and_go_under_one_number(loop):
    received = []
    numbers = set()
    for i in range(50):
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            numbers.add(near.fileno())
            loop.add_reader(near, lambda near=near: received.append(near.recv(10)))
            far.send(b"%d" % i)
            run_iterations(loop, 2)
            loop.remove_reader(near)
    assert received == [b"%d" % i for i in range(50)]
    assert len(numbers) < 50


def test_a_duplicate_of_a_watched_descriptor_is_watched_on_its_own(loop, pair):
    near, far = pair
    twin = near.dup()
    with twin:
        calls = []
        far.send(b"x")
        loop.add_reader(near, calls.append, "near")
        loop.add_reader(twin, calls.append, "twin")
        run_iterations(loop)
        assert set(calls) == {"near", "twin"}
        loop.remove_reader(near)
        calls.clear()
        run_iterations(loop)
        assert set(calls) == {"twin"}
        loop.remove_reader(twin)


def test_the_descriptor_of_a_transport_is_not_for_others(loop):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        with far:
            fd = transport.get_extra_info("socket").fileno()
            for refused in (
                lambda: loop.add_reader(fd, print),
                lambda: loop.add_writer(fd, print),
                lambda: loop.remove_reader(fd),
                lambda: loop.remove_writer(fd),
            ):
                with pytest.raises(
                    RuntimeError, match=rf"^File descriptor {fd} is used by transport <"
                ):
                    refused()
            # The transport is none the worse for it.
            far.send(b"still alive")
            await protocol.got(11)
            transport.close()
            await protocol.lost()

    loop.run_until_complete(scenario())


def test_the_descriptor_of_a_closed_transport_is_free_again(loop):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        fd = transport.get_extra_info("socket").fileno()
        transport.close()
        await protocol.lost()
        far.close()
        near, far = socket.socketpair()
        with near, far:
            assert fd in (near.fileno(), far.fileno())
            loop.add_writer(fd, print)
            assert loop.remove_writer(fd) is True

    loop.run_until_complete(scenario())


def test_a_closed_loop_watches_nothing(loop_factory, pair):
    near, _ = pair
    loop = loop_factory()
    loop.add_reader(near, print)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_reader(near, print)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_writer(near, print)
    assert loop.remove_reader(near) is False
    assert loop.remove_writer(near) is False
    # Closing the loop does not close what it watched.
    assert near.fileno() >= 0
    os.fstat(near.fileno())
