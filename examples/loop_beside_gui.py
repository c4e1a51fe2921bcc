"""A user interface in the main thread, the event loop in a thread beside it.

The interface never waits: it hands coroutines to the loop with run_coroutine_threadsafe(), and
the results come back as events of its own. With ``--window``, and tkinter installed, it is a
real window; otherwise a stand-in with the same three methods shows the pattern in a terminal.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import tokioloop


class LoopThread:
    """An event loop that runs in a thread until it is stopped."""

    def __init__(self) -> None:
        self.loop = tokioloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="event loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class StandIn:
    """The parts of a user interface that a program uses: a main loop, timers, a display."""

    def __init__(self) -> None:
        self._timers: queue.PriorityQueue[tuple[float, int, Callable[[], None]]] = (
            queue.PriorityQueue()
        )
        self._count = 0
        self._running = True

    def after(self, milliseconds: int, callback: Callable[[], None]) -> None:
        self._count += 1
        self._timers.put((time.monotonic() + milliseconds / 1000, self._count, callback))

    def show(self, text: str) -> None:
        print(text)

    def mainloop(self) -> None:
        while self._running:
            when, _, callback = self._timers.get()
            time.sleep(max(0.0, when - time.monotonic()))
            callback()

    def destroy(self) -> None:
        self._running = False


def make_window() -> Any:
    import tkinter

    class Window(tkinter.Tk):
        def __init__(self) -> None:
            super().__init__()
            self._label = tkinter.Label(self, width=60, height=12, justify="left")
            self._label.pack()

        def show(self, text: str) -> None:
            print(text)
            self._label["text"] += text + "\n"

    return Window()


async def download(name: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    if name == "broken":
        raise ConnectionError("the server hung up")
    return f"contents of {name}"


def main(with_window: bool) -> None:
    interface = make_window() if with_window else StandIn()
    background = LoopThread()
    results: queue.SimpleQueue[tuple[str, Future[Any]]] = queue.SimpleQueue()
    waiting = ["slow", "quick", "broken"]
    frames = 0

    def start(name: str, seconds: float) -> None:
        future = background.submit(download(name, seconds))
        # This callback runs in the loop's thread. It only stores the result for the interface:
        # most toolkits may be used from the main thread alone.
        future.add_done_callback(lambda future: results.put((name, future)))

    def frame() -> None:
        nonlocal frames
        frames += 1
        while not results.empty():
            name, future = results.get()
            waiting.remove(name)
            error = future.exception()
            interface.show(f"{name}: {error!r}" if error else f"{name}: {future.result()}")
        if waiting:
            interface.after(10, frame)
        else:
            interface.show(f"the interface stayed alive: {frames > 10}")
            interface.after(1000 if with_window else 0, interface.destroy)

    start("slow", 0.4)
    start("quick", 0.1)
    start("broken", 0.25)
    interface.show("downloads started, the interface goes on")
    interface.after(0, frame)
    interface.mainloop()
    background.stop()
    print("stopped")


if __name__ == "__main__":
    main(with_window="--window" in sys.argv[1:])
