"""Takes the builder's folders out of the list of crates (SBOM) that maturin puts into a wheel."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path


def replace_paths(wheel: Path, paths: dict[str, str]) -> None:
    """Name folders in the SBOM as the binary does, and put the new hash into RECORD."""
    with zipfile.ZipFile(wheel) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    record = ""
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in members:
            if "/sboms/" in info.filename:
                content = replaced(content, paths)
            if info.filename.endswith(".dist-info/RECORD"):
                content = f"{record}{info.filename},,\n".encode()
            record += f"{info.filename},{digest(content)},{len(content)}\n"
            archive.writestr(info, content, compress_type=zipfile.ZIP_DEFLATED)


def replaced(content: bytes, paths: dict[str, str]) -> bytes:
    # The longest first: one folder may be within another.
    for path in sorted(paths, key=len, reverse=True):
        content = content.replace(path.encode(), paths[path].encode())
    return content


def digest(content: bytes) -> str:
    """As the format of RECORD wants it."""
    code = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return f"sha256={code.rstrip(b'=').decode()}"
