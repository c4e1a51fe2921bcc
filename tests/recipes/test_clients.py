"""Notebooks, Dask, arq and tests run on tokioloop as their pages say."""

from __future__ import annotations

import contextlib
import http.client
import json
import re

import pytest

from integration.redis_server import Redis, running
from integration.servers import free_ports
from recipes.pages import Page

pytestmark = pytest.mark.native_only

CELL_OF_A_RUNNING_KERNEL = """
import sys

from jupyter_client import BlockingKernelClient

client = BlockingKernelClient(connection_file=sys.argv[1])
client.load_connection_file()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive(
    "import asyncio; print(type(asyncio.get_running_loop()).__module__)", timeout=60
)
client.stop_channels()
"""


def test_cells_of_a_kernel_run_on_the_loop(kitchen):
    here = kitchen("jupyter")
    install, with_kernel, with_children, _server = Page("jupyter").commands
    here.run(install)
    for command in (with_kernel, with_children):
        assert here.run(command) == "tokioloop.loop\n"


def test_a_server_of_notebooks_runs_on_the_loop_and_so_do_its_kernels(kitchen):
    [port] = free_ports(1)
    here = kitchen("jupyter", port_8888=port)
    settings = here.folder / ".jupyter" / "jupyter_server_config.json"
    settings.parent.mkdir()
    root = {"allow_root": True, "open_browser": False}
    settings.write_text(json.dumps({"ServerApp": root, "IdentityProvider": {"token": "abc"}}))
    server = here.start(Page("jupyter").commands[-1])

    def kernel():
        body, headers = json.dumps({"name": "python3"}), {"Authorization": "token abc"}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("POST", "/api/kernels", body, headers)
            return json.load(connection.getresponse())["id"]

    runtime = here.folder / ".local" / "share" / "jupyter" / "runtime"
    connection_file = runtime / f"kernel-{here.wait_for(kernel, server)}.json"
    (here.folder / "cell.py").write_text(CELL_OF_A_RUNNING_KERNEL)
    assert here.run(f"python cell.py {connection_file}") == "tokioloop.loop\n"
    assert f"tokioloop: process {server.pid} runs tokioloop.Loop" in here.logs()


def test_ipython_awaits_on_the_loop(kitchen):
    here = kitchen("ipython")
    interactive, *asking = Page("ipython").commands
    assert interactive == "python -m tokioloop -m IPython"
    for command in asking:
        assert here.run(command).startswith("<tokioloop.Loop running=True")


def test_scheduler_workers_and_client_of_dask_run_on_the_loop(kitchen):
    [port] = free_ports(1)
    here = kitchen("dask", port_8786=port)
    scheduler, workers, client = Page("dask").commands
    here.start(scheduler)
    here.start(workers)
    assert here.run(client).splitlines() == [
        "scheduler tokioloop.loop",
        "worker tokioloop.loop",
        "worker tokioloop.loop",
        "client tokioloop.loop",
        "sum 10",
    ]


def test_jobs_of_arq_run_on_the_loop(kitchen, certificates):
    worker, client = Page("arq").commands
    with running(Redis, certificates) as redis:
        here = kitchen("arq", port_6379=redis.port)
        process = here.start(worker)
        said = here.run(client)
        assert re.fullmatch(rf"tokioloop\.loop in process {process.pid}\n", said)


def test_tests_of_pytest_asyncio_run_on_the_loop(kitchen):
    here = kitchen("pytest-asyncio")
    [command] = Page("pytest-asyncio").commands
    said = here.run(command)
    assert " 1 passed" in said
    assert "test_loop.py" in said
