"""The ``sock_*`` methods as functions: what tools see of them, and calls without their loop."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import socket
import sys
from unittest import mock

import pytest

METHODS = {
    "sock_recv": "n",
    "sock_recv_into": "buf",
    "sock_sendall": "data",
    "sock_connect": "address",
}


@pytest.mark.parametrize("name", METHODS)
def test_it_is_a_coroutine_function(loop, name):
    for function in (getattr(loop, name), getattr(type(loop), name)):
        if sys.version_info < (3, 14):
            assert asyncio.iscoroutinefunction(function)
        if sys.version_info >= (3, 12):
            assert inspect.iscoroutinefunction(function)
    assert isinstance(getattr(mock.create_autospec(loop), name), mock.AsyncMock)


@pytest.mark.parametrize("name", METHODS)
def test_a_mock_with_its_signature_replaces_it(loop, name):
    """As the tests of aiohttp do with ``sock_connect``."""

    async def instead(*args):
        return args

    with mock.patch.object(loop, name, autospec=True, spec_set=True, side_effect=instead) as mocked:
        method = getattr(loop, name)
        assert loop.run_until_complete(method("sock", "argument")) == ("sock", "argument")
        mocked.assert_awaited_once_with("sock", "argument")
        with pytest.raises(TypeError, match="missing a required argument"):
            loop.run_until_complete(method("sock"))


@pytest.mark.parametrize(("name", "parameter"), METHODS.items())
def test_tools_see_a_method(loop, name, parameter):
    method, function = getattr(loop, name), getattr(type(loop), name)
    assert inspect.ismethod(method)
    assert method.__self__ is loop
    assert method.__func__ is function
    assert method.__name__ == function.__name__ == name
    assert list(inspect.signature(function).parameters) == ["self", "sock", parameter]
    assert list(inspect.signature(method).parameters) == ["sock", parameter]
    assert name in repr(method)
    assert pickle.loads(pickle.dumps(function)) is copy.copy(function) is function


@pytest.mark.parametrize("name", METHODS)
def test_without_its_arguments_it_says_which(loop, name):
    function, parameter = getattr(type(loop), name), METHODS[name]
    for given, named, missing in [
        ((), {}, f"3 required positional arguments: 'self', 'sock', and '{parameter}'"),
        ((loop,), {}, f"2 required positional arguments: 'sock' and '{parameter}'"),
        ((loop, None), {}, f"1 required positional argument: '{parameter}'"),
        ((loop,), {parameter: 1}, "1 required positional argument: 'sock'"),
    ]:
        with pytest.raises(TypeError, match=rf"{name}\(\) missing {missing}$"):
            function(*given, **named)
    with pytest.raises(TypeError, match="takes 3 positional arguments but 4 were given"):
        function(loop, None, None, None)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        function(loop, None, None, colour="red")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("what", [None, 5, "loop", object()])
def test_called_with_something_that_is_no_loop_it_fails_when_it_is_awaited(loop, name, what):
    coroutine = getattr(type(loop), name)(what, None, b"")
    with pytest.raises(AttributeError):
        loop.run_until_complete(coroutine)


def test_it_takes_keywords_as_well(loop):
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.send(b"data")
        assert loop.run_until_complete(loop.sock_recv(n=10, sock=near)) == b"data"
        function = type(loop).sock_sendall
        loop.run_until_complete(function(self=loop, data=b"back", sock=near))
        assert far.recv(10) == b"back"
