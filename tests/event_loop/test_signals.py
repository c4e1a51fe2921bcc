"""Signal handlers, asyncio's and Python's own."""

import asyncio
import os
import signal
import threading
import time

import pytest

# Python's own signal handlers


def test_a_python_signal_handler_runs_promptly_while_the_loop_is_idle(loop):
    fired = []

    def handler(signum, frame):
        fired.append(time.monotonic())
        loop.call_soon_threadsafe(loop.stop)

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        sender = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        sender.start()
        # Far enough away that only the signal can end the run in time.
        guard = loop.call_later(30, loop.stop)
        started = time.monotonic()
        loop.run_forever()
        guard.cancel()
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert 0.05 < fired[0] - started < 5


def test_a_signal_that_lands_on_another_thread_is_handled_when_the_loop_wakes(loop):
    fired = []
    release = threading.Event()
    other = threading.Thread(target=release.wait)
    previous = signal.signal(signal.SIGUSR1, lambda *args: fired.append(args[0]))
    try:
        other.start()
        sender = threading.Timer(0.05, signal.pthread_kill, (other.ident, signal.SIGUSR1))
        sender.start()
        loop.run_until_complete(asyncio.sleep(0.2))
        sender.join()
    finally:
        release.set()
        other.join()
        signal.signal(signal.SIGUSR1, previous)
    assert fired == [signal.SIGUSR1]


def test_signals_at_any_moment_are_handled_at_once(programs):
    """A loop that is busy, goes to sleep or sleeps, and no wake-up descriptor to help it."""
    done = programs.run(
        """
        import asyncio, os, signal, socket, threading, time

        loop = new_event_loop()
        heard = threading.Event()
        signal.signal(signal.SIGUSR1, lambda *args: heard.set())
        late = []

        def send():
            for number in range(400):
                heard.clear()
                os.kill(os.getpid(), signal.SIGUSR1)
                if not heard.wait(5):
                    late.append(number)
                time.sleep(number % 7 * 1e-4)
            loop.call_soon_threadsafe(loop.stop)

        near, far = socket.socketpair()
        near.setblocking(False)
        loop.add_reader(near, near.recv, 100)

        def tick():
            far.send(b"x")
            loop.call_later(3e-3, tick)

        tick()
        sender = threading.Thread(target=send)
        sender.start()
        loop.run_forever()
        sender.join()
        loop.close()
        print(late)
        """
    )
    assert done.stdout == "[]\n"


def test_a_python_signal_handler_that_raises_ends_the_run(loop):
    def handler(signum, frame):
        raise LookupError("from the handler")

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        sender.start()
        guard = loop.call_later(30, loop.stop)
        with pytest.raises(LookupError, match="from the handler"):
            loop.run_forever()
        guard.cancel()
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert not loop.is_running()
    loop.run_until_complete(asyncio.sleep(0))


# add_signal_handler


def test_a_signal_handler_runs_as_a_callback_of_the_loop(loop):
    calls = []

    def handler(*args):
        calls.append((args, asyncio.get_running_loop()))
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler, 1, "two")
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert calls == [((1, "two"), loop)]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True


def test_a_signal_wakes_the_idle_loop_for_its_handler(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    sender = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    guard = loop.call_later(30, loop.stop)
    sender.start()
    started = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - started < 5
    guard.cancel()
    sender.join()


def test_a_handler_of_sigint_takes_the_place_of_the_keyboard_interrupt(loop):
    loop.add_signal_handler(signal.SIGINT, loop.stop)
    loop.call_soon(os.kill, os.getpid(), signal.SIGINT)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_later_handler_replaces_the_earlier_one(loop):
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "second")
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_until_complete(asyncio.sleep(0.05))
    assert calls == ["second"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_different_signals_have_different_handlers(loop):
    calls = []
    signals = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH]
    for signum in signals:
        loop.add_signal_handler(signum, calls.append, signum)
    for signum in signals:
        loop.call_soon(os.kill, os.getpid(), signum)
    loop.run_until_complete(asyncio.sleep(0.05))
    assert sorted(calls) == sorted(signals)
    for signum in signals:
        assert loop.remove_signal_handler(signum)


def test_removing_a_missing_handler_returns_false(loop):
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    loop.add_signal_handler(signal.SIGUSR1, print)
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


def test_removing_a_handler_restores_the_default_action(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    assert signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
    loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_closing_the_loop_removes_its_handlers(loop_factory):
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_exception_in_a_signal_handler_is_reported(loop):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    def fails():
        loop.call_soon(loop.stop)
        raise LookupError

    loop.add_signal_handler(signal.SIGUSR1, fails)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert isinstance(contexts[0]["exception"], LookupError)
    loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.parametrize("method", ["add_signal_handler", "remove_signal_handler"])
def test_a_number_that_is_no_signal_is_refused(loop, method):
    more = [print] if method == "add_signal_handler" else []
    with pytest.raises(TypeError, match=r"sig must be an int, not 'SIGINT'"):
        getattr(loop, method)("SIGINT", *more)
    for number in (0, -1, signal.NSIG, 10_000):
        with pytest.raises(ValueError, match=f"invalid signal number {number}"):
            getattr(loop, method)(number, *more)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_signals_that_cannot_be_caught_are_refused(loop, signum):
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with pytest.raises(RuntimeError, match=f"sig {signum:d} cannot be caught"):
        loop.add_signal_handler(signum, print)
    assert signal.set_wakeup_fd(before) == before


def test_coroutines_are_no_signal_handlers(loop):
    async def coroutine_function():
        pass

    coroutine = coroutine_function()
    for what in (coroutine_function, coroutine):
        with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
            loop.add_signal_handler(signal.SIGUSR1, what)
    coroutine.close()


def test_only_the_main_thread_can_have_signal_handlers(loop):
    errors = []

    def elsewhere():
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except (RuntimeError, ValueError) as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert [type(error) for error in errors] == [RuntimeError]
    assert "main thread" in str(errors[0])
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_closed_loop_takes_no_signal_handlers(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_signal_handler(signal.SIGUSR1, print)


def test_a_system_call_is_not_interrupted_by_a_signal_of_the_loop(programs):
    """A C library that does not expect EINTR must not see it: handlers are set to restart."""
    done = programs.run(
        """
        import os, signal, subprocess, threading
        loop = new_event_loop()
        loop.add_signal_handler(signal.SIGUSR1, print, "handled")
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        import ctypes
        reader, writer = os.pipe()
        threading.Timer(0.3, os.write, (writer, b"x")).start()
        buffer = ctypes.create_string_buffer(1)
        print(ctypes.CDLL(None, use_errno=True).read(reader, buffer, 1))
        loop.call_later(0.1, loop.stop)
        loop.run_forever()
        loop.close()
        """
    )
    assert done.stdout == "1\nhandled\n"
