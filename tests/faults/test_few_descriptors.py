"""With one descriptor more each time, until there are enough: it fails cleanly, or it works."""

from __future__ import annotations

import subprocess

import pytest

from faults.exhaustion import printed

SWEEP = """
outcomes = []

def sweep(operation):
    '''Whatever is missing: it fails with EMFILE and leaves nothing, or it works.'''
    operation()  # what is made once and kept is made now
    gc.collect()
    before = descriptors()
    for number in range(40):
        with spare(number):
            try:
                operation()
                outcome = "works"
            except OSError as error:
                if not exhausted(error):
                    raise
                outcome = "fails"
        gc.collect()
        assert descriptors() == before, (number, before, os.listdir("/proc/self/fd"))
        outcomes.append(outcome)
    print(json.dumps(outcomes))
"""


def check_sweep(outcomes):
    works = outcomes.index("works")
    assert outcomes[0] == "fails"
    assert outcomes == ["fails"] * works + ["works"] * (len(outcomes) - works)


def test_loops_are_made_or_not(programs):
    source = """
def operation():
    new_event_loop().close()

sweep(operation)
"""
    check_sweep(printed(programs, SWEEP + source))


def test_loops_run_or_do_not(programs):
    source = """
def operation():
    loop = new_event_loop()
    try:
        loop.run_until_complete(work())
    finally:
        loop.close()

async def work():
    await asyncio.sleep(0.001)

sweep(operation)
"""
    check_sweep(printed(programs, SWEEP + source))


def test_a_loop_that_could_not_run_runs_later(programs):
    source = """
def run_once(loop):
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    return "done"

def operation(number):
    loop = new_event_loop()
    with spare(number):
        try:
            first = run_once(loop)
        except OSError as error:
            assert exhausted(error), error
            first = "failed"
    again = run_once(loop)
    loop.close()
    return first, again

outcomes = [operation(number) for number in range(8)]
assert all(again == "done" for _, again in outcomes), outcomes
assert outcomes[-1][0] == "done"
print(json.dumps(True))
"""
    assert printed(programs, source)


# Popen of older releases leaves the pipes open that it had made when there is no other.
CLOSES_PIPES = hasattr(subprocess.Popen, "_on_error_fd_closer")


@pytest.mark.parametrize("pipes", [0, 3] if CLOSES_PIPES else [0])
def test_children_are_started_or_not(programs, pipes):
    source = f"""
PIPES = dict.fromkeys(("stdin", "stdout", "stderr")[:{pipes}], asyncio.subprocess.PIPE)

async def start():
    process = await asyncio.create_subprocess_exec("true", **PIPES)
    await process.communicate()
    assert process.returncode == 0

loop = new_event_loop()
asyncio.set_event_loop(loop)
sweep(lambda: loop.run_until_complete(start()))
loop.close()
try:
    print(os.waitpid(-1, os.WNOHANG), "was left")
except ChildProcessError:
    pass
"""
    check_sweep(printed(programs, SWEEP + source))


def test_pipes_are_connected_or_not(programs):
    source = """
async def work():
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as reading, open(writing, "wb", 0) as writing:
        a, _ = await loop.connect_read_pipe(asyncio.Protocol, reading)
        b, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, writing)
        a.close()
        b.close()
        await asyncio.sleep(0.001)

loop = new_event_loop()
sweep(lambda: loop.run_until_complete(work()))
loop.close()
"""
    check_sweep(printed(programs, SWEEP + source))


def test_readers_are_added_or_not(programs):
    source = """
async def work():
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    with near, far:
        called = loop.create_future()
        far.send(b"x")
        loop.add_reader(near, called.set_result, None)
        try:
            await called
        finally:
            loop.remove_reader(near)

def operation():
    loop = new_event_loop()
    try:
        loop.run_until_complete(work())
    finally:
        loop.close()

sweep(operation)
"""
    check_sweep(printed(programs, SWEEP + source))


def test_servers_and_clients_on_fewer_descriptors_than_they_need(programs):
    source = """
async def work():
    loop = asyncio.get_running_loop()
    # asyncio passes over a family that it cannot make a socket of, whatever the reason; what it
    # says in the end depends on its version.
    try:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
    except OSError as error:
        assert "could not bind on any address" in str(error)
        server = None
    if server is None or not server.sockets:
        raise OSError(errno.EMFILE, "no socket to listen on")
    try:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            writer.write(b"line\\n")
            await asyncio.wait_for(reader.readline(), 0.05)
        except asyncio.TimeoutError:
            raise OSError(errno.EMFILE, "not accepted")
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.001)

async def answer(reader, writer):
    writer.write(await reader.readline())
    writer.close()
    await writer.wait_closed()

loop = new_event_loop()
loop.set_exception_handler(lambda loop, context: None)
sweep(lambda: loop.run_until_complete(work()))
loop.close()
"""
    check_sweep(printed(programs, SWEEP + source))
