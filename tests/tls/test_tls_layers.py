"""TLS over TLS: a layer hands its plaintext on to the one above only while that is its protocol."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl

import pytest

from support.recording import Recorder
from tls.peers import HOST, OLDER_DESIGN, tls_pair

pytestmark = pytest.mark.native_only(**OLDER_DESIGN)


class Unasked(Recorder):
    """Cannot be asked whether it has buffers of its own."""

    @property
    def get_buffer(self):
        raise ZeroDivisionError


def test_a_connection_that_another_one_is_put_over_by_hand_keeps_its_protocol(loop, certificates):
    async def main():
        below, above = [await tls_pair(loop, certificates) for _ in range(2)]
        with contextlib.suppress(RuntimeError):  # asyncio's is connected already
            above.client.transport._ssl_protocol.connection_made(below.client.transport)
        below.server.transport.write(b"for the protocol")
        await below.client.got(16)
        assert below.client.received == b"for the protocol"
        for end in (above.server, below.server):
            end.transport.abort()
            await end.lost()
        await above.client.lost()
        await below.client.lost()
        await above.end()
        await below.end()

    loop.run_until_complete(main())


@pytest.mark.native_only(reason="asyncio's transports cannot be closed by a layer above")
def test_a_protocol_that_could_not_be_set_leaves_the_layer_above_in_its_place(loop, certificates):
    async def main():
        pair = await tls_pair(loop, certificates)
        upgrade = asyncio.ensure_future(
            loop.start_tls(
                pair.client.transport,
                Recorder(),
                certificates.client_context(),
                server_hostname=HOST,
            )
        )
        await pair.server.called("data_received")
        protocol = Unasked()
        with pytest.raises(ZeroDivisionError):
            pair.client.transport.set_protocol(protocol)
        pair.server.transport.write(b"no answer to a handshake")
        with pytest.raises(ssl.SSLError):
            await upgrade
        await protocol.lost()
        assert protocol.calls == ["connection_lost"]
        pair.client.losses = 1
        await pair.end()

    gc.collect()  # what others have left is none of this
    with pytest.warns(ResourceWarning, match="unclosed transport <SSLTransport over"):
        loop.run_until_complete(main())
        # The layer above never heard of the loss. Nobody else's code is to run in the warning.
        gc.collect()
