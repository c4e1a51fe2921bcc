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
from .streams import (
    StreamReader,
    StreamWriter,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)

__all__ = [
    "EventLoopPolicy",
    "Loop",
    "StreamReader",
    "StreamWriter",
    "__version__",
    "gather",
    "install",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "run",
    "run_coroutine_threadsafe",
    "sleep",
    "start_server",
    "start_unix_server",
    "uninstall",
]
