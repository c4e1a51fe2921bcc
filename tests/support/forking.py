"""What programs that fork begin with: a child reports through its exit status alone."""

from __future__ import annotations

FORK = """
import os, signal, traceback

def fork(child):
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(20)  # a child that hangs must end by itself
    try:
        child()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def wait(pid):
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"the child ended with {status}"
"""
