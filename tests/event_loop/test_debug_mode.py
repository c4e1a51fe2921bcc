"""Debug mode: how it is switched on, what it checks, and what it logs."""

import _thread
import asyncio
import logging
import os
import socket
import sys
import threading
import time

import pytest

from support.iterations import run_briefly

PRINT_DEBUG = """
    loop = new_event_loop()
    print(loop.get_debug())
    loop.close()
"""


def test_debug_is_off_until_it_is_switched_on(programs, loop):
    assert programs.run(PRINT_DEBUG).stdout == "False\n"
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


def test_the_environment_switches_debug_on(programs):
    assert programs.run(PRINT_DEBUG, env={"PYTHONASYNCIODEBUG": "1"}).stdout == "True\n"
    assert programs.run(PRINT_DEBUG, env={"PYTHONASYNCIODEBUG": ""}).stdout == "False\n"


def test_development_mode_switches_debug_on(programs):
    assert programs.run(PRINT_DEBUG, flags=["-X", "dev"]).stdout == "True\n"
    assert programs.run(PRINT_DEBUG, env={"PYTHONDEVMODE": "1"}).stdout == "True\n"


def test_without_the_environment_the_variable_means_nothing(programs):
    done = programs.run(PRINT_DEBUG, flags=["-E"], env={"PYTHONASYNCIODEBUG": "1"})
    assert done.stdout == "False\n"


def test_run_can_switch_debug_on(programs):
    done = programs.run(
        """
        import asyncio

        async def main():
            print(asyncio.get_running_loop().get_debug())

        run(main(), debug=True)
        run(main(), debug=False)
        """
    )
    assert done.stdout == "True\nFalse\n"


def test_a_slow_callback_is_warned_of(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    loop.call_soon(time.sleep, 0.02)
    with caplog.at_level(logging.WARNING, "asyncio"):
        run_briefly(loop)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("Executing <Handle ")
    assert "sleep" in record.getMessage()
    seconds = float(record.getMessage().rpartition(" took ")[2].removesuffix(" seconds"))
    assert 0.02 <= seconds < 5


def test_a_slow_step_of_a_task_is_warned_of_by_the_task(loop, caplog):
    async def slow():
        time.sleep(0.02)

    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.run_until_complete(loop.create_task(slow(), name="the slow one"))
    assert any(
        record.getMessage().startswith("Executing <Task ")
        and "name='the slow one'" in record.getMessage()
        for record in caplog.records
    )


def test_the_standard_slow_callback_duration_is_a_tenth_of_a_second(loop):
    assert loop.slow_callback_duration == 0.1


def test_a_slow_callback_is_no_matter_without_debug(loop, caplog):
    loop.set_debug(False)
    loop.slow_callback_duration = 0.001
    loop.call_soon(time.sleep, 0.01)
    run_briefly(loop)
    assert caplog.records == []


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_debug_mode_refuses_calls_from_the_wrong_thread(loop, method):
    delay = {"call_later": [60], "call_at": [0]}.get(method, [])
    errors = []

    def elsewhere():
        try:
            getattr(loop, method)(*delay, print)
        except RuntimeError as error:
            errors.append(str(error))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=elsewhere)
    loop.set_debug(True)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert len(errors) == 1
    assert errors[0].startswith("Non-thread-safe operation invoked on an event loop other than")


def test_before_the_loop_runs_any_thread_may_schedule(loop):
    loop.set_debug(True)
    ran = []
    thread = threading.Thread(target=loop.call_soon, args=(ran.append, 1))
    thread.start()
    thread.join()
    run_briefly(loop)
    assert ran == [1]


def test_coroutine_origins_are_tracked_while_a_debugged_loop_runs(loop):
    depths = []
    before = sys.get_coroutine_origin_tracking_depth()
    loop.set_debug(True)
    loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    run_briefly(loop)
    assert depths[0] > before
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_coroutine_origins_are_not_tracked_without_debug(loop):
    depths = []
    before = sys.get_coroutine_origin_tracking_depth()
    loop.set_debug(False)
    loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    run_briefly(loop)
    assert depths == [before]


def test_debug_switched_while_running_switches_the_tracking_too(loop):
    depths = []
    before = sys.get_coroutine_origin_tracking_depth()

    async def main():
        for debug in (True, False, True):
            loop.set_debug(debug)
            await asyncio.sleep(0)
            depths.append(sys.get_coroutine_origin_tracking_depth() > before)

    loop.set_debug(False)
    loop.run_until_complete(main())
    assert depths == [True, False, True]
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_the_tracking_is_restored_when_the_loop_is_left_by_an_exit(loop):
    before = sys.get_coroutine_origin_tracking_depth()
    loop.set_debug(True)
    loop.call_soon(sys.exit)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_a_coroutine_that_was_never_awaited_shows_where_it_was_made(programs):
    done = programs.run(
        """
        import asyncio, gc

        async def forgotten():
            pass

        async def careless():
            forgotten()
            gc.collect()

        run(careless(), debug=True)
        """,
    )
    assert "coroutine 'forgotten' was never awaited" in done.stderr
    assert "Coroutine created at (most recent call last)" in done.stderr


def test_everything_works_in_debug_mode_too(loop):
    loop.set_debug(True)

    async def main():
        assert await asyncio.to_thread(abs, -1) == 1
        await asyncio.gather(*(asyncio.sleep(i / 1000) for i in range(10)))
        future = loop.create_future()
        loop.call_soon_threadsafe(future.set_result, "set")
        return await asyncio.wait_for(future, 10)

    assert loop.run_until_complete(main()) == "set"


def test_a_slow_callback_of_a_transport_is_logged(loop, caplog):
    class Slow(asyncio.Protocol):
        def data_received(self, data):
            time.sleep(0.05)
            self.done.set_result(data)

    async def scenario():
        protocol = Slow()
        protocol.done = loop.create_future()
        near, far = socket.socketpair()
        with far:
            transport, _ = await loop.create_connection(lambda: protocol, sock=near)
            far.sendall(b"x")
            await protocol.done
            transport.close()
            await asyncio.sleep(0)

    loop.set_debug(True)
    loop.slow_callback_duration = 0.04
    with caplog.at_level(logging.WARNING, logger="asyncio"):
        loop.run_until_complete(scenario())
    assert any("Executing " in record.getMessage() for record in caplog.records)


# --- where handles come from ---


class Fails(asyncio.Protocol):
    """Raises in one of its methods."""

    def __init__(self, where):
        self.where = where
        self.ended = asyncio.get_running_loop().create_future()

    def _fail(self, where):
        if where == self.where:
            raise ZeroDivisionError(where)

    def connection_made(self, transport):
        self._fail("connection_made")

    def data_received(self, data):
        self._fail("data_received")

    def datagram_received(self, data, addr):
        self._fail("data_received")

    def connection_lost(self, exc):
        self.ended.set_result(exc)
        self._fail("connection_lost")


def reports_of(loop, debug=True):
    reports = []
    loop.set_debug(debug)
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    return reports


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("add", ["add_reader", "add_writer"])
def test_a_reader_remembers_in_debug_mode_where_it_was_added(loop, add, debug):
    reports = reports_of(loop, debug)
    near, far = socket.socketpair()

    def ready():
        loop.remove_reader(near)
        loop.remove_writer(near)
        loop.call_soon(loop.stop)
        raise ZeroDivisionError

    with near, far:
        far.send(b"data")
        getattr(loop, add)(near, ready)
        loop.run_forever()
    (report,) = reports
    assert ("source_traceback" in report) == debug
    source = report["handle"]._source_traceback
    if debug:
        assert report["source_traceback"] is source
        assert any(frame.name.startswith("test_a_reader_remembers") for frame in source)
    else:
        assert source is None


@pytest.mark.parametrize("where", ["connection_made", "connection_lost"])
@pytest.mark.parametrize("kind", ["stream", "datagram", "read pipe", "write pipe"])
def test_reports_of_transports_name_their_cause_in_debug_mode(loop, kind, where):
    reports = reports_of(loop)

    async def main():
        if kind == "stream":
            near, far = socket.socketpair()
            making = loop.create_connection(lambda: Fails(where), sock=near)
        elif kind == "datagram":
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            making = loop.create_datagram_endpoint(lambda: Fails(where), sock=near)
        else:
            read, write = os.pipe()
            read, write = os.fdopen(read, "rb", 0), os.fdopen(write, "wb", 0)
            near, far = (read, write) if kind == "read pipe" else (write, read)
            make = loop.connect_read_pipe if kind == "read pipe" else loop.connect_write_pipe
            making = make(lambda: Fails(where), near)
        if kind in ("stream", "datagram"):
            near.setblocking(False)
        transport, protocol = await making
        with far:

            def closes():
                transport.close()

            closes()
            await protocol.ended
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    (report,) = reports
    names = [frame.name for frame in report["source_traceback"]]
    assert "main" in names
    assert ("closes" in names) == (where == "connection_lost")


def test_the_log_of_a_fatal_error_shows_in_debug_mode_where_the_handle_was_created(loop, caplog):
    loop.set_debug(True)

    async def main():
        near, far = socket.socketpair()
        near.setblocking(False)
        with far:
            _, protocol = await loop.create_connection(lambda: Fails("data_received"), sock=near)
            far.send(b"data")
            assert type(await protocol.ended) is ZeroDivisionError

    loop.run_until_complete(main())
    assert "Fatal error: protocol.data_received() call failed." in caplog.text
    assert "Handle created at (most recent call last)" in caplog.text


def test_a_thread_without_python_code_may_schedule(loop):
    """A thread of an extension has no Python frame: there is no stack to keep."""
    loop.set_debug(True)
    called = []

    def call():
        called.append(threading.get_ident())
        loop.stop()

    overdue = loop.call_later(20, loop.stop)
    _thread.start_new_thread(loop.call_soon_threadsafe, (call,))
    loop.run_forever()
    overdue.cancel()
    assert called == [threading.get_ident()]
