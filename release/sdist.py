"""Builds the source distribution, and proves that it is whole.

    python release/sdist.py [--out dist]

It has the files that git knows, and nothing else: what lies about in the checkout stays out, and
the crates of the tests and examples, which cargo would leave out, are in it. The same again is
built from its own contents.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from wheels import ROOT, make_tools

#: Not of the project: written by the build.
ADDED = "PKG-INFO"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder (dist)")
    out = parser.parse_args().out
    tools = make_tools()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source = ROOT if is_checkout(ROOT) else checkout_of(ROOT, place / "source")
        archive = build(tools, source, out)
        check_files(archive, source)
        unpacked = unpack(archive, place / "unpacked")
        again = build(tools, checkout_of(unpacked, place / "again"), place / "out")
        if again.read_bytes() != archive.read_bytes():
            sys.exit("built from its own contents it is another one")
    print(f"{archive.name}: complete, and the same when it is built from itself")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", folder, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def is_checkout(folder: Path) -> bool:
    return (folder / ".git").exists()


def checkout_of(folder: Path, copy: Path) -> Path:
    """A repository with the files of a folder that is none: an unpacked source distribution."""
    ignored = shutil.ignore_patterns(ADDED, "target", "dist", ".venv*", "__pycache__", "*.so")
    shutil.copytree(folder, copy, ignore=ignored)
    git(copy, "init", "--quiet")
    git(copy, "add", "--all", "--force")
    author = ("-c", "user.name=release", "-c", "user.email=release@invalid")
    git(copy, *author, "commit", "--quiet", "--message", "The source distribution")
    return copy


def build(tools: Path, source: Path, out: Path) -> Path:
    for old in out.glob("*.tar.gz"):
        old.unlink()
    command = [tools / "maturin", "sdist", "--out", out]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    (archive,) = out.glob("*.tar.gz")
    return archive


def check_files(archive: Path, source: Path) -> None:
    known = set(git(source, "ls-files", "-z").rstrip("\0").split("\0"))
    with tarfile.open(archive) as file:
        found = {name.partition("/")[2] for name in file.getnames()}
    if found != known | {ADDED}:
        sys.exit(f"missing: {sorted(known - found)}, unknown: {sorted(found - known - {ADDED})}")


def unpack(archive: Path, place: Path) -> Path:
    with tarfile.open(archive) as file:
        file.extractall(place)
    (folder,) = place.iterdir()
    return folder


if __name__ == "__main__":
    main()
