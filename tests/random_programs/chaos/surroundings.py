"""Operations around the loop: threads, executors, signals, forks, the collector."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import sys
import threading
import time

from random_programs.chaos.objects import VARIABLE, Bomb

THREADS = 4


class Surroundings:
    """What a process does beside its loops."""

    def thread(self, function):
        if sum(thread.is_alive() for thread in self.threads) >= THREADS:
            return

        def run():
            try:
                function()
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                self.look_at(error)

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def do_thread(self, step):
        self.thread(lambda: [self.do(step.then) for _ in range(step.a % 20)])

    def submit(self, loop, step):
        self.submitting = True  # a destructor that submits in the middle of it waits for itself
        try:
            return loop.run_in_executor(None, self.do, step.then)
        finally:
            self.submitting = False

    def do_executor(self, step):
        if self.forked:
            return
        self.futures.append(self.submit(self.current(step), step))

    def do_signal_handler(self, step):
        self.current(step).add_signal_handler(
            (signal.SIGUSR1, signal.SIGUSR2)[step.a % 2], self.callback, step
        )

    def do_remove_signal_handler(self, step):
        number = (signal.SIGUSR1, signal.SIGUSR2)[step.a % 2]
        self.current(step).remove_signal_handler(number)
        signal.signal(number, lambda *_: None)

    def do_signal(self, step):
        number = (signal.SIGUSR1, signal.SIGUSR2)[step.a % 2]
        if signal.getsignal(number) is not signal.SIG_DFL:
            os.kill(os.getpid(), number)

    def do_alarm(self, step):
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005)

    def do_python_handler(self, step):
        signal.signal(signal.SIGVTALRM, lambda *_: self.do(step.then))

    def do_fork(self, step):
        if len(self.children) > 2:
            return
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            self.children.append(pid)
            return
        try:
            signal.alarm(5)
            self.threads.clear()
            self.forked = True
            self.do(step.then)
            if step.a % 2:
                with contextlib.suppress(BaseException):
                    loop = self.factory()
                    loop.run_until_complete(asyncio.sleep(0))
                    loop.close()
            if step.a % 3 == 0:
                with contextlib.suppress(BaseException):
                    asyncio._set_running_loop(None)
                    self.loop.call_later(0.002, self.loop.stop)
                    self.loop._run()
            if step.a % 5 == 0:
                self.clear()
                gc.collect()
        finally:
            os._exit(1 if self.faults else 0)

    def do_collect(self, step):
        gc.collect()

    def do_bomb(self, step):
        self.things.append(Bomb(self, step.then, step.then))
        if step.a % 3 == 0:
            cycle = [Bomb(self, step.then)]
            cycle.append(cycle)

    def do_drop_things(self, step):
        self.things.clear()

    def do_context(self, step):
        context = contextvars.copy_context()
        self.contexts.append(context)
        context.run(self.do, step.then)

    def do_variable(self, step):
        VARIABLE.set(Bomb(self, step.then))

    def do_sleep_thread(self, step):
        time.sleep(0.0003)

    def do_profile(self, step):
        """A profiler that is called at each call, C functions included."""
        left = [5]

        def profiler(frame, event, arg):
            if left[0] > 0 and event.startswith("c_"):
                left[0] -= 1
                sys.setprofile(None)
                self.do(step.then)
                if left[0]:
                    sys.setprofile(profiler)

        sys.setprofile(profiler if step.a % 2 else None)
