"""Sources of releases: downloaded once, compared with what the index says of them, unpacked."""

from __future__ import annotations

import hashlib
import json
import shutil
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


def unpack(suite: Suite, folder: Path) -> Path:
    """The folder of the suite's source, below the one given."""
    source = folder / "source"
    if source.exists():
        return source
    archive = folder / "source.tar"
    download(*(suite.source or on_index(suite)), archive)
    unpacked = folder / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(archive) as opened:
        opened.extractall(unpacked, filter="data")
    [top] = unpacked.iterdir()
    if suite.shadowing:
        shutil.rmtree(top / suite.shadowing)
    top.rename(source)
    unpacked.rmdir()
    return source
