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


@pytest.mark.parametrize("kind", ["stream", "datagram", "pipe"])
def test_a_destructor_writes_to_a_peer_that_is_gone(programs, kind):
    """Errors of the operating system are raised then as at any other time."""
    done = programs.run(
        f"""
        import asyncio, os, socket, warnings
        warnings.simplefilter("ignore")

        class Last:
            def __init__(self, write):
                self.write = write

            def __del__(self):
                try:
                    self.write(b"late")
                except (AttributeError, RuntimeError, TypeError) as error:
                    # The loop's destructor may have come first, or half of what is used be gone.
                    print(error, flush=True)
                print("used", flush=True)

        async def stream():
            left, right = socket.socketpair()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
            transport.pause_reading()
            right.close()
            return transport.write

        async def datagram():
            left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, sock=left
            )
            right.close()
            return transport.sendto

        async def pipe():
            reading, writing = os.pipe()
            transport, _ = await loop.connect_write_pipe(
                asyncio.BaseProtocol, os.fdopen(writing, "wb", 0)
            )
            os.close(reading)
            return transport.write

        loop = new_event_loop()
        last = Last(loop.run_until_complete({kind}()))
        """
    )
    assert done.stdout.endswith("used\n")
    assert "internal error" not in done.stdout
    assert "panicked" not in done.stderr


def test_unclosed_objects_are_reported_at_exit(programs):
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


KEPT = """
    import asyncio, builtins, os, socket

    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        stream, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        udp, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        to_read, near = os.pipe()
        far, to_write = os.pipe()
        reads, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(to_read, "rb", 0))
        writes, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(to_write, "wb", 0))
        # What `builtins` holds is freed last, when nothing can be imported any more.
        builtins.kept = stream, udp, reads, writes, right, near, far
"""


@pytest.mark.parametrize("closed", [True, False])
def test_transports_that_outlive_all_modules_are_quiet(programs, closed):
    end = "loop.close()" if closed else "builtins.kept_too = loop"
    done = programs.run(
        KEPT
        + f"""
    loop = new_event_loop()
    loop.run_until_complete(main())
    {end}
    """
    )
    assert done.stdout == done.stderr == ""


def test_transports_that_outlive_all_modules_warn(programs):
    done = programs.run(
        KEPT
        + """
    loop = new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    """,
        flags=("-W", "always::ResourceWarning"),
    )
    assert done.stderr.count("ResourceWarning: unclosed transport") == 4
    assert "Exception ignored" not in done.stderr
