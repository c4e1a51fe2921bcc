"""A certificate for the TLS rows, made for one run."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """The PEM files of a certificate and of its private key."""

    certificate: str
    key: str


def make(folder: Path) -> Certificate:
    import trustme

    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return Certificate(str(certificate), str(key))


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server and of a client that trusts it, for both ends in one process."""
    import trustme

    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client
