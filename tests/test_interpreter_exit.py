"""Destructors that run when the interpreter is half gone, and still use the loop."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "use",
    [
        "loop.call_soon(print)",
        "loop.call_later(1, print)",
        "loop.call_soon_threadsafe(print)",
        "handle.cancel()",
        "timer.cancel()",
        "transport.write(b'late')",
        "transport.close()",
        "transport.abort()",
        "loop.time()",
        "loop.close()",
    ],
)
def test_a_destructor_uses_the_loop(programs, use):
    done = programs.run(
        f"""
        import asyncio, socket, warnings
        warnings.simplefilter("ignore")

        class Last:
            def __init__(self, *things):
                self.things = things

            def __del__(self):
                loop, handle, timer, transport = self.things
                try:
                    {use}
                except RuntimeError as error:  # the loop's own destructor may have come first
                    assert "closed" in str(error)
                print("used", flush=True)

        async def main():
            left, right = socket.socketpair()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
            return loop.call_soon(print), loop.call_later(60, print), transport

        loop = new_event_loop()
        last = Last(loop, *loop.run_until_complete(main()))
        """
    )
    assert done.stdout.endswith("used\n")
    assert "panicked" not in done.stderr


def test_what_was_never_closed_is_told_at_exit(programs):
    done = programs.run(
        """
        import asyncio, socket

        async def main():
            left, right = socket.socketpair()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
            return transport, right

        loop = new_event_loop()
        kept = loop.run_until_complete(main())
        """,
        flags=("-W", "always"),
    )
    assert "panicked" not in done.stderr
