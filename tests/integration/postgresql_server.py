"""PostgreSQL as the tests use it."""

from __future__ import annotations

import signal
import subprocess

from integration.servers import Server, find_program, free_ports, running

__all__ = ["PostgreSQL", "running"]

# The accounts that may connect: `tester` over TLS only, and only with a certificate of that
# name; `secret` with a password; `postgres` as it likes.
ACCESS = """
local     all  secret    scram-sha-256
local     all  all       trust
host      all  secret    127.0.0.1/32  scram-sha-256
hostssl   all  tester    127.0.0.1/32  cert
hostnossl all  tester    127.0.0.1/32  reject
host      all  postgres  127.0.0.1/32  trust
"""

ROLES = "create role secret login password 'a password'; create role tester login superuser"


class PostgreSQL(Server):
    program, package = "postgres", "postgresql"
    # A "fast shutdown": it does not wait for clients to leave.
    stop_signal = signal.SIGINT

    def __init__(self, certificates):
        super().__init__(certificates)
        self.bin = {
            name: find_program(name, self.package) for name in ("initdb", "pg_isready", "psql")
        }

    def prepare(self):
        subprocess.run(
            [
                *(self.bin["initdb"], "-D", self.directory / "data", "-U", "postgres"),
                *("--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"),
            ],
            **self.child_options(),
            check=True,
            capture_output=True,
            timeout=120,
        )

    def configure(self):
        [self.port] = free_ports(1)
        issued = self.certificates
        certificate, key = self.place_identity(issued.server)
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.directory,
            "hba_file": self.place("access", ACCESS),
            "ssl": "on",
            "ssl_cert_file": certificate,
            "ssl_key_file": key,
            "ssl_ca_file": self.place_copy(issued.authority),
            "max_connections": 60,
            "shared_buffers": "32MB",
            # Nothing of it is to survive.
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "autovacuum": "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [self.executable, "-D", self.directory / "data", *options]

    def answers(self):
        address = ("-h", self.directory, "-p", str(self.port))
        if subprocess.run([self.bin["pg_isready"], "-q", *address]).returncode != 0:
            return False
        subprocess.run(
            [self.bin["psql"], *address, "-qX", "-U", "postgres", "-c", ROLES],
            check=True,
            timeout=30,
        )
        return True
