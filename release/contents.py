"""Looks into a wheel: the files that it must have, its symbols, no path of the machine.

    python release/contents.py WHEEL [PATH ...]

Needs pyelftools, which auditwheel brings.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

from elftools.elf.elffile import ELFFile

NEEDED = ("__init__.py", "__main__.py", "_core.pyi", "py.typed")


def main() -> None:
    wheel, *paths = sys.argv[1:]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for name in NEEDED:
            assert f"tokioloop/{name}" in names, f"{name} is missing"
        (extension,) = [name for name in names if name.endswith(".so")]
        data = archive.read(extension)
    assert Path(extension).name.startswith("_core.cpython-")
    symbols = ELFFile(io.BytesIO(data)).get_section_by_name(".dynsym").iter_symbols()
    exported = {
        symbol.name
        for symbol in symbols
        if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] != "STB_LOCAL"
    }
    assert exported == {"PyInit__core"}, f"exported: {sorted(exported)}"
    for path in paths:
        assert path.encode() not in data, f"{extension} has the path {path}"


if __name__ == "__main__":
    main()
