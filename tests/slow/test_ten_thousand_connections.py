"""One loop holds ten thousand idle connections, and every one of them still answers."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CONNECTIONS = 10_000
DESCRIPTORS = CONNECTIONS + 200

# An address of its own: the others' many connections use up ports there.
SERVER = """
import asyncio, gc, json, os, resource

class Answers(asyncio.Protocol):
    open = 0

    def connection_made(self, transport):
        Answers.open += 1
        self.transport = transport

    def data_received(self, data):
        if data == b"state":
            self.transport.write(json.dumps(state()).encode() + b"\\n")
        else:
            self.transport.write(data.upper())

    def connection_lost(self, exc):
        Answers.open -= 1
        if Answers.open == 0:
            loop.stop()

def state():
    gc.collect()
    pages = int(open("/proc/self/statm").read().split()[1])
    return {
        "open": Answers.open,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "resident": pages * resource.getpagesize(),
    }

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
loop = new_event_loop()
server = loop.run_until_complete(loop.create_server(Answers, "127.0.0.9", 0, backlog=1000))
print(server.sockets[0].getsockname()[1])
loop.run_forever()
print(json.dumps(state()))
server.close()
loop.run_until_complete(server.wait_closed())
loop.close()
"""


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        pytest.skip(f"needs {DESCRIPTORS} open files, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ask_for_state(control):
    control.sendall(b"state")
    line = b""
    while not line.endswith(b"\n"):
        line += control.recv(1000)
    return json.loads(line)


def test_ten_thousand_idle_connections_all_answer(programs, many_descriptors):
    server = programs.start(SERVER)
    address = "127.0.0.9", int(server.stdout.readline())
    with contextlib.ExitStack() as stack:

        def connect():
            client = stack.enter_context(socket.create_connection(address, timeout=60))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return client

        control = connect()
        before = ask_for_state(control)
        assert before["open"] == 1

        clients = [connect() for _ in range(CONNECTIONS)]
        deadline = time.monotonic() + 60
        while (now := ask_for_state(control))["open"] < CONNECTIONS + 1:
            assert time.monotonic() < deadline, now
        assert now["descriptors"] == before["descriptors"] + CONNECTIONS
        # Generous: a few kilobytes each are plenty for an idle connection.
        assert now["resident"] - before["resident"] < CONNECTIONS * 12_000

        for i, client in enumerate(clients):
            client.sendall(b"ping%d" % i)
        for i, client in enumerate(clients):
            assert client.recv(100) == b"PING%d" % i
    # All clients have left, so the server stops and says what remains.
    after = json.loads(server.stdout.readline())
    assert after["open"] == 0
    assert after["descriptors"] == before["descriptors"] - 1  # the control connection
    assert server.wait(30) == 0, server.stderr.read()
