"""Renegotiations of TLS 1.2 and key updates of TLS 1.3, driven by OpenSSL's own client."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess

import pytest

from support.recording import Recorder, in_thread

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl program")

# OpenSSL's number; the `ssl` module has no name for it. Without, such wishes are refused.
ALLOW_CLIENT_RENEGOTIATION = 1 << 8


class Echo(Recorder):
    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


class Client:
    """``openssl s_client``, which takes commands between the lines it sends."""

    def __init__(self, address, certificates, *options):
        self.output = b""
        self._process = subprocess.Popen(
            [
                *("openssl", "s_client", "-connect", f"{address[0]}:{address[1]}"),
                *("-CAfile", certificates.authority, "-servername", "localhost", *options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def type(self, text):
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def read_up_to(self, text):
        while text not in self.output:
            chunk = os.read(self._process.stdout.fileno(), 1 << 16)
            assert chunk, self.output
            self.output += chunk

    def end(self):
        self._process.kill()
        rest, _ = self._process.communicate()
        return self.output + rest


def converse(loop, certificates, context, commands, *options):
    """Lines before and after each of the client's commands; the server's protocol."""

    async def main():
        made = loop.create_future()

        class Server(Echo):
            def connection_made(self, transport):
                super().connection_made(transport)
                made.set_result(self)

        server = await loop.create_server(Server, "127.0.0.1", 0, ssl=context)
        client = Client(server.sockets[0].getsockname(), certificates, *options)
        try:
            protocol = await asyncio.wait_for(made, 20)
            expected = b""
            for number, command in enumerate([*commands, None]):
                line = b"line %d\n" % number
                expected += line
                client.type(line)
                await in_thread(client.read_up_to, line)
                assert protocol.received == expected
                if command:
                    # s_client reads its input in pieces: a command must stand at the start of one.
                    await asyncio.sleep(0.2)
                    client.type(command + b"\n")
                    await asyncio.sleep(0.2)
        finally:
            output = await in_thread(client.end)
            server.close()
            await server.wait_closed()
        await protocol.lost()
        return output

    return loop.run_until_complete(main())


@pytest.mark.parametrize("command", [b"k", b"K"], ids=["its own keys", "both sides' keys"])
def test_key_updates(loop, certificates, command):
    output = converse(loop, certificates, certificates.server_context(), [command] * 3, "-tls1_3")
    assert output.count(b"KEYUPDATE") == 3


def test_a_renegotiation(loop, certificates):
    context = certificates.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ALLOW_CLIENT_RENEGOTIATION
    output = converse(loop, certificates, context, [b"R"] * 2, "-tls1_2")
    assert output.count(b"RENEGOTIATING") == 2


def test_a_renegotiation_that_is_not_wanted(loop, certificates):
    """OpenSSL answers with a warning; its own client gives up then."""
    context = certificates.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION

    async def main():
        protocol = Echo()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0, ssl=context)
        client = Client(server.sockets[0].getsockname(), certificates, "-tls1_2")
        client.type(b"line\n")
        await protocol.got(5)
        await asyncio.sleep(0.2)
        client.type(b"R\n")
        await protocol.lost()
        assert protocol.received == b"line\n"
        output = await in_thread(client.end)
        assert b"RENEGOTIATING" in output
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
