"""Loops after os.fork(): the child can have its own, and leaves the parent's alone."""

import textwrap

import pytest

from support.forking import FORK

# Its child takes descriptors out of the selector that the parent goes on waiting with.
not_shared = pytest.mark.native_only(reason="the standard library's loop is shared with a child")

PREPARE = (
    textwrap.indent(FORK, "    ")
    + """
    import asyncio, gc, socket, sys, threading, time, warnings

    warnings.simplefilter("ignore", DeprecationWarning)  # fork() where threads are

    async def round_trip(executor=True):
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            await loop.sock_sendall(left, b"ping")
            assert await loop.sock_recv(right, 10) == b"ping"
        await asyncio.sleep(0.002)
        woken = loop.create_future()
        threading.Timer(0.002, loop.call_soon_threadsafe, (woken.set_result, None)).start()
        await woken
        if executor:
            assert await loop.run_in_executor(None, abs, -1) == 1
        return "round trip"
"""
)


def check(programs, source):
    done = programs.run(PREPARE + source + '\n    print("fine")\n')
    assert done.stdout == "fine\n"
    assert "Traceback" not in done.stderr


def test_a_child_makes_and_runs_a_loop_of_its_own(programs):
    check(
        programs,
        """
    def child():
        assert run(round_trip()) == "round trip"

    wait(fork(child))
    """,
    )


def test_a_child_makes_its_own_loop_after_the_parent_ran_one(programs):
    check(
        programs,
        """
    loop = new_event_loop()
    loop.run_until_complete(round_trip())

    def child():
        own = new_event_loop()
        assert own.run_until_complete(round_trip()) == "round trip"
        own.close()

    wait(fork(child))
    assert loop.run_until_complete(round_trip()) == "round trip"
    loop.close()
    """,
    )


def test_a_child_forked_while_the_parents_loop_runs_makes_its_own(programs):
    check(
        programs,
        """
    def child():
        assert asyncio._get_running_loop() is None
        own = new_event_loop()
        assert own.run_until_complete(round_trip()) == "round trip"
        own.close()

    async def main():
        pid = fork(child)
        await round_trip()
        await asyncio.get_running_loop().run_in_executor(None, wait, pid)
        await round_trip()

    run(main())
    """,
    )


@not_shared
def test_a_child_can_run_a_loop_that_the_parent_made_and_never_ran(programs):
    check(
        programs,
        """
    loop = new_event_loop()

    def child():
        ran = []
        loop.call_soon(ran.append, "soon")
        loop.call_later(0.01, ran.append, "timer")
        loop.run_until_complete(asyncio.sleep(0.03))
        assert ran == ["soon", "timer"], ran
        loop.close()

    wait(fork(child))
    assert loop.run_until_complete(round_trip()) == "round trip"
    loop.close()
    """,
    )


@not_shared
def test_a_child_can_run_a_loop_that_the_parent_ran_before(programs):
    check(
        programs,
        """
    loop = new_event_loop()
    loop.run_until_complete(round_trip())

    def child():
        # Not with the executor: the threads of that one stayed with the parent.
        assert loop.run_until_complete(round_trip(executor=False)) == "round trip"
        loop.close()

    pid = fork(child)
    for _ in range(20):
        assert loop.run_until_complete(round_trip()) == "round trip"
    wait(pid)
    assert loop.run_until_complete(round_trip()) == "round trip"
    loop.close()
    """,
    )


@pytest.mark.parametrize(
    "end", [pytest.param("loop.close()", marks=not_shared), "del loop; gc.collect()", "pass"]
)
def test_a_child_that_ends_its_copy_leaves_the_parents_loop_working(programs, end):
    check(
        programs,
        f"""
    warnings.simplefilter("ignore", ResourceWarning)
    loop = new_event_loop()
    loop.run_until_complete(round_trip())
    ran = []
    timer = loop.call_later(0.02, ran.append, "timer")
    left, right = socket.socketpair()
    loop.add_reader(left, lambda: ran.append(left.recv(1)))

    def child():
        global loop
        {end}

    wait(fork(child))
    right.send(b"x")
    loop.run_until_complete(asyncio.sleep(0.05))
    assert sorted(map(str, ran)) == ["b'x'", "timer"], ran
    assert loop.run_until_complete(round_trip()) == "round trip"
    loop.remove_reader(left)
    loop.close()
    """,
    )


def test_a_child_that_collects_the_loop_the_parent_is_running_does_no_harm(programs):
    check(
        programs,
        """
    def child():
        gc.collect()
        own = new_event_loop()
        own.run_until_complete(asyncio.sleep(0.01))
        own.close()
        gc.collect()

    async def main():
        await round_trip()
        pids = [fork(child) for _ in range(3)]
        for pid in pids:
            await asyncio.get_running_loop().run_in_executor(None, wait, pid)
        return await round_trip()

    assert run(main()) == "round trip"
    """,
    )


def test_signals_sent_to_the_child_do_not_reach_the_parents_loop(programs):
    check(
        programs,
        """
    loop = new_event_loop()
    caught = []
    loop.add_signal_handler(signal.SIGUSR1, caught.append, "parent")
    loop.run_until_complete(asyncio.sleep(0))

    def child():
        own = new_event_loop()
        seen = []
        own.add_signal_handler(signal.SIGUSR1, seen.append, "child")
        own.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        own.run_until_complete(asyncio.sleep(0.05))
        assert seen == ["child"], seen
        own.close()

    wait(fork(child))
    loop.run_until_complete(asyncio.sleep(0.05))
    assert caught == [], caught
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_until_complete(asyncio.sleep(0.05))
    assert caught == ["parent"], caught
    loop.close()
    """,
    )


def test_ctrl_c_in_the_child_ends_its_idle_loop(programs):
    check(
        programs,
        """
    run(round_trip())

    def child():
        own = new_event_loop()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        started = time.monotonic()
        try:
            own.run_forever()
        except KeyboardInterrupt:
            assert time.monotonic() - started < 10
            own.close()
        else:
            raise AssertionError("no KeyboardInterrupt")

    wait(fork(child))
    """,
    )


def test_children_of_children_have_loops_too(programs):
    check(
        programs,
        """
    def grandchild():
        run(round_trip())

    def child():
        run(round_trip())
        wait(fork(grandchild))
        run(round_trip())

    wait(fork(child))
    run(round_trip())
    """,
    )


def test_multiprocessing_workers_started_by_fork_run_loops(programs):
    check(
        programs,
        """
    import concurrent.futures, multiprocessing

    def work(i):
        return run(round_trip()), i

    run(round_trip())
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert [i for _, i in pool.map(work, range(10))] == list(range(10))
    """,
    )


def test_a_child_waits_for_a_callback_that_forked(programs):
    """Since 3.14 ``cancel()`` from another thread waits while the callback runs, in a child too."""
    check(
        programs,
        """
    loop = new_event_loop()
    children, waiters = [], []

    def ask():
        thread = threading.Thread(target=lambda: (handle.cancelled(), handle.cancel()))
        thread.start()
        waiters.append(thread)

    def callback():
        for _ in range(4):
            ask()
        time.sleep(0.02)  # while they wait
        pid = os.fork()
        if pid:
            children.append(pid)
        else:
            signal.alarm(20)
            waiters.clear()
            ask()
            time.sleep(0.02)
            children.append(0)
        loop.stop()

    handle = loop.call_soon_threadsafe(callback)
    loop.run_forever()
    for thread in waiters:
        thread.join()
    if children == [0]:
        os._exit(0)
    wait(children[0])
    loop.close()
    """,
    )


# What a child may do with a connection that its parent has written to in the same callback.
CHILDS = {
    "goes on": "pass",
    "writes": "transport.write(b'')",
    "closes": "transport.close()",
    "aborts": "transport.abort()",
    "looks": "transport.get_write_buffer_size()",
}


@pytest.mark.parametrize("end", CHILDS.values(), ids=CHILDS)
def test_data_written_before_a_fork_is_sent_once(programs, end):
    check(
        programs,
        f"""
    near, far = socket.socketpair()
    near.setblocking(False)
    loop = new_event_loop()

    class Forks(asyncio.Protocol):
        def data_received(self, data):
            transport.write(b"once")
            transport.writelines([b"and", b"only"])
            pid = os.fork()
            if not pid:
                signal.alarm(20)
                {end}
                loop.call_later(0.02, os._exit, 0)
                return
            wait(pid)
            loop.stop()

    async def connect():
        return (await loop.create_connection(Forks, sock=near))[0]

    transport = loop.run_until_complete(connect())
    far.send(b"x")
    loop.run_forever()
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    received = b""
    while data := far.recv(100):
        received += data
    assert received == b"onceandonly", received
    """,
    )


@pytest.mark.parametrize("end", ["pass", "transport.abort()"])
def test_data_encrypted_before_a_fork_is_sent_once(programs, certificates, end):
    """Records that come twice are a forgery to the peer."""
    server, authority = certificates.server, certificates.authority
    check(
        programs,
        f"""
    import ssl

    near, far = socket.socketpair()
    near.setblocking(False)
    far.settimeout(20)
    loop = new_event_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain({server.certificate!r}, {server.key!r})
    received = []

    def peer():
        context = ssl.create_default_context(cafile={str(authority)!r})
        with context.wrap_socket(far, server_hostname="localhost") as secure:
            secure.sendall(b"x")
            while sum(map(len, received)) < 8:
                received.append(secure.recv(100))

    class Forks(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            transport = self.transport
            transport.write(b"once")
            pid = os.fork()
            if not pid:
                signal.alarm(20)
                {end}
                loop.call_later(0.02, os._exit, 0)
                return
            wait(pid)
            transport.write(b"more")
            loop.call_later(0.02, loop.stop)

    thread = threading.Thread(target=peer)
    thread.start()
    task = loop.create_task(loop.connect_accepted_socket(Forks, near, ssl=context))
    loop.run_forever()
    task.result()[0].abort()
    thread.join()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert b"".join(received) == b"oncemore", received
    """,
    )
