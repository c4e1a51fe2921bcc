"""The lock files of the packages beside the workspace, which are built from them as they are."""

from __future__ import annotations

import pathlib
import sys

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # which pytest depends on

ROOT = pathlib.Path(__file__).parents[2]
MEMBERS = {"tokioloop": ROOT, "tokioloop-bridge": ROOT / "crates" / "tokioloop-bridge"}
LOCKS = sorted(
    path.relative_to(ROOT)
    for folder in ("benchmarks", "examples", "tests")
    for path in (ROOT / folder).rglob("Cargo.lock")
    if "target" not in path.relative_to(ROOT).parts
)


def required(package):
    """The crates that a package of ours cannot be built without."""
    manifest = tomllib.loads((MEMBERS[package] / "Cargo.toml").read_text())
    tables = [manifest, *manifest.get("target", {}).values()]
    found = set()
    for table in tables:
        for kind in ("dependencies", "build-dependencies"):
            for name, options in table.get(kind, {}).items():
                if not (isinstance(options, dict) and options.get("optional")):
                    found.add(name)
    return found


@pytest.mark.parametrize("path", LOCKS, ids=str)
def test_a_lock_file_has_what_our_crates_need(path):
    locked = {each["name"]: each for each in tomllib.loads((ROOT / path).read_text())["package"]}
    for package in MEMBERS.keys() & locked.keys():
        names = {each.split()[0] for each in locked[package].get("dependencies", ())}
        assert required(package) - names == set()
