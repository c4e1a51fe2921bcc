"""Installs what the ``bench`` extra names, one by one where not all can be had.

    python -m benchmarks.install

A rival without a build for this interpreter must not keep the others from being measured. Asks the
installed tokioloop for the extra, so it must be installed first.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

EXTRA = re.compile(r"""\s*(?:\band\s+)?extra\s*==\s*['"]bench['"]""")


def requirements(lines: list[str]) -> list[str]:
    """The extra's requirements among those of the package, with what else conditions them."""
    found = []
    for line in lines:
        name, _, condition = line.partition(";")
        if EXTRA.search(condition):
            rest = EXTRA.sub("", condition).strip()
            # Where there were two conditions, the first may stand in brackets.
            found.append(f"{name.strip()}; {rest}" if rest else name.strip())
    return found


def pip(*wanted: str) -> bool:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run([*command, "--only-binary", ":all:", *wanted], stderr=subprocess.DEVNULL)
    return done.returncode == 0


def main() -> int:
    wanted = requirements(importlib.metadata.requires("tokioloop") or [])
    if not pip(*wanted):
        for requirement in wanted:
            if not pip(requirement):
                print(f"left out, no build for this interpreter: {requirement}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
