"""asyncio's own connections to nginx over TLS: transports, protocols, streams, start_tls."""

from __future__ import annotations

import asyncio
import random
import ssl
import sys

import pytest

from integration.nginx_server import LARGE, Nginx, running
from integration.waiting import until
from support.recording import Recorder

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


# The callbacks of a protocol when the server sends something and then ends the connection.
STORIES = [["connection_made", "data_received", "eof_received", "connection_lost"]]
if sys.version_info < (3, 11):
    # asyncio of 3.10 left out the end of file where TLS had announced it.
    STORIES.append(["connection_made", "data_received", "connection_lost"])


@pytest.fixture(scope="module")
def nginx(certificates):
    with running(Nginx, certificates) as server:
        yield server


@pytest.fixture(params=VERSIONS)
def context(request, certificates):
    return certificates.client_context(version=VERSIONS[request.param])


def get(path, connection="close"):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n".encode()


def put(path, size):
    return (
        f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Length: {size}\r\n\r\n"
    ).encode()


async def answer(reader):
    """The status line and the body of an answer that says how long it is."""
    status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    [size] = [field.split(": ")[1] for field in fields if field.startswith("Content-Length")]
    return status, await reader.readexactly(int(size))


async def finish(writer):
    writer.close()
    await asyncio.wait_for(writer.wait_closed(), 20)


def test_the_extra_info_of_a_connection(run, nginx, context, certificates):
    async def scenario():
        port = nginx.ports["main"]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        info = writer.get_extra_info
        assert info("peername") == ("127.0.0.1", port)
        assert info("sockname")[0] == "127.0.0.1"
        assert info("socket").fileno() >= 0
        assert info("sslcontext") is context
        assert info("compression") is None
        assert info("no such thing", "default") == "default"
        name, version, bits = info("cipher")
        assert (isinstance(name, str), bits >= 128) == (True, True)
        assert version == {"TLSv1.2": "TLSv1.2", "TLSv1.3": "TLSv1.3"}[info("ssl_object").version()]
        assert info("ssl_object").version() == context.maximum_version.name.replace("_", ".")
        assert info("ssl_object").cipher() == info("cipher")
        assert ("DNS", "localhost") in info("peercert")["subjectAltName"]
        assert info("ssl_object").getpeercert() == info("peercert")
        with open(certificates.server.certificate) as file:
            der = ssl.PEM_cert_to_DER_cert(file.read())
        assert info("ssl_object").getpeercert(binary_form=True) == der
        assert info("ssl_object").server_hostname == "127.0.0.1"
        writer.write(get("/small.txt"))
        assert (await answer(reader))[1] == b"a small file\n"
        await finish(writer)

    run(scenario())


def test_a_whole_conversation_up_to_the_end(run, nginx, context):
    async def scenario():
        port = nginx.ports["main"]
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        assert not writer.can_write_eof()
        with pytest.raises(NotImplementedError):
            writer.write_eof()
        writer.write(get("/large.bin"))
        await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == LARGE
        assert reader.at_eof()
        await finish(writer)

    run(scenario())


@pytest.mark.parametrize(("offered", "selected"), [(["http/1.1", "x"], "http/1.1"), ([], None)])
def test_the_protocol_that_was_agreed_on(run, nginx, context, offered, selected):
    if offered:
        context.set_alpn_protocols(offered)

    async def scenario():
        port = nginx.ports["main"]
        _reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == selected
        await finish(writer)

    run(scenario())


def test_the_name_that_is_asked_for(run, nginx, context):
    async def scenario():
        port = nginx.ports["main"]
        _reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="elsewhere.test"
        )
        names = writer.get_extra_info("peercert")["subjectAltName"]
        assert names == (("DNS", "elsewhere.test"),)
        await finish(writer)

    run(scenario())


BAD_CERTIFICATES = [
    ("elsewhere", "127.0.0.1", 64, "IP address mismatch"),
    ("elsewhere", "localhost", 62, "Hostname mismatch"),
    ("untrusted", "localhost", 20, "unable to get local issuer certificate"),
    ("expired", "localhost", 10, "certificate has expired"),
]


@pytest.mark.parametrize(("server", "host", "code", "message"), BAD_CERTIFICATES)
@pytest.mark.parametrize("way", ["create_connection", "start_tls"])
def test_a_certificate_that_will_not_do(
    run, loop, nginx, context, server, host, code, message, way
):
    async def attempt(protocol):
        address = ("127.0.0.1", nginx.ports[server])
        if way == "create_connection":
            await loop.create_connection(
                lambda: protocol, *address, ssl=context, server_hostname=host
            )
        else:
            transport, _ = await loop.create_connection(asyncio.Protocol, *address)
            await loop.start_tls(transport, protocol, context, server_hostname=host)

    async def scenario():
        protocol = Recorder()
        with pytest.raises(ssl.SSLCertVerificationError, match=message) as caught:
            await attempt(protocol)
        error = caught.value
        assert (error.reason, error.verify_code) == ("CERTIFICATE_VERIFY_FAILED", code)
        assert error.library == "SSL"
        assert error.verify_message.startswith(message)
        assert "connection_made" not in protocol.calls

    run(scenario())


def test_checks_that_are_switched_off(run, nginx, certificates):
    context = certificates.untrusting_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def scenario():
        for server in ("elsewhere", "untrusted", "expired", "main"):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", nginx.ports[server], ssl=context
            )
            assert writer.get_extra_info("peercert") == {}
            writer.write(get("/small.txt"))
            assert (await answer(reader))[1] == b"a small file\n"
            await finish(writer)

    run(scenario())


def test_a_server_that_does_not_speak_tls(run, nginx, context):
    async def scenario():
        with pytest.raises(ssl.SSLError) as caught:
            await asyncio.open_connection("127.0.0.1", nginx.ports["plain"], ssl=context)
        assert not isinstance(caught.value, ssl.SSLCertVerificationError)
        assert caught.value.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")

    run(scenario())


def test_no_version_in_common(run, nginx, certificates):
    context = certificates.client_context(version=ssl.TLSVersion.TLSv1_2)

    async def scenario():
        with pytest.raises(ssl.SSLError) as caught:
            await asyncio.open_connection("127.0.0.1", nginx.ports["modern"], ssl=context)
        assert caught.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"

    run(scenario())


def test_many_handshakes_at_once(run, nginx, context):
    async def fetch(i):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", nginx.ports["main"], ssl=context
        )
        for _ in range(3):
            writer.write(get("/small.txt", "keep-alive"))
            assert (await answer(reader))[1] == b"a small file\n"
        await finish(writer)
        return i

    async def scenario():
        assert await asyncio.gather(*(fetch(i) for i in range(100))) == list(range(100))

    run(scenario())


def test_cancelled_at_any_moment_of_the_handshake(run, nginx, context):
    async def scenario():
        for step in range(40):
            connecting = asyncio.ensure_future(
                asyncio.open_connection("127.0.0.1", nginx.ports["main"], ssl=context)
            )
            for _ in range(step // 2):
                await asyncio.sleep(0.0002 if step % 2 else 0)
            if connecting.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await connecting
            else:
                await finish((await connecting)[1])

    run(scenario())


def test_pipelined_requests_in_small_writes(run, nginx, context):
    async def scenario():
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", nginx.ports["main"], ssl=context
        )
        for i in range(200):
            request = get("/small.txt", "keep-alive")
            if i % 2:
                writer.writelines([request[:10], request[10:11], b"", request[11:]])
            else:
                for start in range(0, len(request), 7):
                    writer.write(request[start : start + 7])
        for _ in range(200):
            assert await answer(reader) == ("HTTP/1.1 200 OK", b"a small file\n")
        await finish(writer)

    run(scenario())


def test_writing_is_paused_and_resumed(run, loop, nginx, context):
    body = random.Random(4).randbytes(32 << 20)
    step = 256 << 10

    async def scenario():
        protocol = Recorder()
        transport, _ = await loop.create_connection(
            lambda: protocol, "127.0.0.1", nginx.ports["main"], ssl=context
        )
        _low, high = transport.get_write_buffer_limits()
        sent = 0
        with nginx.stopped_workers():
            transport.write(put("/files/paced", len(body)))
            while protocol.calls[-1] != "pause_writing":
                transport.write(body[sent : sent + step])
                sent += step
                assert sent < len(body)
            # The write that went over the mark, and what TLS adds to it.
            assert high < transport.get_write_buffer_size() < high + 2 * step
        await protocol.called("resume_writing")
        transport.write(body[sent:])
        assert await protocol.lost() is None
        assert protocol.calls.count("resume_writing") == protocol.calls.count("pause_writing")
        assert protocol.received.startswith(b"HTTP/1.1 20")
        assert (nginx.directory / "www/files/paced").read_bytes() == body

    run(scenario())


def test_data_written_before_close_still_arrives(run, loop, nginx, context):
    body = random.Random(5).randbytes(4 << 20)
    path = nginx.directory / f"www/files/before-close-{context.maximum_version.name}"

    async def scenario():
        protocol = Recorder()
        transport, _ = await loop.create_connection(
            lambda: protocol, "127.0.0.1", nginx.ports["main"], ssl=context
        )
        transport.write(put(f"/files/{path.name}", len(body)))
        transport.write(body)
        transport.close()
        assert not path.exists()
        loss = await protocol.lost()
        # nginx may answer after our close_notify, which asyncio does not like.
        assert loss is None or loss.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
        assert (protocol.losses, protocol.received) == (1, b"")
        await until(path.exists)
        assert path.read_bytes() == body

    run(scenario())


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="over TLS, asyncio of 3.10 gives a paused reader more data"
)
def test_reading_is_paused_and_resumed(run, loop, nginx, context):
    class Pausing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            assert not self.paused
            self.paused = True
            self.transport.pause_reading()

    async def scenario():
        protocol = Pausing()
        protocol.paused = False
        transport, _ = await loop.create_connection(
            lambda: protocol, "127.0.0.1", nginx.ports["main"], ssl=context
        )
        transport.write(get("/large.bin"))
        pauses = 0
        while not protocol.losses:
            await protocol.until(lambda: protocol.paused or protocol.losses)
            if not protocol.losses:
                assert not transport.is_reading()
                for _ in range(3):
                    await asyncio.sleep(0)
                pauses += 1
                protocol.paused = False
                transport.resume_reading()
                assert transport.is_closing() or transport.is_reading()
        assert protocol.received.endswith(LARGE)
        assert pauses > 10

    run(scenario())


def test_a_file_sent_over_tls(run, loop, nginx, context, tmp_path):
    (tmp_path / "file").write_bytes(LARGE)

    async def scenario():
        protocol = Recorder()
        transport, _ = await loop.create_connection(
            lambda: protocol, "127.0.0.1", nginx.ports["main"], ssl=context
        )
        transport.write(put("/files/sent", len(LARGE)))
        with open(tmp_path / "file", "rb") as file:
            assert await loop.sendfile(transport, file) == len(LARGE)
        assert await protocol.lost() is None
        assert (nginx.directory / "www/files/sent").read_bytes() == LARGE

    run(scenario())


def test_start_tls_on_a_connection_of_ours(run, loop, nginx, context):
    async def scenario():
        plain, tls = Recorder(), Recorder()
        transport, _ = await loop.create_connection(lambda: plain, "127.0.0.1", nginx.ports["main"])
        upgraded = await loop.start_tls(transport, tls, context, server_hostname="localhost")
        # Asked for by start_tls's caller, who has the transport already.
        assert "connection_made" not in tls.calls
        assert upgraded.get_extra_info("peername") == ("127.0.0.1", nginx.ports["main"])
        assert upgraded.get_extra_info("sslcontext") is context
        upgraded.write(get("/large.bin"))
        assert await tls.lost() is None
        assert tls.received.endswith(LARGE)
        # Nothing of it came through to the protocol of before.
        assert plain.calls == ["connection_made"]

    run(scenario())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls is new in 3.11")
def test_a_stream_upgraded_to_tls(run, nginx, context):
    async def scenario():
        reader, writer = await asyncio.open_connection("127.0.0.1", nginx.ports["main"])
        await writer.start_tls(context, server_hostname="localhost")
        writer.write(get("/large.bin", "keep-alive"))
        assert (await answer(reader))[1] == LARGE
        writer.write(get("/small.txt"))
        assert (await answer(reader))[1] == b"a small file\n"
        await finish(writer)

    run(scenario())


def test_an_idle_connection_that_the_server_closes(run, loop, nginx, context):
    async def scenario():
        protocol = Recorder()
        transport, _ = await loop.create_connection(
            lambda: protocol, "127.0.0.1", nginx.ports["fleeting"], ssl=context
        )
        transport.write(get("/connection", "keep-alive"))
        assert await protocol.lost() is None
        assert protocol.story in STORIES
        # asyncio of 3.10 did not count an end by the server.
        assert transport.is_closing() or sys.version_info < (3, 11)

    run(scenario())


def test_the_server_closes_without_an_answer(run, nginx, context):
    async def scenario():
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", nginx.ports["main"], ssl=context
        )
        writer.write(get("/gone"))
        assert await reader.read() == b""
        await finish(writer)

    run(scenario())


def test_the_server_dies_midway(run, loop, nginx, context):
    async def scenario():
        protocol = Recorder()
        transport, _ = await loop.create_connection(
            lambda: protocol, "127.0.0.1", nginx.ports["main"], ssl=context
        )
        transport.write(get("/slow/large.bin"))
        await protocol.got(1000)
        nginx.kill_workers()
        # The kernel closes the connection, TLS does not: no close_notify.
        assert await protocol.lost() is None
        assert protocol.story in STORIES
        assert len(protocol.received) < len(LARGE)

    run(scenario())


def test_aborted_while_data_come(run, loop, nginx, context):
    async def scenario():
        protocol = Recorder()
        transport, _ = await loop.create_connection(
            lambda: protocol, "127.0.0.1", nginx.ports["main"], ssl=context
        )
        transport.write(get("/large.bin"))
        await protocol.got(1000)
        transport.abort()
        size = len(protocol.received)
        assert await protocol.lost() is None
        assert (protocol.losses, len(protocol.received)) == (1, size)

    run(scenario())


def test_closed_while_data_come(run, loop, nginx, context):
    async def scenario():
        protocol = Recorder()
        transport, _ = await loop.create_connection(
            lambda: protocol, "127.0.0.1", nginx.ports["main"], ssl=context
        )
        transport.write(get("/slow/large.bin"))
        await protocol.got(1000)
        transport.close()
        assert transport.is_closing()
        size = len(protocol.received)
        await protocol.lost()
        assert (protocol.losses, len(protocol.received)) == (1, size)

    run(scenario())
