"""Protocols over TLS: exceptions of their callbacks, and the context they run in."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from support.recording import Recorder, Reports, in_thread
from tls.peers import OLDER_DESIGN, Buffered, secure, tls_pair

pytestmark = pytest.mark.native_only(**OLDER_DESIGN)

variable = contextvars.ContextVar("variable", default="outside")

TOO_MUCH = 32 << 20


class Fails(Recorder):
    """Raises in one of its callbacks, after noting the call."""

    def __init__(self, callback, error):
        super().__init__()
        self._callback = callback
        self._error = error

    def _note(self, name):
        super()._note(name)
        if name == self._callback:
            raise self._error


class FailsBuffered(Buffered):
    def __init__(self, callback, error):
        super().__init__(100)
        self._recorder = Fails("data_received" if callback == "buffer_updated" else None, error)
        self._raise = error if callback == "get_buffer" else None
        self.armed = False

    def get_buffer(self, sizehint):
        if self._raise and self.armed:
            raise self._raise
        return super().get_buffer(sizehint)


# --- exceptions ---


def test_an_error_in_data_received(on_tls, loop):
    reports, error = Reports(loop), LookupError("bad data")

    async def scenario(_transport, protocol, peer):
        await in_thread(peer.send, b"data")
        assert await protocol.lost() is error
        report = reports.only()
        assert report["message"] == "Fatal error on SSL protocol"
        assert report["exception"] is error
        assert protocol.calls == ["connection_made", "data_received", "connection_lost"]

    on_tls(scenario, Fails("data_received", error))


@pytest.mark.parametrize("callback", ["get_buffer", "buffer_updated"])
def test_an_error_in_a_buffered_protocol(loop, certificates, callback):
    reports, error = Reports(loop), LookupError("bad data")

    async def main():
        protocol = FailsBuffered(callback, error)
        _, _, peer = await secure(loop, certificates, protocol)
        protocol.armed = True
        with peer:
            await in_thread(peer.send, b"data")
            assert await protocol.lost() is error
        report = reports.only()
        assert report["message"] == "Fatal error on SSL protocol"
        assert report["exception"] is error

    loop.run_until_complete(main())


@pytest.mark.parametrize("notified", [True, False], ids=["close_notify", "plain end"])
def test_an_error_in_eof_received(on_tls, loop, notified):
    reports, error = Reports(loop), LookupError("no end")

    async def scenario(_transport, protocol, peer):
        if notified:
            await in_thread(peer.sock.sendall, peer.close_notify())
        else:
            peer.sock.close()
        assert await protocol.lost() is error
        report = reports.only()
        assert report["message"] == "Error calling eof_received()"
        assert report["exception"] is error

    on_tls(scenario, Fails("eof_received", error))


def test_an_error_in_connection_lost(on_tls, loop):
    reports, error = Reports(loop), LookupError("not lost")

    async def scenario(transport, protocol, _peer):
        transport.abort()
        await protocol.lost()
        await asyncio.sleep(0.01)
        report = reports.only()
        assert report["message"].startswith("Exception in callback ")
        assert report["exception"] is error

    on_tls(scenario, Fails("connection_lost", error))


@pytest.mark.parametrize("callback", ["pause_writing", "resume_writing"])
def test_an_error_in_flow_control(on_tls, loop, callback):
    reports, error = Reports(loop), LookupError("no flow")

    async def scenario(transport, protocol, peer):
        for _ in range(2):
            transport.write(bytes(TOO_MUCH))
        assert len(await in_thread(peer.recv_exactly, 2 * TOO_MUCH)) == 2 * TOO_MUCH
        await protocol.called("resume_writing")
        report = reports.only()
        assert report["message"] == f"protocol.{callback}() failed"
        assert report["exception"] is error
        # The connection lives on.
        transport.write(b"more")
        assert await in_thread(peer.recv_exactly, 4) == b"more"

    on_tls(scenario, Fails(callback, error))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("callback", ["data_received", "eof_received"])
def test_an_exception_that_ends_the_loop_ends_it(loop, certificates, callback, error):
    protocol = Fails(callback, error)

    async def connect():
        return await secure(loop, certificates, protocol)

    async def speak(peer):
        await in_thread(peer.sock.sendall, peer.records(b"data") + peer.close_notify())
        await protocol.lost()

    transport, _, peer = loop.run_until_complete(connect())
    with peer:
        speaking = loop.create_task(speak(peer))
        with pytest.raises(error):
            loop.run_until_complete(speaking)
        transport.abort()
        loop.run_until_complete(protocol.lost())
        loop.run_until_complete(asyncio.gather(speaking, return_exceptions=True))


# --- contexts ---


class Remembers(Recorder):
    """Notes the variable's value in each callback."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def _note(self, name):
        self.seen.setdefault(name, set()).add(variable.get())
        super()._note(name)


class RemembersBuffered(Buffered):
    def __init__(self):
        super().__init__(3)
        self._recorder = Remembers()


def test_callbacks_of_a_server_run_in_the_context_it_was_made_in(loop, certificates):
    server = Remembers()

    async def main():
        variable.set("server")
        pair = await tls_pair(loop, certificates, server=server)
        variable.set("later")
        pair.client.transport.write(b"data")
        await server.got(4)
        pair.client.transport.close()
        await server.lost()
        await pair.end()

    loop.run_until_complete(main())
    assert server.seen == {
        "connection_made": {"server"},
        "data_received": {"server"},
        "eof_received": {"server"},
        "connection_lost": {"server"},
    }


@pytest.mark.parametrize("kind", [Remembers, RemembersBuffered], ids=["plain", "buffered"])
def test_callbacks_of_a_client_run_in_the_context_it_was_made_in(loop, certificates, kind):
    client = kind()

    async def main():
        variable.set("client")
        pair = await tls_pair(loop, certificates, client)
        variable.set("later")
        pair.server.transport.write(b"some data")
        await client.got(9)
        pair.server.transport.close()
        await client.lost()
        await pair.end()

    loop.run_until_complete(main())
    assert client.seen == {
        "connection_made": {"client"},
        "data_received": {"client"},
        "eof_received": {"client"},
        "connection_lost": {"client"},
    }


def test_code_that_resumes_reading_lends_its_context(on_tls):
    async def scenario(transport, protocol, peer):
        transport.pause_reading()
        await in_thread(peer.send, b"data")
        await asyncio.sleep(0.01)
        variable.set("resumer")
        transport.resume_reading()
        await protocol.got(4)
        assert protocol.seen["data_received"] == {"resumer"}

    on_tls(scenario, Remembers())


def test_each_later_piece_for_a_small_buffer_has_a_context_of_its_own(on_tls):
    """A copy from before the piece ahead of it; the next record is read in the connection's."""
    seen = []

    class Counts(Buffered):
        def buffer_updated(self, nbytes):
            seen.append(variable.get())
            variable.set(len(seen))
            super().buffer_updated(nbytes)

    async def scenario(_transport, protocol, peer):
        for received in (9, 18):
            await in_thread(peer.send, b"12345678.")
            await protocol.got(received)

    on_tls(scenario, Counts(3))
    assert seen == ["outside"] * 3 + [1] * 3


def test_a_pause_comes_in_the_context_of_the_writer(on_tls):
    async def scenario(transport, protocol, peer):
        variable.set("writer")
        for _ in range(2):
            transport.write(bytes(TOO_MUCH))
        assert protocol.seen["pause_writing"] == {"writer"}
        assert len(await in_thread(peer.recv_exactly, 2 * TOO_MUCH)) == 2 * TOO_MUCH
        await protocol.called("resume_writing")

    on_tls(scenario, Remembers())
