"""Runs the rows: every loop once a round, in rotating order, each in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.progress import Progress
from benchmarks.results import Results, Series
from benchmarks.rows import Echo, Micro, Row
from benchmarks.system import Cores

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 60.0


class Failure(Exception):
    """A loop could not do a row; the text is the reason, in one line."""


@dataclass(frozen=True)
class Settings:
    rounds: int = 5
    seconds: float = 1.5
    warmup: float = 0.3
    repeats: int = 3
    """How often a process of a micro row repeats its measurement."""


def build_loadgen() -> Path:
    """Compiles the load generator (a moment, once) and returns its path."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise Failure("cargo not found: install a Rust toolchain (https://rustup.rs)")
    target = ROOT / "target" / "loadgen"
    manifest = ROOT / "benchmarks" / "loadgen" / "Cargo.toml"
    command = [cargo, "build", "--quiet", "--release", "--locked"]
    subprocess.run(
        [*command, "--manifest-path", str(manifest), "--target-dir", str(target)], check=True
    )
    return target / "release" / "loadgen"


class Runner:
    def __init__(self, settings: Settings, cores: Cores, loadgen: Path | None) -> None:
        self.settings = settings
        self.cores = cores
        self.loadgen = loadgen

    def run(self, rows: list[Row], loops: list[str], results: Results, progress: Progress) -> None:
        """Fills ``results`` as it goes, so that an interrupted run still has something to show."""
        for row in rows:
            series = results[row.id] = {loop: Series() for loop in loops}
            for number in range(self.settings.rounds):
                first = number % len(loops)
                for loop in loops[first:] + loops[:first]:
                    progress.step(f"{row.id}: {loop}, round {number + 1}")
                    if series[loop].error is None:
                        try:
                            self._measure(row, loop, series[loop])
                        except Failure as failure:
                            series[loop].error = str(failure)
            progress.row_done(row, series)

    def _measure(self, row: Row, loop: str, series: Series) -> None:
        if isinstance(row, Micro):
            series.values.append(self._micro(row, loop))
            return
        report = self._echo(row, loop)
        requests = report["requests"]
        if not requests:
            raise Failure("no request was answered")
        series.values.append(requests / report["seconds"])
        series.cpu_us.append(report["server_cpu_seconds"] / requests * 1e6)
        series.p50_us.append(report["p50_us"])
        series.p99_us.append(report["p99_us"])

    def _micro(self, row: Micro, loop: str) -> float:
        command = [*_module("micro"), loop, row.id, str(row.operations)]
        command += ["--repeats", str(self.settings.repeats), "--core", str(self.cores.server)]
        return float(_finish(command).splitlines()[-1])

    def _echo(self, row: Echo, loop: str) -> dict[str, Any]:
        if self.loadgen is None or self.cores.client is None:
            raise Failure("the server and its load generator need a core each")
        with _server(row, loop, self.cores.server) as (process, target):
            command = [str(self.loadgen), target]
            command += ["--connections", str(row.connections), "--size", str(row.size)]
            command += ["--seconds", str(self.settings.seconds)]
            command += ["--warmup", str(self.settings.warmup)]
            command += ["--core", str(self.cores.client), "--server-pid", str(process.pid)]
            report: dict[str, Any] = json.loads(_finish(command))
            return report


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{name}"]


def _finish(command: list[str]) -> str:
    """Runs ``command`` to its end and returns what it printed."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise Failure(f"not finished after {TIMEOUT:.0f} s") from None
    if done.returncode:
        raise Failure(_reason(done.stderr, done.returncode))
    return done.stdout


@contextmanager
def _server(row: Echo, loop: str, core: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An echo server that is ready, and where the load generator finds it."""
    with tempfile.TemporaryDirectory(prefix="loop-bench-") as directory:
        command = [*_module("servers"), loop, row.server, "--core", str(core)]
        if row.transport == "unix":
            command += ["--unix", str(Path(directory) / "echo.sock")]
        errors = Path(directory) / "stderr"
        with (
            errors.open("w") as stderr,
            subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True
            ) as process,
        ):
            try:
                assert process.stdout is not None
                address = process.stdout.readline().strip()
                if not address:
                    raise Failure(_reason(errors.read_text(), process.wait(TIMEOUT)))
                host = "" if row.transport == "unix" else "127.0.0.1:"
                yield process, f"{row.transport}:{host}{address}"
            except Failure as failure:
                # What the client saw is a symptom if the server died meanwhile.
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(0.2)
                    raise Failure(_reason(errors.read_text(), code)) from failure
                raise
            finally:
                process.kill()


def _reason(stderr: str, code: int) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    ended = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
    return f"{lines[-1]} ({ended})" if lines else ended
