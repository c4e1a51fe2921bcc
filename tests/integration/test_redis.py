"""redis-py's asyncio client and a Redis server: over TCP, over TLS, over a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from integration.redis_server import Redis, running

pytest.importorskip("redis")

import redis.asyncio
import redis.exceptions

TLS_VERSIONS = {"tls1.2": "TLSv1.2", "tls1.3": "TLSv1.3"}


@pytest.fixture(scope="module")
def server(certificates):
    with running(Redis, certificates) as server:
        yield server


def tls_options(server, certificates, **options):
    return {
        "host": "localhost",
        "port": server.tls_port,
        "ssl": True,
        "ssl_ca_certs": certificates.authority,
        **options,
    }


@pytest.fixture(params=["tcp", "unix", *TLS_VERSIONS])
def connect(request, server, certificates, monkeypatch):
    """Make a client that comes to the server in one of the ways."""
    way = request.param
    if way == "tcp":
        where = {"host": "127.0.0.1", "port": server.port}
    elif way == "unix":
        where = {"unix_socket_path": server.socket}
    else:
        server.speak(TLS_VERSIONS[way])
        # redis-py reads the system's authorities for every connection, however long they are.
        monkeypatch.setenv("SSL_CERT_FILE", certificates.authority)
        where = tls_options(server, certificates)

    def connect(**options):
        return redis.asyncio.Redis(**where, **options)

    return connect


@pytest.fixture
def on_client(run, connect):
    """Run ``scenario(client)`` on an empty database."""

    def on_client(scenario, **options):
        async def wrapper():
            async with connect(**options) as client:
                await client.flushall()
                await scenario(client)

        run(wrapper())

    return on_client


def test_values(on_client):
    async def scenario(client):
        assert await client.set("key", "ü") is True
        assert await client.get("key") == "ü".encode()
        assert await client.get("nothing") is None
        assert await client.incrby("number", 5) == 5
        assert await client.hset("hash", mapping={"a": 1, "b": 2}) == 2
        assert await client.hgetall("hash") == {b"a": b"1", b"b": b"2"}
        assert await client.delete("key", "number", "hash") == 3
        with pytest.raises(redis.exceptions.ResponseError):
            await client.execute_command("NOTHING")
        assert await client.ping() is True

    on_client(scenario)


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 8 << 20])
def test_large_values(on_client, size):
    value = random.Random(size).randbytes(size)

    async def scenario(client):
        await client.set("large", value)
        assert await client.strlen("large") == size
        assert await client.get("large") == value

    on_client(scenario)


def test_pipelines(on_client):
    async def scenario(client):
        async with client.pipeline(transaction=False) as pipe:
            for i in range(5000):
                pipe.set(f"key {i}", i)
                pipe.get(f"key {i}")
            answers = await pipe.execute()
        assert answers[::2] == [True] * 5000
        assert answers[1::2] == [b"%d" % i for i in range(5000)]

    on_client(scenario)


def test_transactions_that_collide(on_client):
    async def scenario(client):
        async def increment(_i):
            # Read, then write only if no other client has written meanwhile.
            while True:
                async with client.pipeline() as pipe:
                    await pipe.watch("counter")
                    value = int(await pipe.get("counter") or 0)
                    pipe.multi()
                    pipe.set("counter", value + 1)
                    with contextlib.suppress(redis.exceptions.WatchError):
                        await pipe.execute()
                        return

        await asyncio.gather(*(increment(i) for i in range(15)))
        assert await client.get("counter") == b"15"

    on_client(scenario)


def test_many_clients_at_once(run, connect):
    async def scenario():
        async def one(i):
            async with connect() as client:
                for j in range(5):
                    await client.set(f"{i}", f"{i}.{j}")
                    assert await client.get(f"{i}") == b"%d.%d" % (i, j)

        await asyncio.gather(*(one(i) for i in range(20)))

    run(scenario())


def test_a_few_connections_for_many(on_client):
    async def scenario(client):
        places = asyncio.Semaphore(8)

        async def increment():
            async with places:
                return await client.incr("counter")

        values = await asyncio.gather(*(increment() for _ in range(500)))
        assert sorted(values) == list(range(1, 501))

    on_client(scenario, max_connections=8)


def test_publish_and_subscribe(on_client):
    async def scenario(client):
        async with client.pubsub() as channel, client.pubsub() as patterns:
            await channel.subscribe("news")
            await patterns.psubscribe("n*")
            for listening in (channel, patterns):
                message = await listening.get_message(timeout=20)
                assert message["type"] in ("subscribe", "psubscribe")
            sent = [b"%d " % i + b"x" * (i * 100) for i in range(200)]
            for message in sent:
                assert await client.publish("news", message) == 2
            for listening in (channel, patterns):
                got = [await listening.get_message(timeout=20) for _ in sent]
                assert [message["data"] for message in got] == sent
            # Nothing more, and to wait for it in vain is no error.
            assert await channel.get_message(timeout=0.02) is None
            await channel.unsubscribe("news")
            assert (await channel.get_message(timeout=20))["type"] == "unsubscribe"

    on_client(scenario)


def test_waiting_for_an_element(on_client):
    async def scenario(client):
        waiting = asyncio.ensure_future(client.blpop(["list"], timeout=20))
        while (await client.info("clients"))["blocked_clients"] == 0:
            assert not waiting.done()
        await client.rpush("list", "element")
        assert await waiting == (b"list", b"element")
        assert await client.blpop(["list"], timeout=0.1) is None

    on_client(scenario)


def test_producers_and_consumers(on_client):
    async def scenario(client):
        taken = []

        async def produce(i):
            for j in range(50):
                await client.rpush("work", f"{i}.{j}")

        async def consume():
            while True:
                _, item = await client.blpop(["work"], timeout=20)
                if item == b"end":
                    return
                taken.append(item.decode())

        consumers = [asyncio.ensure_future(consume()) for _ in range(5)]
        await asyncio.gather(*(produce(i) for i in range(5)))
        await client.rpush("work", *["end"] * 5)
        await asyncio.gather(*consumers)
        assert sorted(taken) == sorted(f"{i}.{j}" for i in range(5) for j in range(50))

    on_client(scenario)


def test_an_answer_that_takes_too_long(on_client):
    async def scenario(client):
        with pytest.raises(redis.exceptions.TimeoutError):
            await client.blpop(["list"], timeout=60)
        assert await client.ping() is True

    on_client(scenario, socket_timeout=0.1, retry=None)


def test_cancelled_while_it_waits(on_client):
    async def scenario(client):
        for _ in range(3):
            waiting = [asyncio.ensure_future(client.blpop(["list"], timeout=60)) for _ in range(5)]
            while (await client.info("clients"))["blocked_clients"] < len(waiting):
                assert not any(one.done() for one in waiting)
            for one in waiting:
                one.cancel()
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(end) for end in ends} == {asyncio.CancelledError}
            # No answer meant for one of them may come to another.
            for i in range(20):
                assert await client.echo(f"{i}") == b"%d" % i
            while (await client.info("clients"))["blocked_clients"]:
                pass  # until the server has noticed as well

    on_client(scenario)


def test_the_server_ends_the_connections(on_client):
    async def scenario(client):
        waiting = asyncio.ensure_future(client.blpop(["list"], timeout=60))
        while (await client.info("clients"))["blocked_clients"] == 0:
            assert not waiting.done()
        assert await client.client_kill_filter(_type="normal", skipme=True) >= 1
        with pytest.raises(redis.exceptions.ConnectionError):
            await waiting
        assert await client.ping() is True

    on_client(scenario, retry=None)


def test_the_client_stops_reading(run, connect):
    async def scenario():
        # More than fits into the kernel's buffers, asked for at once and read slowly.
        async with connect() as client:
            await client.set("value", bytes(1 << 20))
            reader_and_writer = await client.connection_pool.get_connection()
            try:
                for _ in range(30):
                    await reader_and_writer.send_command("GET", "value")
                for _ in range(30):
                    await asyncio.sleep(0.002)
                    assert await reader_and_writer.read_response() == bytes(1 << 20)
            finally:
                await client.connection_pool.release(reader_and_writer)

    run(scenario())


# --- How the connection is made ---------------------------------------------------------------


def test_certificates_that_will_not_do(run, server, certificates):
    async def scenario():
        wrong_name = tls_options(server, certificates, host="127.1", ssl_check_hostname=True)
        stranger = tls_options(server, certificates, ssl_ca_certs=certificates.stranger)
        for options in (wrong_name, stranger):
            async with redis.asyncio.Redis(**options, retry=None) as client:
                with pytest.raises(redis.exceptions.ConnectionError) as caught:
                    await client.ping()
                assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value)

    run(scenario())


def test_a_certificate_of_the_client(run, server, certificates):
    certificate, key = certificates.client

    async def scenario():
        options = tls_options(server, certificates, ssl_certfile=certificate, ssl_keyfile=key)
        async with redis.asyncio.Redis(**options) as client:
            assert await client.ping() is True
        options.update(zip(("ssl_certfile", "ssl_keyfile"), certificates.untrusted, strict=True))
        async with redis.asyncio.Redis(**options, retry=None) as client:
            with pytest.raises(redis.exceptions.ConnectionError):
                await client.ping()

    run(scenario())
