"""Source that has the kernel refuse a system call of a program, as a container's filter does."""

from __future__ import annotations

import platform

_NUMBERS = {
    "x86_64": {"epoll_ctl": 233, "waitid": 247, "pidfd_open": 434},
    "aarch64": {"epoll_ctl": 21, "waitid": 95, "pidfd_open": 434},
}


def refusal(call, error, argument=None, value=0):
    """From here on `call` fails with `error`, in this thread and what it starts.

    With the number of an `argument` only where that has the `value`.
    """
    number = _NUMBERS[platform.machine()][call]
    load, equal, give = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ, BPF_RET
    refused, allowed = 0x0005_0000 | error, 0x7FFF_0000
    checks = [(load, 0, 0, 0), (equal, 0, 1 if argument is None else 3, number)]
    if argument is not None:
        checks += [(load, 0, 0, 16 + 8 * argument), (equal, 0, 1, value)]
    filters = [*checks, (give, 0, 0, refused), (give, 0, 0, allowed)]
    return f"""
import ctypes, struct
filters = b"".join(struct.pack("HBBI", *each) for each in {filters!r})
buffer = ctypes.create_string_buffer(filters)
program = struct.pack("HxxxxxxQ", {len(filters)}, ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
no_new_privileges, set_filter, mode = 38, 22, 2
assert libc.prctl(no_new_privileges, 1, 0, 0, 0) == 0
assert libc.prctl(set_filter, mode, program, 0, 0) == 0, ctypes.get_errno()
"""
