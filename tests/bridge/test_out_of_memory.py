"""An allocation of CPython's fails, each in turn, while Rust futures are made and awaited."""

from __future__ import annotations

import pytest

FACTORIES = {
    "embedded": "bridge_extension.new_event_loop",
    "beside": "tokioloop.new_event_loop",
    "asyncio": "asyncio.new_event_loop",
}
# CPython itself crashes if a thread of tokio's that calls Python finds no memory for its state.
IN_THE_LOOPS_THREAD = ("beside", "embedded")


@pytest.mark.parametrize("kind", FACTORIES)
def test_each_allocation_may_fail(extension_programs, kind):
    pytest.importorskip("_testcapi")
    done = extension_programs(
        f"""
        import _testcapi, asyncio, gc, logging, tokioloop, warnings
        warnings.simplefilter("ignore")
        logging.disable()
        rust = bridge_extension

        async def value():
            await asyncio.sleep(0)
            return 7

        async def items():
            yield 1
            yield 2

        futures = {{
            "ready": lambda: rust.ready(7),
            "yields": lambda: rust.yields(2),
            "local": lambda: rust.local_yields(2),
            "sleeps": lambda: rust.sleeps(0.0001),
            "raises": lambda: rust.raises(1),
            "spawned": lambda: rust.spawned(7),
            "blocking": lambda: rust.spawned_blocking(7),
        }}
        if {kind in IN_THE_LOOPS_THREAD}:
            futures["awaits"] = lambda: rust.awaits(value)
            futures["collects"] = lambda: rust.collects(items(), 2, "v1")

        async def run(make, failing):
            if failing is not None:
                _testcapi.set_nomemory(failing, failing + 1)
            try:
                return await make()
            finally:
                _testcapi.remove_mem_hooks()

        loop = {FACTORIES[kind]}()
        reports, found = [], set()

        def report(loop, context):
            _testcapi.remove_mem_hooks()
            if "never retrieved" in context["message"]:
                return  # of the run before
            if isinstance(context.get("exception"), MemoryError):
                reports.append(context)
                running.cancel()
                loop.stop()

        loop.set_exception_handler(report)

        def outcome():
            try:
                loop.run_until_complete(running)
            except MemoryError:
                return "raised"
            except (Exception, asyncio.CancelledError) as error:
                _testcapi.remove_mem_hooks()
                if reports:
                    return "reported"  # asyncio's tasks get no further then either
                return repr(error)
            return "done"

        def settle():
            # A run that ends early leaves calls behind, and one may be that which stops the loop.
            for _ in range(3):
                loop.call_soon(loop.stop)
                loop.run_forever()
            reports.clear()

        for name, make in futures.items():
            expected = "done" if name != "raises" else "ValueError('raised in Rust')"
            running = loop.create_task(run(make, None))
            assert outcome() == expected, name
            for failing in range(60):
                running = loop.create_task(run(make, failing))
                came = outcome()
                found.add(came)
                # PyO3 panics where it cannot make a string.
                fine = came in (expected, "raised", "reported") or "pointer is null" in came
                assert fine, (name, failing, came)
                settle()
            # All goes on as before.
            running = loop.create_task(run(make, None))
            assert outcome() == expected, name
        assert "raised" in found
        del running
        gc.collect()
        loop.close()
        print("survived")
        """,
        timeout=120,
    )
    assert done.stdout == "survived\n"
