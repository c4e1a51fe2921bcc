"""Carries out chaos programs: everything at any moment.

An operation takes what it works on out of pools that earlier ones filled, and does nothing where
a pool is empty, so that any part of a program can be left out. What a step has under ``then`` runs
wherever its callback runs: in the loop, a protocol, a destructor, a signal handler, a thread.
"""

from __future__ import annotations

import asyncio
import os
import ssl

from random_programs.chaos.awaitables import Awaitables
from random_programs.chaos.connections import Connections
from random_programs.chaos.objects import TLS
from random_programs.chaos.scheduling import Scheduling
from random_programs.chaos.surroundings import Surroundings
from random_programs.chaos.world import World as World

# Each with the share of programs that have it.
FLAGS = {
    "threshold": 0.2,
    "debug": 0.2,
    "drop": 0.25,
    "outside first": 0.3,
    "outside last": 0.4,
    "never run": 0.5,
}


def canary(factory, native):
    """What is wrong with a new loop after a program; memory that it recycles may be."""
    loop, ran = factory(), []
    try:
        handles = [loop.call_soon(ran.append, number) for number in range(40)]
        timers = [loop.call_later(0, ran.append, number) for number in range(40, 60)]
        if len({id(each) for each in handles + timers}) != 60:
            return "two handles are one"

        async def main():
            sleeps = [native.sleep(0, number) for number in range(60, 80)]
            if len({id(each) for each in sleeps}) != 20:
                return "two sleeps are one"
            ran.extend(await native.gather(*sleeps))
            await asyncio.sleep(0.0001)
            return None

        wrong = loop.run_until_complete(main())
        if sorted(ran) != list(range(80)):
            return f"callbacks were lost or run twice: {ran}"
        return wrong
    finally:
        loop.close()


def prepare(folder):
    """What the programs of a process share; ``folder`` has certificates, or is empty."""
    asyncio.set_event_loop(None)  # the policy makes no loop of its own
    pem = os.path.join(folder, "server.pem")
    if os.path.exists(pem):
        TLS["server"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        TLS["server"].load_cert_chain(pem, os.path.join(folder, "server.key"))
        TLS["client"] = ssl.create_default_context(cafile=os.path.join(folder, "authority.pem"))
        TLS["client"].check_hostname = False


RARE = {
    "fork": 0.15,
    "process": 0.3,
    "tls": 0.6,
    "start_tls": 0.5,
    "sendfile": 0.3,
    "profile": 0.5,
    "collect": 0.3,
    "close_loop": 2,
    "transport": 12,
    "soon": 5,
    "later": 3,
    "bomb": 2,
    "pair": 3,
    "stream": 3,
    "task": 4,
    "awaitable": 3,
    "step_awaitable": 3,
    "cancel": 3,
    "alarm": 0.5,
    "override": 0.6,
}

PARTS = (Scheduling, Awaitables, Connections, Surroundings)  # in the order that seeds rely on
NAMES = {
    name[3:]: RARE.get(name[3:], 1.0)
    for part in PARTS
    for name in vars(part)
    if name.startswith("do_")
}
SIZE = (24, 3)
