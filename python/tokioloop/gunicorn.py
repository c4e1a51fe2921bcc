"""Worker classes for gunicorn, whose event loop is a :class:`tokioloop.Loop`.

    gunicorn --worker-class tokioloop.gunicorn.UvicornWorker app:app    # uvicorn serves (ASGI)
    gunicorn --worker-class tokioloop.gunicorn.AiohttpWorker app:app    # aiohttp serves
    gunicorn --worker-class tokioloop.gunicorn.AsgiWorker app:app       # gunicorn serves (ASGI)

Each class is made when it is first looked up, because each derives from a class of another package.
A package that is missing is an ``ImportError`` that says what to install.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, ClassVar

from .policy import install

__all__ = ["AiohttpWorker", "AsgiWorker", "UvicornWorker"]  # noqa: F822


def _import(packages: str, *places: str) -> Any:
    """Return the first class that is found in ``places``, each ``module:class``.

    Raises ``ImportError`` if there is none, with the ``packages`` to install.
    """
    reasons = []
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            reasons.append(error)
    raise ImportError(
        f"the class that this worker derives from is missing ({reasons[0]}): pip install {packages}"
    ) from reasons[0]


def _uvicorn_worker() -> type:
    # uvicorn has had workers of its own, and has given them to another package.
    base: Any = _import(
        "gunicorn uvicorn-worker", "uvicorn_worker:UvicornWorker", "uvicorn.workers:UvicornWorker"
    )

    class UvicornWorker(base):  # type: ignore[misc]
        """uvicorn's worker for gunicorn, on a :class:`tokioloop.Loop`."""

        CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
            **base.CONFIG_KWARGS,
            "loop": "tokioloop:new_event_loop",
        }

    return UvicornWorker


def _aiohttp_worker() -> type:
    base: Any = _import("gunicorn aiohttp", "aiohttp.worker:GunicornWebWorker")

    class AiohttpWorker(base):  # type: ignore[misc]
        """aiohttp's worker for gunicorn, on a :class:`tokioloop.Loop`."""

        def init_process(self) -> None:
            install()
            super().init_process()

    return AiohttpWorker


def _asgi_worker() -> type:
    base: Any = _import("gunicorn", "gunicorn.workers.gasgi:ASGIWorker")

    class AsgiWorker(base):  # type: ignore[misc]
        """gunicorn's own ASGI worker, on a :class:`tokioloop.Loop`. Overrides ``--asgi-loop``."""

        def init_process(self) -> None:
            # The default takes uvloop if it is installed, and no other loop has a name.
            self.cfg.set("asgi_loop", "asyncio")
            install()
            super().init_process()

    return AsgiWorker


_WORKERS: dict[str, Callable[[], type]] = {
    "AiohttpWorker": _aiohttp_worker,
    "AsgiWorker": _asgi_worker,
    "UvicornWorker": _uvicorn_worker,
}


def __getattr__(name: str) -> type:
    if name not in _WORKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    worker = globals()[name] = _WORKERS[name]()
    worker.__module__, worker.__qualname__ = __name__, name
    return worker


def __dir__() -> list[str]:
    return sorted({*globals(), *_WORKERS})
