"""Forks while threads of Rust wake futures."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("factory", ["bridge_extension.new_event_loop", "tokioloop.new_event_loop"])
def test_a_child_of_a_fork_uses_a_loop_that_threads_were_waking(extension_programs, factory):
    """No lock of a waker's stays locked in the child, where the waker's thread is not."""
    done = extension_programs(
        f"""
        import asyncio, os, signal, threading, time, tokioloop, warnings
        warnings.simplefilter("ignore")  # fork() where threads are
        loop = {factory}()
        ready = threading.Event()

        async def main():
            storms = [asyncio.ensure_future(bridge_extension.storm()) for _ in range(6)]
            await asyncio.sleep(0.01)
            ready.set()
            await asyncio.gather(*storms)

        def child(number):
            signal.alarm(20)  # a child that hangs must end by itself
            loop._thread_id = None
            if number % 3 == 0:
                loop.close()
            elif number % 3 == 1:
                loop.call_soon_threadsafe(print)
            else:
                loop._stopping = False
                loop.call_later(0.001, loop.stop)
                loop.run_forever()

        threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True).start()
        assert ready.wait(20)
        for number in range(150):
            pid = os.fork()
            if pid == 0:
                try:
                    child(number)
                    os._exit(0)
                finally:
                    os._exit(1)
            status = os.waitpid(pid, 0)[1]
            assert status == 0, (number, status)
            time.sleep(0.0005)
        os._exit(0)
        """,
        timeout=120,
    )
    assert done.stderr == ""
