"""CPython's own asyncio tests that run against the loop, and those that are expected to fail.

The tests are those of the interpreter that runs: nothing of them is kept here. Every class of
the modules below that drives a loop is subclassed, and the subclass gets the tested loop
wherever the original makes one.
"""

from __future__ import annotations

import pkgutil
import sys

# Modules of test.test_asyncio whose tests run on a real loop, or on the default one.
MODULES = (
    "test_base_events",
    "test_buffered_proto",
    "test_context",
    "test_eager_task_factory",
    "test_events",
    "test_free_threading",
    "test_futures",
    "test_futures2",
    "test_graph",
    "test_locks",
    "test_pep492",
    "test_queues",
    "test_runners",
    "test_sendfile",
    "test_server",
    "test_server_context",
    "test_sock_lowlevel",
    "test_ssl",
    "test_sslproto",
    "test_staggered",
    "test_streams",
    "test_subprocess",
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_unix_events",
    "test_waitfor",
)

# The first CPython that has a module, where that is not the first we support.
SINCE = {
    "test_eager_task_factory": (3, 12),
    "test_free_threading": (3, 14),
    "test_graph": (3, 14),
    "test_server_context": (3, 15),
    "test_ssl": (3, 11),
    "test_staggered": (3, 13),
    "test_taskgroups": (3, 11),
    "test_timeouts": (3, 11),
}

# The other modules of test.test_asyncio, and why they are left out.
MODULES_LEFT_OUT = {
    "test_proactor_events": "it is about the Windows proactor, on mocks",
    "test_protocols": "it is about abstract base classes; there is no loop in it",
    "test_selector_events": (
        "it calls private methods of the standard library's selector loop and of the transports "
        "made by it, on mocks; what they do in public is in test_events, test_sock_lowlevel, "
        "test_streams and test_buffered_proto"
    ),
    "test_tools": "it is about python -m asyncio ps and pstree; there is no loop in it",
    "test_transports": "it is about abstract base classes; there is no loop in it",
    "test_windows_events": "it is for Windows",
    "test_windows_utils": "it is for Windows",
}

# What is in the package besides tests.
HELPERS = {"__main__", "echo", "echo2", "echo3", "functional", "utils"}

# Classes of the modules that run which say nothing about the tested loop, by reason.
NOT_ABOUT_A_LOOP = {
    "they make the standard library's own base class of loops, or test helpers of its modules": (
        "test_base_events.BaseEventTests",
        "test_base_events.BaseEventLoopTests",
        "test_base_events.BaseLoopSockSendfileTests",
        "test_base_events.TestSelectorUtils",
    ),
    "they put mocks in the place of what unix_events.py calls": (
        "test_unix_events.SelectorEventLoopSignalTests",
        "test_unix_events.UnixReadPipeTransportTests",
        "test_unix_events.UnixWritePipeTransportTests",
    ),
    "they test child watchers or policies, which belong to the standard library": (
        "test_events.PolicyTests",
        "test_subprocess.GenericWatcherTests",
        "test_unix_events.AbstractChildWatcherTests",
        "test_unix_events.BaseChildWatcherTests",
        "test_unix_events.FastChildWatcherTests",
        "test_unix_events.PidfdChildWatcherTests",
        "test_unix_events.PolicyTests",
        "test_unix_events.SafeChildWatcherTests",
        "test_unix_events.TestForkServer",
    ),
    "they test abstract classes, or handles on a mock loop": (
        "test_events.AbstractEventLoopTests",
        "test_events.HandleTests",
        "test_events.TestAbstractServer",
        "test_events.TimerTests",
    ),
    "they are another selector's copy of SelectEventLoopTests": (
        "test_events.EPollEventLoopTests",
        "test_events.KqueueEventLoopTests",
        "test_events.PollEventLoopTests",
        "test_sendfile.EPollEventLoopTests",
        "test_sendfile.KqueueEventLoopTests",
        "test_sendfile.PollEventLoopTests",
        "test_sock_lowlevel.EPollEventLoopTests",
        "test_sock_lowlevel.KqueueEventLoopTests",
        "test_sock_lowlevel.PollEventLoopTests",
    ),
    "they are for the Windows proactor": (
        "test_buffered_proto.BufferedProtocolProactorTests",
        "test_server.ProactorStartServerTests",
        "test_sslproto.ProactorStartTLSTests",
    ),
}

# Tests that cannot pass on any loop but the standard library's, each with its reason. Strict: one
# that passes after all is a failure too. A key is "module.Class.test", or "module.*.test" for a
# test that several classes of the module share.
EXPECTED_FAILURES: dict[str, str] = {
    "test_subprocess.SubprocessThreadedWatcherTests.test_pid_not_reaped_before_exit_published": (
        "it looks into the standard library's child watcher, which this loop does not need"
    ),
    "test_ssl.TestSSL.test_remote_shutdown_receives_trailing_data": (
        "it puts bytes into the standard library's TLS transport by a method made for this test"
    ),
}

# Such tests that are not even tried: where they fail, a thread of theirs goes on for ever.
ENDLESS_FAILURES: dict[str, str] = {
    "test_ssl.TestSSL.test_remote_shutdown_receives_trailing_data_on_slow_socket": (
        "it puts another socket into the standard library's transport, by a private name"
    ),
}


# Modules that run a second time with tokioloop's own primitives and streams in the place of
# asyncio's: those whose tests use them.
ACCELERATED_MODULES = (
    "test_buffered_proto",
    "test_eager_task_factory",
    "test_graph",
    "test_locks",
    "test_pep492",
    "test_queues",
    "test_server",
    "test_ssl",
    "test_sslproto",
    "test_streams",
    "test_subprocess",
    "test_taskgroups",
    "test_tasks",
    "test_timeouts",
    "test_unix_events",
    "test_waitfor",
)

# As above, for the second time.
ACCELERATED_FAILURES: dict[str, str] = {}


def expected_failure(module, class_name, test, accelerated=False):
    """Why this test cannot pass on tokioloop (or None if it must), and whether to try it."""
    tables = [(EXPECTED_FAILURES, True), (ENDLESS_FAILURES, False)]
    if accelerated:
        tables.append((ACCELERATED_FAILURES, True))
    for table, tried in tables:
        for owner in (class_name, "*"):
            reason = table.get(f"{module}.{owner}.{test}")
            if reason is not None:
                return reason, tried
    return None, True


def modules_here(package):
    """The test modules that this interpreter has."""
    return {module.name for module in pkgutil.iter_modules(package.__path__)} - HELPERS


def modules_to_run():
    """The modules that this interpreter should have, and whose tests run."""
    return [name for name in MODULES if sys.version_info >= SINCE.get(name, (3, 0))]


def is_about_a_loop(module, class_name):
    name = f"{module}.{class_name}"
    return not any(name in names for names in NOT_ABOUT_A_LOOP.values())
