"""Random scripts on two datagram endpoints. See `test_plain.py` for how to run more of them."""

from __future__ import annotations

import asyncio
import socket
from typing import NamedTuple

import pytest
from hypothesis import strategies as st

from differential.ends import CONTENT
from differential.harness import CASES, compare, describe


class Datagrams(NamedTuple):
    link: str  # "udp" or "unix"
    connected: bool  # whether B's socket knows A as its only peer, too
    reactions: tuple  # of A and B to their first datagram
    steps: tuple


class DatagramEnd(asyncio.DatagramProtocol):
    def __init__(self, stage, name, reactions):
        self.stage = stage
        self.name = name
        self.reactions = list(reactions)
        self.transport = None
        self.address = None  # of the peer, if it must be given
        self.lost = False
        self.lines = []
        stage.ends.append(self)

    def seen(self, *words):
        self.stage.moves += 1
        self.lines.append(" ".join([self.name, *map(str, words)]))

    def connection_made(self, transport):
        self.transport = transport
        self.seen("connection_made")

    def datagram_received(self, data, address):
        right = data == CONTENT[: len(data)]
        self.seen("datagram_received", len(data), "right" if right else "WRONG", type(address))
        reactions, self.reactions = self.reactions, []
        for operation in reactions:
            if operation == ("raise",):
                raise ZeroDivisionError
            # An error that this leads to may be delivered before or after datagrams that wait.
            if operation[0] != "send_elsewhere" and not self.peer.leaving:
                self.do(operation)

    def error_received(self, exc):
        self.seen("error_received", describe(exc))

    def connection_lost(self, exc):
        self.lost = True
        self.seen("connection_lost", describe(exc))

    def progress(self):
        return None

    @property
    def leaving(self):
        return self.lost or self.transport.is_closing()

    def sending_much(self):
        return False

    def do(self, operation):
        name, *args = operation
        try:
            result = getattr(self, f"do_{name}")(*args)
        except Exception as error:
            result = error
        if result is not None:
            self.lines.append(f"{self.name}.{name}: {describe(result)}")

    def do_send(self, size):
        self.transport.sendto(CONTENT[:size], self.address)

    def do_send_elsewhere(self):
        if not self.lost and self.address is None:
            self.transport.sendto(b"data", ("127.0.0.1", 9))

    def do_text(self):
        self.transport.sendto("text", self.address)

    def do_close(self):
        self.transport.close()

    def do_abort(self):
        self.transport.abort()

    def take(self):
        lines, self.lines = self.lines, []
        size = self.transport.get_write_buffer_size()
        return [*lines, f"{self.name}: {self.transport.is_closing()} {size}"]


def sockets(link, connected):
    if link == "unix":
        pair = socket.socketpair(type=socket.SOCK_DGRAM)
    else:
        pair = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)]
        for sock in pair:
            sock.bind(("127.0.0.1", 0))
        pair[0].connect(pair[1].getsockname())
        if connected:
            pair[1].connect(pair[0].getsockname())
    for sock in pair:
        sock.setblocking(False)
    return pair


async def play(stage, script):
    pair = sockets(script.link, script.connected)
    ends = [DatagramEnd(stage, name, one) for name, one in zip("AB", script.reactions, strict=True)]
    ends[0].peer, ends[1].peer = ends[1], ends[0]
    if script.link == "udp" and not script.connected:
        ends[1].address = pair[0].getsockname()
    for end, sock in zip(ends, pair, strict=True):
        await stage.loop.create_datagram_endpoint(lambda end=end: end, sock=sock)
    await stage.settle()
    stage.close_step("connect")
    for which, operations in script.steps:
        for one in operations:
            if one[0] in ("close", "abort"):
                # Else what was sent before is received as one lot here, and the network's answer
                # to what one of them gives rise to comes after the last of them.
                await stage.settle()
            ends[which].do(one)
            if any(end.leaving for end in ends):
                await stage.settle()
        await stage.settle()
        stage.close_step(f"{'AB'[which]}: {operations}")
    for end in ends:
        end.transport.abort()
    await stage.settle()


sizes = st.sampled_from([1, 100, 1000, 20_000, 65_508])
operation = st.one_of(
    st.tuples(st.just("send"), sizes),
    st.tuples(st.just("send"), sizes),
    st.tuples(st.just("send"), sizes),
    st.just(("send_elsewhere",)),
    st.just(("text",)),
    st.just(("close",)),
    st.just(("abort",)),
)
reaction = st.lists(st.one_of(operation, st.just(("raise",))), max_size=2).map(tuple)
steps = st.lists(
    st.tuples(st.integers(0, 1), st.lists(operation, min_size=1, max_size=3).map(tuple)),
    min_size=1,
    max_size=8,
).map(tuple)


@pytest.mark.parametrize("link", CASES["datagrams"])
def test_datagram_endpoints_do_the_same(loop_factory, link):
    compare(
        loop_factory,
        "datagrams",
        play,
        st.builds(Datagrams, st.just(link), st.booleans(), st.tuples(reaction, reaction), steps),
    )
