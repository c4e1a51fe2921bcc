"""A pair of streams over a connection whose other end is a blocking socket.

Each test runs twice: with asyncio's streams, and with the native ones in their place.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from support.recording import blocking_pair


@pytest.fixture(
    params=["asyncio's", pytest.param("native", marks=pytest.mark.native_only)], autouse=True
)
def streams(request):
    """Which streams asyncio's names stand for."""
    if request.param == "asyncio's":
        yield request.param
        return
    from tokioloop import accelerate  # late: `--loop asyncio` must work where it is not built

    accelerate.switch_on()
    yield request.param
    accelerate.switch_off()


@pytest.fixture
def on_streams(loop):
    """Run ``scenario(reader, writer, peer's blocking socket)``, then close both ends."""

    def run(scenario, **options):
        async def wrapper():
            near, far = blocking_pair()
            reader, writer = await asyncio.open_connection(sock=near, **options)
            try:
                with far:
                    await scenario(reader, writer, far)
            finally:
                if not writer.is_closing():
                    writer.transport.abort()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

        loop.run_until_complete(wrapper())

    return run
