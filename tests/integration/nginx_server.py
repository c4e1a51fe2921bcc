"""nginx as the tests use it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from pathlib import Path

from integration.servers import Server, free_ports, running

__all__ = ["LARGE", "Nginx", "running"]

LARGE = random.Random(1).randbytes(5 << 20)

CONFIG = """
daemon off;
pid {directory}/pid;
error_log stderr notice;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    root {directory}/www;
    default_type application/octet-stream;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 64m;
    keepalive_requests 10000;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {server.certificate};
    ssl_certificate_key {server.key};
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}

    server {{ listen unix:{directory}/ready; return 200; }}
    server {{ listen 127.0.0.1:{plain}; }}
    server {{
        listen 127.0.0.1:{main} ssl default_server;
        location /connection {{ return 200 $connection; }}
        location /gone {{ return 444; }}
        location /gzip/ {{
            alias {directory}/www/; gzip on; gzip_types *; gzip_min_length 1;
        }}
        location /slow/ {{ alias {directory}/www/; limit_rate 100k; }}
        location /files/ {{ dav_methods PUT DELETE; create_full_put_path on; }}
        location /backend/ {{
            proxy_pass http://unix:{directory}/backend:/;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_buffering off;
            proxy_request_buffering off;
        }}
        location /secure-backend/ {{
            proxy_pass https://unix:{directory}/backend:/;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {authority};
            proxy_ssl_server_name on;
            proxy_ssl_name localhost;
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            proxy_ssl_certificate {client.certificate};
            proxy_ssl_certificate_key {client.key};
        }}
    }}
    server {{
        listen 127.0.0.1:{main} ssl;
        server_name elsewhere.test;
        ssl_certificate {elsewhere_identity.certificate};
        ssl_certificate_key {elsewhere_identity.key};
        return 200 elsewhere;
    }}
    server {{
        listen 127.0.0.1:{fleeting} ssl;
        keepalive_requests 3;
        keepalive_timeout 100ms;
        location /connection {{ return 200 $connection; }}
    }}
    server {{
        listen 127.0.0.1:{private} ssl;
        ssl_verify_client on;
        ssl_client_certificate {authority};
        return 200 $ssl_client_s_dn;
    }}
    server {{
        listen 127.0.0.1:{modern} ssl;
        ssl_protocols TLSv1.3;
    }}
    server {{
        listen 127.0.0.1:{elsewhere} ssl;
        ssl_certificate {elsewhere_identity.certificate};
        ssl_certificate_key {elsewhere_identity.key};
    }}
    server {{
        listen 127.0.0.1:{untrusted} ssl;
        ssl_certificate {untrusted_identity.certificate};
        ssl_certificate_key {untrusted_identity.key};
    }}
    server {{
        listen 127.0.0.1:{expired} ssl;
        ssl_certificate {expired_identity.certificate};
        ssl_certificate_key {expired_identity.key};
    }}
    server {{
        listen 127.0.0.1:{long} ssl;
        ssl_certificate {long_identity.certificate};
        ssl_certificate_key {long_identity.key};
    }}
}}
"""


class Nginx(Server):
    """Listening addresses, by name: ``main``, with everything; ``plain``, without TLS;
    ``fleeting``, which closes connections early; ``private``, which asks for a certificate;
    ``modern``, which knows TLS 1.3 only; and those with the certificate of that name:
    ``elsewhere``, ``untrusted``, ``expired``, ``long``.
    """

    program, package = "nginx", "nginx-light"
    names = ("main", "plain", "fleeting", "private", "modern")
    names += ("elsewhere", "untrusted", "expired", "long")
    text = "".join(f"line {number} of a text that can be compressed\n" for number in range(20_000))

    def prepare(self):
        for name in ("www", "www/files"):
            (self.directory / name).mkdir()
            self.give(self.directory / name)
        self.place("www/small.txt", "a small file\n")
        self.place("www/text.txt", self.text)
        self.place("www/large.bin", LARGE)

    def configure(self):
        self.ports = dict(zip(self.names, free_ports(len(self.names)), strict=True))
        issued = self.certificates
        config = CONFIG.format(
            directory=self.directory,
            authority=self.place_copy(issued.authority),
            server=self.place_identity(issued.server),
            client=self.place_identity(issued.client),
            elsewhere_identity=self.place_identity(issued.elsewhere),
            untrusted_identity=self.place_identity(issued.untrusted),
            expired_identity=self.place_identity(issued.expired),
            long_identity=self.place_identity(issued.long),
            **self.ports,
        )
        return [self.executable, "-p", self.directory, "-c", self.place("nginx.conf", config)]

    def answers(self):
        return self.ask(f"{self.directory}/ready", b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/")

    def url(self, name, path=""):
        scheme = "http" if name == "plain" else "https"
        return f"{scheme}://127.0.0.1:{self.ports[name]}{path}"

    def signal_workers(self, number):
        pid = self.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), number)

    def kill_workers(self):
        """Kill the process that serves the connections, without their end; nginx starts it anew."""
        self.signal_workers(signal.SIGKILL)

    @contextlib.contextmanager
    def stopped_workers(self):
        """Meanwhile no process reads what the kernel accepts."""
        self.signal_workers(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal_workers(signal.SIGCONT)
