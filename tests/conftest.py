"""Fixtures shared by every test module.

The behaviour tests say nothing about which loop they run on: ``pytest`` runs them on
tokioloop, ``pytest --loop asyncio`` runs the same tests on the standard library's loop. The
second is how a test proves itself, since the standard library is the specification.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from support.pipe_ends import KINDS, make_pipe
from support.recording import transport_pair

#: `make recipes` runs these: they need an environment of their own.
collect_ignore = ["recipes"]

# What a program started by `programs` finds in its name space, whichever loop is tested.
PRELUDES = {
    "tokioloop": "import tokioloop; from tokioloop import new_event_loop, run",
    "asyncio": "from asyncio import new_event_loop, run",
}


def pytest_addoption(parser):
    parser.addoption(
        "--loop",
        choices=sorted(PRELUDES),
        default="tokioloop",
        help="the event loop the behaviour tests run on (default: tokioloop)",
    )


def pytest_configure(config):
    # A runner in the background may have had its shell ignore SIGINT, and hand that down.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers",
        "native_only(when=True, reason=''): describes tokioloop, or (when=...) what the standard "
        "library of this version gets wrong; deselected under --loop asyncio",
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--loop") != "asyncio":
        return
    kept, dropped = [], []
    for item in items:
        marker = item.get_closest_marker("native_only")
        (dropped if marker and marker.kwargs.get("when", True) else kept).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def open_descriptors():
    """Every descriptor this process holds, with what it stands for."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return found


@pytest.fixture(scope="session")
def loop_name(request):
    """Which loop is being tested: 'tokioloop' or 'asyncio'."""
    return request.config.getoption("--loop")


@pytest.fixture(scope="session")
def loop_factory(loop_name):
    """A callable that makes a new loop of the tested kind; the caller closes it."""
    if loop_name == "asyncio":
        factory = asyncio.new_event_loop
    else:
        import tokioloop  # late: `--loop asyncio` must work where tokioloop is not built

        factory = tokioloop.new_event_loop
    # What a process opens once and keeps is not a leak of the test that comes first.
    warm = factory()
    warm.run_until_complete(asyncio.sleep(0))
    warm.close()
    return factory


@pytest.fixture
def loop(loop_factory):
    """A new loop, closed at the end; fails a test that leaves a descriptor open."""
    before = open_descriptors()
    loop = loop_factory()
    yield loop
    try:
        if not loop.is_closed():
            loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    del loop
    if open_descriptors().keys() - before.keys():
        gc.collect()  # what a reference cycle still holds is late, not leaked
        left = {fd: what for fd, what in open_descriptors().items() if fd not in before}
        assert not left, f"descriptors left open: {left}"


@pytest.fixture
def on_pair(loop):
    """Run ``scenario(transport, protocol, peer's blocking socket)``, then close both ends."""

    def run(scenario, protocol=None):
        async def wrapper():
            transport, used, far = await transport_pair(loop, protocol)
            try:
                with far:
                    await scenario(transport, used, far)
            finally:
                if not used.losses:
                    transport.abort()
                    await used.lost()

        loop.run_until_complete(wrapper())

    return run


@pytest.fixture(params=sorted(KINDS))
def ends(request, tmp_path):
    """A file to read from and one to write to, of every kind."""
    near, far = KINDS[request.param](tmp_path)
    near.kind = request.param
    with near, far:
        yield near, far


@pytest.fixture
def pipe(tmp_path):
    near, far = make_pipe(tmp_path)
    with near, far:
        yield near, far


class Programs:
    """Runs Python source in processes of their own, where the tested loop is at hand.

    The source finds ``new_event_loop`` and ``run`` of the tested loop already imported.
    """

    def __init__(self, prelude):
        self._prelude = prelude
        self._started = []

    def command(self, source, *args, flags=()):
        code = self._prelude + "\n" + textwrap.dedent(source)
        return [sys.executable, *flags, "-c", code, *args]

    @staticmethod
    def environment(extra=None):
        """The environment of this process without what switches debug mode on."""
        env = {k: v for k, v in os.environ.items() if k not in DEBUG_VARIABLES}
        if hasattr(sys, "gettotalrefcount"):
            # The default of other builds of CPython.
            env["PYTHONWARNINGS"] = ",".join(USUAL_WARNINGS)
        env.update(PYTHONFAULTHANDLER="1", PYTHONUNBUFFERED="1", **(extra or {}))
        return env

    def run(self, source, *args, flags=(), env=None, timeout=60, check=True):
        """Run to the end; unless ``check`` is false the exit status must be 0."""
        done = subprocess.run(
            self.command(source, *args, flags=flags),
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, source, *args, flags=(), env=None):
        """Start and return a Popen with text pipes; what still lives at the end is killed."""
        process = subprocess.Popen(
            self.command(source, *args, flags=flags),
            env=self.environment(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A runner that ignores SIGINT (a background job) must not hand that down.
            preexec_fn=restore_default_sigint,
        )
        self._started.append(process)
        return process

    def stop_all(self):
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None and not pipe.closed:
                    pipe.close()


USUAL_WARNINGS = (
    *("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"),
    *("ignore::ImportWarning", "ignore::ResourceWarning", "default::DeprecationWarning:__main__"),
)
DEBUG_VARIABLES = {"PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONWARNINGS"}


def restore_default_sigint():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def programs(loop_name):
    """Runs source text in processes of their own (see `Programs`)."""
    programs = Programs(PRELUDES[loop_name])
    yield programs
    programs.stop_all()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Certificates for localhost and TLS contexts of all kinds (see `support.certificates`)."""
    pytest.importorskip("trustme")
    from support.certificates import Certificates  # late: it imports trustme

    return Certificates(tmp_path_factory.mktemp("certificates"))
