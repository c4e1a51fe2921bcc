"""TLS for scripts: contexts, and connections that are secure or become so."""

from __future__ import annotations

import asyncio
import functools
import ssl

from differential.ends import End, connected_sockets
from differential.harness import describe

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# Longer than any script's patience but for those that let it pass.
TIMEOUTS = {"ssl_handshake_timeout": 60.0}


class Contexts:
    """Contexts by name, made once."""

    def __init__(self, certificates):
        self._certificates = certificates

    @functools.cache  # noqa: B019  # as many as there are versions; lives as long as the tests
    def client(self, version="1.3", *, trusting=True):
        if not trusting:
            return self._certificates.untrusting_context()
        return self._certificates.client_context(version=VERSIONS[version])

    @functools.cache  # noqa: B019
    def server(self, long=False):
        return self._certificates.server_context(self._certificates.long if long else None)


def both(ends):
    ends[0].peer, ends[1].peer = ends[1], ends[0]
    return ends


async def outcome(stage, name, awaitable):
    """Wait for a handshake; what came of it is written down."""
    try:
        result = await awaitable
    except (Exception, asyncio.CancelledError) as error:
        stage.note(name, "failed:", describe(error))
        return None
    stage.note(name, "done")
    return result


async def finish(stage, *attempts):
    """Wait for handshakes. One that goes on for ever is cancelled: asyncio lets some wait."""
    tasks = [stage.loop.create_task(attempt) for attempt in attempts]
    await stage.settle()
    if not all(task.done() for task in tasks):
        await stage.advance(61)
    for task in tasks:
        task.cancel()
    await stage.settle()


async def connect_securely(contexts, stage, script):
    """Two ends with TLS from the start: A is the client, B the server."""
    loop = stage.loop
    family, version = script.link.split()
    near, far = connected_sockets(family)
    stage.connected(near, far)
    ends = both(
        [End(stage, name, spec, secure=True) for name, spec in zip("AB", script.ends, strict=True)]
    )
    await finish(
        stage,
        outcome(
            stage,
            "A connecting",
            loop.create_connection(
                lambda: ends[0].ear,
                sock=near,
                ssl=contexts.client(version),
                server_hostname="localhost",
                **TIMEOUTS,
            ),
        ),
        outcome(
            stage,
            "B accepting",
            loop.connect_accepted_socket(
                lambda: ends[1].ear, far, ssl=contexts.server(), **TIMEOUTS
            ),
        ),
    )
    # Which of the two is called first depends on the order in which they are polled.
    stage.lines.sort()
    stage.close_step("connect")
    return ends


async def upgrade(contexts, stage, ends, client, version):
    """``start_tls`` at both ends, where nothing is under way between them."""
    if any(
        end.leaving or end.ended or end.wrote_eof or end.sent != end.peer.received for end in ends
    ):
        stage.note("not now")
        return

    async def secure(end):
        options = {"server_hostname": "localhost"} if ends[client] is end else {"server_side": True}
        context = contexts.client(version) if ends[client] is end else contexts.server()
        transport = await outcome(
            stage,
            f"{end.name} securing",
            stage.loop.start_tls(end.transport, end.ear, context, **options, **TIMEOUTS),
        )
        if transport is not None:
            end.transport, end.secure = transport, True

    await finish(stage, *(secure(end) for end in ends))
    stage.lines.sort()
