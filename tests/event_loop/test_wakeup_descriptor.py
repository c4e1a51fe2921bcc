"""The wake-up descriptor for signals belongs to the process: the loop borrows it."""

import asyncio
import os
import signal
import socket
import textwrap
import threading

import pytest

from support.reused_numbers import pair_with


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
    """A wake-up descriptor that the loop did not set."""

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


def test_a_foreign_wake_up_descriptor_stays_and_is_written_to(loop, foreign, handled):
    signal.set_wakeup_fd(foreign.fileno())
    assert set(run_with_signals(loop, handled)) == {foreign.fileno()}
    assert foreign.heard() == [handled] * 3
    assert current_wakeup_fd() == foreign.fileno()


def test_a_wake_up_descriptor_set_while_the_loop_runs_stays_and_is_written_to(
    loop, foreign, handled
):
    async def scenario():
        assert signal.set_wakeup_fd(foreign.fileno()) == -1
        os.kill(os.getpid(), handled)
        await asyncio.sleep(0.01)
        assert foreign.heard() == [handled]

    loop.run_until_complete(scenario())
    run_with_signals(loop, handled, 1)
    assert foreign.heard() == [handled]
    assert current_wakeup_fd() == foreign.fileno()


def test_a_loop_may_watch_a_foreign_wake_up_descriptor(loop, foreign, handled):
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


@pytest.mark.native_only(reason="asyncio's first loop gets no signals any more")
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
    """The next handler runs, no descriptor is left over, and the interpreter writes into none."""
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
                done = lambda: handled.done() or handled.set_result(1)
                loop.add_signal_handler(signal.SIGUSR1, done)
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
def test_a_loop_closed_in_another_thread_restores_the_descriptor_it_displaced(
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
