"""Checks that a tag, both crates' Cargo.toml and CHANGELOG.md speak of the same version.

make version TAG=v0.1.0
"""

from __future__ import annotations

import re
import sys

from project import PROJECT, Failure, say, step


def check(tag: str) -> None:
    version = tag.removeprefix("v")
    for folder in (PROJECT / "crates" / "tokioloop-bridge", PROJECT):
        cargo = (folder / "Cargo.toml").read_text()
        found = re.search(r'^version = "(.+)"$', cargo, re.MULTILINE)
        if found is None or tag != f"v{found[1]}":
            raise Failure(f"the tag is {tag}, and a Cargo.toml's version {found and found[1]}")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE):
        raise Failure(f"CHANGELOG.md has no section of {version} with a date")
    say(f"{tag} is both crates' version, and CHANGELOG.md has its section")


if __name__ == "__main__":
    sys.exit(step("version", lambda: check(sys.argv[1])))
