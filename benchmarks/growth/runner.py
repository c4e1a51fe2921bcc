"""Runs the scales: at each size every loop once a round, in processes of their own."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import certificates
from benchmarks.growth.scales import PERCENT, PERCENTILES, Scale, key, latency_id
from benchmarks.kinds import BYTES, Service
from benchmarks.loops import LIMIT
from benchmarks.processes import Failure, finish
from benchmarks.progress import Progress
from benchmarks.results import Results, Sample, Series
from benchmarks.runner import Runner

Samples = dict[str, Sample]
# What is put under load, by the scale's id; the number of connections is its size.
SERVED = {
    "connections": Service("", "", "", "protocol", load="schedule", limit="echo"),
    "handshakes": Service("", "", "", "protocol", load="handshakes", size=64, transport="tls"),
}


class GrowthRunner(Runner):
    def measurements(self, scales: list[Scale], loops: list[str]) -> int:
        each = sum(len(scale.sizes) * len(columns(scale, loops)) for scale in scales)
        return self.settings.rounds * each

    def measure(
        self, scales: list[Scale], loops: list[str], results: Results, progress: Progress
    ) -> None:
        """Fills ``results`` as it goes, so that an interrupted run still has something to show."""
        with tempfile.TemporaryDirectory(prefix="loop-bench-") as folder:
            if any(scale.id == "handshakes" for scale in scales):
                self._certificate = certificates.make(Path(folder))
            for scale in scales:
                for size in scale.sizes:
                    self._size(scale, size, columns(scale, loops), results, progress)

    def _size(
        self, scale: Scale, size: int, names: list[str], results: Results, progress: Progress
    ) -> None:
        rows = {figure.id: results.setdefault(key(figure, size), {}) for figure in scale.figures}
        for number in range(self.settings.rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                progress.step(f"{scale.id}, {size:,}: {name}, round {number + 1}")
                series = {id: row.setdefault(name, Series()) for id, row in rows.items()}
                if any(entry.error for entry in series.values()):
                    continue
                try:
                    for id, sample in self._sample(scale, size, name).items():
                        series[id].add(sample)
                except Failure as failure:
                    for entry in series.values():
                        entry.error = str(failure)
        figure = next(figure for figure in scale.figures if figure.unit is not BYTES)
        found = rows[figure.id].items()
        costs = [f"{name} {figure.cost(s):.2f}" if s.usable else f"{name} -" for name, s in found]
        progress.done(f"{scale.id}, {size:,}", ", ".join(costs))

    def _sample(self, scale: Scale, size: int, name: str) -> Samples:
        if scale.id in SERVED:
            report = self._load(SERVED[scale.id], size, name)
            return connections(report) if scale.id == "connections" else handshakes(report)
        command = [*self._on("growth.operations", name), scale.id, str(size)]
        said = finish([*command, "--core", str(self.cores.server)])
        return {id: Sample(**found) for id, found in json.loads(said.splitlines()[-1]).items()}

    def _load(self, row: Service, connections: int, name: str) -> dict[str, Any]:
        loadgen, core = self._load_generator()
        with self._server(row, name) as (process, target):
            command = [str(loadgen), target, "--load", row.load, "--size", str(row.size)]
            command += ["--connections", str(connections)]
            command += ["--percent", ",".join(map(str, PERCENT))]
            command += ["--seconds", str(self.settings.seconds)]
            command += ["--warmup", str(self.settings.warmup)]
            command += ["--core", str(core), "--server-pid", str(process.pid)]
            found: dict[str, Any] = json.loads(finish(command))
            return found


def columns(scale: Scale, loops: list[str]) -> list[str]:
    return [*loops, LIMIT] if scale.limited else loops


def connections(report: dict[str, Any]) -> Samples:
    requests = report["requests"]
    found = {
        "connections-rate": Sample(
            value=requests / report["seconds"],
            cpu_us=report["server_cpu_seconds"] / requests * 1e6,
            client_busy=report["client_busy"],
        )
    }
    if report["bytes_per_connection"] is not None:
        found["connections-memory"] = Sample(report["bytes_per_connection"])
    for part in report["parts"]:
        for name in PERCENTILES:
            found[latency_id(part["percent"], name)] = Sample(
                value=part[name], client_busy=part["client_busy"]
            )
    return found


def handshakes(report: dict[str, Any]) -> Samples:
    each = report["requests"] / 1e6
    cpu = report["server_cpu_seconds"] / each
    return {"handshakes-each": Sample(value=report["seconds"] / each, cpu_us=cpu)}
