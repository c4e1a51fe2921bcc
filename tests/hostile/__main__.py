"""Runs cases: in this process (``--child``), or in children of which one may die."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import json
import logging
import os
import selectors
import signal
import socket
import sys
import warnings

from hostile import cases
from hostile.subjects import SUBJECTS


def stock():
    return asyncio.SelectorEventLoop(selectors.EpollSelector())


def loop_factory(name):
    if name == "asyncio":
        return stock
    import tokioloop

    return tokioloop.new_event_loop


def numeric_only(host, port, family=0, type=0, proto=0, flags=0, *, real=socket.getaddrinfo):
    return real(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)


def quiet():
    """No name server is asked, nothing is logged, and what hangs says where."""
    socket.getaddrinfo = numeric_only
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda unraisable: UNRAISABLE.append(unraisable)
    faulthandler.enable()
    faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)


UNRAISABLE = []


def child(options):
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.set_inheritable(out.fileno(), False)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    quiet()
    factory = loop_factory(options.loop)
    group = cases.GROUPS[options.group[0]]
    waiting = options.after is not None
    for subject in options.subjects:
        for number, (name, perform) in enumerate(group(factory, subject, stock)):
            if waiting:
                waiting = name != options.after
                continue
            if options.only and options.only not in name:
                continue
            if options.every > 1 and number % options.every != options.offset:
                continue
            out.write(f"?{name}\n")
            signal.alarm(20)
            try:
                kept = perform()
            except BaseException as error:
                kept = {"broken": f"{type(error).__name__}: {error}"}
            kept["unraisable"] = sorted(
                {f"{type(each.exc_value).__name__}: {each.exc_value}" for each in UNRAISABLE}
            )
            UNRAISABLE.clear()
            out.write(json.dumps([name, kept]) + "\n")
    signal.alarm(0)
    gc.collect()
    out.write("end\n")
    os._exit(0) if options.abrupt else None


def main():
    parser = argparse.ArgumentParser(prog="python -m hostile")
    parser.add_argument("--loop", default="tokioloop")
    parser.add_argument("--group", choices=cases.GROUPS, action="append")
    parser.add_argument("--subjects", nargs="*", default=list(SUBJECTS))
    parser.add_argument("--only", default="")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--after")
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--abrupt", action="store_true")
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    from hostile import children

    wrong = sum(children.show(options, group) for group in options.group or cases.GROUPS)
    raise SystemExit(wrong > 0)


main()
