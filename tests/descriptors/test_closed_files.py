"""A file object is closed while the loop watches it: as in asyncio's selector, the object that was
registered first still stands for it."""

from __future__ import annotations

import asyncio
import selectors
import socket
import weakref

import pytest

from support.iterations import run_iterations
from support.reused_numbers import pair_with

WAYS = {"reader": selectors.EVENT_READ, "writer": selectors.EVENT_WRITE}


@pytest.fixture
def pair():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


def add(loop, way, *args):
    getattr(loop, f"add_{way}")(*args)


def remove(loop, way, file):
    return getattr(loop, f"remove_{way}")(file)


@pytest.mark.parametrize("way", WAYS)
def test_a_closed_file_can_be_removed(loop, pair, way):
    near, _ = pair
    add(loop, way, near, print)
    near.close()
    run_iterations(loop)
    assert remove(loop, way, near) is True
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        remove(loop, way, near)


@pytest.mark.parametrize("way", WAYS)
def test_a_closed_file_that_was_never_registered_is_refused(loop, pair, way):
    near, _ = pair
    near.close()
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        remove(loop, way, near)
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        add(loop, way, near, print)


def test_a_file_that_was_registered_by_its_number_is_not_known_by_its_object(loop, pair):
    near, _ = pair
    number = near.fileno()
    loop.add_reader(number, print)
    near.close()
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        loop.remove_reader(near)
    assert loop.remove_reader(number) is True


@pytest.mark.native_only(reason="asyncio's raises OSError and forgets both")
def test_reader_and_writer_of_a_closed_file_are_removed_one_by_one(loop, pair):
    near, _ = pair
    loop.add_reader(near, print)
    loop.add_writer(near, lambda: None)
    near.close()
    assert loop.remove_reader(near) is True
    assert loop.remove_reader(near) is False
    assert loop.remove_writer(near) is True
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        loop.remove_writer(near)


def test_the_object_that_was_registered_first_is_the_one_that_is_known(loop, pair):
    near, _ = pair

    class Wrapper:
        closed = False

        def fileno(self):
            return -1 if self.closed else near.fileno()

    first, second = Wrapper(), Wrapper()
    loop.add_reader(first, print)
    loop.add_writer(second, lambda: None)
    first.closed = second.closed = True
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        loop.remove_writer(second)
    assert loop.remove_writer(first) is True
    assert loop.remove_reader(first) is True


def test_a_reader_of_a_closed_file_can_be_replaced(loop, pair):
    near, _ = pair
    loop.add_reader(near, print, "first")
    near.close()
    loop.add_reader(near, print, "second")
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_writer(near, print)


@pytest.mark.parametrize("way", WAYS)
def test_the_selector_shows_the_registrations(loop, pair, way):
    near, far = pair
    number = near.fileno()
    selector = loop._selector
    with pytest.raises(KeyError, match="is not registered"):
        selector.get_key(near)
    add(loop, way, near, print, way)
    key = selector.get_key(near)
    assert (key.fileobj, key.fd, key.events) == (near, number, WAYS[way])
    reader, writer = key.data
    assert [handle is None for handle in (reader, writer)] == [way == "writer", way == "reader"]
    assert (reader or writer)._args == (way,)
    found = selector.get_map()
    assert found[number].fileobj is near
    assert number in found
    assert near in found
    assert far not in found
    assert number in list(found)
    assert len(found) == len(list(found)) >= 1
    near.close()
    assert selector.get_key(near).fd == number
    remove(loop, way, near)
    with pytest.raises(KeyError, match="is not registered"):
        selector.get_key(number)


@pytest.mark.parametrize("way", WAYS)
def test_a_closed_file_can_be_removed_when_another_has_its_number(loop, pair, way):
    near, _ = pair
    number = near.fileno()
    add(loop, way, near, print)
    near.close()
    again, peer = pair_with(number)
    with again, peer:
        called = []
        add(loop, way, again, called.append, None)
        peer.send(b"x")
        assert remove(loop, way, near) is True
        if type(loop) is not asyncio.SelectorEventLoop:
            run_iterations(loop)
            assert called
            assert remove(loop, way, again) is True


@pytest.mark.native_only(reason="asyncio's selector keeps them for ever")
def test_a_closed_file_is_not_kept_alive_once_another_has_its_number(loop):
    closed = []
    for _ in range(100):
        near, far = socket.socketpair()
        with far:
            loop.add_reader(near, print)
            closed.append(weakref.ref(near))
            near.close()
    del near
    assert sum(ref() is not None for ref in closed) <= 1
