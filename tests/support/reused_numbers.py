"""Sockets that have the number of a descriptor that was closed."""

from __future__ import annotations

import os
import socket


def pair_with(number, *, kind=socket.SOCK_STREAM):
    """A pair of sockets, of which the first has this number, which must be free.

    The kernel gives the lowest free number, which need not be this one: anything else that ends
    meanwhile may leave a lower one.
    """
    near, far = socket.socketpair(type=kind)
    if far.fileno() == number:
        near, far = far, near
    elif near.fileno() != number:
        os.dup2(near.fileno(), number)
        other, near = near, socket.socket(fileno=number)
        other.close()
    return near, far
