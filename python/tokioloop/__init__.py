"""An asyncio event loop whose engine is tokio.

    import asyncio, tokioloop

    tokioloop.run(main())                                             # one program
    asyncio.Runner(loop_factory=tokioloop.new_event_loop)             # one runner
    tokioloop.install()                                               # the whole process

``python -m tokioloop script.py`` runs a program that cannot be edited.
"""

from ._core import __version__
from .loop import Loop, new_event_loop
from .policy import EventLoopPolicy, install, uninstall
from .primitives import gather, run_coroutine_threadsafe, sleep
from .runner import run

__all__ = [
    "EventLoopPolicy",
    "Loop",
    "__version__",
    "gather",
    "install",
    "new_event_loop",
    "run",
    "run_coroutine_threadsafe",
    "sleep",
    "uninstall",
]
