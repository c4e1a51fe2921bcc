"""Reads a wheel, and says what keeps it from being published.

python release/inspection.py dist/*.whl
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.sections import SymbolTableSection

#: manylinux2014's, which is the glibc of CentOS 7 and older than Debian 8's.
OLDEST_GLIBC = (2, 17)
#: Parts of glibc, which every Linux has that manylinux is about.
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
LIBRARIES |= {"libutil.so.1", "ld-linux-x86-64.so.2", "libgcc_s.so.1"}
PACKAGE = {"__init__.py", "__main__.py", "_core.pyi", "py.typed"}
TAG = re.compile(
    r"tokioloop-(?P<version>[\w.]+)-cp(?P<python>\d+)-cp(?P=python)"
    r"-(?:manylinux2014_x86_64|manylinux_2_17_x86_64)(?:\.\w+)*\.whl"
)
#: Files in folders where builds usually happen.
USERS_FILE = re.compile(rb"/(?:root|home/\w+|Users/\w+|tmp|var/tmp|github)/[\w./-]+")


def size(wheel: Path) -> str:
    return f"{wheel.stat().st_size / 1e6:.2f} MB"


def faults(wheel: Path, python: str, forbidden: list[str]) -> list[str]:
    """What is wrong with a wheel for this version of CPython; nothing, if it can be published.

    No folder in ``forbidden`` may be in any file, and none that machines usually have may be in the
    binary.
    """
    found = wrong_name(wheel, python)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        modules = [name for name in names if name.endswith(".so")]
        abi = python.replace(".", "")
        if modules != [f"tokioloop/_core.cpython-{abi}-x86_64-linux-gnu.so"]:
            return [*found, f"its extension modules are {modules}"]
        binary = archive.read(modules[0])
        named = {path for path in forbidden for name in names if has(archive.read(name), path)}
    lacks = sorted(PACKAGE - {name.removeprefix("tokioloop/") for name in names})
    if lacks:
        found.append(f"it lacks {', '.join(lacks)}")
    found += [f"it names a folder of the machine: {path}" for path in sorted(named)]
    return found + wrong_binary(binary, python) + wrong_policy(wheel)


def has(content: bytes, path: str) -> bool:
    return re.search(re.escape(path.encode()) + rb"[/#\"]", content) is not None


def wrong_name(wheel: Path, python: str) -> list[str]:
    named = TAG.fullmatch(wheel.name)
    if named is None:
        return ["its name does not say manylinux2014"]
    if named["python"] != python.replace(".", ""):
        return [f"its name does not say CPython {python}"]
    return []


def entry_points(python: str) -> set[str]:
    """How this version of CPython enters the module; PEP 793 is new in 3.15."""
    is_older = int(python.partition(".")[2]) < 15
    return {"PyInit__core"} if is_older else {"PyInit__core", "PyModExport__core"}


def wrong_binary(binary: bytes, python: str) -> list[str]:
    found = []
    elf = ELFFile(BytesIO(binary))
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            for tag in section.iter_tags():
                if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH", "DT_TEXTREL"):
                    found.append(f"the binary has a {tag.entry.d_tag}")
                if tag.entry.d_tag == "DT_NEEDED" and library(tag) not in LIBRARIES:
                    found.append(f"the binary needs {library(tag)}")
        elif isinstance(section, GNUVerNeedSection):
            found += [f"the binary needs {it}" for it in versions(section) if is_too_new(it)]
        elif isinstance(section, SymbolTableSection) and section.name == ".dynsym":
            exported = {
                symbol.name
                for symbol in section.iter_symbols()
                if symbol.entry.st_shndx != "SHN_UNDEF"
            }
            if exported != entry_points(python):
                found.append(f"the binary exports {', '.join(sorted(exported))}")
    paths = {it.decode() for it in USERS_FILE.findall(binary)}
    found += [f"the binary names a file of a machine: {path}" for path in sorted(paths)]
    return found


def library(tag: Any) -> str:
    """The name of a library that is needed; pyelftools sets it where there is one."""
    name: str = tag.needed
    return name


def versions(section: GNUVerNeedSection) -> list[str]:
    return [symbol.name for _, symbols in section.iter_versions() for symbol in symbols]


def is_too_new(version: str) -> bool:
    """A version of glibc's symbols, such as ``GLIBC_2.34``; any other library's counts as one."""
    number = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", version)
    if number is None:
        return not version.startswith("GCC_")
    return (int(number[1]), int(number[2])) > OLDEST_GLIBC


def wrong_policy(wheel: Path) -> list[str]:
    """What auditwheel, which has the policies of manylinux, thinks of it."""
    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    said = " ".join(done.stdout.split())
    if done.returncode == 0 and re.search(r'platform tag: "manylinux_2_17_x86_64"', said):
        return []
    return [f"auditwheel says: {said or done.stderr.strip()}"]


def main(wheels: list[str]) -> int:
    report = {}
    for path in map(Path, wheels):
        named = TAG.fullmatch(path.name)
        python = f"3.{named['python'][1:]}" if named else ""
        report[path.name] = faults(path, python, []) if named else wrong_name(path, "")
    print(json.dumps(report, indent=2))
    return int(not report or any(report.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
