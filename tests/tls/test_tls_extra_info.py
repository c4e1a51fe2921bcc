"""The extra information and the repr of a TLS transport."""

from __future__ import annotations

import asyncio
import re
import ssl

import pytest

from support.recording import Recorder, in_thread
from tls.peers import HOST, OLDER_DESIGN


@pytest.mark.native_only(**OLDER_DESIGN)
def test_the_extra_info_of_a_connection(on_tls, certificates):
    context = certificates.client_context()

    async def scenario(transport, protocol, peer):
        assert transport.get_extra_info("sslcontext") is context
        ssl_object = transport.get_extra_info("ssl_object")
        assert isinstance(ssl_object, ssl.SSLObject)
        assert ssl_object.server_hostname == HOST
        assert transport.get_extra_info("peercert") == ssl_object.getpeercert()
        assert ("DNS", HOST) in transport.get_extra_info("peercert")["subjectAltName"]
        assert transport.get_extra_info("cipher") == ssl_object.cipher() == peer.object.cipher()
        assert transport.get_extra_info("compression", "default") is None
        assert transport.get_extra_info("peername") == peer.sock.getsockname()
        assert transport.get_extra_info("sockname") == peer.sock.getpeername()
        assert transport.get_extra_info("socket").getpeername() == peer.sock.getsockname()
        assert transport.get_extra_info("unknown") is None
        assert transport.get_extra_info("unknown", "default") == "default"
        assert transport.get_extra_info(name="unknown", default=1) == 1
        transport.abort()
        await protocol.lost()
        # What TLS found out stays known, what the transport below knew is gone.
        assert transport.get_extra_info("ssl_object") is ssl_object
        assert transport.get_extra_info("sslcontext") is context
        assert transport.get_extra_info("peercert")
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("socket", "gone") == "gone"

    on_tls(scenario, client_context=context)


def test_a_server_knows_no_certificate_of_a_client_that_showed_none(on_tls, certificates):
    context = certificates.server_context()

    async def scenario(transport, _protocol, _peer):
        assert transport.get_extra_info("sslcontext") is context
        assert transport.get_extra_info("peercert", "default") is None
        assert transport.get_extra_info("ssl_object").server_side

    on_tls(scenario, server_side=True, server_context=context)


def test_all_is_known_in_connection_made(on_tls):
    class Curious(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            names = ("sslcontext", "ssl_object", "peercert", "cipher", "peername", "sockname")
            self.known = {name: transport.get_extra_info(name) for name in names}

    async def scenario(_transport, protocol, _peer):
        assert all(protocol.known.values())

    on_tls(scenario, Curious())


def test_a_transport_is_what_asyncio_promises(on_tls):
    async def scenario(transport, protocol, _peer):
        assert isinstance(transport, asyncio.Transport)
        assert transport.get_protocol() is protocol
        assert not transport.is_closing()
        assert "object at" in repr(transport) or "SSLTransport open over" in repr(transport)

    on_tls(scenario)


@pytest.mark.native_only
def test_the_repr_of_a_transport_shows_its_state(on_tls, certificates):
    async def scenario(transport, protocol, peer):
        assert re.fullmatch(r"<SSLTransport open over <SocketTransport .*>>", repr(transport))
        transport.close()
        assert repr(transport).startswith("<SSLTransport closing over <SocketTransport ")
        await in_thread(peer.recv_all)
        await in_thread(peer.unwrap)
        await protocol.lost()
        assert repr(transport) == "<SSLTransport closed>"

    on_tls(scenario)
