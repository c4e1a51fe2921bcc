"""The extension as a file: what tools that read it need."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

pytestmark = pytest.mark.native_only

LOAD = 1
EXECUTABLE = 1


def segments():
    """Type, flags, offset in the file and address of each segment of the 64-bit ELF file."""
    from tokioloop import _core

    data = Path(_core.__file__).read_bytes()
    assert data[:5] == b"\x7fELF\x02"
    (start,) = struct.unpack_from("<Q", data, 0x20)
    size, count = struct.unpack_from("<HH", data, 0x36)
    for at in range(start, start + size * count, size):
        yield struct.unpack_from("<IIQQ", data, at)


def test_code_is_at_the_address_of_its_place_in_the_file():
    """Profilers that unwind stacks from outside take the one for the other (py-spy does)."""
    code = [
        (offset, address)
        for kind, flags, offset, address in segments()
        if kind == LOAD and flags & EXECUTABLE
    ]
    assert code
    for offset, address in code:
        assert offset == address
