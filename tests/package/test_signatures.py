"""Signatures are those of the asyncio that runs: what ``help()`` and editors show of the package.

Every public name of the loop, of the transports, of the handles and of the package is compared with
its counterpart in asyncio. The differences that are meant stand in ``DIFFERENCES``, each with its
reason. Servers need no comparison: they are objects of ``asyncio.Server``.
"""

import asyncio
import inspect
import sys
import warnings
from asyncio import selector_events, sslproto, unix_events

import pytest

pytestmark = pytest.mark.native_only

tokioloop = pytest.importorskip("tokioloop")
_core = tokioloop.loop._core

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    DefaultEventLoopPolicy = asyncio.DefaultEventLoopPolicy

#: Each public class, and the one of asyncio that it stands for.
CLASSES = {
    tokioloop.Loop: asyncio.SelectorEventLoop,
    tokioloop.EventLoopPolicy: DefaultEventLoopPolicy,
    _core.Handle: asyncio.Handle,
    _core.TimerHandle: asyncio.TimerHandle,
    _core.SocketTransport: selector_events._SelectorSocketTransport,
    _core.DatagramTransport: selector_events._SelectorDatagramTransport,
    _core.SSLTransport: sslproto._SSLProtocolTransport,
    _core.ReadPipeTransport: unix_events._UnixReadPipeTransport,
    _core.WritePipeTransport: unix_events._UnixWritePipeTransport,
}

#: The functions of the package that asyncio has, too.
FUNCTIONS = ["gather", "new_event_loop", "run", "run_coroutine_threadsafe", "sleep"]

OLDER_THAN_3_11 = sys.version_info < (3, 11)
OLDER_THAN_3_12 = sys.version_info < (3, 12)
IS_EARLY_3_13 = (3, 13) <= sys.version_info < (3, 13, 3)

#: name: (whether this CPython has the difference, its reason)
DIFFERENCES = {
    "run": (True, "loop_factory is tokioloop's by default; asyncio has the parameter since 3.12"),
    "new_event_loop": (True, "nested=True makes one that may run inside of itself"),
    "Loop.__init__": (True, "the selector is the core's: none can be passed"),
    "Loop.start_tls": (
        OLDER_THAN_3_11,
        "ssl_shutdown_timeout came with 3.11, and here all versions have it",
    ),
    "Loop.create_task": (
        IS_EARLY_3_13,
        "the core is compiled once for all of 3.13, where asyncio's options became **kwargs",
    ),
    "Handle.get_context": (OLDER_THAN_3_12, "came with 3.12, and here all versions have it"),
    "TimerHandle.get_context": (OLDER_THAN_3_12, "came with 3.12, and here all versions have it"),
    "SocketTransport.max_size": (True, "reads go through one buffer of the loop's"),
    "ReadPipeTransport.max_size": (True, "reads go through one buffer of the loop's"),
}
# In asyncio a TLS transport and the protocol of the transport below are two objects.
for name in ("connection_made", "connection_lost", "data_received", "eof_received"):
    DIFFERENCES[f"SSLTransport.{name}"] = True, "is SSLProtocol's in asyncio"
for name in ("get_read_buffer_size", "get_read_buffer_limits", "set_read_buffer_limits"):
    DIFFERENCES[f"SSLTransport.{name}"] = (
        OLDER_THAN_3_11,
        "came with the TLS of 3.11, and here all versions have it",
    )
for name in ("pause_writing", "resume_writing"):
    DIFFERENCES[f"SSLTransport.{name}"] = True, "is SSLProtocol's in asyncio"


def public_names(*owners):
    return {name for owner in owners for name in dir(owner) if not name.startswith("_")}


def pairs():
    for ours, theirs in CLASSES.items():
        for name in sorted(public_names(ours, theirs)):
            yield (
                f"{ours.__name__}.{name}",
                getattr(ours, name, None),
                getattr(theirs, name, None),
            )
    for ours in (tokioloop.Loop, tokioloop.EventLoopPolicy):
        yield f"{ours.__name__}.__init__", ours, CLASSES[ours]
    for name in FUNCTIONS:
        yield name, getattr(tokioloop, name), getattr(asyncio, name)


PAIRS = {name: (ours, theirs) for name, ours, theirs in pairs()}


def parameters(function):
    """Names, kinds and defaults; without ``self``, which only C functions make positional-only."""
    every = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in every if each.name != "self"]


def describe(function):
    if function is None:
        return "missing"
    return parameters(function) if callable(function) else "an attribute"


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_a_signature_is_asyncios(name):
    ours, theirs = PAIRS[name]
    differs, reason = DIFFERENCES.get(name, (False, ""))
    if differs:
        assert describe(ours) != describe(theirs), f"no difference any more: {reason}"
    else:
        assert describe(ours) == describe(theirs)


def test_every_difference_is_one_of_a_public_name():
    assert DIFFERENCES.keys() <= PAIRS.keys()


def test_the_tls_transport_has_the_methods_of_asyncios_tls_protocol():
    for name in ("connection_made", "connection_lost", "data_received", "eof_received"):
        own = getattr(_core.SSLTransport, name)
        assert parameters(own) == parameters(getattr(asyncio.Protocol, name)), name


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_everything_that_is_not_asyncios_own_has_a_docstring(name):
    ours, theirs = PAIRS[name]
    if callable(ours) and ours is not theirs:
        assert inspect.getdoc(ours), name
        assert ours.__doc__ is not None, name


def test_every_public_name_of_the_package_has_a_docstring():
    for name in set(tokioloop.__all__) - {"__version__"}:
        assert getattr(tokioloop, name).__doc__, name


def test_coroutine_functions_are_those_of_asyncio():
    for name, (ours, theirs) in PAIRS.items():
        if inspect.isfunction(ours):
            same = inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
            assert same, name


def test_help_shows_the_signature_and_the_docstring(loop_name):
    shown = inspect.getdoc(tokioloop.Loop.create_connection)
    assert "asyncio.loop.create_connection" in shown
    assert "happy_eyeballs_delay" in inspect.signature(tokioloop.Loop.create_connection).parameters
