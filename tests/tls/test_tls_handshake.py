"""The agreements of a handshake: versions, names, protocols, certificates, sessions."""

from __future__ import annotations

import asyncio
import contextvars
import ssl
import sys

import pytest

from support.certificates import CLIENT, ELSEWHERE
from support.recording import Recorder, in_thread
from tls.peers import HOST, OLDER_DESIGN, Peer, needs_3_11, secure, tls_pair


def ssl_object(protocol):
    return protocol.transport.get_extra_info("ssl_object")


# --- ALPN ---


@pytest.mark.parametrize(
    ("offered", "served", "agreed"),
    [
        (["h2", "http/1.1"], ["http/1.1", "h2"], "http/1.1"),
        (["h2"], ["h2"], "h2"),
        (["h2"], ["other"], None),
        ([], ["h2"], None),
        (["h2"], [], None),
    ],
)
def test_alpn(on_tls_pair, certificates, tls_version, offered, served, agreed):
    client_context = certificates.client_context(version=tls_version)
    server_context = certificates.server_context()
    if offered:
        client_context.set_alpn_protocols(offered)
    if served:
        server_context.set_alpn_protocols(served)

    async def scenario(client, server):
        assert ssl_object(client).selected_alpn_protocol() == agreed
        assert ssl_object(server).selected_alpn_protocol() == agreed

    on_tls_pair(scenario, client_context=client_context, server_context=server_context)


def test_the_alpn_protocol_is_known_in_connection_made(on_tls_pair, certificates):
    class Chooses(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.chosen = ssl_object(self).selected_alpn_protocol()

    client_context, server_context = certificates.client_context(), certificates.server_context()
    client_context.set_alpn_protocols(["h2"])
    server_context.set_alpn_protocols(["h2"])

    async def scenario(client, server):
        assert client.chosen == server.chosen == "h2"

    on_tls_pair(
        scenario,
        Chooses(),
        Chooses(),
        client_context=client_context,
        server_context=server_context,
    )


# --- SNI ---


def test_the_server_name_callback_sees_the_name(on_tls_pair, certificates, tls_version):
    seen = []
    context = certificates.server_context()
    context.sni_callback = lambda obj, name, given: seen.append((type(obj), name, given))

    async def scenario(_client, server):
        assert seen == [(ssl.SSLObject, HOST, context)]
        assert server.transport.get_extra_info("sslcontext") is context

    on_tls_pair(
        scenario,
        server_context=context,
        client_context=certificates.client_context(version=tls_version),
    )


def test_the_server_name_callback_may_choose_another_context(
    on_tls_pair, certificates, tls_version
):
    context, other = certificates.server_context(), certificates.wrong_host_context()

    def choose(obj, name, _context):
        if name == ELSEWHERE:
            obj.context = other

    context.sni_callback = choose

    async def scenario(client, server):
        names = client.transport.get_extra_info("peercert")["subjectAltName"]
        assert names == (("DNS", ELSEWHERE),)
        assert ssl_object(server).context is other
        client.transport.write(b"ping")
        await server.got(4)

    on_tls_pair(
        scenario,
        server_context=context,
        client_context=certificates.client_context(version=tls_version),
        hostname=ELSEWHERE,
    )


def refuse(obj, name, context):
    return ssl.ALERT_DESCRIPTION_ACCESS_DENIED


def fail(obj, name, context):
    raise LookupError("no such host")


@pytest.mark.parametrize(("callback", "unraisable"), [(refuse, None), (fail, LookupError)])
def test_the_server_name_callback_may_refuse(
    loop, certificates, tls_version, monkeypatch, callback, unraisable
):
    unraised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraised.append(args.exc_type))
    context = certificates.server_context()
    context.sni_callback = callback

    async def main():
        near = Recorder()
        with pytest.raises(ssl.SSLError, match=r"(?i)callback.failed"):
            await secure(
                loop,
                certificates,
                near,
                server_side=True,
                server_context=context,
                client_context=certificates.client_context(version=tls_version),
            )
        assert near.calls == []
        assert unraised == ([unraisable] if unraisable else [])

    loop.run_until_complete(main())


def test_contextvars_in_the_server_name_callback(loop, certificates):
    """It runs in a context like the one that the server was made in."""
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []
    context = certificates.server_context()
    context.sni_callback = lambda *args: seen.append(variable.get())

    async def main():
        variable.set("server")
        pair = await tls_pair(loop, certificates, server_context=context)
        await pair.end()

    loop.run_until_complete(main())
    assert seen == ["server"]


# --- certificates of clients ---


@pytest.mark.parametrize("identity", ["client", None], ids=["shown", "not shown"])
def test_an_optional_client_certificate(on_tls_pair, certificates, tls_version, identity):
    server_context = certificates.server_context(ask_client=True)
    server_context.verify_mode = ssl.CERT_OPTIONAL
    client_context = certificates.client_context(
        certificates.client if identity else None, version=tls_version
    )

    async def scenario(_client, server):
        found = server.transport.get_extra_info("peercert")
        if identity:
            assert ((("commonName", CLIENT),)) in found["subject"]
        else:
            assert not found

    on_tls_pair(scenario, client_context=client_context, server_context=server_context)


def test_a_required_client_certificate(on_tls_pair, certificates, tls_version):
    async def scenario(client, server):
        found = server.transport.get_extra_info("peercert")
        assert (("commonName", CLIENT),) in found["subject"]
        client.transport.write(b"ping")
        await server.got(4)

    on_tls_pair(
        scenario,
        client_context=certificates.client_context(certificates.client, version=tls_version),
        server_context=certificates.server_context(ask_client=True),
    )


@pytest.mark.parametrize("identity", [None, "untrusted"])
def test_a_server_that_gets_no_good_certificate(loop, certificates, tls_version, identity):
    client_context = certificates.client_context(
        certificates.untrusted if identity else None, version=tls_version
    )

    async def main():
        protocol = Recorder()
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
            await secure(
                loop,
                certificates,
                protocol,
                server_side=True,
                server_context=certificates.server_context(ask_client=True),
                client_context=client_context,
            )
        assert protocol.calls == []

    loop.run_until_complete(main())


def test_a_client_that_shows_no_certificate(loop, certificates, tls_version):
    """TLS 1.3's client has finished when it gets the alert of the server."""
    context = certificates.client_context(version=tls_version)

    async def main():
        protocol = Recorder()
        with pytest.raises(ssl.SSLError):
            await secure(
                loop,
                certificates,
                protocol,
                server_context=certificates.server_context(ask_client=True),
                client_context=context,
            )
        if tls_version is ssl.TLSVersion.TLSv1_3:
            assert isinstance(await protocol.lost(), ssl.SSLError)
            assert protocol.calls == ["connection_made", "connection_lost"]
        else:
            assert protocol.calls == []

    loop.run_until_complete(main())


# --- sessions, keys, classes ---


def session_context(certificates, version, session):
    """A client's context that resumes a session: asyncio has no argument for it."""

    class Resumes(ssl.SSLContext):
        def wrap_bio(self, *args, **options):
            return super().wrap_bio(*args, session=session.get("it"), **options)

    context = Resumes(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.authority)
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.leaks_in_cpython("reading SSLObject.session leaves an OpenSSL session behind")
def test_a_session_is_resumed(loop, certificates, tls_version):
    kept = {}
    server_context = certificates.server_context()
    client_context = session_context(certificates, tls_version, kept)

    async def main():
        for reused in (False, True):
            pair = await tls_pair(
                loop, certificates, client_context=client_context, server_context=server_context
            )
            # TLS 1.3's tickets come behind the handshake.
            pair.server.transport.write(b"data")
            await pair.client.got(4)
            assert ssl_object(pair.client).session_reused is reused
            kept["it"] = ssl_object(pair.client).session
            assert kept["it"] is not None
            pair.client.transport.close()
            await pair.client.lost()
            await pair.server.lost()
            await pair.end()

    loop.run_until_complete(main())


def test_keys_are_logged(on_tls_pair, certificates, tls_version, tmp_path):
    path = tmp_path / "keys"
    context = certificates.client_context(version=tls_version)
    context.keylog_filename = str(path)

    async def scenario(_client, _server):
        labels = {line.split()[0] for line in path.read_text().splitlines() if line[0] != "#"}
        if tls_version is ssl.TLSVersion.TLSv1_3:
            assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in labels
        else:
            assert labels == {"CLIENT_RANDOM"}

    on_tls_pair(scenario, client_context=context)


class Counting(ssl.SSLObject):
    """A class of the user's, which keeps what it is given and sees all that passes."""

    kept = None

    def note(self, *what):
        if self.kept is None:
            self.kept = []
        self.kept.append(what)

    def read(self, length=1024, buffer=None):
        if buffer is not None:
            count = super().read(length, buffer)
            self.note("read", bytes(memoryview(buffer)[:count]))
            return count
        data = super().read(length)
        self.note("read", data)
        return data

    def write(self, data):
        count = super().write(data)
        self.note("write", bytes(memoryview(data)[:count]))
        return count


@pytest.mark.parametrize("size", [5, 1_000_000])
def test_a_class_of_the_users(on_tls_pair, certificates, size):
    context = certificates.client_context()
    context.sslobject_class = Counting

    async def scenario(client, server):
        data = bytes(size)
        client.transport.write(data)
        client.transport.write(bytearray(b"end"))
        await server.got(size + 3)
        server.transport.write(data)
        server.transport.write(b"end")
        await client.got(size + 3)
        assert client.received == server.received == data + b"end"
        kept = ssl_object(client).kept
        for name in ("read", "write"):
            assert b"".join(what for done, what in kept if done == name) == data + b"end"

    on_tls_pair(scenario, client_context=context)


@pytest.mark.native_only(**OLDER_DESIGN)
def test_an_exception_of_a_class_of_the_users_ends_the_connection(loop, certificates):
    contexts = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))

    class Failing(ssl.SSLObject):
        def read(self, length=1024, buffer=None):
            data = super().read(length)
            raise LookupError(data)

    context = certificates.client_context()
    context.sslobject_class = Failing

    async def main():
        protocol = Recorder()
        pair = await tls_pair(loop, certificates, protocol, client_context=context)
        pair.server.transport.write(b"data")
        assert isinstance(await protocol.lost(), LookupError)
        await pair.end()

    loop.run_until_complete(main())
    assert contexts[0]["message"] == "Fatal error on SSL protocol"


# --- versions and ciphers ---


def only(context, version):
    context.minimum_version = context.maximum_version = version
    return context


def without_a_common_cipher(certificates):
    server, client = certificates.server_context(), certificates.client_context()
    only(server, ssl.TLSVersion.TLSv1_2).set_ciphers("AES128-GCM-SHA256")
    only(client, ssl.TLSVersion.TLSv1_2).set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    return server, client


def without_a_common_version(certificates):
    return (
        only(certificates.server_context(), ssl.TLSVersion.TLSv1_3),
        only(certificates.client_context(), ssl.TLSVersion.TLSv1_2),
    )


@pytest.mark.parametrize("contexts", [without_a_common_cipher, without_a_common_version])
@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_nothing_in_common(loop, certificates, contexts, server_side):
    server_context, client_context = contexts(certificates)

    async def main():
        protocol = Recorder()
        with pytest.raises(ssl.SSLError):
            await secure(
                loop,
                certificates,
                protocol,
                server_side=server_side,
                server_context=server_context,
                client_context=client_context,
            )
        assert protocol.calls == []

    loop.run_until_complete(main())


# --- slow and chopped handshakes ---


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_a_handshake_that_comes_byte_by_byte(loop, certificates, tls_version, server_side):
    class Dripping(Peer):
        def _flush(self):
            for byte in self._outgoing.read():
                self.sock.sendall(bytes([byte]))

    async def main():
        protocol = Recorder()
        transport, _, peer = await secure(
            loop,
            certificates,
            protocol,
            server_side=server_side,
            client_context=certificates.client_context(version=tls_version),
            peer_class=Dripping,
        )
        with peer:
            await in_thread(peer.send, b"data")
            await protocol.got(4)
            transport.abort()
            await protocol.lost()

    loop.run_until_complete(main())


@needs_3_11
def test_timeouts_that_do_not_expire_leave_nothing_behind(loop, certificates):
    async def main():
        server = await asyncio.start_server(
            lambda reader, writer: writer.close(),
            "127.0.0.1",
            0,
            ssl=certificates.server_context(),
            ssl_handshake_timeout=20,
            ssl_shutdown_timeout=20,
        )
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(),
            ssl=certificates.client_context(),
            ssl_handshake_timeout=20,
            ssl_shutdown_timeout=20,
        )
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)
        assert all(timer.cancelled() for timer in loop._scheduled)

    loop.run_until_complete(main())
