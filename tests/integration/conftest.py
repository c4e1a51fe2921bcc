"""Fixtures of the integration tests."""

from __future__ import annotations

import asyncio

import pytest

from integration.waiting import open_sockets, until


@pytest.fixture
def run(loop):
    """Run a coroutine to its end, then on until its connections are closed.

    Some clients drop connections whose TLS shutdown is still under way.
    """

    def run_it(coroutine, timeout=60):
        async def wrapper():
            before = open_sockets()
            result = await asyncio.wait_for(coroutine, timeout)
            await until(lambda: not open_sockets() - before)
            return result

        return loop.run_until_complete(wrapper())

    return run_it


@pytest.fixture(params=["plain", "tls"])
def security(request):
    """The certificates for a server that uses TLS, or None for one that does not."""
    return request.getfixturevalue("certificates") if request.param == "tls" else None
