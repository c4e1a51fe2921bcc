"""Files of every kind that pipe transports take, in pairs, and transports over them."""

from __future__ import annotations

import os
import pty
import socket
import tty

from support.recording import Recorder


class Writer(Recorder):
    """A recorder for a write pipe, where nothing is ever received."""


async def reading(loop, file, protocol=None):
    protocol = protocol or Recorder()
    transport, _ = await loop.connect_read_pipe(lambda: protocol, file)
    return transport, protocol


async def writing(loop, file, protocol=None):
    protocol = protocol or Writer()
    transport, _ = await loop.connect_write_pipe(lambda: protocol, file)
    return transport, protocol


def opened(fd, mode):
    return os.fdopen(fd, mode, buffering=0)


def make_pipe(tmp_path):
    near, far = os.pipe()
    return opened(near, "rb"), opened(far, "wb")


def make_fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    near = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    return opened(near, "rb"), open(tmp_path / "fifo", "wb", buffering=0)


def make_sockets(tmp_path):
    near, far = socket.socketpair()
    return opened(near.detach(), "rb"), opened(far.detach(), "wb")


def make_terminal(tmp_path):
    near, far = pty.openpty()
    tty.setraw(far)
    return opened(near, "rb"), opened(far, "wb")


KINDS = {
    "pipe": make_pipe,
    "fifo": make_fifo,
    "sockets": make_sockets,
    "terminal": make_terminal,
}


def read_until(file, size):
    """So many bytes from a blocking file."""
    os.set_blocking(file.fileno(), True)
    data = b""
    while len(data) < size and (chunk := os.read(file.fileno(), min(1 << 16, size - len(data)))):
        data += chunk
    return data
