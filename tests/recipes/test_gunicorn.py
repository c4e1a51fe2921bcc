"""gunicorn's workers on this loop, beyond what the page shows."""

from __future__ import annotations

import subprocess

import pytest

from recipes.conftest import ENVIRONMENT

pytestmark = pytest.mark.native_only


def in_environment(program):
    done = subprocess.run(
        [ENVIRONMENT / "bin" / "python", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["AiohttpWorker", "AsgiWorker", "UvicornWorker"])
def test_a_worker_class_has_its_name_and_stays_the_same(name):
    said = in_environment(
        f"import tokioloop.gunicorn as it; kind = it.{name}; assert kind is it.{name}; print(kind)"
    )
    assert said == f"<class 'tokioloop.gunicorn.{name}'>\n"


def test_the_older_place_of_uvicorns_worker_will_do():
    said = in_environment("""
import sys, types
import uvicorn_worker

sys.modules["uvicorn.workers"] = older = types.ModuleType("uvicorn.workers")
older.UvicornWorker = type("UvicornWorker", (uvicorn_worker.UvicornWorker,), {})
sys.modules["uvicorn_worker"] = None
from tokioloop.gunicorn import UvicornWorker
print(UvicornWorker.__mro__[1] is older.UvicornWorker, UvicornWorker.CONFIG_KWARGS["loop"])
""")
    assert said == "True tokioloop:new_event_loop\n"


def test_a_worker_whose_package_is_missing_says_what_to_install():
    said = in_environment("""
import sys

sys.modules["gunicorn.workers.gasgi"] = sys.modules["aiohttp.worker"] = None
sys.modules["uvicorn_worker"] = sys.modules["uvicorn.workers"] = None
import tokioloop.gunicorn
for name in tokioloop.gunicorn.__all__:
    try:
        getattr(tokioloop.gunicorn, name)
    except ImportError as error:
        print(str(error).partition(": pip ")[2])
""")
    assert said.splitlines() == [
        "install gunicorn aiohttp",
        "install gunicorn",
        "install gunicorn uvicorn-worker",
    ]


def test_a_worker_that_is_not_there_is_an_attribute_error():
    said = in_environment("""
import tokioloop.gunicorn
try:
    tokioloop.gunicorn.Nothing
except AttributeError as error:
    print(error)
print(sorted(set(tokioloop.gunicorn.__all__) - set(dir(tokioloop.gunicorn))))
""")
    assert said == "module 'tokioloop.gunicorn' has no attribute 'Nothing'\n[]\n"
