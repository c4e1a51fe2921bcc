"""Runs the test suites of libraries on this loop and on asyncio's: none may fail on this one alone.

    run.py [--folder FOLDER] [anyio] [tornado] [twisted]

The sources of the libraries are downloaded and installed into a virtual environment of their own
(in FOLDER, which is used again, or in a temporary one). What fails on this loop and passes on
asyncio's is tried again, on both: a suite has tests that fail when the machine is busy. Exits with
1 if a test fails on this loop each time and passes on asyncio's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
#: How often a test is tried that fails on this loop alone.
TRIES = 3
#: Seconds that a suite may take on one loop.
TIMEOUT = 1800


@dataclass(frozen=True)
class Suite:
    #: Pinned, so that a new release does not turn a green tree red.
    requirement: str
    #: What its tests need.
    needs: tuple[str, ...]
    #: Runs all of it, in the folder of its source.
    command: tuple[str, ...]
    #: Runs the tests whose names are added.
    chosen: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.requirement.partition("==")[0]


ANYIO = (
    *("-m", "pytest", "-p", "pytest_outcomes", "-p", "no:cacheprovider"),
    *("--quiet", "--timeout=60", "--tb=line", "-W", "default"),
)
TORNADO = ("-m", "unittest_outcomes")
TWISTED = ("-m", "twisted_outcomes")
SUITES = (
    Suite(
        "anyio==4.16.0",
        (
            *("pytest>=9", "pytest-mock", "pytest-timeout", "blockbuster", "hypothesis"),
            *("psutil", "trustme", "truststore"),
        ),
        (*ANYIO, "-k", "not uvloop and not trio and not network", "tests"),
        ANYIO,
    ),
    Suite(
        "tornado==6.6.1",
        (),
        (
            *TORNADO,
            *(
                f"tornado.test.{module}_test"
                for module in (
                    *("asyncio", "gen", "http1connection", "httpclient", "httpserver", "ioloop"),
                    *("iostream", "locks", "netutil", "process", "queues", "simple_httpclient"),
                    *("tcpclient", "tcpserver", "testing", "web", "websocket"),
                )
            ),
        ),
        TORNADO,
    ),
    Suite(
        "twisted==26.10.0",
        ("twisted[tls]==26.10.0", "hypothesis", "pyhamcrest"),
        (
            *TWISTED,
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
        TWISTED,
    ),
)


class Bench:
    """A folder with an environment that has the libraries, and their sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        self._prepared: dict[str, Path] = {}

    def prepare(self, suite: Suite) -> None:
        if not self.python.exists():
            venv.create(self.folder / "venv", with_pip=True)
        sources = self.folder / "sources"
        source = sources / suite.requirement.replace("==", "-")
        if not source.exists():
            download = ("download", "--no-deps", "--no-binary", suite.name, "--dest", str(sources))
            self._pip(*download, suite.requirement)
            with tarfile.open(f"{source}.tar.gz") as archive:
                archive.extractall(sources)
        self._pip("install", str(source), *suite.needs)
        self._prepared[suite.name] = source

    def _pip(self, *args: str) -> None:
        pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
        subprocess.run([self.python, *pip, *args], check=True)

    def run(self, suite: Suite, loop: str, names: Iterable[str] = ()) -> Mapping[str, str]:
        """The outcome of each test, or of those with these names."""
        path = self.folder / f"{suite.name}-{loop}.jsonl"
        path.unlink(missing_ok=True)
        command = (*suite.chosen, *names) if names else suite.command
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(self._import_path()),
            "TESTED_LOOP": loop,
            "OUTCOMES": str(path),
        }
        with open(self.folder / f"{suite.name}-{loop}.log", "a") as log:
            process = subprocess.Popen(
                [self.python, *command],
                cwd=self._prepared[suite.name],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if not path.exists():
            raise SystemExit(f"{suite.name} ran no test on {loop}: see {log.name}")
        # A test that was repeated counts by how it ended.
        return dict(map(json.loads, path.read_text().splitlines()))

    def _import_path(self) -> Iterator[str]:
        """The package under test without the environment that it is installed in."""
        yield str(HERE)
        spec = importlib.util.find_spec("tokioloop")
        if spec is None or spec.origin is None:
            raise SystemExit("tokioloop is not installed: build it first")
        folder = self.folder / "under_test"
        folder.mkdir(exist_ok=True)
        link = folder / "tokioloop"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(spec.origin).parent.resolve())
        yield str(folder)


def failing_alone(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """The tests that pass with asyncio, and fail here, or do not even run."""
    return sorted(
        name
        for name, outcome in theirs.items()
        if outcome == "passed" and ours.get(name, "missing") in ("failed", "missing")
    )


def check(bench: Bench, suite: Suite) -> list[str]:
    bench.prepare(suite)
    theirs, ours = bench.run(suite, "asyncio"), bench.run(suite, "tokioloop")
    failing = failing_alone(theirs, ours)
    passed = [sum(outcome == "passed" for outcome in run.values()) for run in (theirs, ours)]
    print(
        f"{suite.requirement}: {len(ours)} tests, of which pass {passed[1]}; on asyncio {passed[0]}"
    )
    for _ in range(1, TRIES):
        if not failing:
            break
        some = ", ".join(failing[:10]) + (", ..." if len(failing) > 10 else "")
        print(f"  {len(failing)} again: {some}")
        again = bench.run(suite, "asyncio", failing), bench.run(suite, "tokioloop", failing)
        failing = failing_alone(*again)
    for name in failing:
        print(f"  fails on this loop alone: {name}")
    return failing


def main() -> int:
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(names))
    parser.add_argument("--folder", type=Path, help="for sources, environment and logs; kept")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(names):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if options.folder is None else options.folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder)
        wanted = [suite for suite in SUITES if suite.name in (options.suites or names)]
        failing = [name for suite in wanted for name in check(bench, suite)]
        return int(bool(failing))


if __name__ == "__main__":
    sys.exit(main())
