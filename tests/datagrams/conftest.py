"""Fixtures of the tests of datagrams."""

from __future__ import annotations

import asyncio

import pytest

from datagrams.recorders import DatagramRecorder


@pytest.fixture
def endpoint(loop):
    """Make an endpoint in a running loop; what is still open at the end is aborted."""
    made = []

    async def make(protocol=DatagramRecorder, **options):
        transport, protocol = await loop.create_datagram_endpoint(protocol, **options)
        made.append((transport, protocol))
        return transport, protocol

    yield make

    async def finish():
        for transport, protocol in made:
            if protocol.losses:
                continue
            transport.abort()
            if protocol.transport is transport:
                await protocol.lost()

    if not loop.is_closed():
        loop.run_until_complete(finish())


@pytest.fixture
def run(loop):
    return lambda scenario: loop.run_until_complete(asyncio.wait_for(scenario(), 30))
