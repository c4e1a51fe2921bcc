"""Exits hundreds of processes while Rust futures are in flight, and looks at how they end.

    python tests/machines/exits.py --processes 8 [--builds debug] [--links beside] [--only naps]

Each process runs one of the programs below on one link of the bridge (docs/rust.md): on a loop
embedded in the extension, beside the installed tokioloop, and on asyncio's loop and uvloop's, which
know nothing of the bridge. It must end with status 0, what the program prints must be all there,
and nobody may have written to stderr. A crash at exit is what extensions with threads of their own
are prone to: a thread that asks for the GIL while CPython finalizes is ended where it stands.

The extension is that of tests/bridge, built with and without optimisation.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import importlib.util
import os
import pathlib
import subprocess
import sys
import textwrap
import time

TESTS = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from bridge.builds import build  # noqa: E402

TIMEOUT = 180


@dataclasses.dataclass(frozen=True)
class Link:
    """How a program imports the extension, and makes its loop."""

    module: str
    loops: str


LINKS = {
    "embedded": Link("bridge_extension", "bridge_extension"),
    "beside": Link("bridge_library", "tokioloop"),
    "asyncio": Link("bridge_library", "asyncio"),
    "uvloop": Link("bridge_library", "uvloop"),
}

#: Comes before each program. An object with a destructor that takes its time keeps the main thread
#: busy while it finalizes, so that other threads have time to come to harm.
PROLOGUE = """
import asyncio, gc, logging, os, sys, threading, time, warnings
import {module} as bridge
from {loops} import new_event_loop
warnings.simplefilter("ignore")
logging.disable()  # of tasks that are left pending

class Slow:
    def __del__(self, clock=time.perf_counter):
        end = clock() + 0.05
        while clock() < end:
            pass

slow = Slow()

def in_daemon(main):
    loop, ready = new_event_loop(), threading.Event()

    async def announced():
        asyncio.get_running_loop().call_soon(ready.set)
        await main()

    threading.Thread(target=lambda: loop.run_until_complete(announced()), daemon=True).start()
    assert ready.wait(60)
"""

#: By name: a program, and what it prints.
PROGRAMS = {
    # The guide's first example: it ran, and then it died.
    "naps": (
        """
        async def main():
            print(await bridge.sleeps(0.01))
            print(await asyncio.gather(bridge.sleeps(0.01), bridge.sleeps(0.02)))

        for _ in range(2):
            loop = new_event_loop()
            loop.run_until_complete(main())
            loop.close()
        asyncio.run(main())
        """,
        "rested\n['rested', 'rested']\n" * 3,
    ),
    "workers": (
        """
        async def main():
            while True:
                await asyncio.gather(*(bridge.spawned(1) for _ in range(20)),
                                     *(bridge.spawned_by_tokio(1) for _ in range(20)),
                                     *(bridge.sleeps(0.0005) for _ in range(20)))

        in_daemon(main)
        time.sleep(0.02)
        print("leaving")
        """,
        "leaving\n",
    ),
    "blocking": (
        """
        async def main():
            while True:
                await asyncio.gather(*(bridge.spawned_blocking(1) for _ in range(20)))

        in_daemon(main)
        time.sleep(0.02)
        print("leaving")
        """,
        "leaving\n",
    ),
    "threads": (
        """
        pulse = bridge.Pulse()

        async def main():
            tasks = [asyncio.ensure_future(pulse.wait(10_000_000)) for _ in range(20)]
            await asyncio.sleep(0.01)
            for _ in range(3):
                pulse.beat_elsewhere(10_000_000)
            await asyncio.gather(*tasks)

        in_daemon(main)
        time.sleep(0.02)
        print("leaving")
        """,
        "leaving\n",
    ),
    "python": (
        """
        async def nothing():
            time.sleep(0.0001)
            await asyncio.sleep(0)

        async def main():
            while True:
                await asyncio.gather(*(bridge.awaits(nothing) for _ in range(10)),
                                     *(bridge.calls(lambda: time.sleep(0.0001), 1)
                                       for _ in range(10)))

        for _ in range(2):
            in_daemon(main)
        time.sleep(0.02)
        print("leaving")
        """,
        "leaving\n",
    ),
    # The main thread's loop stands still, with everything in flight, and is never closed.
    "unclosed": (
        """
        pulse, channel = bridge.Pulse(), bridge.Oneshot()

        async def main():
            tasks = [asyncio.ensure_future(each) for each in (
                pulse.wait(10_000_000), channel.receive(), bridge.sleeps(0.001),
                bridge.spawned(1), bridge.spawned_blocking(1), bridge.spawned_by_tokio(1))]
            await asyncio.sleep(0)
            pulse.beat_elsewhere(10_000_000)
            channel.send_elsewhere(None)
            return tasks

        loop = new_event_loop()
        kept = loop.run_until_complete(main())
        print("leaving")
        """,
        "leaving\n",
    ),
    # Each loop closes while its futures are about to be done.
    "closed": (
        """
        async def main(number):
            tasks = [asyncio.ensure_future(each) for _ in range(4) for each in (
                bridge.sleeps(0.001), bridge.spawned(1), bridge.spawned_blocking(1),
                bridge.spawned_by_tokio(1), bridge.yields(3))]
            await asyncio.sleep(number % 7 * 0.0003)
            return tasks

        for number in range(40):
            loop = new_event_loop()
            kept = loop.run_until_complete(main(number))
            loop.close()
            if number % 2:
                del kept
        print("leaving")
        """,
        "leaving\n",
    ),
    # A runtime's threads are not there in a child, which makes its own.
    "forks": (
        """
        async def main():
            await asyncio.gather(
                bridge.spawned(1), bridge.spawned_blocking(1), bridge.sleeps(0.001))

        def run():
            loop = new_event_loop()
            loop.run_until_complete(main())
            loop.close()

        run()
        in_daemon(main)
        for _ in range(5):
            pid = os.fork()
            if not pid:
                run()
                sys.exit(0)  # as a program ends, not by os._exit
            assert os.waitpid(pid, 0)[1] == 0
        print("leaving")
        """,
        "leaving\n",
    ),
    # Each future owns the one before. A result that is a future, and so on, is too much for
    # asyncio's own futures before CPython 3.14; this is a chain of Rust's.
    "owners": (
        """
        async def main():
            last = None
            for _ in range(1_000_000):
                last = bridge.keeps(last)
            return last

        loop = new_event_loop()
        kept = loop.run_until_complete(main())
        loop.close()
        del kept
        print("leaving")
        """,
        "leaving\n",
    ),
    # Each future awaits the one before, in a task of its own.
    "waiters": (
        """
        async def main():
            first = last = asyncio.get_running_loop().create_future()
            tasks = []
            for _ in range(COUNT):
                last = asyncio.ensure_future(bridge.awaits(lambda last=last: last))
            await asyncio.sleep(0.01)
            first.set_result(None)
            await last

        COUNT = 20_000
        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        print("leaving")
        """,
        "leaving\n",
    ),
}
#: Those that take long run once.
ONCE = ("owners", "waiters")


def run(folder, link, name):
    """Run a program once. Return what was wrong with its end, or None."""
    program, expected = PROGRAMS[name]
    source = PROLOGUE.format(module=LINKS[link].module, loops=LINKS[link].loops)
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    try:
        done = subprocess.run(
            [sys.executable, "-c", source + textwrap.dedent(program)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    if (done.returncode, done.stdout, done.stderr) == (0, expected, ""):
        return None
    return f"status {done.returncode}, stdout {done.stdout!r}, stderr:\n{done.stderr[-3000:]}"


def folders(kind):
    """Build the extension both ways. Return the folder where they are."""
    project = TESTS / "bridge" / "extension"
    build(project, "bridge_extension", profile=kind)
    return build(project, "bridge_library", "library", crate="bridge_extension", profile=kind)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=8, help="of each program, link and build")
    parser.add_argument("--builds", default="release,debug", help="with and without optimisation")
    parser.add_argument("--links", default=",".join(LINKS), help="of " + ", ".join(LINKS))
    parser.add_argument("--only", default=",".join(PROGRAMS), help="of " + ", ".join(PROGRAMS))
    options = parser.parse_args()
    links = options.links.split(",")
    if "uvloop" in links and importlib.util.find_spec("uvloop") is None:
        print("uvloop is not installed: left out")
        links.remove("uvloop")
    begun, ended, failures = time.monotonic(), 0, []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for kind in options.builds.split(","):
            folder = folders(kind)
            runs = {}
            for link in links:
                for name in options.only.split(","):
                    for _ in range(1 if name in ONCE else options.processes):
                        runs[pool.submit(run, folder, link, name)] = f"{name}, {link}, {kind}"
            for each in concurrent.futures.as_completed(runs):
                ended += 1
                if wrong := each.result():
                    failures.append(runs[each])
                    print(f"FAILED {runs[each]}: {wrong}", flush=True)
    version = sys.version.split()[0]
    print(f"CPython {version}: {ended} processes ended, {len(failures)} of them badly")
    print(f"{time.monotonic() - begun:.0f} s", *sorted(set(failures)), sep="\n  ")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
