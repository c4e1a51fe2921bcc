"""add_reader and add_writer: the loop watches descriptors it does not own."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket

import pytest

from support.iterations import run_iterations
from support.recording import Reports, fill


@pytest.fixture
def pair():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


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
    run_iterations(loop)
    assert calls == []
    while sent:
        sent -= len(far.recv(1 << 20))
    run_iterations(loop)
    assert calls
    assert loop.remove_writer(near) is True


@pytest.mark.parametrize("by", ["number", "object"])
def test_removing_returns_whether_there_was_something_to_remove(loop, pair, by):
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
    run_iterations(loop)
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
    run_iterations(loop)
    loop.remove_reader(near)
    assert calls[:2] == ["first", "second"]
    assert calls.count("first") == 1


def test_a_reader_that_does_not_drain_is_called_again_and_starves_no_other(loop, pair):
    near, far = pair
    calls = []
    far.send(b"data left where it is")
    loop.add_reader(near, calls.append, None)
    run_iterations(loop, 10)
    assert len(calls) >= 5
    loop.remove_reader(near)
    seen = len(calls)
    run_iterations(loop)
    assert len(calls) == seen


def test_a_reader_that_drains_partly_is_called_for_the_rest(loop, pair):
    near, far = pair
    received = []
    far.send(b"abcdef")
    loop.add_reader(near, lambda: received.append(near.recv(2)))
    run_iterations(loop, 10)
    loop.remove_reader(near)
    assert received == [b"ab", b"cd", b"ef"]


def test_a_writer_is_called_as_long_as_there_is_room(loop, pair):
    near, _ = pair
    calls = []
    loop.add_writer(near, calls.append, None)
    run_iterations(loop, 10)
    loop.remove_writer(near)
    assert len(calls) >= 5


def test_reader_and_writer_of_one_descriptor_live_independently(loop, pair):
    near, far = pair
    calls = []
    loop.add_reader(near, calls.append, "read")
    loop.add_writer(near, calls.append, "write")
    run_iterations(loop)
    assert set(calls) == {"write"}
    far.send(b"x")
    run_iterations(loop)
    assert set(calls) == {"read", "write"}
    loop.remove_writer(near)
    calls.clear()
    run_iterations(loop)
    assert set(calls) == {"read"}
    loop.remove_reader(near)


def test_a_reader_may_remove_itself(loop, pair):
    near, far = pair
    calls = []

    def once():
        calls.append(loop.remove_reader(near))

    far.send(b"x")
    loop.add_reader(near, once)
    run_iterations(loop)
    assert calls == [True]


def test_a_reader_removed_by_another_in_the_same_iteration_is_not_called(loop):
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
        run_iterations(loop)
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
    run_iterations(loop)
    # Reading comes first, so the writer was removed before its call.
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
    run_iterations(loop, 10)
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
    run_iterations(loop, 10)
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
    run_iterations(loop)


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
    run_iterations(loop)
    assert seen == ["inside"]


def test_many_descriptors_are_distinguished(loop):
    with socket_pairs(100) as pairs:
        received = {}

        def readable(i):
            received[i] = pairs[i][0].recv(10)
            loop.remove_reader(pairs[i][0])

        for i, (near, far) in enumerate(pairs):
            loop.add_reader(near, readable, i)
            if i % 2:
                far.send(b"%d" % i)
        run_iterations(loop, 10)
        assert received == {i: b"%d" % i for i in range(1, 100, 2)}
        assert [loop.remove_reader(near) for near, _ in pairs] == [True, False] * 50


def test_readers_survive_from_one_run_to_the_next(loop, pair):
    near, far = pair
    received = []
    loop.add_reader(near, lambda: received.append(near.recv(10)))
    for message in (b"one", b"two"):
        far.send(message)
        run_iterations(loop)
    assert received == [b"one", b"two"]
    assert loop.remove_reader(near) is True


def test_a_callback_that_cannot_be_called_is_reported_not_raised(loop, pair):
    near, far = pair
    reports = Reports(loop)

    def wrong_signature(_required):
        raise AssertionError("never called")

    loop.add_reader(near, wrong_signature)
    far.send(b"x")
    run_iterations(loop, 2)
    loop.remove_reader(near)
    assert isinstance(reports.contexts[0]["exception"], TypeError)


# --- numbers that no descriptor has ---


@pytest.mark.parametrize("number", [2**31, 2**70])
def test_numbers_too_large_for_a_descriptor(loop, number):
    for remove in (loop.remove_reader, loop.remove_writer):
        assert remove(number) is False
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises(OverflowError, match="Python int too large to convert to C int"):
            add(number, print)


def test_negative_numbers_however_large(loop):
    for number in (-1, -(2**31) - 1, -(2**70)):
        for method in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(ValueError, match=f"Invalid file descriptor: {number}"):
                method(number)
        for method in (loop.add_reader, loop.add_writer):
            with pytest.raises(ValueError, match=f"Invalid file descriptor: {number}"):
                method(number, print)


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**70, -(2**70)])
def test_a_closed_loop_is_reported_before_numbers_are_checked(loop, number):
    loop.close()
    for remove in (loop.remove_reader, loop.remove_writer):
        assert remove(number) is False
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            add(number, print)
