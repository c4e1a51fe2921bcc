"""Programs that get at the `ssl` module's objects behind a transport while the core calls OpenSSL."""

from __future__ import annotations

import asyncio

import pytest

from tls.peers import needs_3_11


@needs_3_11
@pytest.mark.parametrize("way", ["none", "deleted"])
def test_an_ssl_object_without_its_c_object(on_tls_pair, way):
    """Who takes it is alone with it from then on: a method of it may run on another thread."""

    async def scenario(client, server):
        ssl_object = client.transport.get_extra_info("ssl_object")
        within = ssl_object._sslobj
        if way == "none":
            ssl_object._sslobj = None
        else:
            del ssl_object._sslobj
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        server.transport.write(b"data")
        await client.lost()
        assert client.received == b""
        assert isinstance(client.loss, AttributeError)
        assert within.pending() == 0

    on_tls_pair(scenario)
