"""Runs the rows: every loop once a round, in rotating order, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import certificates
from benchmarks.bridging import WAYS
from benchmarks.kinds import MIB, Bridged, Micro, Row, Service
from benchmarks.loops import BEFORE, LIMIT, OURS
from benchmarks.pace import TOLERATED, Pace
from benchmarks.processes import ROOT, Failure, cargo, finish, module, server
from benchmarks.progress import Progress
from benchmarks.report import value
from benchmarks.results import Results, Sample, Series
from benchmarks.system import Cores

# How often a measurement is begun that the machine then disturbs.
ATTEMPTS = 3


@dataclass(frozen=True)
class Settings:
    rounds: int = 5
    seconds: float = 1.0
    warmup: float = 0.25
    repeats: int = 3
    """How often a process of a micro row repeats its measurement."""
    scale: float = 1.0
    """The part of a micro row's operations that is done."""


def build_loadgen() -> Path:
    """Compiles the load generator (a minute, once) and returns its path."""
    target = ROOT / "target" / "loadgen"
    command = ["build", "--quiet", "--release", "--locked", "--target-dir", str(target)]
    cargo(ROOT / "benchmarks" / "loadgen", *command)
    return target / "release" / "loadgen"


def needs_load(row: Row) -> bool:
    return isinstance(row, Service) or row.peer is not None


class Runner:
    def __init__(
        self,
        settings: Settings,
        cores: Cores,
        loadgen: Path | None,
        extension: Path | None = None,
        before: Path | None = None,
    ) -> None:
        self.settings = settings
        self.cores = cores
        self.loadgen = loadgen
        self.extension = extension
        self.before = before
        self.retaken = 0
        """Measurements that were taken again because the machine was slower than it can be."""
        self._pace = Pace()
        self._certificate: certificates.Certificate | None = None

    def steps(self, rows: list[Row], loops: list[str]) -> int:
        return self.settings.rounds * sum(len(row.columns(loops)) for row in rows)

    def run(self, rows: list[Row], loops: list[str], results: Results, progress: Progress) -> None:
        """Fills ``results`` as it goes, so that an interrupted run still has something to show."""
        with tempfile.TemporaryDirectory(prefix="loop-bench-") as folder:
            if any(isinstance(row, Service) and row.transport == "tls" for row in rows):
                self._certificate = certificates.make(Path(folder))
            for row in rows:
                columns = row.columns(loops)
                series = results[row.id] = {column: Series() for column in columns}
                for number in range(self.settings.rounds):
                    first = number % len(columns)
                    for column in columns[first:] + columns[:first]:
                        progress.step(f"{row.id}: {column}, round {number + 1}")
                        if series[column].error is None:
                            try:
                                series[column].add(self._undisturbed(row, column))
                            except Failure as failure:
                                series[column].error = str(failure)
                medians = ", ".join(f"{loop} {value(row, entry)}" for loop, entry in series.items())
                progress.done(row.id, medians)

    def _undisturbed(self, row: Row, column: str) -> Sample:
        """A measurement with the machine at its pace before it and after it, or the least disturbed
        of several.
        """
        used = [self.cores.server]
        if needs_load(row) and self.cores.client is not None:
            used.append(self.cores.client)
        found: list[tuple[float, Sample]] = []
        while not found or (found[-1][0] > TOLERATED and len(found) < ATTEMPTS):
            before = self._pace.settle(used)
            taken = self._measure(row, column)
            found.append((max(before, self._pace.slowness(used)), taken))
        self.retaken += len(found) - 1
        return min(found, key=lambda attempt: attempt[0])[1]

    def _measure(self, row: Row, column: str) -> Sample:
        return self._micro(row, column) if isinstance(row, Micro) else self._service(row, column)

    def _on(self, name: str, loop: str) -> list[str]:
        """The command that runs a module of ours on a loop."""
        return [*module(name, self.before), OURS] if loop == BEFORE else [*module(name), loop]

    def _micro(self, row: Micro, column: str) -> Sample:
        loop, operations, more = column, row.operations, list[str]()
        if isinstance(row, Bridged):
            way = WAYS[column]
            loop, more = way.loop, ["--extension", str(self.extension), "--through", way.through]
            more += ["--opendal", way.opendal]
            if way.through == "upstream":
                operations = row.upstream_operations or operations
        count = operations if row.fixed else max(int(operations * self.settings.scale), 1)
        command = [*self._on("micro", loop), row.operation or row.id, str(count), *more]
        command += ["--repeats", str(self.settings.repeats), "--core", str(self.cores.server)]
        if row.native:
            command.append("--native")
        if row.peer is None:
            return Sample(**json.loads(finish(command).splitlines()[-1]))
        loadgen, core = self._load_generator()
        peer = [str(loadgen), "serve", row.peer, "tcp", "--core", str(core), "--spin"]
        with server(peer) as (_, port):
            return Sample(**json.loads(finish([*command, "--peer", port]).splitlines()[-1]))

    def _service(self, row: Service, column: str) -> Sample:
        loadgen, core = self._load_generator()
        with self._server(row, column) as (process, target):
            command = [str(loadgen), target, "--load", row.load, "--protocol", row.protocol]
            command += ["--connections", str(row.connections), "--size", str(row.size)]
            command += ["--seconds", str(self.settings.seconds)]
            command += ["--warmup", str(self.settings.warmup)]
            command += ["--core", str(core), "--server-pid", str(process.pid)]
            return sample(row, json.loads(finish(command)))

    @contextmanager
    def _server(self, row: Service, column: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """The row's server, ready, and where the load generator finds it."""
        with tempfile.TemporaryDirectory(prefix="loop-bench-") as folder:
            unix = str(Path(folder) / "echo.sock") if row.transport == "unix" else None
            if column == LIMIT:
                where = f"unix:{unix}" if unix else row.transport
                command = [str(self.loadgen), "serve", str(row.limit), where]
            else:
                command = [*self._on("servers", column), row.server]
                if row.native:
                    command.append("--native")
                if unix:
                    command += ["--unix", unix]
                if row.transport == "tls" and self._certificate is not None:
                    command += ["--tls", *self._certificate]
            command += ["--core", str(self.cores.server)]
            with server(command) as (process, address):
                host = "" if unix else "127.0.0.1:"
                yield process, f"{row.transport}:{host}{address}"

    def _load_generator(self) -> tuple[Path, int]:
        if self.loadgen is None or self.cores.client is None:
            raise Failure("the server and its load generator need a core each")
        return self.loadgen, self.cores.client


def sample(row: Service, report: dict[str, Any]) -> Sample:
    """The load generator's report in the row's unit."""
    work = report["bytes"] / MIB if row.load in ("send", "receive") else report["requests"]
    if not work:
        raise Failure("no request was answered")
    value = report["bytes_per_connection"] if row.memory else work / report["seconds"]
    return Sample(
        value=value,
        cpu_us=report["server_cpu_seconds"] / work * 1e6,
        p50_us=report["p50_us"],
        p99_us=report["p99_us"],
        rss_mib=report["server_rss_bytes"] / MIB,
        client_busy=report["client_busy"],
    )
