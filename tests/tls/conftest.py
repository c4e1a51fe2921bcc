"""Fixtures of the TLS tests."""

from __future__ import annotations

import ssl

import pytest

from tls.peers import secure, tls_pair
from tokioloop import tls


@pytest.fixture(params=[True, False], ids=["openssl", "ssl"], autouse=True)
def calls_openssl(request, monkeypatch):
    """Whether OpenSSL is called directly, or by the methods of ``ssl``: each test has both ways."""
    monkeypatch.setattr(tls, "calls_openssl", request.param)
    return request.param


@pytest.fixture(params=["1.2", "1.3"])
def tls_version(request):
    return {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[request.param]


@pytest.fixture
def on_tls(loop, certificates):
    """Run ``scenario(transport, protocol, peer)`` with a `Peer`, then close both ends."""

    def run(scenario, protocol=None, **options):
        async def wrapper():
            transport, used, peer = await secure(loop, certificates, protocol, **options)
            try:
                with peer:
                    await scenario(transport, used, peer)
            finally:
                if not used.losses:
                    transport.abort()
                    await used.lost()

        loop.run_until_complete(wrapper())

    return run


@pytest.fixture
def on_tls_pair(loop, certificates):
    """Run ``scenario(client, server)`` with the recorders of both ends, then close them."""

    def run(scenario, client=None, server=None, **options):
        async def wrapper():
            pair = await tls_pair(loop, certificates, client, server, **options)
            try:
                await scenario(pair.client, pair.server)
            finally:
                await pair.end()

        loop.run_until_complete(wrapper())

    return run
