"""Sources of releases: fetched once, and compared with the digest that is known of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import urllib.request
from pathlib import Path

from suites import Suite

INDEX = "https://pypi.org/simple"


def download(url: str, sha256: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=120) as response:
        content = response.read()
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise SystemExit(f"{url}: SHA-256 is {found}, not {sha256}")
    path.write_bytes(content)


def on_index(suite: Suite) -> tuple[str, str]:
    """Address and SHA-256 of the source distribution on PyPI."""
    request = urllib.request.Request(
        f"{INDEX}/{suite.name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        files = json.load(response)["files"]
    for file in files:
        if file["filename"] == f"{suite.name}-{suite.version}.tar.gz":
            return file["url"], file["hashes"]["sha256"]
    raise SystemExit(f"{INDEX}/{suite.name}/ has no source of version {suite.version}")


def unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")


def check_out(url: str, commit: str, folder: Path) -> None:
    """The tree of one commit, whose name is its digest."""
    folder.mkdir()
    for command in (
        ("init", "--quiet"),
        ("fetch", "--quiet", "--depth=1", url, commit),
        ("checkout", "--quiet", commit),
    ):
        subprocess.run(("git", *command), cwd=folder, check=True)


def fetch(suite: Suite, folder: Path) -> None:
    """Make `source`, in the folder given, anew."""
    source, fetched = folder / "source", folder / "fetched"
    shutil.rmtree(source, ignore_errors=True)
    shutil.rmtree(fetched, ignore_errors=True)
    fetched.mkdir()
    if suite.commit:
        check_out(*suite.commit, fetched / "tree")
    else:
        archive = folder / "source.tar"
        download(*(suite.source or on_index(suite)), archive)
        unpack(archive, fetched)
    [top] = fetched.iterdir()
    if suite.shadowing:
        shutil.rmtree(top / suite.shadowing)
    top.rename(source)
    fetched.rmdir()
