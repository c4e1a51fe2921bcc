"""What malloc handed out: Rust's memory, and Python's larger objects."""

from __future__ import annotations

import ctypes

FIELDS = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


libc = ctypes.CDLL(None)
if hasattr(libc, "mallinfo2"):
    libc.mallinfo2.restype = Mallinfo


def bytes_handed_out():
    """In bytes; 0 where only glibc could be asked."""
    if not hasattr(libc, "mallinfo2"):
        return 0
    info = libc.mallinfo2()
    return info.uordblks + info.hblkhd
