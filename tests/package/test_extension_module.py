"""What the built extension module shows to the linker and to other modules of the process."""

from __future__ import annotations

import subprocess

from tokioloop import _core


def exported(path):
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", "--format=posix", path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {line.split()[0] for line in listing.splitlines()}


def test_only_the_entry_points_of_the_module_are_exported():
    # Each pyo3 module that is linked in would add its own: pyo3-async-runtimes has one.
    entries = {"PyInit__core", "PyModExport__core"}  # the second from CPython 3.15 on, PEP 793
    assert "PyInit__core" in exported(_core.__file__) <= entries
