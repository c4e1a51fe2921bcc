"""A protocol for servers, and clients that ask it."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from support.recording import Recorder

since_3_12 = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="wait_closed waits for connections since Python 3.12"
)
since_3_13 = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="this part of Server came with Python 3.13"
)


class Echo(Recorder):
    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


def ask(address, family=socket.AF_INET, question=b"question"):
    """Connect from a thread, and say what the server answers."""
    with socket.socket(family) as client:
        client.settimeout(20)
        client.connect(address)
        client.sendall(question)
        answer = b""
        while len(answer) < len(question) and (chunk := client.recv(100)):
            answer += chunk
        return answer


async def answered(address, family=socket.AF_INET):
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, ask, address, family) == b"question"


async def ended(server):
    server.close()
    await server.wait_closed()
    # Connections whose client is gone may still be about to notice.
    await asyncio.sleep(0.01)
