"""Real servers for the tests: found, configured, started, known to be ready, stopped.

Each has a directory of its own, free ports on loopback and no privileges. None is ready before it
has answered on a Unix socket in that directory: there no other program can answer in its place, as
on a port that another test run took first.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def missing(what, package):
    """Skip, or fail where the servers were promised to be installed."""
    text = f"{what} not found. On Debian and Ubuntu: apt-get install {package}"
    if os.environ.get("TOKIOLOOP_REQUIRE_SERVERS", "0") not in ("", "0"):
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def find_program(name, package):
    """Where a server's program is: Debian keeps some out of the PATH of ordinary users."""
    versions = glob.glob("/usr/lib/postgresql/*/bin")
    versions.sort(key=lambda path: [int(part) for part in re.findall(r"\d+", path)], reverse=True)
    places = [os.environ.get("PATH", os.defpath), *versions, "/usr/local/sbin", "/usr/sbin"]
    return shutil.which(name, path=os.pathsep.join(places)) or missing(name, package)


def free_ports(count):
    """Ports below those that the kernel hands out to clients, which other tests are using."""
    with contextlib.ExitStack() as stack:
        ports = []
        while len(ports) < count:
            sock = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", random.SystemRandom().randrange(20000, 32000)))
                ports.append(sock.getsockname()[1])
        return ports


class Server:
    """A server process; what is special about one is said in the methods that raise here."""

    program = package = ""
    stop_signal = signal.SIGTERM

    def __init__(self, certificates):
        self.certificates = certificates
        self.executable = find_program(self.program, self.package)
        # PostgreSQL refuses to run as root, and no server needs to.
        self.account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self.directory = Path(tempfile.mkdtemp(prefix=f"tokioloop-{self.program}-"))
        self.give(self.directory)
        self.process = None

    def prepare(self):
        """What is done once, before the first start."""

    def configure(self):
        """Choose ports, write the configuration; the command that starts the server."""
        raise NotImplementedError

    def answers(self):
        """Whether the server answers on a Unix socket in its directory."""
        raise NotImplementedError

    def give(self, path):
        """Make it a file of the server's; a private key must be readable by no other account."""
        os.chmod(path, 0o700 if os.path.isdir(path) else 0o600)
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def place(self, name, content):
        """Write a file into the server's directory; its path."""
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.give(path)
        return str(path)

    def place_copy(self, path):
        return self.place(os.path.basename(path), Path(path).read_bytes())

    def place_identity(self, identity):
        return type(identity)(*(self.place_copy(path) for path in identity))

    def child_options(self):
        """How its programs are run: as the account, in a session of their own, on a short leash."""
        stop_signal = self.stop_signal

        def die_with_parent():
            LIBC.prctl(PR_SET_PDEATHSIG, stop_signal)

        options = {
            "cwd": self.directory,
            "env": {"PATH": os.defpath, "LC_ALL": "C", "HOME": str(self.directory)},
            "stdin": subprocess.DEVNULL,
            "start_new_session": True,
            "preexec_fn": die_with_parent,
        }
        if self.account is not None:
            options.update(user=self.account.pw_uid, group=self.account.pw_gid, extra_groups=[])
        return options

    def log(self):
        with contextlib.suppress(FileNotFoundError):
            return (self.directory / "log").read_text(errors="replace")[-4000:]
        return ""

    def start(self):
        self.prepare()
        for _attempt in range(5):
            command = self.configure()
            with open(self.directory / "log", "ab") as log:
                self.process = subprocess.Popen(
                    command, stdout=log, stderr=log, **self.child_options()
                )
            deadline = time.monotonic() + 60
            # It ends by itself when another program took one of its ports: another attempt.
            while self.process.poll() is None:
                if self.answers():
                    return
                assert time.monotonic() < deadline, f"no answer from {command}:\n{self.log()}"
                time.sleep(0.01)
        raise RuntimeError(f"{command} does not stay up:\n{self.log()}")

    def stop(self):
        try:
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(self.stop_signal)
                try:
                    self.process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(self.process.pid, signal.SIGKILL)
                    self.process.wait()
                    raise
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def ask(self, path, request):
        """What comes first in answer to a request on a Unix socket; nothing if it is not up."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(path)
            sock.sendall(request)
            return sock.recv(4096)
        return b""


@contextlib.contextmanager
def running(server_class, certificates):
    server = server_class(certificates)
    try:
        server.start()
        yield server
    finally:
        server.stop()
