"""An extension as others wrote it: OpenDAL's, which uses pyo3-async-runtimes.

It is built from its source distribution twice: as it is, and with ``crates/pyo3-async-runtimes`` in
the place of that crate. The row `bridge-opendal` reads from its in-memory store.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.processes import ROOT, cargo

VERSION = "0.47.12"
SOURCES = ROOT / "target" / "bench" / "opendal"
# By what its functions await.
UPSTREAM, PATCHED = BUILDS = ("opendal-upstream", "opendal-patched")
FACADE = ROOT / "crates" / "pyo3-async-runtimes" / "0.30"
PATCH = f'\n[patch.crates-io]\npyo3-async-runtimes = {{ path = "{FACADE}" }}\n'
# It is no part of the project that it lies in, and warnings about it concern nobody here.
INDEPENDENT = '\n[workspace]\n\n[lints.rust]\nwarnings = "allow"\n'
# The store that is read, and no other.
FEATURES = ("--no-default-features", "--features", "services-memory,pyo3/extension-module")


def project(build: str) -> Path:
    """The Cargo package of the Python module."""
    return SOURCES / build / f"opendal-{VERSION}" / "bindings" / "python"


def fetch() -> None:
    """Downloads the sources, and the crates that they are built from."""
    for build in BUILDS:
        if (project(build) / "fetched").exists():
            continue
        into = SOURCES / build
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        shutil.unpack_archive(_source_distribution(), into)
        with (project(build) / "Cargo.toml").open("a") as manifest:
            manifest.write(INDEPENDENT)
            if build == PATCHED:
                manifest.write(PATCH)
        cargo(project(build), "fetch", "--quiet")
        (project(build) / "fetched").touch()


def _source_distribution() -> Path:
    archive = SOURCES / f"opendal-{VERSION}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        command += ["download", "--no-deps", "--no-binary", "opendal", "--dest", str(SOURCES)]
        subprocess.run([*command, f"opendal=={VERSION}"], check=True)
    return archive


def build(target: Path, folder: Path) -> None:
    """Compiles both for this interpreter; each is then a package in a folder of its own."""
    fetch()
    # In one folder: all but the two crates are the same.
    command = ["build", "--quiet", "--release", "--target-dir", str(target / "opendal"), *FEATURES]
    for name in BUILDS:
        cargo(project(name), *command)
        package = folder / name / "opendal"
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(SOURCES / name / f"opendal-{VERSION}" / "python" / "opendal", package)
        module = f"_opendal{sysconfig.get_config_var('EXT_SUFFIX')}"
        shutil.copy(target / "opendal" / "release" / "lib_opendal.so", package / module)
