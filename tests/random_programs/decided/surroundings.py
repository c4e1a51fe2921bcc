"""Operations around the loop: executors, signals, child processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal


class Surroundings:
    """What a process does beside its loop."""

    def do_executor(self, actor, step):
        heard = self.actor("executor")

        async def run():
            self.waits += 1
            try:
                return await self.loop.run_in_executor(None, divmod, step.a, step.b % 3)
            finally:
                self.waits -= 1

        self.task(heard, run())

    def do_signal(self, actor, step):
        # One at a time: which handler gets a signal while another comes is up to when the
        # loop reads the bytes that the interpreter wrote.
        if actor is not self.main or self.signalled:
            return
        heard = self.actor("signal")

        def handler():
            self.signalled = False
            heard.note("signal", step.a)

        self.loop.add_signal_handler(signal.SIGUSR1, handler)
        self.signalled = True
        os.kill(os.getpid(), signal.SIGUSR1)

    def do_process(self, actor, step):
        if actor is not self.main:
            return
        heard = self.actor("process")

        async def run():
            self.waits += 1
            try:
                killed = step.b % 3 == 0
                # Whether a process that ends by itself does so before it is killed is up to chance.
                kinds = ["cat"], ["false"], ["sh", "-c", "echo out; echo err >&2; exit 3"]
                process = await asyncio.create_subprocess_exec(
                    *kinds[0 if killed else step.a % 3], stdin=-1, stdout=-1, stderr=-1
                )
                if killed:
                    process.kill()
                    return await process.wait()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    out = await process.communicate(b"input")
                    return out, process.returncode
            finally:
                self.waits -= 1

        if self.loop.is_closed() or "own clock" in self.program.flags:
            return
        self.task(heard, run())
