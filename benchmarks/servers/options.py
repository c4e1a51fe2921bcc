"""What every server is given."""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple

BACKLOG = 1024
CHUNK = 256 * 1024


class Place(NamedTuple):
    """Where to serve, and over what."""

    listener: socket.socket
    tls: ssl.SSLContext | None = None


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
