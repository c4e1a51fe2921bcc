"""Exceptions in callbacks, and the handlers that get their reports."""

import asyncio
import gc
import logging

import pytest

from support.iterations import run_briefly


def fails(*args):
    raise LookupError("lost")


@pytest.fixture
def contexts(loop):
    """The contexts that the exception handler of the loop got."""
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    return contexts


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_an_exception_in_a_callback_goes_to_the_handler_and_the_loop_goes_on(
    loop, contexts, method
):
    delay = {"call_later": [0], "call_at": [0]}.get(method, [])
    after = []
    handle = getattr(loop, method)(*delay, fails, 1)
    getattr(loop, method)(*delay, after.append, "after")
    while not after:
        run_briefly(loop)
    (context,) = contexts
    assert after == ["after"]
    assert isinstance(context["exception"], LookupError)
    assert context["handle"] is handle
    assert context["message"].startswith("Exception in callback fails(")
    assert "test_exception_handler.py:" in context["message"]


def test_the_traceback_of_the_exception_ends_in_the_callback(loop, contexts):
    loop.call_soon(fails)
    run_briefly(loop)
    traceback = contexts[0]["exception"].__traceback__
    while traceback.tb_next:
        traceback = traceback.tb_next
    assert traceback.tb_frame.f_code is fails.__code__


def test_only_debug_mode_shows_where_the_handle_was_made(loop, contexts):
    loop.call_soon(fails)
    run_briefly(loop)
    loop.set_debug(True)
    loop.call_soon(fails)
    run_briefly(loop)
    plain, debugged = contexts
    assert "source_traceback" not in plain
    assert debugged["source_traceback"][-1].filename == __file__


def test_every_failing_callback_of_a_batch_is_reported(loop, contexts):
    for _ in range(100):
        loop.call_soon(fails)
    run_briefly(loop)
    assert len(contexts) == 100


def test_a_base_exception_of_ones_own_is_reported_as_any_other(loop, contexts):
    class Own(BaseException):
        pass

    def callback():
        raise Own

    loop.call_soon(callback)
    run_briefly(loop)
    assert type(contexts[0]["exception"]) is Own


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("delay", [None, 0])
def test_exit_and_interrupt_are_raised_to_the_caller_only(loop, contexts, error, delay):
    def callback():
        raise error("out")

    if delay is None:
        loop.call_soon(callback)
    else:
        loop.call_later(delay, callback)
    with pytest.raises(error, match="out"):
        loop.run_forever()
    assert contexts == []
    assert not loop.is_running()
    run_briefly(loop)


def test_the_handler_can_be_read_and_removed(loop):
    def handler(loop, context):
        pass

    assert loop.get_exception_handler() is None
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        loop.set_exception_handler(42)


def test_call_exception_handler_passes_the_context_on_as_it_is(loop, contexts):
    context = {"message": "reported by hand", "extra": object()}
    assert loop.call_exception_handler(context) is None
    assert contexts == [context]
    assert contexts[0] is context


def test_the_handler_gets_the_loop(loop):
    loops = []
    loop.set_exception_handler(lambda loop, context: loops.append(loop))
    loop.call_soon(fails)
    run_briefly(loop)
    assert loops == [loop]


def test_without_a_handler_the_exception_is_logged(loop, caplog):
    loop.call_soon(fails)
    run_briefly(loop)
    (record,) = caplog.records
    assert record.name == "asyncio"
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("Exception in callback fails(")
    assert f"handle: <Handle {fails.__name__}" in record.getMessage()
    assert record.exc_info[0] is LookupError


def test_the_default_handler_can_be_called_by_hand(loop, caplog):
    loop.default_exception_handler({"message": "by hand", "zebra": 1, "apple": 2})
    loop.default_exception_handler({})
    by_hand, empty = (record.getMessage() for record in caplog.records)
    assert by_hand == "by hand\napple: 2\nzebra: 1"
    assert empty == "Unhandled exception in event loop"


def test_a_handler_that_fails_is_reported_by_the_default_one(loop, caplog):
    loop.set_exception_handler(fails)
    loop.call_soon(lambda: 1 / 0)
    after = []
    loop.call_soon(after.append, 1)
    run_briefly(loop)
    assert after == [1]
    (record,) = caplog.records
    assert "Unhandled error in exception handler" in record.getMessage()
    assert record.exc_info[0] is LookupError
    assert "ZeroDivisionError" in record.getMessage()


def test_a_default_handler_that_fails_is_logged(loop, caplog, monkeypatch):
    monkeypatch.setattr(loop, "default_exception_handler", fails)
    loop.call_soon(lambda: 1 / 0)
    run_briefly(loop)
    (record,) = caplog.records
    assert "Exception in default exception handler" in record.getMessage()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_exit_and_interrupt_leave_a_handler_too(loop, error):
    def handler(loop, context):
        raise error("from the handler")

    after = []
    loop.set_exception_handler(handler)
    loop.call_soon(fails)
    loop.call_soon(after.append, 1)
    with pytest.raises(error, match="from the handler"):
        loop.run_forever()
    loop.set_exception_handler(None)
    run_briefly(loop)
    assert after == [1]


def test_a_task_exception_that_is_not_retrieved_is_reported(loop, contexts):
    async def main():
        fails()

    async def spawn():
        # Not kept, so the exception cannot be retrieved any more.
        asyncio.ensure_future(main())  # noqa: RUF006
        await asyncio.sleep(0)

    loop.run_until_complete(spawn())
    run_briefly(loop)
    gc.collect()
    (context,) = contexts
    assert context["message"] == "Task exception was never retrieved"
    assert isinstance(context["exception"], LookupError)


def test_an_exception_in_a_done_callback_is_reported(loop, contexts):
    future = loop.create_future()
    future.add_done_callback(fails)
    future.set_result(None)
    run_briefly(loop)
    assert isinstance(contexts[0]["exception"], LookupError)


def test_an_exception_in_a_reader_is_reported_and_it_goes_on_reading(loop, contexts, socketpair):
    left, right = socketpair
    right.send(b"xy")

    def reader():
        left.recv(1)
        if len(contexts) == 1:
            loop.stop()
        fails()

    loop.add_reader(left, reader)
    loop.run_forever()
    loop.remove_reader(left)
    assert len(contexts) == 2


@pytest.fixture
def socketpair():
    import socket

    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        yield left, right
