"""Protocols of datagram endpoints that write down each datagram."""

from __future__ import annotations

import asyncio
import sys
from asyncio import selector_events

import pytest

from support.recording import Recorder

# An address where no other program binds a socket: a port that was free here a moment ago still is.
NOBODY = "127.0.0.98"
LOCAL = ("127.0.0.1", 0)
SENDS_EMPTY = sys.version_info >= (3, 13)
HEADER = 8 if SENDS_EMPTY else 0

# asyncio takes too little off what it counts as buffered, before the correction of 3.13.
miscounted = pytest.mark.native_only(
    when=SENDS_EMPTY and not hasattr(selector_events._SelectorDatagramTransport, "_header_size"),
    reason="the standard library's count is wrong there",
)
pausing = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="datagram transports pause since CPython 3.11"
)


class DatagramRecorder(Recorder, asyncio.DatagramProtocol):
    """Writes down what arrives, from whom, and the errors."""

    def __init__(self):
        super().__init__()
        self.datagrams = []
        self.errors = []

    def datagram_received(self, data, addr):
        self.datagrams.append((data, addr))
        self._note("datagram_received")

    def error_received(self, exc):
        self.errors.append(exc)
        self._note("error_received")

    @property
    def contents(self):
        return [data for data, _ in self.datagrams]

    async def count(self, number):
        await self.until(lambda: len(self.datagrams) >= number)


class Echo(DatagramRecorder):
    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


def name_of(transport):
    return transport.get_extra_info("sockname")


async def pair(endpoint, protocol=DatagramRecorder, host="127.0.0.1"):
    """A bound endpoint, and one that is connected to it."""
    server, received = await endpoint(protocol, local_addr=(host, 0))
    client, answers = await endpoint(remote_addr=name_of(server)[:2])
    return server, received, client, answers
