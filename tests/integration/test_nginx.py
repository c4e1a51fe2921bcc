"""nginx over TLS: aiohttp, httpx and asyncio's streams as clients."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import ssl

import aiohttp
import httpx
import pytest

from integration.nginx_server import LARGE, Nginx, running

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def nginx(certificates):
    with running(Nginx, certificates) as server:
        yield server


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def context(request, certificates):
    """A client's context for one TLS version."""
    return certificates.client_context(version=request.param)


def session(nginx, context, server="main", *, limit=100, **options):
    connector = aiohttp.TCPConnector(ssl=context, limit=limit)
    return aiohttp.ClientSession(nginx.url(server), connector=connector, **options)


def httpx_client(nginx, context, server="main", **options):
    return httpx.AsyncClient(
        base_url=nginx.url(server), verify=context, trust_env=False, timeout=30, **options
    )


# --- aiohttp ----------------------------------------------------------------------------------


def test_small_and_large_answers(run, nginx, context):
    async def scenario():
        async with session(nginx, context) as client:
            async with client.get("/small.txt") as response:
                assert response.status == 200
                assert await response.text() == "a small file\n"
            async with client.get("/large.bin") as response:
                assert response.content_length == len(LARGE)
                assert await response.read() == LARGE
            async with client.get("/nothing") as response:
                assert response.status == 404
            async with client.head("/large.bin") as response:
                assert response.content_length == len(LARGE)

    run(scenario())


def test_one_connection_serves_many_requests(run, nginx, context):
    async def scenario():
        async with session(nginx, context, limit=1) as client:
            serials = set()
            for _ in range(100):
                async with client.get("/connection") as response:
                    serials.add(await response.text())
            assert len(serials) == 1

    run(scenario())


def test_a_connection_that_the_server_gives_up_is_replaced(run, nginx, context):
    async def scenario():
        async with session(nginx, context, "fleeting", limit=1) as client:
            serials = []
            for _ in range(12):
                async with client.get("/connection") as response:
                    serials.append(await response.text())
            # The server closes after three requests.
            assert [serials.count(serial) for serial in sorted(set(serials))] == [3] * 4

    run(scenario())


def test_many_requests_at_once(run, nginx, context):
    async def scenario():
        async with session(nginx, context, limit=30) as client:

            async def get(i):
                start = i * 1000
                headers = {"Range": f"bytes={start}-{start + 49_999}"}
                async with client.get("/large.bin", headers=headers) as response:
                    assert response.status == 206
                    assert await response.read() == LARGE[start : start + 50_000]

            await asyncio.gather(*(get(i) for i in range(200)))

    run(scenario())


def test_an_upload_can_be_downloaded(run, nginx, context):
    body = random.Random(2).randbytes(6 << 20)

    async def pieces():
        for start in range(0, len(body), 70_000):
            yield body[start : start + 70_000]

    async def scenario():
        async with session(nginx, context) as client:
            for name, data in (("whole", io.BytesIO(body)), ("chunked", pieces())):
                async with client.put(f"/files/{name}", data=data) as response:
                    assert response.status in (201, 204)
                async with client.get(f"/files/{name}") as response:
                    assert await response.read() == body

    run(scenario())


def test_several_large_bodies_both_ways_at_once(run, nginx, context):
    async def scenario():
        async with session(nginx, context) as client:

            async def there_and_back(i):
                body = random.Random(i).randbytes(1 << 20)
                async with client.put(f"/files/both-{i}", data=io.BytesIO(body)) as response:
                    assert response.status in (201, 204)
                async with client.get(f"/files/both-{i}") as response:
                    assert await response.read() == body

            await asyncio.gather(*(there_and_back(i) for i in range(8)))

    run(scenario())


def test_a_reader_slower_than_the_server(run, nginx, context):
    async def scenario():
        digest, size = hashlib.sha256(), 0
        client = session(nginx, context, read_bufsize=16_384)
        async with client, client.get("/large.bin") as response:
            while piece := await response.content.read(100_000):
                digest.update(piece)
                size += len(piece)
                await asyncio.sleep(0.001)
        assert (size, digest.digest()) == (len(LARGE), hashlib.sha256(LARGE).digest())

    run(scenario())


def test_chunks_and_compression(run, nginx, context):
    async def scenario():
        async with session(nginx, context) as client, client.get("/gzip/text.txt") as response:
            assert response.headers["Transfer-Encoding"] == "chunked"
            assert response.headers["Content-Encoding"] == "gzip"
            assert await response.text() == nginx.text

    run(scenario())


@pytest.mark.parametrize(
    ("server", "trusting", "code"),
    [
        ("elsewhere", True, 64),  # an address that the certificate does not name
        ("untrusted", True, 20),  # no issuer that we know
        ("expired", True, 10),
        ("main", False, 20),
    ],
)
def test_a_certificate_that_will_not_do(run, nginx, certificates, server, trusting, code):
    context = certificates.client_context() if trusting else certificates.untrusting_context()

    async def scenario():
        async with session(nginx, context, server) as client:
            with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
                await client.get("/small.txt")
            error = caught.value.certificate_error
            assert isinstance(error, ssl.SSLCertVerificationError)
            assert (error.reason, error.verify_code) == ("CERTIFICATE_VERIFY_FAILED", code)
            # One bad certificate is no end for the loop: the same context, another server.
            if trusting:
                async with client.get(nginx.url("main") + "/small.txt") as response:
                    assert response.status == 200

    run(scenario())


def test_the_name_decides_which_certificate_is_shown(run, nginx, context):
    async def scenario():
        async with session(nginx, context) as client:
            options = {"server_hostname": "elsewhere.test", "headers": {"Host": "elsewhere.test"}}
            async with client.get("/", **options) as response:
                assert await response.text() == "elsewhere"
            async with client.get("/small.txt", server_hostname="localhost") as response:
                assert await response.text() == "a small file\n"
            with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
                await client.get("/", server_hostname="nobody.test")
            assert caught.value.certificate_error.verify_code == 62

    run(scenario())


def test_a_certificate_of_the_client(run, nginx, certificates):
    known = certificates.client_context(certificates.client)

    async def scenario():
        async with session(nginx, known, "private") as client, client.get("/") as response:
            assert response.status == 200
            assert "CN=tester" in await response.text()
        # nginx completes the handshake without one, and then says what it thinks of that.
        unknown = certificates.client_context()
        async with session(nginx, unknown, "private") as client, client.get("/") as response:
            assert response.status == 400
            assert "No required SSL certificate was sent" in await response.text()

    run(scenario())


def test_a_long_chain_of_certificates(run, nginx, context):
    async def scenario():
        async with session(nginx, context, "long") as client, client.get("/small.txt") as response:
            assert await response.text() == "a small file\n"

    run(scenario())


def test_the_server_closes_without_an_answer(run, nginx, context):
    async def scenario():
        async with session(nginx, context) as client:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await client.get("/gone")
            async with client.get("/small.txt") as response:
                assert response.status == 200

    run(scenario())


def test_the_server_dies_midway(run, nginx, context):
    async def scenario():
        async with session(nginx, context) as client:
            async with client.get("/slow/large.bin") as response:
                assert response.status == 200
                first = await response.content.readany()
                nginx.kill_workers()
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.content.read()
            assert LARGE.startswith(first)
            async with client.get("/small.txt") as response:
                assert response.status == 200

    run(scenario())


def test_an_answer_that_takes_too_long(run, nginx, context):
    async def scenario():
        async with session(nginx, context) as client:
            with pytest.raises(asyncio.TimeoutError):
                async with client.get(
                    "/slow/large.bin", timeout=aiohttp.ClientTimeout(total=0.3)
                ) as response:
                    await response.read()
            async with client.get("/small.txt") as response:
                assert response.status == 200

    run(scenario())


def test_cancelled_requests(run, nginx, context):
    async def scenario():
        async with session(nginx, context) as client:

            async def get():
                async with client.get("/slow/large.bin") as response:
                    await response.read()

            for delay in (0, 0.0005, 0.001, 0.002, 0.005, 0.02, 0.1):
                requests = [asyncio.ensure_future(get()) for _ in range(5)]
                await asyncio.sleep(delay)
                for request in requests:
                    request.cancel()
                ends = await asyncio.gather(*requests, return_exceptions=True)
                assert {type(end) for end in ends} == {asyncio.CancelledError}
            async with client.get("/small.txt") as response:
                assert response.status == 200

    run(scenario())


# --- httpx: its TLS is anyio's, over asyncio's plain streams -----------------------------------


def test_httpx_requests(run, nginx, context):
    body = random.Random(3).randbytes(3 << 20)

    async def scenario():
        async with httpx_client(nginx, context) as client:
            assert (await client.get("/small.txt")).text == "a small file\n"
            assert (await client.get("/large.bin")).content == LARGE
            assert (await client.get("/gzip/text.txt")).text == nginx.text
            assert (await client.put("/files/httpx", content=body)).status_code in (201, 204)
            assert (await client.get("/files/httpx")).content == body
            serials = {(await client.get("/connection")).text for _ in range(20)}
            assert len(serials) == 1

    run(scenario())


def test_httpx_many_requests_at_once(run, nginx, context):
    async def scenario():
        limits = httpx.Limits(max_connections=20)
        async with httpx_client(nginx, context, limits=limits) as client:
            answers = await asyncio.gather(*(client.get("/small.txt") for _ in range(100)))
            assert {answer.text for answer in answers} == {"a small file\n"}

    run(scenario())


@pytest.mark.parametrize("server", ["elsewhere", "untrusted", "expired"])
def test_httpx_a_certificate_that_will_not_do(run, nginx, certificates, server):
    async def scenario():
        async with httpx_client(nginx, certificates.client_context(), server) as client:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get("/small.txt")

    run(scenario())


def test_httpx_the_server_dies_midway(run, nginx, context):
    async def scenario():
        async with httpx_client(nginx, context) as client:
            async with client.stream("GET", "/slow/large.bin") as response:
                with pytest.raises(httpx.TransportError):
                    async for _piece in response.aiter_raw():
                        nginx.kill_workers()
            assert (await client.get("/small.txt")).status_code == 200

    run(scenario())
