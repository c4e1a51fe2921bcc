"""getaddrinfo and getnameinfo: as the socket module answers, without its wait for literals."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

HOSTS = [
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "192.0.2.7",
    "::1",
    "::",
    "fe80::1",
    "2001:db8::192.0.2.1",
    "::ffff:127.0.0.1",
    "fe80::1%lo",
    "fe80::1%1",
    "::1%lo",
    "::1%1",
    "2001:db8::1%1",
    "127.1",
    "0x7f.1",
    "0177.0.0.1",
    "2130706433",
    None,
    b"127.0.0.1",
    b"::1",
    bytearray(b"127.0.0.1"),
]

# Not quite addresses. Asked for with AI_NUMERICHOST, so that no name server is bothered.
ALMOST_HOSTS = [
    "",
    b"",
    "fe80::1%nosuchinterface",
    "fe80::1%",
    "::1%",
    "127.0.0.1%lo",
    "127.0.0.1 ",
    " 127.0.0.1",
    "127.0.0.1\n",
    "127.0.0.1.",
    "1.2.3.4.5",
    "256.0.0.1",
    "127.0.0.01",
    "08.0.0.1",
    "4294967296",
    "[::1]",
    ":::",
    "1::2::3",
    "12345::",
    "::1.2.3",
    "\u0661.1.1.1",
    "localhost",
    "127.0.0.1\0",
    "\ud800",
    "a" * 300,
]

PORTS = [0, 80, 65535, None, "80", "080", b"80", "http", "domain", "", "nosuchservice"]
ODD_PORTS = [
    -1,
    65536,
    70000,
    2**31,
    2**40,
    "65536",
    "-1",
    " 80",
    "80 ",
    "+80",
    "8_0",
    "\u0668\u0660",
    b"",
]


class Executor(ThreadPoolExecutor):
    """An executor that counts what it is given."""

    def __init__(self):
        super().__init__(1)
        self.submitted = []

    def submit(self, function, *args):
        self.submitted.append((function, args))
        return super().submit(function, *args)


def outcome(function):
    """What a call gives: its result, or the exception's type and arguments."""
    try:
        return function()
    except Exception as exc:
        return type(exc), exc.args


def same_as_the_socket_module(loop, cases):
    """Compare every ``(host, port, options)``, and report all the differences together."""
    differences = []
    for host, port, options in cases:
        expected = outcome(lambda: socket.getaddrinfo(host, port, **options))  # noqa: B023
        got = outcome(
            lambda: loop.run_until_complete(
                loop.getaddrinfo(host, port, **options)  # noqa: B023
            )
        )
        # The repr distinguishes the enumerations' members from plain numbers, as equality does not.
        if expected != got or repr(expected) != repr(got):
            differences.append((host, port, options, expected, got))
    assert differences == []


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_every_kind_of_port_is_answered_as_by_the_socket_module(loop, host):
    same_as_the_socket_module(
        loop,
        [
            (host, port, options)
            for port in PORTS
            for options in ({}, {"type": socket.SOCK_STREAM}, {"type": socket.SOCK_DGRAM})
        ],
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.1", None, b"::1"], ids=repr)
def test_odd_ports_are_answered_or_refused_as_by_the_socket_module(loop, host):
    same_as_the_socket_module(
        loop,
        [(host, port, {"type": kind}) for port in ODD_PORTS for kind in (0, socket.SOCK_STREAM)],
    )


@pytest.mark.parametrize("host", ALMOST_HOSTS, ids=ascii)
def test_a_text_that_is_almost_an_address_is_no_address(loop, host):
    same_as_the_socket_module(
        loop,
        [
            (host, port, {"flags": socket.AI_NUMERICHOST | flag, "type": kind})
            for port in (80, "http", None)
            for flag in (0, socket.AI_PASSIVE, socket.AI_CANONNAME)
            for kind in (0, socket.SOCK_STREAM)
        ],
    )


def test_an_empty_host_is_answered_as_by_the_socket_module(loop):
    same_as_the_socket_module(loop, [("", 80, {}), ("", 80, {"type": socket.SOCK_STREAM})])


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_families_types_and_protocols_are_those_of_the_socket_module(loop, host):
    families = (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 99)
    types = (0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 99)
    protocols = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, 99)
    same_as_the_socket_module(
        loop,
        [
            (host, 80, {"family": family, "type": kind, "proto": proto})
            for family, kind, proto in itertools.product(families, types, protocols)
        ],
    )


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_flags_mean_what_they_mean_to_the_socket_module(loop, host):
    flags = (
        socket.AI_PASSIVE,
        socket.AI_CANONNAME,
        socket.AI_NUMERICHOST,
        socket.AI_NUMERICSERV,
        socket.AI_PASSIVE | socket.AI_CANONNAME,
        socket.AI_V4MAPPED,
        socket.AI_V4MAPPED | socket.AI_ALL,
        socket.AI_ADDRCONFIG,
        1 << 28,
    )
    same_as_the_socket_module(
        loop,
        [
            (host, port, {"flags": flag, "family": family, "type": kind})
            for flag, port, family, kind in itertools.product(
                flags,
                (80, None, "80", "http"),
                (socket.AF_UNSPEC, socket.AF_INET6),
                (0, socket.SOCK_STREAM),
            )
        ],
    )


@pytest.mark.parametrize(
    "host",
    [1, 1.5, (), ["127.0.0.1"], memoryview(b"::1")],
)
def test_hosts_of_a_wrong_kind_are_refused_as_by_the_socket_module(loop, host):
    same_as_the_socket_module(loop, [(host, 80, {})])


@pytest.mark.parametrize("port", [1.5, (), object], ids=repr)
def test_ports_of_a_wrong_kind_are_refused_as_by_the_socket_module(loop, port):
    same_as_the_socket_module(loop, [("127.0.0.1", port, {}), ("::1", port, {"type": 1})])


def test_the_options_are_keywords_only(loop):
    with pytest.raises(TypeError):
        loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80, socket.AF_INET))


def test_the_result_can_be_changed_without_changing_the_next(loop):
    async def ask():
        return await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)

    first = loop.run_until_complete(ask())
    expected = list(first)
    first.clear()
    assert loop.run_until_complete(ask()) == expected


@pytest.mark.native_only
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "192.0.2.7", "2001:db8::1", "::"])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_literal_never_reaches_the_executor(loop, host, kind):
    executor = Executor()
    loop.set_default_executor(executor)
    result = loop.run_until_complete(loop.getaddrinfo(host, 80, type=kind))
    assert result == socket.getaddrinfo(host, 80, type=kind)
    assert executor.submitted == []


def test_a_name_is_resolved_in_the_executor(loop, monkeypatch):
    executor = Executor()
    loop.set_default_executor(executor)
    asked = []
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]

    def getaddrinfo(*args):
        asked.append((args, threading.current_thread()))
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    result = loop.run_until_complete(
        loop.getaddrinfo("name.test", 80, family=2, type=1, proto=6, flags=1)
    )
    assert result == answer
    [(args, thread)] = asked
    assert args == ("name.test", 80, 2, 1, 6, 1)
    assert thread is not threading.current_thread()
    assert len(executor.submitted) == 1


def test_localhost_is_answered_as_by_the_socket_module(loop):
    same_as_the_socket_module(
        loop,
        [
            ("localhost", 80, {"family": family, "type": kind})
            for family in (socket.AF_UNSPEC, socket.AF_INET)
            for kind in (0, socket.SOCK_STREAM)
        ],
    )


def test_resolving_does_not_hold_up_the_loop(loop, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args: go_on.wait(20) and ["answer"])

    async def scenario():
        task = asyncio.ensure_future(loop.getaddrinfo("name.test", 80))
        await asyncio.sleep(0.01)
        assert not task.done()
        go_on.set()
        assert await task == ["answer"]

    loop.run_until_complete(scenario())


def test_debug_mode_gives_the_same_answers(loop):
    loop.set_debug(True)
    same_as_the_socket_module(
        loop, [(host, 80, {"type": socket.SOCK_STREAM}) for host in ("127.0.0.1", "::1", "127.1")]
    )


@pytest.mark.parametrize(
    ("address", "flags"),
    [
        (("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        (("127.0.0.1", 80), socket.NI_NUMERICHOST),
        (("127.0.0.1", 53), socket.NI_NUMERICHOST | socket.NI_DGRAM),
        (("::1", 80, 0, 0), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        (("fe80::1", 80, 0, 1), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        (("127.0.0.1", 80), socket.NI_NUMERICSERV),
        (("not an address", 80), socket.NI_NUMERICHOST),
        (("127.0.0.1", 70000), socket.NI_NUMERICHOST),
        (("127.0.0.1",), socket.NI_NUMERICHOST),
        ("127.0.0.1", 0),
    ],
    ids=repr,
)
def test_getnameinfo_answers_as_the_socket_module(loop, address, flags):
    expected = outcome(lambda: socket.getnameinfo(address, flags))
    assert outcome(lambda: loop.run_until_complete(loop.getnameinfo(address, flags))) == expected


def test_getnameinfo_needs_no_flags(loop):
    address = ("127.0.0.1", 80)
    expected = socket.getnameinfo(address, 0)
    assert loop.run_until_complete(loop.getnameinfo(address)) == expected


@pytest.mark.parametrize("odd", [{"flags": -1}, {"flags": 1 << 31}, {"family": 1 << 40}])
def test_numbers_that_are_no_flags_fail_as_the_sockets_function_does(loop, odd):
    with pytest.raises((OSError, OverflowError)) as expected:
        socket.getaddrinfo("127.0.0.1", 80, **odd)
    with pytest.raises(expected.type) as raised:
        loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80, **odd))
    assert str(raised.value) == str(expected.value)
