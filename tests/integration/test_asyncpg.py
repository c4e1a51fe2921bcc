"""asyncpg and a PostgreSQL server: over TCP, over TLS, over a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import ssl
import sys

import pytest

from integration.postgresql_server import PostgreSQL, running
from integration.waiting import until

asyncpg = pytest.importorskip("asyncpg")

TLS_VERSIONS = {"tls1.2": ssl.TLSVersion.TLSv1_2, "tls1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture(scope="module")
def postgresql(certificates):
    with running(PostgreSQL, certificates) as server:
        yield server


@pytest.fixture(params=["tcp", "unix", *TLS_VERSIONS])
def options(request, postgresql, certificates):
    """The arguments of `asyncpg.connect` for one of the ways to the server."""
    way = request.param
    options = {"user": "postgres", "port": postgresql.port, "host": "127.0.0.1", "ssl": False}
    if way == "unix":
        options["host"] = str(postgresql.directory)
    elif way in TLS_VERSIONS:
        options["ssl"] = certificates.client_context(version=TLS_VERSIONS[way])
    return options


@pytest.fixture
def on_connection(run, options):
    """Run ``scenario(connection)``."""

    def on_connection(scenario):
        async def wrapper():
            connection = await asyncpg.connect(**options)
            try:
                await scenario(connection)
            finally:
                await connection.close(timeout=20)

        run(wrapper())

    return on_connection


def test_queries_and_types(on_connection, options):
    async def scenario(connection):
        assert await connection.fetchval("select 1 + 1") == 2
        row = await connection.fetchrow("select $1::text as text, $2::int[] as list", "ü", [1, 2])
        assert dict(row) == {"text": "ü", "list": [1, 2]}
        rows = await connection.fetch("select i, i * i as square from generate_series(1, 5000) i")
        assert [tuple(row) for row in rows] == [(i, i * i) for i in range(1, 5001)]
        encrypted = await connection.fetchval(
            "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        )
        assert encrypted is bool(options["ssl"])

    on_connection(scenario)


def test_an_error_of_the_server_leaves_the_connection_usable(on_connection):
    async def scenario(connection):
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetchval("select 1 / 0")
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.execute("select * from nothing_of_that_name")
        assert await connection.fetchval("select 1") == 1

    on_connection(scenario)


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 5 << 20])
def test_large_values_both_ways(on_connection, size):
    value = random.Random(size).randbytes(size)

    async def scenario(connection):
        assert await connection.fetchval("select $1::bytea", value) == value

    on_connection(scenario)


def test_prepared_statements_and_cursors(on_connection):
    async def scenario(connection):
        statement = await connection.prepare("select $1::int * 2")
        assert [await statement.fetchval(i) for i in range(200)] == [2 * i for i in range(200)]
        assert [attribute.type.name for attribute in statement.get_attributes()] == ["int4"]
        async with connection.transaction():
            found = [
                row["i"]
                async for row in connection.cursor(
                    "select i from generate_series(1, 1000) i", prefetch=37
                )
            ]
        assert found == list(range(1, 1001))

    on_connection(scenario)


def test_transactions(on_connection):
    async def scenario(connection):
        await connection.execute("create temporary table numbers (n int primary key)")
        async with connection.transaction():
            await connection.execute("insert into numbers values (1)")
            with pytest.raises(asyncpg.UniqueViolationError):
                async with connection.transaction():
                    await connection.execute("insert into numbers values (2)")
                    await connection.execute("insert into numbers values (1)")
            await connection.execute("insert into numbers values (3)")
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                await connection.execute("delete from numbers")
                raise ZeroDivisionError
        rows = await connection.fetch("select n from numbers order by n")
        assert [row["n"] for row in rows] == [1, 3]

    on_connection(scenario)


def test_executemany(on_connection):
    async def scenario(connection):
        await connection.execute("create temporary table pairs (n int, text text)")
        pairs = [(n, f"text {n}" * 10) for n in range(20_000)]
        await connection.executemany("insert into pairs values ($1, $2)", pairs)
        assert await connection.fetchval("select sum(n) from pairs") == sum(range(20_000))
        assert await connection.fetchval("select text from pairs where n = 777") == "text 777" * 10

    on_connection(scenario)


def test_copy_in_and_out(on_connection, options, tmp_path):
    if sys.version_info < (3, 11) and options["ssl"]:
        pytest.skip("over TLS, asyncio of 3.10 gives a paused reader more data; asyncpg trips")
    rng = random.Random(3)
    records = [(n, rng.randbytes(60)) for n in range(60_000)]
    out = io.BytesIO()

    async def collect(data):
        out.write(data)
        if rng.random() < 0.01:
            await asyncio.sleep(0.001)  # the server must wait meanwhile

    async def again():
        content = out.getvalue()
        for start in range(0, len(content), 50_000):
            yield content[start : start + 50_000]

    async def scenario(connection):
        await connection.execute("create temporary table one (n int, data bytea)")
        await connection.execute("create temporary table two (like one)")
        assert await connection.copy_records_to_table("one", records=records) == "COPY 60000"
        assert await connection.copy_from_table("one", output=collect) == "COPY 60000"
        assert len(out.getvalue()) > 7 << 20
        assert await connection.copy_to_table("two", source=again()) == "COPY 60000"
        with open(tmp_path / "file", "wb") as file:
            await connection.copy_from_query(
                "select * from two order by n", output=file, format="binary"
            )
        assert (tmp_path / "file").stat().st_size > 4 << 20
        rows = await connection.fetch("select n, data from two order by n")
        assert [tuple(row) for row in rows] == records

    on_connection(scenario)


def test_copy_that_breaks_off(on_connection):
    async def broken():
        yield b"1\n"
        raise ZeroDivisionError

    async def scenario(connection):
        await connection.execute("create temporary table numbers (n int)")
        with pytest.raises(ZeroDivisionError):
            await connection.copy_to_table("numbers", source=broken())
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            await connection.copy_to_table("numbers", source=io.BytesIO(b"one\n"))
        assert await connection.fetchval("select count(*) from numbers") == 0

    on_connection(scenario)


def test_notifications(run, options):
    async def scenario():
        received = asyncio.Queue()
        listening = await asyncpg.connect(**options)
        speaking = await asyncpg.connect(**options)
        try:
            await listening.add_listener("news", lambda *args: received.put_nowait(args))
            payloads = [f"{i} " + "x" * (i * 70) for i in range(100)]
            for payload in payloads:
                await speaking.execute("select pg_notify('news', $1)", payload)
            notified = [await asyncio.wait_for(received.get(), 20) for _ in payloads]
            assert [payload for *_, payload in notified] == payloads
            assert {pid for _, pid, _, _ in notified} == {speaking.get_server_pid()}
        finally:
            await listening.close()
            await speaking.close()

    run(scenario())


def test_a_pool_with_more_callers_than_connections(run, options):
    async def scenario():
        async with asyncpg.create_pool(min_size=2, max_size=8, **options) as pool:

            async def ask(i):
                async with pool.acquire() as connection:
                    return await connection.fetchrow("select $1::int, pg_backend_pid()", i)

            rows = await asyncio.gather(*(ask(i) for i in range(300)))
            assert [row[0] for row in rows] == list(range(300))
            assert 2 <= len({row[1] for row in rows}) <= 8
            assert await pool.fetchval("select 'directly'") == "directly"
            with pytest.raises(asyncio.TimeoutError):
                async with contextlib.AsyncExitStack() as stack:
                    for _ in range(9):
                        await stack.enter_async_context(pool.acquire(timeout=0.2))
            assert pool.get_idle_size() == pool.get_size()

    run(scenario())


def test_connections_in_a_burst(run, options):
    async def scenario():
        async def one(i):
            connection = await asyncpg.connect(**options)
            try:
                return await connection.fetchval("select $1::int", i)
            finally:
                await connection.close()

        assert await asyncio.gather(*(one(i) for i in range(40))) == list(range(40))

    run(scenario())


def test_a_query_that_is_cancelled(on_connection, options):
    async def scenario(connection):
        other = await asyncpg.connect(**options)
        running = "select count(*) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'"
        for _ in range(3):
            query = asyncio.ensure_future(connection.fetchval("select pg_sleep(600)"))
            # PostgreSQL forgets a request to cancel that comes before the query.
            while not await other.fetchval(running, connection.get_server_pid()):
                assert not query.done()
            query.cancel()
            with pytest.raises(asyncio.CancelledError):
                await query
            # The server was asked to stop it, over a connection of its own.
            assert await connection.fetchval("select 1") == 1
        await other.close()

    on_connection(scenario)


def test_queries_that_take_too_long(on_connection):
    async def scenario(connection):
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetchval("select pg_sleep(60)", timeout=0.5)
        assert await connection.fetchval("select 1") == 1
        await connection.execute("set statement_timeout = 50")
        with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
            await connection.fetchval("select pg_sleep(60)")
        await connection.execute("set statement_timeout = 0")
        assert await connection.fetchval("select 1") == 1

    on_connection(scenario)


def test_the_server_ends_the_connection(run, options):
    async def scenario():
        victim = await asyncpg.connect(**options)
        other = await asyncpg.connect(**options)
        notified = []
        victim.add_termination_listener(notified.append)
        try:
            # While a query runs, and while nothing happens.
            query = asyncio.ensure_future(victim.fetchval("select pg_sleep(60)"))
            # It is active while it is prepared, too, when asyncpg has not sent the execution yet.
            asleep = (
                "select count(*) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'"
            )
            while not await other.fetchval(asleep, victim.get_server_pid()):
                assert not query.done()
            assert await other.fetchval("select pg_terminate_backend($1)", victim.get_server_pid())
            with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
                await query
            await until(victim.is_closed)
            await until(lambda: notified == [victim])
            with pytest.raises(asyncpg.InterfaceError):
                await victim.fetchval("select 1")
            idle = await asyncpg.connect(**options)
            await other.fetchval("select pg_terminate_backend($1)", idle.get_server_pid())
            await until(idle.is_closed)
        finally:
            await other.close()

    run(scenario())


def test_a_connection_that_is_aborted(run, options):
    async def scenario():
        connection = await asyncpg.connect(**options)
        query = asyncio.ensure_future(connection.fetch("select generate_series(1, 10000000)"))
        await asyncio.sleep(0.05)
        connection.terminate()
        with pytest.raises((asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError)):
            await query
        assert connection.is_closed()

    run(scenario())


# --- How the connection is made ---------------------------------------------------------------


def dsn(postgresql, mode, *, host="127.0.0.1", user="postgres", root=None):
    address = f"postgresql://{user}@{host}:{postgresql.port}/postgres?sslmode={mode}"
    return address + (f"&sslrootcert={root}" if root else "")


@pytest.mark.parametrize(
    ("mode", "encrypted"),
    [
        ("disable", False),
        ("allow", False),
        ("prefer", True),
        ("require", True),
        ("verify-ca", True),
        ("verify-full", True),
    ],
)
def test_modes_of_encryption(run, postgresql, certificates, mode, encrypted):
    async def scenario():
        root = certificates.authority if mode.startswith("verify") else None
        connection = await asyncpg.connect(dsn(postgresql, mode, root=root))
        try:
            assert (
                await connection.fetchval(
                    "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
                )
                is encrypted
            )
        finally:
            await connection.close()

    run(scenario())


def test_a_certificate_that_will_not_do(run, postgresql, certificates):
    async def scenario():
        untrusting = {"user": "postgres", "host": "127.0.0.1", "port": postgresql.port}
        untrusting["ssl"] = certificates.untrusting_context()
        for options in (
            {"dsn": dsn(postgresql, "verify-full", root=certificates.stranger)},
            {"dsn": dsn(postgresql, "verify-ca", root=certificates.stranger)},
            untrusting,
        ):
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                await asyncpg.connect(**options)
            # The server shows its authority as well, which we do not know.
            assert caught.value.verify_code == 19

    run(scenario())


def test_a_certificate_for_another_name(run, postgresql, certificates):
    # Resolvers take it for 127.0.0.1; for the certificate it is the name of a host.
    other = {"host": "127.1", "root": certificates.authority}

    async def scenario():
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await asyncpg.connect(dsn(postgresql, "verify-full", **other))
        assert caught.value.verify_code == 62
        connection = await asyncpg.connect(dsn(postgresql, "verify-ca", **other))
        assert await connection.fetchval("select 1") == 1
        await connection.close()

    run(scenario())


def test_a_password_and_a_wrong_one(run, options):
    async def scenario():
        login = {**options, "user": "secret", "database": "postgres"}
        connection = await asyncpg.connect(**login, password="a password")
        assert await connection.fetchval("select current_user") == "secret"
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(**login, password="another password")

    run(scenario())


def test_a_certificate_of_the_client(run, postgresql, certificates):
    async def scenario():
        login = {
            "host": "127.0.0.1",
            "port": postgresql.port,
            "user": "tester",
            "database": "postgres",
        }
        context = certificates.client_context(certificates.client)
        connection = await asyncpg.connect(**login, ssl=context)
        assert await connection.fetchval("select current_user") == "tester"
        await connection.close()
        for refused in (certificates.client_context(), False):
            with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
                await asyncpg.connect(**login, ssl=refused)

    run(scenario())


def test_connecting_cancelled_at_any_moment(run, options):
    async def scenario():
        for step in range(30):
            connecting = asyncio.ensure_future(asyncpg.connect(**options))
            for _ in range(step):
                await asyncio.sleep(0.0003)
            if connecting.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await connecting
            else:
                await (await connecting).close()

    run(scenario())
