"""Notebooks, Dask, arq and tests run on tokioloop as their pages say."""

from __future__ import annotations

import re

import pytest

from integration.redis_server import Redis, running
from integration.servers import free_ports
from recipes.pages import Page

pytestmark = pytest.mark.native_only


def test_cells_of_a_kernel_run_on_the_loop(kitchen):
    here = kitchen("jupyter")
    install, with_kernel, with_children = Page("jupyter").commands
    here.run(install)
    for command in (with_kernel, with_children):
        assert here.run(command) == "tokioloop.loop\n"


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
