"""Which suites of other people's are run, from which release, and how."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: Where the sources of Debian's stable release are; the archive keeps them as long as the release.
DEBIAN = "http://deb.debian.org/debian/pool/main"

CACHING_PYTEST = (
    *("-m", "pytest", "-p", "pytest_outcomes"),
    # Coverage and the number of processes are the library's own concern.
    *("-o", "addopts=", "--quiet", "--timeout=60", "--tb=short"),
)
PYTEST = (*CACHING_PYTEST, "-p", "no:cacheprovider")
#: For a suite that has no configuration of pytest: this project's would be found in its place.
BARE_PYTEST = (*PYTEST, "-c", os.devnull, "--rootdir=.")
ASYNC_PYTEST = ("pytest", "pytest-timeout", "pytest-asyncio")


@dataclass(frozen=True)
class Suite:
    #: The distribution, and the release: pinned, so that a new one does not turn a green tree red.
    name: str
    version: str
    #: What its tests need besides the distribution.
    needs: tuple[str, ...]
    #: What the runner is given to run all of it, in the folder of its source.
    arguments: tuple[str, ...]
    #: Runs the tests whose names are added.
    runner: tuple[str, ...] = PYTEST
    #: Address and SHA-256 of the source, where the one on PyPI has no tests.
    source: tuple[str, str] | None = None
    #: Address of the git repository and commit of the release, where no archive has the tests.
    commit: tuple[str, str] | None = None
    #: The library's own folder in the source, which goes, so that the installed one is imported.
    shadowing: str = ""
    #: The server that it talks to, one of `services.SERVICES`.
    service: str = ""
    #: A function of `preparing` that is called with the folder of the source.
    prepare: str = ""

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


SUITES = (
    Suite(
        "aiofiles",
        "25.1.0",
        ASYNC_PYTEST,
        ("tests",),
    ),
    Suite(
        "aiohttp",
        "3.14.5",
        (
            *ASYNC_PYTEST[:2],
            *("pytest-xdist", "pytest-mock", "pytest-cov", "blockbuster", "coverage", "freezegun"),
            *("gunicorn", "proxy.py", "re-assert", "setuptools-git", "trustme", "time-machine"),
            *("Brotli", "aiodns", "backports.zstd", "pytest_codspeed", "isal", "zlib_ng"),
        ),
        (
            # asyncio's debug mode and coverage of the library are no matter of the loop.
            *("-m", "not dev_mode and not autobahn and not internal", "-n", "2", "tests"),
        ),
        shadowing="aiohttp",
    ),
    Suite(
        "aioquic",
        "1.7.2",
        ASYNC_PYTEST[:2],
        ("tests/test_asyncio.py",),
        runner=BARE_PYTEST,
    ),
    Suite(
        "aiosqlite",
        "0.22.1",
        ASYNC_PYTEST[:2],
        ("aiosqlite/tests/smoke.py", "aiosqlite/tests/helpers.py"),
        runner=BARE_PYTEST,
    ),
    Suite(
        "anyio",
        "4.16.0",
        (
            *("pytest>=9", "pytest-mock", "pytest-timeout", "blockbuster", "hypothesis"),
            *("psutil", "trustme", "truststore"),
        ),
        ("-k", "not uvloop and not trio and not network", "tests"),
        runner=(*PYTEST, "-W", "default"),
    ),
    Suite(
        "asyncpg",
        "0.32.0",
        ("pytest", "pytest-timeout", "distro"),
        ("tests",),
        runner=(*PYTEST, "--import-mode=importlib"),
        shadowing="asyncpg",
        service="postgresql",
    ),
    Suite(
        "asyncssh",
        "2.24.1",
        (*ASYNC_PYTEST[:2], "bcrypt", "fido2", "pyOpenSSL"),
        ("tests",),
        runner=BARE_PYTEST,
    ),
    Suite(
        "grpcio",
        "1.51.1",
        (
            *("pytest", "pytest-timeout", "coverage", "grpcio-tools==1.51.1", "setuptools<80"),
            "protobuf<5",
        ),
        ("tests_aio/unit",),
        source=(
            f"{DEBIAN}/g/grpc/grpc_1.51.1.orig.tar.gz",
            "b55696fb249669744de3e71acc54a9382bea0dce7cd5ba379b356b12b82d4229",
        ),
        prepare="grpcio",
        runner=BARE_PYTEST,
    ),
    Suite(
        "httpcore",
        "1.0.9",
        (
            *("pytest", "pytest-timeout", "anyio", "pytest-trio", "pytest-httpbin", "trustme"),
            *("werkzeug<3", "h2", "socksio"),
        ),
        ("-k", "not trio", "tests"),
    ),
    Suite(
        "httpx",
        "0.28.1",
        (
            *("pytest", "pytest-timeout", "anyio[trio]", "trustme", "uvicorn", "chardet"),
            *("httpx[brotli,cli,http2,socks,zstd]==0.28.1",),
        ),
        ("-k", "not trio and not network", "tests"),
    ),
    Suite(
        "hypercorn",
        "0.18.0",
        (*ASYNC_PYTEST, "pytest-trio", "trio", "hypothesis", "mock", "httpx"),
        ("-k", "not trio", "tests"),
    ),
    Suite(
        "janus",
        "2.0.0",
        (*ASYNC_PYTEST, "pytest-cov"),
        ("tests",),
    ),
    Suite(
        "psycopg",
        "3.3.4",
        (
            *("psycopg[binary,pool]==3.3.4", "anyio", "pproxy", "pytest", "pytest-timeout"),
            *("pytest-randomly", "mypy"),
        ),
        ("-k", "async", "-m", "not slow", "-p", "no:randomly", "tests"),
        commit=(
            "https://github.com/psycopg/psycopg",
            "83f110367cdd249cc0a352e2246ecea9e878e5a0",
        ),
        shadowing="psycopg",
        runner=CACHING_PYTEST,
        service="postgresql",
    ),
    Suite(
        "pyzmq",
        "27.3.0",
        (*ASYNC_PYTEST, "pytest-rerunfailures", "tornado"),
        ("tests/test_asyncio.py", "tests/test_auth.py", "tests/test_zmqstream.py"),
        shadowing="zmq",
    ),
    Suite(
        "redis",
        "8.1.0",
        (
            *(*ASYNC_PYTEST, "numpy", "pybreaker", "aiohttp", "xxhash", "pyjwt", "packaging"),
            *("coverage", "redis-entraid"),
        ),
        (
            *("tests/test_asyncio",),
            *("-m", "not onlycluster and not redismod and not ssl and not cp_integration"),
        ),
        service="redis",
    ),
    Suite(
        "tornado",
        "6.6.1",
        (),
        tuple(
            f"tornado.test.{module}_test"
            for module in (
                *("asyncio", "gen", "http1connection", "httpclient", "httpserver", "ioloop"),
                *("iostream", "locks", "netutil", "process", "queues", "simple_httpclient"),
                *("tcpclient", "tcpserver", "testing", "web", "websocket"),
            )
        ),
        runner=("-m", "unittest_outcomes"),
    ),
    Suite(
        "twisted",
        "26.10.0",
        ("twisted[tls]==26.10.0", "hypothesis", "pyhamcrest"),
        (
            *("twisted.internet.test", "twisted.protocols.test", "twisted.web.test.test_http"),
            *(
                f"twisted.test.test_{module}"
                for module in (
                    *("amp", "cooperator", "factories", "ftp", "internet", "loopback", "memcache"),
                    *("policies", "process", "protocols", "sip", "socks", "ssl", "sslverify"),
                    *("stdio", "task", "tcp", "tcp_internals", "threads", "udp", "unix"),
                )
            ),
        ),
        runner=("-m", "twisted_outcomes"),
    ),
    Suite(
        "uvicorn",
        "0.54.0",
        (
            *("uvicorn[standard]==0.54.0", "pytest", "pytest-timeout", "pytest-mock", "anyio"),
            *("pytest-xdist", "pytest_codspeed", "trustme", "cryptography", "a2wsgi", "wsproto"),
            *("httpx", "httpx2"),
        ),
        ("tests",),
    ),
    Suite(
        "websockets",
        "15.0.1",
        ("pytest", "pytest-timeout", "python-socks[asyncio]", "werkzeug"),
        ("tests/asyncio", "tests/legacy"),
        source=(
            f"{DEBIAN}/p/python-websockets/python-websockets_15.0.1.orig.tar.gz",
            "8451495265af3e368f794c4dc15c99ce90c771d95560f542bff8c64b5455af3b",
        ),
        runner=BARE_PYTEST,
    ),
)
