"""add_reader and add_writer: the loop watches descriptors it does not own."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import socket

import pytest
from recording import Reports, transport_pair


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
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):  # closed by the test
            os.close(fd)


@contextlib.contextmanager
def socket_pairs(count):
    """So many non-blocking socket pairs, closed together."""
    with contextlib.ExitStack() as stack:
        pairs = []
        for _ in range(count):
            pairs.append(socket.socketpair())
            for sock in pairs[-1]:
                sock.setblocking(False)
                stack.enter_context(sock)
        yield pairs


def turns(loop, count=5):
    """Let the loop look at its descriptors a few times."""

    async def spin():
        for _ in range(count):
            # Longer than zero: a turn that has nothing ready must look at the descriptors.
            await asyncio.sleep(0.001)

    loop.run_until_complete(spin())


def fill(fd):
    """Write until the kernel takes no more."""
    total = 0
    try:
        while True:
            total += os.write(fd, bytes(65536))
    except BlockingIOError:
        return total


def test_a_reader_is_called_with_its_arguments_when_data_arrives(loop, pair):
    near, far = pair
    done = loop.create_future()

    def readable(*args):
        done.set_result((args, near.recv(100)))
        loop.remove_reader(near)

    assert loop.add_reader(near, readable, "a", 2) is None
    loop.call_soon(far.send, b"hello")
    assert loop.run_until_complete(asyncio.wait_for(done, 10)) == (("a", 2), b"hello")


def test_a_writer_is_called_at_once_when_there_is_room(loop, pair):
    near, _ = pair
    done = loop.create_future()

    def writable(*args):
        loop.remove_writer(near)
        done.set_result(args)

    assert loop.add_writer(near, writable, "room") is None
    assert loop.run_until_complete(asyncio.wait_for(done, 10)) == ("room",)


def test_a_writer_waits_until_the_peer_makes_room(loop, pair):
    near, far = pair
    sent = fill(near.fileno())
    calls = []
    loop.add_writer(near, calls.append, "room")
    turns(loop)
    assert calls == []
    while sent:
        sent -= len(far.recv(1 << 20))
    turns(loop)
    assert calls
    assert loop.remove_writer(near) is True


@pytest.mark.parametrize("by", ["number", "object"])
def test_removing_tells_whether_there_was_something_to_remove(loop, pair, by):
    near, _ = pair
    key = near.fileno() if by == "number" else near
    assert loop.remove_reader(key) is False
    assert loop.remove_writer(key) is False
    loop.add_reader(key, print)
    assert loop.remove_writer(key) is False
    loop.add_writer(key, print)
    assert loop.remove_reader(key) is True
    assert loop.remove_reader(key) is False
    assert loop.remove_writer(key) is True
    assert loop.remove_writer(key) is False


def test_a_descriptor_is_the_same_by_number_and_by_object(loop, pair):
    near, _ = pair
    loop.add_reader(near, print)
    assert loop.remove_reader(near.fileno()) is True
    loop.add_reader(near.fileno(), print)
    assert loop.remove_reader(near) is True


def test_a_second_reader_replaces_the_first(loop, pair):
    near, far = pair
    calls = []
    far.send(b"x")
    loop.add_reader(near, calls.append, "first")
    loop.add_reader(near, calls.append, "second")
    turns(loop)
    assert set(calls) == {"second"}
    assert loop.remove_reader(near) is True
    assert loop.remove_reader(near) is False


def test_a_reader_that_replaces_itself_is_not_called_again(loop, pair):
    near, far = pair
    calls = []

    def first():
        calls.append("first")
        loop.add_reader(near, calls.append, "second")

    far.send(b"x")
    loop.add_reader(near, first)
    turns(loop)
    loop.remove_reader(near)
    assert calls[:2] == ["first", "second"]
    assert calls.count("first") == 1


def test_a_reader_that_does_not_drain_is_called_again_and_starves_nobody(loop, pair):
    near, far = pair
    calls = []
    far.send(b"data left where it is")
    loop.add_reader(near, calls.append, None)
    turns(loop, 10)
    assert len(calls) >= 5
    loop.remove_reader(near)
    seen = len(calls)
    turns(loop)
    assert len(calls) == seen


def test_a_reader_that_drains_partly_is_called_for_the_rest(loop, pair):
    near, far = pair
    received = []
    far.send(b"abcdef")
    loop.add_reader(near, lambda: received.append(near.recv(2)))
    turns(loop, 10)
    loop.remove_reader(near)
    assert received == [b"ab", b"cd", b"ef"]


def test_a_writer_is_called_as_long_as_there_is_room(loop, pair):
    near, _ = pair
    calls = []
    loop.add_writer(near, calls.append, None)
    turns(loop, 10)
    loop.remove_writer(near)
    assert len(calls) >= 5


def test_reader_and_writer_of_one_descriptor_live_independently(loop, pair):
    near, far = pair
    calls = []
    loop.add_reader(near, calls.append, "read")
    loop.add_writer(near, calls.append, "write")
    turns(loop)
    assert set(calls) == {"write"}
    far.send(b"x")
    turns(loop)
    assert set(calls) == {"read", "write"}
    loop.remove_writer(near)
    calls.clear()
    turns(loop)
    assert set(calls) == {"read"}
    loop.remove_reader(near)


def test_a_reader_may_remove_itself(loop, pair):
    near, far = pair
    calls = []

    def once():
        calls.append(loop.remove_reader(near))

    far.send(b"x")
    loop.add_reader(near, once)
    turns(loop)
    assert calls == [True]


def test_a_reader_removed_by_another_in_the_same_turn_is_not_called(loop):
    with socket_pairs(2) as pairs:
        called = []

        def fire(own, other):
            called.append(own)
            loop.remove_reader(pairs[other][0])
            pairs[own][0].recv(10)

        # Both are readable before the loop looks for the first time.
        for _, far in pairs:
            far.send(b"x")
        loop.add_reader(pairs[0][0], fire, 0, 1)
        loop.add_reader(pairs[1][0], fire, 1, 0)
        turns(loop)
        assert len(called) == 1
        assert loop.remove_reader(pairs[called[0]][0]) is True


def test_a_reader_that_removes_the_writer_of_the_same_descriptor(loop, pair):
    near, far = pair
    order = []

    def readable():
        order.append("read")
        loop.remove_writer(near)
        loop.remove_reader(near)

    far.send(b"x")
    loop.add_reader(near, readable)
    loop.add_writer(near, order.append, "write")
    turns(loop)
    # Reading comes first, so the writer was removed before its turn.
    assert order == ["read"]


def test_a_reader_removed_and_added_again_within_its_call_goes_on(loop, pair):
    near, far = pair
    received = []

    def readable():
        received.append(near.recv(1))
        loop.remove_reader(near)
        if len(received) < 3:
            loop.add_reader(near, readable)

    far.send(b"abc")
    loop.add_reader(near, readable)
    turns(loop, 10)
    assert received == [b"a", b"b", b"c"]


def test_an_exception_in_a_reader_is_reported_and_the_reader_stays(loop, pair):
    near, far = pair
    reports = Reports(loop)
    received = []

    def readable():
        received.append(near.recv(1))
        raise ValueError(f"trouble {len(received)}")

    far.send(b"ab")
    loop.add_reader(near, readable)
    turns(loop, 10)
    assert loop.remove_reader(near) is True
    assert received == [b"a", b"b"]
    assert [str(c["exception"]) for c in reports.contexts] == ["trouble 1", "trouble 2"]
    for context in reports.contexts:
        assert context["message"].startswith("Exception in callback ")
        assert "readable" in context["message"]
        assert isinstance(context["handle"], asyncio.Handle)


@pytest.mark.parametrize("fatal", [SystemExit, KeyboardInterrupt])
def test_an_exit_raised_in_a_reader_leaves_the_loop(loop, pair, fatal):
    near, far = pair

    def readable():
        loop.remove_reader(near)
        raise fatal

    far.send(b"x")
    loop.add_reader(near, readable)
    with pytest.raises(fatal):
        loop.run_forever()
    turns(loop)


def test_a_reader_runs_in_the_context_it_was_added_in(loop, pair):
    near, far = pair
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []

    def readable():
        seen.append(variable.get())
        loop.remove_reader(near)

    def add():
        variable.set("inside")
        loop.add_reader(near, readable)

    contextvars.copy_context().run(add)
    far.send(b"x")
    turns(loop)
    assert seen == ["inside"]


def test_the_end_of_a_socket_makes_it_readable(loop, pair):
    near, far = pair
    received = []

    def readable():
        received.append(near.recv(10))
        loop.remove_reader(near)

    loop.add_reader(near, readable)
    loop.call_soon(far.close)
    turns(loop)
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
    turns(loop)
    assert received == [b"through the pipe"]


def test_a_pipe_whose_writer_is_gone_is_readable(loop, pipe):
    read_end, write_end = pipe
    received = []

    def readable():
        received.append(os.read(read_end, 100))
        loop.remove_reader(read_end)

    loop.add_reader(read_end, readable)
    loop.call_soon(os.close, write_end)
    turns(loop)
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
    turns(loop)
    assert errors == []
    os.close(read_end)
    turns(loop)
    assert errors == [BrokenPipeError]


def test_a_terminal_can_be_watched(loop):
    terminal, program = os.openpty()
    try:
        os.set_blocking(terminal, False)
        received = []
        loop.add_reader(terminal, lambda: received.append(os.read(terminal, 100)))
        loop.call_soon(os.write, program, b"typed")
        turns(loop)
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
    read_end, write_end = os.pipe()
    os.close(read_end)
    os.close(write_end)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(read_end, print)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_writer(write_end, print)
    assert loop.remove_reader(read_end) is False


@pytest.mark.parametrize("nonsense", ["0", None, 1.5, object()], ids=repr)
def test_what_is_no_file_is_refused(loop, nonsense):
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
    turns(loop)
    assert calls
    assert loop.remove_reader(Wrapper()) is True


def test_a_closed_descriptor_can_still_be_removed(loop):
    near, far = socket.socketpair()
    with far:
        near.setblocking(False)
        fd = near.fileno()
        loop.add_reader(fd, print)
        near.close()
        turns(loop)
        assert loop.remove_reader(fd) is True
        assert loop.remove_reader(fd) is False


def test_a_new_socket_under_a_reused_number_does_not_call_the_old_reader(loop):
    """A program that forgets remove_reader must not see its old callback for a new socket."""
    old_calls, new_data = [], []
    near, far = socket.socketpair()
    near.setblocking(False)
    fd = near.fileno()
    loop.add_reader(fd, old_calls.append, "old")
    turns(loop)
    near.close()
    far.close()
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        if near.fileno() != fd:
            near, far = far, near
            near.setblocking(False)
        assert near.fileno() == fd
        far.send(b"for the new one")
        turns(loop)
        assert old_calls == []
        assert loop.remove_reader(fd) is True
        loop.add_reader(fd, lambda: new_data.append(near.recv(100)))
        turns(loop)
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
            turns(loop, 2)
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
        turns(loop)
        assert set(calls) == {"near", "twin"}
        loop.remove_reader(near)
        calls.clear()
        turns(loop)
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


def test_many_descriptors_are_told_apart(loop):
    with socket_pairs(100) as pairs:
        received = {}

        def readable(i):
            received[i] = pairs[i][0].recv(10)
            loop.remove_reader(pairs[i][0])

        for i, (near, far) in enumerate(pairs):
            loop.add_reader(near, readable, i)
            if i % 2:
                far.send(b"%d" % i)
        turns(loop, 10)
        assert received == {i: b"%d" % i for i in range(1, 100, 2)}
        assert [loop.remove_reader(near) for near, _ in pairs] == [True, False] * 50


def test_readers_survive_from_one_run_to_the_next(loop, pair):
    near, far = pair
    received = []
    loop.add_reader(near, lambda: received.append(near.recv(10)))
    for message in (b"one", b"two"):
        far.send(message)
        turns(loop)
    assert received == [b"one", b"two"]
    assert loop.remove_reader(near) is True


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


def test_a_callback_that_cannot_be_called_is_reported_not_raised(loop, pair):
    near, far = pair
    reports = Reports(loop)

    def wrong_signature(_required):
        raise AssertionError("never called")

    loop.add_reader(near, wrong_signature)
    far.send(b"x")
    turns(loop, 2)
    loop.remove_reader(near)
    assert isinstance(reports.contexts[0]["exception"], TypeError)
