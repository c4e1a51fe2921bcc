"""Signal handlers, asyncio's and Python's own, and the wake-up descriptor of the process."""

import asyncio
import os
import signal
import socket
import textwrap
import threading
import time

import pytest
from support.reused_numbers import pair_with

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


def test_a_signal_that_lands_on_another_thread_is_heard_of_when_the_loop_wakes(loop):
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


def test_signals_at_any_moment_are_heard_of_at_once(programs):
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


def test_removing_a_handler_that_is_not_there_says_so(loop):
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
def test_what_is_no_signal_is_refused(loop, method):
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


# The wake-up descriptor belongs to the process


@pytest.fixture
def own_wakeup_fd():
    left, right = socket.socketpair()
    with left, right:
        right.setblocking(False)
        before = signal.set_wakeup_fd(right.fileno(), warn_on_full_buffer=False)
        yield right.fileno()
        signal.set_wakeup_fd(before)


def current_wakeup_fd():
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    return fd


def test_a_run_leaves_the_wake_up_descriptor_as_it_was(loop, own_wakeup_fd):
    loop.run_until_complete(asyncio.sleep(0.001))
    assert current_wakeup_fd() == own_wakeup_fd


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_run_that_is_left_by_an_exit_leaves_the_wake_up_descriptor_as_it_was(
    loop, own_wakeup_fd, error
):
    def leaves():
        raise error

    loop.call_soon(leaves)
    with pytest.raises(error):
        loop.run_forever()
    assert current_wakeup_fd() == own_wakeup_fd


def test_without_any_loop_running_there_is_no_wake_up_descriptor(loop):
    assert current_wakeup_fd() == -1
    loop.run_until_complete(asyncio.sleep(0.001))
    assert current_wakeup_fd() == -1


def test_removing_the_last_handler_takes_the_loops_wake_up_descriptor_away(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGUSR2, print)
    loop.run_until_complete(asyncio.sleep(0))
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)
    assert current_wakeup_fd() == -1


def test_closing_the_loop_takes_its_wake_up_descriptor_away(loop_factory):
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert current_wakeup_fd() == -1


class Foreign:
    """A wake-up descriptor of somebody else's."""

    def __init__(self):
        self.reading, self.writing = socket.socketpair()
        for end in (self.reading, self.writing):
            end.setblocking(False)

    def fileno(self):
        return self.writing.fileno()

    def heard(self):
        try:
            return list(self.reading.recv(100))
        except BlockingIOError:
            return []

    def close(self):
        self.reading.close()
        self.writing.close()


@pytest.fixture
def foreign():
    foreign = Foreign()
    before = signal.set_wakeup_fd(-1)
    yield foreign
    signal.set_wakeup_fd(before)
    foreign.close()


@pytest.fixture
def handled():
    """A signal with a handler in Python; its number."""
    previous = signal.signal(signal.SIGUSR2, lambda *args: None)
    yield signal.SIGUSR2
    signal.signal(signal.SIGUSR2, previous)


def run_with_signals(loop, number, count=3):
    """Run the loop, and send a signal again and again while it sleeps; what callbacks found."""
    found = []
    for _ in range(count):
        loop.call_soon(lambda: found.append(current_wakeup_fd()))
        sender = threading.Timer(0.02, os.kill, (os.getpid(), number))
        sender.start()
        loop.run_until_complete(asyncio.sleep(0.05))
        sender.join()
    return found


def test_a_loop_that_runs_sets_no_wake_up_descriptor(loop, handled):
    assert set(run_with_signals(loop, handled)) == {-1}
    assert current_wakeup_fd() == -1


def test_somebody_elses_wake_up_descriptor_stays_and_hears(loop, foreign, handled):
    signal.set_wakeup_fd(foreign.fileno())
    assert set(run_with_signals(loop, handled)) == {foreign.fileno()}
    assert foreign.heard() == [handled] * 3
    assert current_wakeup_fd() == foreign.fileno()


def test_a_wake_up_descriptor_set_while_the_loop_runs_stays_and_hears(loop, foreign, handled):
    async def scenario():
        assert signal.set_wakeup_fd(foreign.fileno()) == -1
        os.kill(os.getpid(), handled)
        await asyncio.sleep(0.01)
        assert foreign.heard() == [handled]

    loop.run_until_complete(scenario())
    run_with_signals(loop, handled, 1)
    assert foreign.heard() == [handled]
    assert current_wakeup_fd() == foreign.fileno()


def test_a_loop_may_watch_somebody_elses_wake_up_descriptor(loop, foreign, handled):
    signal.set_wakeup_fd(foreign.fileno())
    heard = []
    loop.add_reader(foreign.reading, lambda: heard.extend(foreign.heard()))
    run_with_signals(loop, handled)
    loop.remove_reader(foreign.reading)
    assert heard == [handled] * 3


@pytest.mark.native_only(reason="asyncio takes it away for good")
def test_signal_handlers_pass_on_to_the_wake_up_descriptor_before_them(loop, foreign, handled):
    signal.set_wakeup_fd(foreign.fileno())
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "called")
    run_with_signals(loop, signal.SIGUSR1)
    run_with_signals(loop, handled, 1)
    assert calls == ["called"] * 3
    assert foreign.heard() == [signal.SIGUSR1] * 3 + [handled]
    loop.remove_signal_handler(signal.SIGUSR1)
    assert current_wakeup_fd() == foreign.fileno()


@pytest.mark.native_only(reason="asyncio forgets it when it takes it away")
def test_a_wake_up_descriptor_that_was_closed_meanwhile_gets_nothing(loop, foreign, handled):
    signal.set_wakeup_fd(foreign.fileno())
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    number = foreign.fileno()
    foreign.writing.close()
    stranger, peer = pair_with(number)
    with stranger, peer:
        stranger.setblocking(False)
        peer.setblocking(False)
        run_with_signals(loop, signal.SIGUSR1)
        with pytest.raises(BlockingIOError):
            peer.recv(100)
        loop.remove_signal_handler(signal.SIGUSR1)
        assert current_wakeup_fd() == -1


@pytest.mark.native_only(reason="asyncio takes it away for good")
def test_a_wake_up_descriptor_that_was_set_after_signal_handlers_stays(loop, foreign):
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    signal.set_wakeup_fd(foreign.fileno())
    run_with_signals(loop, signal.SIGUSR1)
    assert foreign.heard() == [signal.SIGUSR1] * 3
    loop.remove_signal_handler(signal.SIGUSR1)
    assert current_wakeup_fd() == foreign.fileno()


@pytest.mark.native_only(reason="asyncio's first loop hears nothing any more")
def test_another_loops_signal_handlers_come_and_go(loop, loop_factory, handled):
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "first")
    own = current_wakeup_fd()
    other = loop_factory()
    other.add_signal_handler(signal.SIGWINCH, calls.append, "second")
    assert current_wakeup_fd() != own
    run_with_signals(other, signal.SIGWINCH, 1)
    # Not lost: the first loop calls it when it runs.
    run_with_signals(other, signal.SIGUSR1, 1)
    other.close()
    assert current_wakeup_fd() == own
    run_with_signals(loop, signal.SIGUSR1, 1)
    assert calls == ["second", "first", "first"]
    # Both ways round: neither passes on to the other for ever.
    again = loop_factory()
    again.add_signal_handler(signal.SIGWINCH, calls.append, "third")
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "fourth")
    run_with_signals(loop, signal.SIGUSR1, 1)
    run_with_signals(again, handled, 1)
    run_with_signals(loop, handled, 1)
    assert calls[3:] == ["fourth"]
    again.close()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert current_wakeup_fd() == -1


@pytest.mark.native_only(reason="with asyncio, whatever gets the number gets the signal's as well")
def test_closing_a_loop_with_signal_handlers_in_another_thread(programs):
    """Only the main thread can take the wake-up descriptor away."""
    done = programs.run(
        """
        import os, signal, socket, threading

        loop = new_event_loop()
        loop.add_signal_handler(signal.SIGUSR1, print)

        def close():
            try:
                loop.close()
            except ValueError as error:
                print("main thread" in str(error), loop.is_closed())

        thread = threading.Thread(target=close)
        thread.start()
        thread.join()
        signal.signal(signal.SIGUSR1, lambda *args: print("heard"))
        pairs = [socket.socketpair() for _ in range(10)]
        for pair in pairs:
            for end in pair:
                end.setblocking(False)
        os.kill(os.getpid(), signal.SIGUSR1)
        for pair in pairs:
            for end in pair:
                try:
                    print("a stranger got", end.recv(10))
                except BlockingIOError:
                    pass
        """
    )
    assert done.stdout == "True True\nheard\n"


def test_a_closed_wake_up_descriptor_whose_number_the_loop_gets(programs):
    """It must not be taken for the one to pass signals on to."""
    done = programs.run(
        """
        import asyncio, os, signal, socket

        loop = new_event_loop()
        for end in 0, 1:
            ends = socket.socketpair()
            ends[end].setblocking(False)
            signal.set_wakeup_fd(ends[end].fileno())
            for each in ends:
                each.close()
            loop.add_signal_handler(signal.SIGUSR1, print, "handled")
            os.kill(os.getpid(), signal.SIGUSR1)
            loop.run_until_complete(asyncio.sleep(0.05))
            loop.remove_signal_handler(signal.SIGUSR1)
            assert signal.set_wakeup_fd(-1) == -1
        loop.close()
        """
    )
    assert done.stdout == "handled\nhandled\n"


@pytest.mark.native_only(reason="a child that closes asyncio's loop ends its parent's, too")
def test_a_child_that_closes_its_copy_leaves_the_parent_its_signals(programs):
    done = programs.run(
        """
        import asyncio, os, signal

        loop = new_event_loop()
        loop.add_signal_handler(signal.SIGUSR1, print, "handled")
        os.kill(os.getpid(), signal.SIGUSR1)
        child = os.fork()
        if child == 0:
            loop.close()
            os._exit(0)
        os.waitpid(child, 0)
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()
        """
    )
    assert done.stdout == "handled\n"


@pytest.mark.parametrize("interrupted", ["add", "remove"])
def test_ctrl_c_in_any_line_of_adding_and_removing_a_handler(programs, interrupted):
    """The next handler hears, no descriptor is left over, and the interpreter writes into none."""
    done = programs.run(
        f"interrupted = {interrupted!r}\n"
        + textwrap.dedent(
            """
            import asyncio, os, signal, sys

            FILES = "signals.py", "unix_events.py"

            def interrupt(line, call):
                lines = 0

                def trace(frame, event, arg):
                    nonlocal lines
                    ours = os.path.basename(frame.f_code.co_filename) in FILES
                    if event == "line" and ours:
                        lines += 1
                        if lines == line:
                            sys.settrace(None)
                            raise KeyboardInterrupt
                    return trace

                sys.settrace(trace)
                try:
                    call()
                except KeyboardInterrupt:
                    return True
                finally:
                    sys.settrace(None)
                return False

            def attempt(line):
                loop = new_event_loop()
                if interrupted == "add":
                    found = interrupt(line, lambda: loop.add_signal_handler(signal.SIGUSR1, int))
                else:
                    loop.add_signal_handler(signal.SIGUSR1, int)
                    found = interrupt(line, lambda: loop.remove_signal_handler(signal.SIGUSR1))
                handled = loop.create_future()
                hears = lambda: handled.done() or handled.set_result(1)
                loop.add_signal_handler(signal.SIGUSR1, hears)
                os.kill(os.getpid(), signal.SIGUSR1)
                loop.run_until_complete(asyncio.wait_for(handled, 10))
                loop.close()
                assert signal.set_wakeup_fd(-1) == -1, line
                return found

            def opened():
                return len(os.listdir("/proc/self/fd"))

            attempt(1)
            before = opened()
            line = 1
            while attempt(line):
                line += 1
            assert line > 5
            assert opened() <= before, (opened(), before)
            """
        )
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_loops_that_are_closed_in_another_thread_leave_no_descriptors(programs):
    done = programs.run(
        """
        import os, signal, threading

        def closed_elsewhere():
            loop = new_event_loop()
            loop.add_signal_handler(signal.SIGUSR1, print)

            def close():
                try:
                    loop.close()
                except ValueError:
                    pass

            thread = threading.Thread(target=close)
            thread.start()
            thread.join()

        def opened():
            return len(os.listdir("/proc/self/fd"))

        for _ in range(3):
            closed_elsewhere()
        before = opened()
        for _ in range(10):
            closed_elsewhere()
        print(opened() - before)
        """
    )
    assert done.stdout == "0\n"


@pytest.mark.native_only(reason="asyncio takes it away for good")
def test_a_loop_closed_in_another_thread_hands_on_what_it_had_displaced(
    loop, loop_factory, foreign
):
    signal.set_wakeup_fd(foreign.fileno())
    other = loop_factory()
    other.add_signal_handler(signal.SIGUSR1, lambda: None)

    def close():
        with pytest.raises(ValueError, match="main thread"):
            other.close()

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    run_with_signals(loop, signal.SIGUSR1, 1)
    assert foreign.heard() == [signal.SIGUSR1]
    loop.remove_signal_handler(signal.SIGUSR1)
    assert current_wakeup_fd() == foreign.fileno()


def test_a_wake_up_descriptor_that_blocks_by_now_is_not_put_back(loop, foreign):
    signal.set_wakeup_fd(foreign.fileno())
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    foreign.writing.setblocking(True)
    loop.remove_signal_handler(signal.SIGUSR1)
    assert current_wakeup_fd() == -1
