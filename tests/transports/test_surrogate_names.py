"""Names that Rust cannot hold as text: lone surrogates, and objects that are no ``str``."""

from __future__ import annotations

import asyncio

import pytest

from support.recording import Recorder, blocking_pair

LONE = "\udc80"


class Text(str):
    """A name of a program's own class."""


@pytest.fixture(params=["stream", "tls", "datagram", "read pipe", "write pipe"])
def transport(request, loop, pipe, certificates):
    """A transport of every kind."""
    near, far = blocking_pair()
    protocol = Recorder()

    async def secure():
        server = await loop.create_server(
            asyncio.Protocol, "127.0.0.1", 0, ssl=certificates.server_context()
        )
        address = server.sockets[0].getsockname()
        made = await loop.create_connection(
            lambda: protocol,
            *address,
            ssl=certificates.client_context(),
            server_hostname="localhost",
        )
        server.close()
        return made

    connecting = {
        "stream": lambda: loop.create_connection(lambda: protocol, sock=near),
        "tls": secure,
        "datagram": lambda: loop.create_datagram_endpoint(
            lambda: protocol, local_addr=("127.0.0.1", 0)
        ),
        "read pipe": lambda: loop.connect_read_pipe(lambda: protocol, pipe[0]),
        "write pipe": lambda: loop.connect_write_pipe(lambda: protocol, pipe[1]),
    }
    with near, far:
        transport, _ = loop.run_until_complete(connecting[request.param]())
        yield transport
        getattr(transport, "abort", transport.close)()
        loop.run_until_complete(protocol.lost())
        loop.run_until_complete(asyncio.sleep(0.01))


@pytest.mark.parametrize("name", [LONE, Text(LONE), b"socket", 7, None, ("socket",)], ids=ascii)
def test_extra_info_of_an_unknown_name_is_the_default(transport, name):
    assert transport.get_extra_info(name) is None
    assert transport.get_extra_info(name, "default") == "default"
    assert transport.get_extra_info(name, default=7) == 7


@pytest.mark.parametrize("asked_before", [False, True])
def test_a_name_must_be_hashable(transport, asked_before):
    if asked_before:
        transport.get_extra_info("socket")
    with pytest.raises(TypeError, match="unhashable type"):
        transport.get_extra_info([])


def test_a_name_may_be_of_a_class_of_its_own(transport):
    for name in ("socket", "pipe", "sockname"):
        found = transport.get_extra_info(name)
        assert transport.get_extra_info(Text(name)) == found


@pytest.mark.parametrize("name", [LONE, Text(LONE), Text("time_zone")], ids=ascii)
def test_attributes_of_the_loop(loop, name):
    setattr(loop, name, 7)
    assert getattr(loop, name) == 7
    delattr(loop, name)
    assert not hasattr(loop, name)
    with pytest.raises(AttributeError):
        delattr(loop, name)


@pytest.mark.parametrize("name", [7, None, b"name"], ids=ascii)
def test_attributes_need_text(loop, name):
    with pytest.raises(TypeError):
        type(loop).__setattr__(loop, name, 7)
    with pytest.raises(TypeError):
        type(loop).__delattr__(loop, name)


def test_attributes_by_a_name_of_a_class_of_its_own_count(loop):
    """What the core looks at by name it knows by whatever `str` it is set."""
    setattr(loop, Text("time"), lambda: 1e6)
    assert loop.call_later(5, print).when() == 1e6 + 5
    delattr(loop, Text("time"))
    assert loop.call_later(5, print).when() < 1e6 + 5 or loop.time() > 1e6


@pytest.mark.parametrize("name", [LONE, Text(LONE), Text("nonsense")], ids=ascii)
def test_keywords(loop, transport, name):
    calls = [
        lambda **names: loop.call_soon(print, **names),
        lambda **names: loop.call_later(1, print, **names),
        lambda **names: loop.call_soon_threadsafe(print, **names),
        lambda **names: loop.create_task(asyncio.sleep(0), **names),
        lambda **names: transport.get_extra_info("socket", **names),
    ]
    if hasattr(transport, "write"):
        calls += [
            lambda **names: transport.write(b"", **names),
            lambda **names: transport.set_write_buffer_limits(**names),
        ]
    for call in calls:
        with pytest.raises(TypeError):
            call(**{name: 7})


@pytest.mark.native_only(reason="the texts of asyncio's are those of Python functions")
def test_the_error_shows_the_keyword_as_it_is(loop):
    with pytest.raises(TypeError) as caught:
        loop.call_soon(print, **{LONE: 7})
    assert LONE in str(caught.value)
