"""Runs what the pages say, in the environment that has the frameworks."""

from __future__ import annotations

import contextlib
import http.client
import os
import shlex
import signal
import subprocess
import time

import pytest

from recipes.pages import ROOT, Page

ENVIRONMENT = ROOT / "target" / "recipes" / "venv"


class Kitchen:
    """A folder with the files of a page, where the commands of the page run."""

    def __init__(self, page, folder, ports):
        self.folder = folder
        self.ports = ports
        self.environment = {
            **os.environ,
            "PATH": f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}",
            # Servers leave files in their user's home.
            "HOME": str(folder),
            "IPYTHONDIR": str(folder),
            "PYTHONUNBUFFERED": "1",
        }
        self._page = page
        self._processes = []
        page.write_files(folder, **ports)

    def _how(self, command):
        """What a process of the command is started with."""
        words = shlex.split(self._page.adapt(command, self.ports))
        return {
            "args": [str(ENVIRONMENT / "bin" / words[0]), *words[1:]],
            "cwd": self.folder,
            "env": self.environment,
            "stdin": subprocess.DEVNULL,
        }

    def run(self, command):
        """Run one of the page's commands to its end, and return what it printed."""
        done = subprocess.run(
            **self._how(command),
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        assert "not used" not in done.stderr
        return done.stdout

    def start(self, command):
        """Start one of the page's commands, which goes on until the test ends."""
        with open(self.folder / f"log{len(self._processes)}", "wb") as log:
            process = subprocess.Popen(
                **self._how(command),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def logs(self):
        return "\n".join(
            path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("log*"))
        )

    def stop(self):
        for process in reversed(self._processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
            # A server that takes longer, and what it started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def wait_for(self, condition, process, timeout=60):
        """Ask until there is an answer that is not empty, as long as the process runs."""
        deadline = time.monotonic() + timeout
        while True:
            if answer := condition():
                return answer
            assert process.poll() is None, f"exit {process.returncode}\n{self.logs()}"
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.02)

    def ask(self, port, timeout=5):
        """The words of the answer to a request on a new connection; none if there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        no_answer = contextlib.suppress(OSError, http.client.HTTPException)
        with contextlib.closing(connection), no_answer:
            connection.request("GET", "/", headers={"Connection": "close"})
            response = connection.getresponse()
            words = response.read().decode().split()
            assert response.status == 200, words
            return words
        return []

    def loops(self, port, process, count):
        """Which loops ``count`` processes that serve a port run on, by their number.

        A process that has answered is stopped meanwhile, so that another one must answer.
        """
        found = {}
        try:
            while len(found) < count:
                loop, _, _, pid = self.wait_for(lambda: self.ask(port, 1), process)
                assert int(pid) not in found, "the process has been stopped"
                found[int(pid)] = loop
                if len(found) < count:
                    os.kill(int(pid), signal.SIGSTOP)
        finally:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        return found


@pytest.fixture
def kitchen(tmp_path):
    """Make a `Kitchen` for a page, with ports in the places of those that the page names."""
    made = []

    def kitchen(name, **ports):
        assert ENVIRONMENT.exists(), "run these tests with `make recipes`"
        made.append(Kitchen(Page(name), tmp_path, ports))
        return made[-1]

    yield kitchen
    for each in made:
        each.stop()
