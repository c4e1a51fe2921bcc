"""Every command of the pages about servers serves, in every process, on tokioloop."""

from __future__ import annotations

import os
import re

import pytest

from integration.servers import free_ports
from recipes.pages import Page, names

pytestmark = pytest.mark.native_only

#: Pages whose commands do not serve HTTP; test_clients has them.
OTHERS = {"arq", "dask", "ipython", "jupyter", "pytest-asyncio"}
#: Programs that start as many processes as they are written to.
FORKING = {"many.py": 2, "serve.py": 2}
COMMANDS = [
    (name, command)
    for name in names()
    if name not in OTHERS
    for command in Page(name).commands
    if "examples/" not in command
]


def processes(command):
    asked = re.search(r"--workers (\d+)", command)
    return int(asked[1]) if asked else FORKING.get(command.split()[-1], 1)


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_each_process_serves_on_the_loop(kitchen, name, command):
    [port] = free_ports(1)
    here = kitchen(name, port_8000=port)
    server = here.start(command)
    loops = here.loops(port, server, processes(command))
    assert set(loops.values()) == {"tokioloop.loop"}


def test_a_reloaded_program_is_served_on_the_loop(kitchen):
    [port] = free_ports(1)
    here = kitchen("uvicorn", port_8000=port)
    [command] = [each for each in Page("uvicorn").commands if "--reload" in each]
    server = here.start(command)
    [(before, _)] = here.loops(port, server, 1).items()
    program = here.folder / "app.py"
    program.write_text(program.read_text().replace("in process", "reloaded process"))

    def reloaded():
        answer = here.ask(port, 1)
        if "reloaded" in answer:
            return answer
        if answer:
            # uvicorn compares with the times that it noted a quarter of a second after the process
            # began, and so does not see a file that is written before.
            os.utime(program)
        return None

    loop, _, _, pid = here.wait_for(reloaded, server)
    assert loop == "tokioloop.loop"
    assert int(pid) != before


def test_the_pages_have_the_commands_that_matter():
    served = {name for name, _ in COMMANDS}
    assert {"aiohttp", "gunicorn", "hypercorn", "tornado", "uvicorn"} <= served
    assert {name for name, command in COMMANDS if processes(command) > 1} >= {
        *("django", "granian", "gunicorn", "hypercorn", "litestar", "processes", "quart"),
        *("sanic", "tornado", "uvicorn"),
    }
