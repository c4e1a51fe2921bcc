"""Random scripts of TLS against a peer that is not on a loop and may do anything.

The peer is a socket and OpenSSL, moved by the script: it takes part in a handshake one flight at
a time, sends half a record, plain text or nothing, ends with or without a word, at any moment.
What it saw on the wire belongs to the recording. See `test_plain.py` for how to run more scripts.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from typing import NamedTuple

import pytest
from hypothesis import strategies as st

from differential.ends import (
    CALLBACKS,
    CONTENT,
    End,
    Spec,
    connected_sockets,
    heavy,
    leave,
    operation,
    specs,
)
from differential.harness import CASES, compare, describe
from support.recording import reset


class Handshake(NamedTuple):
    role: str  # of the end on the loop
    version: str
    start: str  # "secure", or "plain" for an upgrade by start_tls
    trouble: str  # "", "untrusted" or "long": a client that knows no authority, a long chain
    end: Spec
    steps: tuple


class Peer:
    """The other side: OpenSSL by hand, over a socket that is not on the loop."""

    leaving = lost = closed_with_much = gone_with_much = False

    def __init__(self, stage, sock, context, server_side):
        self.stage = stage
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side, name)
        self.sent = 0  # of application data
        self.received = 0
        self.plain = self.end_plain = 0  # bytes that came before TLS, and how many will
        self.secure = False
        self.finished = False
        self.end = None

    def see(self, *words):
        self.stage.note("peer", *words)

    def attempt(self, name, *args):
        """A call of OpenSSL's; what it says is written down unless it only wants more."""
        try:
            return getattr(self.tls, name)(*args)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as error:
            self.see(f"{name}:", describe(error))
            self.finished = True
            return None

    def transmit(self, limit=None):
        """Sends what OpenSSL has ready, or the first ``limit`` bytes of it."""
        data = self.outgoing.read() if limit is None else self.outgoing.read(limit)
        if data:
            self.transmit_raw(data)

    def transmit_raw(self, data):
        if self.sock.fileno() >= 0:
            try:
                self.sock.send(data)
            except OSError as error:
                self.see("send:", describe(error))

    def collect(self):
        """Takes in what has arrived; whether there was anything."""
        if self.sock.fileno() < 0:
            return False
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return False
        except OSError as error:
            self.see("recv:", describe(error))
            self.sock.close()
            return False
        if not data:
            self.incoming.write_eof()
            if self.end != "EOF":
                self.see("recv: the end")
            self.end = "EOF"
            return False
        plain = min(self.end_plain - self.plain, len(data)) if not self.secure else 0
        self.plain += plain
        self.received += plain
        self.incoming.write(data[plain:])
        return True

    def work(self):
        """Goes on with the handshake, or reads."""
        if not self.secure or self.finished:
            return
        if self.tls.version() is None:
            self.attempt("do_handshake")
            if self.tls.version() is None:
                return
            self.see("is secure", self.tls.version())
        while not self.finished and (data := self.attempt("read", 1 << 20)) is not None:
            if not data:
                self.see("got the end, after", self.received)
                self.finished = True
                return
            if data != CONTENT[self.received : self.received + len(data)]:
                self.see("got OTHER BYTES THAN WERE SENT")
            self.received += len(data)

    # -- the script's operations --------------------------------------------------------------

    async def do_pump(self):
        """Everything that a peer does by itself, until nothing moves."""
        while True:
            before = self.received
            moved = self.collect()
            self.secure |= self.plain == self.end_plain and self.incoming.pending > 0
            self.work()
            self.transmit()
            await self.stage.settle()
            if not moved:
                break
        if self.received != before or self.received:
            self.see("has", "some" if self.other.gone_with_much else self.received, "bytes")

    async def do_half(self, size):
        """Answers, but sends only so many bytes; the rest goes with what comes next."""
        self.collect()
        self.secure |= self.plain == self.end_plain and self.incoming.pending > 0
        self.work()
        self.transmit(size)

    async def do_hello(self):
        self.secure = True
        self.work()
        self.transmit()

    async def do_send(self, size):
        if self.tls.version() is None:
            return
        data = CONTENT[self.sent : self.sent + size]
        if data and self.attempt("write", data):
            self.sent += size
        self.transmit()

    async def do_raw(self, data):
        self.transmit_raw(data)

    async def do_unwrap(self):
        """Says that it ends, as TLS wants it."""
        if self.tls.version() is not None:
            with contextlib.suppress(ssl.SSLError):
                self.tls.unwrap()
            self.transmit()

    async def do_shutdown(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    async def do_close(self):
        self.sock.close()

    async def do_reset(self):
        if self.sock.fileno() >= 0:
            reset(self.sock)


class Attempt:
    """The end on the loop, and the task that makes it secure."""

    def __init__(self, contexts, stage, script, sock, end):
        self.stage = stage
        self.script = script
        self.sock = sock
        self.end = end
        self.task = None
        self.upgrading = False
        client = script.role == "client"
        self.context = (
            contexts.client(script.version, trusting=script.trouble != "untrusted")
            if client
            else contexts.server(long=script.trouble == "long")
        )
        self.options = {"server_hostname": "localhost"} if client else {}

    def start(self, how):
        self.task = self.stage.loop.create_task(self._run(how))

    async def _run(self, how):
        timeouts = {"ssl_handshake_timeout": 10.0}
        try:
            if how == "plain":
                await self.stage.loop.create_connection(lambda: self.end.ear, sock=self.sock)
            elif how == "start_tls":
                transport = await self.stage.loop.start_tls(
                    self.end.transport,
                    self.end.ear,
                    self.context,
                    server_side=self.script.role == "server",
                    **self.options,
                    **timeouts,
                )
                if transport is None:
                    how = "start_tls, with no transport"
                self.end.transport, self.end.secure = transport, True
            elif self.script.role == "client":
                await self.stage.loop.create_connection(
                    lambda: self.end.ear,
                    sock=self.sock,
                    ssl=self.context,
                    **self.options,
                    **timeouts,
                )
            else:
                await self.stage.loop.connect_accepted_socket(
                    lambda: self.end.ear, self.sock, ssl=self.context, **timeouts
                )
        except (Exception, asyncio.CancelledError) as error:
            self.stage.note(f"{how}:", describe(error))
        else:
            self.stage.note(f"{how}: done")


async def play(contexts, stage, script):
    near, far = connected_sockets("tcp")
    stage.connected(near, far)
    end = End(stage, "A", script.end, secure=script.start == "secure")
    peer_context = (
        contexts.server(long=script.trouble == "long")
        if script.role == "client"
        else contexts.client(script.version)
    )
    peer = end.peer = Peer(stage, far, peer_context, script.role == "client")
    peer.other = end
    attempt = Attempt(contexts, stage, script, near, end)
    attempt.start(script.start)
    await stage.settle()
    stage.close_step("connect")
    for who, *operations in script.steps:
        if who == "peer":
            name, *args = operations
            if script.start == "plain" and not attempt.upgrading:
                peer.end_plain = end.sent
            await getattr(peer, f"do_{name}")(*args)
        elif who == "end":
            for one in operations[0]:
                end.do(one)
                if end.leaving:
                    await stage.settle()
        elif who == "advance":
            stage.now += operations[0]
        elif who == "cancel":
            attempt.task.cancel()
        elif end.transport is not None and not end.secure and attempt.task.done():
            attempt.upgrading = True
            attempt.start("start_tls")
        await stage.settle()
        stage.close_step(f"{who}: {operations}")
    # A handshake that still waits times out.
    await stage.advance(61)
    await leave(stage, [end])
    await peer.do_pump()
    far.close()
    near.close() if end.transport is None and attempt.task.done() else None
    await stage.settle()
    attempt.task.cancel()
    await asyncio.wait([attempt.task])


peer_steps = st.one_of(
    st.just(("peer", "pump")),
    st.just(("peer", "pump")),
    st.just(("peer", "pump")),
    st.just(("peer", "hello")),
    st.tuples(st.just("peer"), st.just("half"), st.sampled_from([1, 5, 100, 700])),
    st.tuples(st.just("peer"), st.just("send"), st.sampled_from([1, 100, 600, 20_000])),
    st.tuples(
        st.just("peer"),
        st.just("raw"),
        st.sampled_from(
            [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 20, b"\x16", b"\x15\x03\x03\0\2\2\x28"]
        ),
    ),
    *(st.just(("peer", name)) for name in ("unwrap", "unwrap", "shutdown", "close", "reset")),
)
end_steps = st.tuples(
    st.just("end"), st.lists(st.one_of(operation, operation, heavy), min_size=1, max_size=3)
)
other_steps = st.one_of(
    st.just(("cancel",)),
    st.tuples(st.just("advance"), st.sampled_from([9.0, 11.0, 31.0])),
)


def unpaused(spec):
    """Without a pause in connection_made: asyncio keeps the handshake's end back meanwhile."""
    return spec._replace(
        reactions=tuple(
            (name, operations)
            for name, operations in spec.reactions
            if name != "connection_made" or ("pause_reading",) not in operations
        )
    )


def handshakes(role, version):
    def build(start, prologue):
        middle = st.lists(
            st.one_of(peer_steps, peer_steps, end_steps, end_steps, other_steps), max_size=8
        )
        return st.builds(
            lambda trouble, spec, first, rest: Handshake(
                role, version, start, trouble, spec, (*first, *rest)
            ),
            st.sampled_from(["", "", "", "", "untrusted", "long"]),
            specs(st.one_of(operation, st.just(("raise",))), CALLBACKS).map(unpaused),
            prologue,
            middle,
        )

    # Most scripts get through the handshake: the peer's part of it comes first.
    hello = [] if role == "client" else [("peer", "hello")]
    through = [*hello, ("peer", "pump"), ("peer", "pump")]
    secure = st.sampled_from([through, through, hello, []])
    upgraded = st.tuples(
        st.lists(end_steps, max_size=1), st.sampled_from([through, through, hello])
    ).map(lambda drawn: [*drawn[0], ("start_tls",), *drawn[1]])
    return st.one_of(build("secure", secure), build("secure", secure), build("plain", upgraded))


@pytest.mark.parametrize("which", CASES["handshakes"])
def test_the_end_does_the_same_whatever_the_peer_does(loop_factory, contexts, which):
    compare(
        loop_factory, "handshakes", functools.partial(play, contexts), handshakes(*which.split())
    )
