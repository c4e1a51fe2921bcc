"""Certificates of a throw-away authority, and TLS contexts made of them."""

from __future__ import annotations

import datetime
import ssl
from typing import NamedTuple

import trustme

# The names the ordinary server certificate is valid for, and one that it is not.
HOSTS = ("localhost", "127.0.0.1", "::1")
ELSEWHERE = "elsewhere.test"
CLIENT = "tester"


class Identity(NamedTuple):
    """The PEM files of a certificate and of its private key."""

    certificate: str
    key: str


class Certificates:
    """One authority, what it issued, and a second authority that no context trusts.

    Identities: ``server`` (for `HOSTS`), ``elsewhere`` (for another host), ``expired``,
    ``untrusted`` (of the second authority, for `HOSTS`), ``long`` (a chain of some 20 KiB, more
    than a TLS record holds) and ``client`` (a client's, with the common name `CLIENT`).
    """

    def __init__(self, directory):
        self._directory = directory
        authority, stranger = trustme.CA(), trustme.CA()
        self.authority = self._write("authority.pem", authority.cert_pem.bytes())
        self.stranger = self._write("stranger.pem", stranger.cert_pem.bytes())
        now = datetime.datetime.now(datetime.timezone.utc)
        month = datetime.timedelta(days=30)
        self.server = self._issue("server", authority, *HOSTS)
        self.elsewhere = self._issue("elsewhere", authority, ELSEWHERE)
        self.expired = self._issue(
            "expired", authority, *HOSTS, not_before=now - 2 * month, not_after=now - month
        )
        self.untrusted = self._issue("untrusted", stranger, *HOSTS)
        many = (f"name-{number:04}.of-a-server-with-many-names.test" for number in range(400))
        self.long = self._issue("long", authority, *HOSTS, *many)
        self.client = self._issue("client", authority, "client.test", common_name=CLIENT)

    def _write(self, name, content):
        path = self._directory / name
        path.write_bytes(content)
        return str(path)

    def _issue(self, name, authority, *hosts, **options):
        issued = authority.issue_cert(*hosts, **options)
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        return Identity(
            self._write(f"{name}.pem", chain),
            self._write(f"{name}.key", issued.private_key_pem.bytes()),
        )

    def server_context(self, identity=None, *, ask_client=False):
        """A server's context; with ``ask_client`` clients must show a certificate, too."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*(identity or self.server))
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.authority)
        return context

    def wrong_host_context(self):
        """A server's context whose certificate is valid, but for another host."""
        return self.server_context(self.elsewhere)

    def client_context(self, identity=None, *, version=None):
        """A client's context that trusts the authority and checks the host's name.

        ``identity`` is what it shows to servers that ask; ``version`` fixes the TLS version.
        """
        context = ssl.create_default_context(cafile=self.authority)
        if identity is not None:
            context.load_cert_chain(*identity)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    def untrusting_context(self):
        """A client's context that does not know the authority."""
        return ssl.create_default_context(cafile=self.stranger)
