"""A thousand URLs at once, on tokioloop and on the standard library's loop.

An aiohttp client asks a local aiohttp server, in a process of its own, for so many URLs at the
same time; the server thinks for a while about each. Both loops take turns, each time in fresh
processes (client and server on the same kind of loop), and the medians are compared.

    pip install tokioloop aiohttp [rich]
    python fetch_thousand.py [--urls 1000] [--think 50] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

LOOPS = ("asyncio", "tokioloop")
Advance = Callable[[int], None]


def run_on(kind: str, main: object) -> None:
    """Run the coroutine on a new loop of that kind."""
    if kind == "tokioloop":
        import tokioloop

        loop = tokioloop.new_event_loop()
    else:
        loop = asyncio.SelectorEventLoop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main)
    finally:
        loop.close()


# --- the server, in a process of its own ---


async def serve(think: float) -> None:
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(think)
        return web.Response(text=f"page {request.match_info['number']}")

    app = web.Application()
    app.router.add_get("/{number}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    # The parent process ends this one by closing its standard input.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


# --- the client, in a process of its own ---


async def fetch_all(port: int, urls: int) -> None:
    import aiohttp

    done = 0

    async def fetch(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal done
        async with session.get(f"http://127.0.0.1:{port}/{number}") as response:
            text = await response.text()
        if text != f"page {number}":
            raise RuntimeError(f"URL {number} was answered with {text!r}")
        done += 1
        if done % max(1, urls // 20) == 0:
            print("done", done, flush=True)

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        async with session.get(f"http://127.0.0.1:{port}/0") as response:  # warm up
            await response.read()
        started = time.perf_counter()
        await asyncio.gather(*(fetch(session, number) for number in range(urls)))
        print("seconds", time.perf_counter() - started, flush=True)


# --- the comparison ---


def start(role: str, kind: str, options: argparse.Namespace, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--urls", str(options.urls), "--think"]
    command += [str(options.think), "--role", role, "--on", kind, *more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def measure(kind: str, options: argparse.Namespace, advance: Advance) -> float:
    """Return the seconds that all URLs take on that kind of loop."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(start("server", kind, options))
        port = server.stdout.readline().strip() if server.stdout else ""
        if not port:
            raise SystemExit(f"the server on {kind} did not start")
        client = stack.enter_context(start("client", kind, options, "--port", port))
        seconds, reported = None, 0
        for line in client.stdout or ():
            word, value = line.split()
            if word == "seconds":
                seconds = float(value)
            else:
                advance(int(value) - reported)
                reported = int(value)
        if client.wait() != 0 or seconds is None:
            server.kill()
            raise SystemExit(f"the client on {kind} failed (exit status {client.returncode})")
        advance(options.urls - reported)
        return seconds


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[str], Advance]]:
    """Shows the progress: begin(title) returns a function that counts finished requests."""
    if sys.stdout.isatty():
        try:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        except ImportError:
            pass
        else:
            columns = TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn()
            with Progress(*columns, transient=True) as bars:
                bar = bars.add_task("", total=total)

                def begin(title: str) -> Advance:
                    bars.update(bar, description=title)
                    return lambda count: bars.update(bar, advance=count)

                yield begin
                return

    done = 0

    def begin_plain(title: str) -> Advance:
        if not sys.stdout.isatty():
            print(title, flush=True)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if sys.stdout.isatty():
                filled = 40 * done // total
                bar = "#" * filled + "." * (40 - filled)
                print(f"\r{title:<24} [{bar}] {done}/{total}", end="", flush=True)

        return advance

    yield begin_plain
    if sys.stdout.isatty():
        print("\r\033[K", end="")


def compare(options: argparse.Namespace) -> None:
    times: dict[str, list[float]] = {kind: [] for kind in LOOPS}
    with progress(options.urls * options.rounds * len(LOOPS)) as begin:
        for round_ in range(1, options.rounds + 1):
            # The loops take turns in going first, so that neither gains by it.
            for kind in LOOPS if round_ % 2 else reversed(LOOPS):
                title = f"round {round_}/{options.rounds} on {kind}"
                times[kind].append(measure(kind, options, begin(title)))
    print(
        f"{options.urls} URLs at once, {options.think:g} ms of think time each, "
        f"median of {options.rounds}:"
    )
    median = {kind: statistics.median(times[kind]) for kind in LOOPS}
    for kind in LOOPS:
        seconds = median[kind]
        print(f"  {kind:<10} {seconds:7.3f} s  {options.urls / seconds:9.0f} requests/s")
    print(f"tokioloop is {median['asyncio'] / median['tokioloop']:.2f} times as fast as asyncio")


def raise_file_limit(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(
            f"{needed} open files are needed, and the hard limit is {hard}: "
            "raise it (ulimit -Hn), or ask for fewer --urls"
        )


def positive(kind: type) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    return parse


def main() -> None:
    parser = argparse.ArgumentParser(description="A thousand URLs at once, on two event loops.")
    parser.add_argument("--urls", type=positive(int), default=1000, help="how many (1000)")
    parser.add_argument(
        "--think", type=positive(float), default=50, help="milliseconds the server thinks (50)"
    )
    parser.add_argument("--rounds", type=positive(int), default=5, help="turns of each loop (5)")
    # The options with which this script starts itself in other processes.
    parser.add_argument("--role", choices=("server", "client"), help=argparse.SUPPRESS)
    parser.add_argument("--on", choices=LOOPS, default="tokioloop", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    raise_file_limit(options.urls + 100)
    if options.role == "server":
        run_on(options.on, serve(options.think / 1000))
    elif options.role == "client":
        run_on(options.on, fetch_all(options.port, options.urls))
    else:
        compare(options)


if __name__ == "__main__":
    main()
