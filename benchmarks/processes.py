"""The processes of a measurement: started, waited for, and asked why they failed."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 60.0


class Failure(Exception):
    """A loop could not do a row; the text is the reason, in one line."""


def cargo(folder: Path, *command: str) -> None:
    """Runs cargo on the package in ``folder``."""
    found = shutil.which("cargo")
    if found is None:
        raise Failure("cargo not found: install a Rust toolchain (https://rustup.rs)")
    # What an extension is built for.
    environment = {**os.environ, "PYO3_PYTHON": sys.executable}
    subprocess.run([found, *command], cwd=folder, env=environment, check=True)


def module(name: str, python: Path | None = None) -> list[str]:
    """The command that runs a module of ours, on this interpreter or on another environment's."""
    return [str(python or sys.executable), "-m", f"benchmarks.{name}"]


def finish(command: list[str]) -> str:
    """Runs ``command`` to its end and returns what it printed."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise Failure(f"not finished after {TIMEOUT:.0f} s") from None
    if done.returncode:
        raise Failure(reason(done.stderr, done.returncode))
    return done.stdout


@contextmanager
def server(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that is ready, and the port or path that it has printed."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):

        def death(code: int) -> Failure:
            errors.seek(0)
            return Failure(reason(errors.read(), code))

        try:
            assert process.stdout is not None
            if not select.select([process.stdout], [], [], TIMEOUT)[0]:
                raise Failure(f"not ready after {TIMEOUT:.0f} s")
            address = process.stdout.readline().strip()
            if not address:
                raise death(process.wait(TIMEOUT))
            yield process, address
        except Failure as failure:
            # What the client saw is a symptom if the server died meanwhile.
            with suppress(subprocess.TimeoutExpired):
                raise death(process.wait(0.2)) from failure
            raise
        finally:
            process.kill()


def reason(stderr: str, code: int) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    ended = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
    return f"{lines[-1]} ({ended})" if lines else ended
