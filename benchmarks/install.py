"""Installs what ``benchmarks/requirements.txt`` names, one by one where not all can be had.

    python -m benchmarks.install

A rival without a build for this interpreter must not keep the others from being measured.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def requirements(text: str) -> list[str]:
    """The lines that name a package, without the comments."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def pip(*wanted: str) -> bool:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run([*command, "--only-binary", ":all:", *wanted], stderr=subprocess.DEVNULL)
    return done.returncode == 0


def main() -> int:
    wanted = requirements(REQUIREMENTS.read_text())
    if not pip(*wanted):
        for requirement in wanted:
            if not pip(requirement):
                print(f"left out, no build for this interpreter: {requirement}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
