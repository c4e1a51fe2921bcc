"""Arguments of a ``sock_*`` call run Python code in the middle of it, again at each attempt."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys

import pytest


@pytest.fixture
def pair():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


async def pause():
    for _ in range(4):
        await asyncio.sleep(0.001)


class Interferes:
    """Runs ``self.act`` whenever it is asked for a size."""

    act = staticmethod(lambda: None)

    def __index__(self):
        self.act()
        return 10


if sys.version_info >= (3, 12):

    class Buffer(bytearray):
        """Runs ``self.act`` whenever its bytes are asked for."""

        act = staticmethod(lambda: None)

        def __buffer__(self, flags):
            self.act()
            return super().__buffer__(flags)


def calls():
    yield "sock_recv", Interferes, lambda loop, sock, what: loop.sock_recv(sock, what)
    if sys.version_info >= (3, 12):
        yield (
            "sock_recv_into",
            lambda: Buffer(10),
            lambda loop, sock, what: loop.sock_recv_into(sock, what),
        )


def raises():
    raise LookupError("raised")


def watches(loop, near):
    loop.add_reader(near, lambda: loop.remove_reader(near))


#: What may be done in the middle of another attempt.
ACTS = {
    "cancel": lambda loop, near, task, coroutine: task.cancel(),
    "close": lambda loop, near, task, coroutine: coroutine.close(),
    "close the socket": lambda loop, near, task, coroutine: near.close(),
    "collect": lambda loop, near, task, coroutine: gc.collect(),
    "receive": lambda loop, near, task, coroutine: near.recv(100),
    "raise": lambda loop, near, task, coroutine: raises(),
    "step": lambda loop, near, task, coroutine: coroutine.send(None),
    "throw": lambda loop, near, task, coroutine: coroutine.throw(LookupError("thrown")),
    "stop": lambda loop, near, task, coroutine: loop.stop(),
    "call again": lambda loop, near, task, coroutine: loop.create_task(
        call(loop.sock_recv(near, 10))
    ),
    "watch": lambda loop, near, task, coroutine: watches(loop, near),
}


async def call(coroutine):
    return await coroutine


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    ("make", "start"), [each[1:] for each in calls()], ids=[each[0] for each in calls()]
)
def test_an_argument_that_interferes_with_a_call_that_waits(loop, pair, make, start, act):
    near, far = pair
    what = make()
    loop.set_exception_handler(lambda loop, context: None)
    coroutine = start(loop, near, what)
    task = loop.create_task(call(coroutine))
    loop.run_until_complete(pause())
    assert not task.done()
    what.act = lambda: ACTS[act](loop, near, task, coroutine)
    far.send(b"data")
    stopping = loop.call_later(0.01, loop.stop)
    loop.run_forever()
    stopping.cancel()
    what.act = lambda: None
    loop.run_until_complete(pause())
    for left in asyncio.all_tasks(loop):
        left.cancel()
    loop.run_until_complete(pause())
    if act in ("collect", "watch"):
        assert task.result() in (b"data", 4)
    if act == "raise":
        # CPython says of any error of a buffer to write into that it is none.
        assert type(task.exception()) is (LookupError if make is Interferes else TypeError)
    if act == "close the socket":
        with pytest.raises(OSError, match="Bad file descriptor"):
            task.result()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no class in Python has a __buffer__")
@pytest.mark.parametrize("later", [0, 10, 1 << 23])
def test_data_whose_size_changes_after_the_first_attempt(loop, pair, later):
    """More than the kernel takes at once; what is left of it is that of the last size."""
    near, far = pair
    sizes = iter([1 << 22])

    class Data:
        def __len__(self):
            return 1 << 22

        def __buffer__(self, flags):
            return memoryview(bytes(next(sizes, later)))

    async def scenario():
        sending = asyncio.ensure_future(call(loop.sock_sendall(near, Data())))
        received = 0
        # Where all of it arrives nothing is waited for in vain.
        patience = 20 if later == 1 << 23 else 0.1
        while not sending.done():
            try:
                received += len(await asyncio.wait_for(loop.sock_recv(far, 1 << 20), patience))
            except asyncio.TimeoutError:
                # asyncio's loop goes on sending nothing for ever.
                sending.cancel()
                await asyncio.wait([sending])
        assert later != 1 << 23 or received == later

    loop.run_until_complete(scenario())


def test_a_long_chain_of_calls_is_freed(programs):
    done = programs.run(
        """
        import socket, warnings

        warnings.simplefilter("ignore")
        loop = new_event_loop()
        near, far = socket.socketpair()
        with near, far:
            call = None
            for _ in range(100_000):
                call = loop.sock_recv(near, call)
            del call
        loop.close()
        print("freed")
        """
    )
    assert done.stdout == "freed\n"
