"""Several processes serve one port: each has a loop and a listening socket, the kernel shares out.

    python examples/reuse_port.py --processes 2 --seconds 3

starts the processes and a client with 32 connections, and prints the requests in a second. Each
request computes for about half a millisecond, as filling a template would.
"""

import argparse
import asyncio
import multiprocessing
import os
import socket
import time
from collections import Counter

import tokioloop

CONNECTIONS = 32


def compute():
    return sum(number * number for number in range(10_000))


async def answer(reader, writer):
    me = f"{type(asyncio.get_running_loop()).__module__} {os.getpid()}\n".encode()
    while await reader.readline():
        compute()
        writer.write(me)
        await writer.drain()
    writer.close()


async def serve(port, ready):
    async with await asyncio.start_server(answer, "127.0.0.1", port, reuse_port=True) as server:
        ready.release()
        await server.serve_forever()


def work(port, ready):
    tokioloop.run(serve(port, ready))


async def ask(port, until, answers):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until:
        writer.write(b"?\n")
        answers[(await reader.readline()).decode().strip()] += 1
    writer.close()
    await writer.wait_closed()


async def measure(port, seconds):
    answers = Counter()
    until = time.monotonic() + seconds
    await asyncio.gather(*(ask(port, until, answers) for _ in range(CONNECTIONS)))
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    # A new interpreter for each process: no loop, lock or thread of the parent comes along.
    context = multiprocessing.get_context("spawn")
    ready = context.Semaphore(0)
    with socket.socket() as reserved:
        # Bound and not listening, this socket keeps the port free for the processes.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        processes = [
            context.Process(target=work, args=(port, ready)) for _ in range(options.processes)
        ]
        for process in processes:
            process.start()
        try:
            for _ in processes:
                ready.acquire()
            answers = tokioloop.run(measure(port, options.seconds))
        finally:
            for process in processes:
                process.terminate()
                process.join()
    total = sum(answers.values())
    for who, count in answers.most_common():
        print(f"  {who.partition(' ')[0]} in a process: {count / total:.0%} of the requests")
    processes = "1 process" if options.processes == 1 else f"{options.processes} processes"
    print(f"{processes}: {total / options.seconds:.0f} requests/s")


if __name__ == "__main__":
    main()
