"""A folder for each suite: its environment, its source, and runs of it on one loop."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import preparing
import sources
from services import SERVICES
from suites import Suite

INSIDE = Path(__file__).parent / "inside"
#: Seconds that a suite may take on asyncio's loop.
TIMEOUT = 1800
UVLOOP = "uvloop==0.22.1"


@dataclass(frozen=True)
class Run:
    #: How each test ended: "passed", "failed" or "skipped".
    outcomes: Mapping[str, str]
    #: How many loops of which class the suite has made.
    loops: Counter[str]
    seconds: float
    #: The suite was stopped, because it took too long.
    stopped: bool

    @property
    def passed(self) -> int:
        return sum(outcome == "passed" for outcome in self.outcomes.values())


class Workbench:
    def __init__(self, folder: Path, suite: Suite) -> None:
        self.suite = suite
        self.root = folder
        self.folder = folder / suite.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.python = self.folder / "venv" / "bin" / "python"
        self.source = self._prepare()

    def _prepare(self) -> Path:
        ready = self.folder / "ready"
        wanted = repr(self.suite)
        source = self.folder / "source"
        if not ready.exists() or ready.read_text() != wanted:
            sources.fetch(self.suite, self.folder)
            venv.create(self.folder / "venv", with_pip=True, clear=True)
            self._pip("install", self.suite.requirement, *self.suite.needs)
            ready.write_text(wanted)
        if self.suite.prepare:
            return getattr(preparing, self.suite.prepare)(source, self.python)
        return source

    def _pip(self, *args: str) -> None:
        pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
        subprocess.run([self.python, *pip, *args], check=True)

    def run(self, loop: str, names: Iterable[str] = (), timeout: float = TIMEOUT) -> Run:
        """Run all tests, or those with these names, for as many seconds."""
        path = self.folder / f"{loop}.jsonl"
        path.unlink(missing_ok=True)
        names = tuple(names)
        make_service = SERVICES[self.suite.service]
        with (
            tempfile.TemporaryDirectory() as certificates,
            make_service(Path(certificates)) as service,
            open(self.folder / f"{loop}{'-again' if names else ''}.log", "wb") as log,
        ):
            started, stopped = time.monotonic(), False
            tests = (*(names or self.suite.arguments), *service.arguments)
            process = subprocess.Popen(
                [self.python, *self.suite.runner, *tests],
                cwd=self.source,
                env={
                    **os.environ,
                    **service.environment,
                    "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
                    "PYTHONPATH": os.pathsep.join(map(str, (INSIDE, self._loop_path(loop)))),
                    "TESTED_LOOP": loop,
                    "OUTCOMES": str(path),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                stopped = True
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if not path.exists():
            raise SystemExit(f"{self.suite.name} ran no test on {loop}: see {log.name}")
        outcomes: dict[str, str] = {}
        loops: Counter[str] = Counter()
        for line in path.read_text().splitlines():
            kind, what, value = json.loads(line)
            if kind == "loop":
                loops[what] += value
            else:  # A test has several notes; one that was run again counts by how it ended.
                outcomes[what] = value
        return Run(outcomes, loops, time.monotonic() - started, stopped)

    def _loop_path(self, loop: str) -> Path:
        """A folder that has the package of the loop, and no other."""
        folder = self.root / "loops" / loop
        folder.mkdir(parents=True, exist_ok=True)
        if loop == "uvloop" and not (folder / "uvloop").exists():
            self._pip("install", "--no-deps", "--target", str(folder), UVLOOP)
        if loop == "tokioloop":
            spec = importlib.util.find_spec("tokioloop")
            if spec is None or spec.origin is None:
                raise SystemExit("tokioloop is not installed: build it first")
            link = folder / "tokioloop"
            link.unlink(missing_ok=True)
            link.symlink_to(Path(spec.origin).parent.resolve())
        return folder
