"""Redis as the tests use it."""

from __future__ import annotations

from integration.servers import Server, free_ports, running

__all__ = ["Redis", "running"]


class Redis(Server):
    program, package = "redis-server", "redis-server"

    def configure(self):
        self.port, self.tls_port = free_ports(2)
        issued = self.certificates
        certificate, key = self.place_identity(issued.server)
        # Other accounts can use the socket: it is the directory that no other account may enter.
        settings = {
            "bind": "127.0.0.1",
            "port": self.port,
            "tls-port": self.tls_port,
            "tls-cert-file": certificate,
            "tls-key-file": key,
            "tls-ca-cert-file": self.place_copy(issued.authority),
            "tls-auth-clients": "optional",
            "unixsocket": self.socket,
            "unixsocketperm": "777",
            "dir": self.directory,
            "save": '""',
            "appendonly": "no",
            "daemonize": "no",
        }
        config = "".join(f"{name} {value}\n" for name, value in settings.items())
        return [self.executable, self.place("redis.conf", config)]

    @property
    def socket(self):
        return f"{self.directory}/redis"

    def answers(self):
        return self.ask(self.socket, b"PING\r\n") == b"+PONG\r\n"

    def speak(self, version):
        """Which version of TLS it speaks from now on."""
        request = f"CONFIG SET tls-protocols {version}\r\n".encode()
        assert self.ask(self.socket, request) == b"+OK\r\n"
