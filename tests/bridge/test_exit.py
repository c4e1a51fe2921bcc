"""The interpreter exits while Rust futures are alive."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("state", ["fresh", "pending", "sleeping", "local", "spawned"])
@pytest.mark.parametrize("run", ["bridge_extension.new_event_loop", "tokioloop.new_event_loop"])
def test_the_interpreter_exits_with_futures_alive(extension_programs, state, run):
    done = extension_programs(
        f"""
        import asyncio, gc, tokioloop, warnings
        warnings.simplefilter("ignore")
        flag = bridge_extension.DropFlag()
        loop = {run}()
        channel = bridge_extension.Oneshot()

        async def main():
            state = {state!r}
            if state == "fresh":
                return bridge_extension.never(flag)
            if state == "pending":
                future = channel.receive()
            elif state == "sleeping":
                future = bridge_extension.sleeps(0.01)
            elif state == "local":
                future = bridge_extension.local_never(flag)
            else:
                bridge_extension.spawned_and_left(flag, True)
                future = bridge_extension.sleeps(30)
            task = asyncio.ensure_future(future)
            await asyncio.sleep(0)
            return task

        kept = loop.run_until_complete(main())
        gc.disable()
        channel.send_elsewhere(None)
        print("leaving")
        """
    )
    assert done.stdout == "leaving\n"


LOOPS = ("bridge_extension.new_event_loop", "tokioloop.new_event_loop", "asyncio.new_event_loop")


@pytest.mark.parametrize("thread", ["main", "daemon"])
@pytest.mark.parametrize("factory", LOOPS)
def test_the_interpreter_exits_while_threads_wake(extension_programs, factory, thread):
    """On a loop that knows nothing of wakers they are woken by threads that need the GIL."""
    for _ in range(3):
        done = extension_programs(
            f"""
            import asyncio, threading, time, tokioloop
            pulse = bridge_extension.Pulse()
            loop = {factory}()
            # Made while no loop runs: bound to the one that they are awaited on.
            futures = [pulse.wait(10_000_000) for _ in range(20)]
            woken = threading.Event()

            async def main():
                tasks = [asyncio.ensure_future(future) for future in futures]
                await asyncio.sleep(0.01)
                pulse.beat_elsewhere(1_000_000)
                await asyncio.sleep(0.05)
                woken.set()
                return tasks

            def serve():
                kept.append(loop.run_until_complete(main()))
                loop.run_forever()

            class Slow:
                def __del__(self, clock=time.perf_counter):
                    end = clock() + 0.1
                    while clock() < end:
                        pass

            kept, slow = [], Slow()
            if {thread!r} == "daemon":
                threading.Thread(target=serve, daemon=True).start()
                assert woken.wait(20)
            else:
                kept.append(loop.run_until_complete(main()))
            """
        )
        assert "panicked" not in done.stderr


@pytest.mark.parametrize("others", ["alone", "after a sub-interpreter"])
@pytest.mark.parametrize("factory", LOOPS)
def test_the_interpreter_exits_while_futures_end(extension_programs, factory, others):
    """A daemon thread's loop, whose futures end all the time, in Rust and in Python."""
    for _ in range(3):
        done = extension_programs(
            f"""
            import asyncio, sys, threading, time, tokioloop
            if {others!r} != "alone":
                if sys.version_info >= (3, 13):
                    import _interpreters as interpreters
                else:
                    import _xxsubinterpreters as interpreters
                interpreters.destroy(interpreters.create())
            started = threading.Event()

            async def naps():
                time.sleep(0.001)
                await asyncio.sleep(0)

            async def work():
                started.set()
                while True:
                    await asyncio.gather(
                        bridge_extension.sleeps(0.001),
                        bridge_extension.yields(3),
                        bridge_extension.awaits(naps),
                        bridge_extension.calls(lambda: time.sleep(0.001), 1),
                        bridge_extension.spawned_blocking(1),
                    )

            def serve():
                {factory}().run_until_complete(work())

            class Slow:
                def __del__(self, clock=time.perf_counter):
                    end = clock() + 0.1
                    while clock() < end:
                        pass

            slow = Slow()
            threading.Thread(target=serve, daemon=True).start()
            assert started.wait(20)
            time.sleep(0.05)
            """
        )
        assert "panicked" not in done.stderr
