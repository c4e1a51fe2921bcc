"""The real servers that suites talk to, and what the suites are told about them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# The servers are those of the integration tests.
sys.path.insert(0, str(Path(__file__).parents[1]))


@dataclass(frozen=True)
class Service:
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[Service]:
    from integration.postgresql_server import PostgreSQL, running
    from support.certificates import Certificates

    with running(PostgreSQL, Certificates(folder)) as server:
        yield Service(
            {
                "PGHOST": "127.0.0.1",
                "PGPORT": str(server.port),
                "PGUSER": "postgres",
                "PGDATABASE": "postgres",
                # psycopg's tests leave out what needs a server unless they are told of one.
                "PSYCOPG_TEST_DSN": f"host=127.0.0.1 port={server.port} user=postgres",
            }
        )


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[Service]:
    from integration.redis_server import Redis
    from integration.servers import running
    from support.certificates import Certificates

    with running(Redis, Certificates(folder)) as server:
        yield Service(arguments=(f"--redis-url=redis://127.0.0.1:{server.port}/0",))


SERVICES: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Service]]] = {
    "": lambda folder: contextlib.nullcontext(Service()),
    "postgresql": postgresql,
    "redis": redis,
}
