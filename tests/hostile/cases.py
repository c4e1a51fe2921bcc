"""The cases: methods, their arguments, and the part of the outcome that is compared.

A group is a function ``group(factory, name)`` that yields ``(case, perform)``: the name of the
call, and a function that makes it and returns the outcome for comparison.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import linecache
import operator
import os
import pickle
import re
import socket
import ssl
import sys
import types

from hostile import liars
from hostile.subjects import GOOD, SUBJECTS, Stage, quietly
from hostile.values import VALUES

ASYNCIO = os.path.dirname(asyncio.__file__)
LOOKS = 8
# What asyncio's methods have that take *args: their names say nothing.
SIMPLE = (int, float, str, bytes, bool, type(None), tuple)


def said_by_asyncio(error):
    """Whether the text of an exception is asyncio's own, and not that of C code it called."""
    traceback, last = error.__traceback__, None
    while traceback is not None:
        last, traceback = traceback, traceback.tb_next
    if last is None:
        return False
    name = last.tb_frame.f_code.co_filename
    line = linecache.getline(name, last.tb_lineno).strip()
    return name.startswith(ASYNCIO) and line.startswith("raise")


def plain(text):
    """Without addresses and numbers that differ from run to run."""
    text = re.sub(r"<[^<>]*>", "<...>", re.sub(r"<[^<>]*>", "<...>", text))
    text = re.sub(r"0x[0-9a-f]+", "0x...", text)
    return re.sub(r"\bfd=\d+|\b\d{3,}\.\d+", "...", text)


def raised(error):
    own = said_by_asyncio(error)
    return ["raises", type(error).__name__, plain(str(error)), own]


def shown(value):
    if type(value) is tuple:
        return ["gives", "tuple", str(len(value))]
    if isinstance(value, SIMPLE) and type(value).__module__ == "builtins":
        return ["gives", type(value).__name__, plain(repr(value))[:200]]
    return ["gives", "an object", ""]


def finish(stage, value):
    """Wait for what can be awaited, and for what it set going."""
    if isinstance(value, types.CoroutineType | asyncio.Future) or inspect.isawaitable(value):

        async def wait():
            return await value

        try:
            task = stage.loop.create_task(wait())
        except RuntimeError:  # the loop is closed
            if hasattr(value, "close"):
                value.close()
            return ["closed"]
        # No task factory, and no closed loop, keeps this one from ending.
        for _ in range(LOOKS):
            ended = stage.settle(1)
            if ended == "closed" or task.done():
                break
        if not task.done():
            task.cancel()
            stage.settle()
            return ["pending"]
        if task.cancelled():
            return ["cancelled"]
        error = task.exception()
        if error is not None:
            return ["awaited", *raised(error)]
        result = task.result()
        if isinstance(result, tuple):
            for part in result:
                if hasattr(part, "close"):
                    stage.stack.callback(quietly, part.close)
        elif hasattr(result, "close"):
            stage.stack.callback(quietly, result.close)
        return ["awaited", *shown(result)]
    return shown(value)


def reported(stage):
    lines = []
    for context in stage.reports:
        text = plain(str(context.get("message", "")).split("\n")[0])
        if text.startswith("Exception in callback"):
            text = "Exception in callback"
        error = context.get("exception")
        line = [text, type(error).__name__]
        if line not in lines:  # a reader is called again as long as something waits
            lines.append(line)
    return lines


def outcome(stage, call):
    """What a call gives, and what follows from it."""
    try:
        value = call()
    except BaseException as error:
        kept = raised(error)
    else:
        kept = finish(stage, value)
    ended = stage.settle()
    return {"call": kept, "reports": reported(stage), "loop": plain(ended or "")}


def prepared(stage, name):
    """What must be in place before a method is called that would run for ever."""
    if name in ("run_forever", "run_until_complete"):
        stage.loop.call_later(0.002, stage.loop.stop)


def parameters(method):
    """Positional and keyword parameters of a method, as asyncio declares them."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # a coroutine's: they take a value
        return [inspect.Parameter("value", inspect.Parameter.POSITIONAL_ONLY)]
    return [p for p in signature.parameters.values() if p.name != "self"]


def public(thing):
    return [name for name in dir(thing) if not name.startswith("_")]


def arguments_of(stage, declared, replaced=None, value=None):
    """The right arguments, but for one."""
    args, kwargs = [], {}
    for parameter in declared:
        if parameter.name == replaced:
            given = value
        elif (
            parameter.default is not parameter.empty
            or parameter.kind is parameter.VAR_KEYWORD
            or parameter.kind is parameter.VAR_POSITIONAL
        ):
            continue
        else:
            given = GOOD[parameter.name](stage)
        if (
            parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD)
            or parameter.default is not parameter.empty
        ):
            kwargs[parameter.name] = given
        else:
            args.append(given)
    return args, kwargs


class Lent:
    """Makes a stage for each case, and takes it down afterwards."""

    def __init__(self, factory, subject):
        self.factory = factory
        self.subject = subject

    def __enter__(self):
        self.stage = Stage(self.factory)
        return self.stage, SUBJECTS[self.subject](self.stage)

    def __exit__(self, *_):
        # A private method may have set the scene for a run and left it so.
        asyncio._set_running_loop(None)
        sys.set_asyncgen_hooks(None, None)
        self.stage.dispose()


def described(factory, subject):
    """The public names of a subject, with the parameters of those that can be called."""
    with Lent(factory, subject) as (_stage, thing):
        found = {}
        for name in public(thing):
            try:
                member = getattr(thing, name)
            except Exception:
                continue
            found[name] = parameters(member) if callable(member) else ()
    return found


def arguments(factory, subject, stock):
    """Every public method with each parameter wrong in every way, and with wrong counts."""
    for name, declared in described(stock, subject).items():
        if declared == () and not subject.endswith("loop"):
            pass
        if declared is None:
            continue

        def perform(subject, name, make):
            with Lent(factory, subject) as (stage, thing):
                args, kwargs = make(stage)
                prepared(stage, name)
                return outcome(stage, lambda: getattr(thing, name)(*args, **kwargs))

        def case(suffix, make, name=name):
            return f"{subject}.{name}({suffix})", functools.partial(perform, subject, name, make)

        if declared == ():
            continue
        yield case("", lambda stage: ([], {}))
        yield case("*20", lambda stage: ([None] * 20, {}))
        yield case("unknown=1", lambda stage: ([], {"unknown": 1}))
        for parameter in declared:
            yield case(
                f"{parameter.name} right",
                lambda stage, d=declared, p=parameter: arguments_of(
                    stage, d, p.name, GOOD.get(p.name, VALUES["none"])(stage)
                ),
            )
            for title, value in VALUES.items():
                yield case(
                    f"{parameter.name}={title}",
                    lambda stage, d=declared, p=parameter, v=value: arguments_of(
                        stage, d, p.name, v(stage.loop)
                    ),
                )


def dunders():
    """What Python itself asks of any object."""
    return {
        "repr": repr,
        "str": str,
        "hash": hash,
        "bool": bool,
        "len": len,
        "iter": iter,
        "next": next,
        "await": lambda thing: thing.__await__(),
        "enter": lambda thing: thing.__enter__(),
        "dir": dir,
        "vars": vars,
        "format": format,
        "size": sys.getsizeof,
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
        "pickle": pickle.dumps,
        "reduce": lambda thing: thing.__reduce_ex__(4),
        "state": lambda thing: thing.__getstate__(),
        "referents": gc.get_referents,
        "init": lambda thing: thing.__init__(),
        "init1": lambda thing: thing.__init__(1),
        "del": lambda thing: thing.__del__(),
        "new": lambda thing: type(thing)(),
        "new1": lambda thing: type(thing)(None),
        "new_of_type": lambda thing: type(thing).__new__(type(thing)),
        "new_of_object": lambda thing: object.__new__(type(thing)),
        "subclass": lambda thing: type("Sub", (type(thing),), {}),
        "subclass_new": lambda thing: type("Sub", (type(thing),), {}).__new__(
            type("Sub", (type(thing),), {})
        ),
        "class": lambda thing: setattr(thing, "__class__", object),
        "class_same": lambda thing: setattr(thing, "__class__", type(thing)),
        "signature": inspect.signature,
        "call": lambda thing: thing(),
        "index": operator.index,
        "float": float,
        "int": int,
        "bytes": bytes,
        "view": memoryview,
        "contains": lambda thing: None in thing,
        "getitem": lambda thing: thing[0],
        "unpickled": lambda thing: thing.__setstate__({}),
    }


def every(thing):
    """All names of an object, those of its type included."""
    names = set(dir(type(thing))) | set(dir(thing))
    return sorted(names - {"__class__", "__doc__", "__dict__"})


LOOP_STOPPERS = {"run_forever", "run_until_complete", "_run", "_run_once", "_dispose"}


def stopping(loop, once):
    """What stands for an iteration, ending the run: nothing else would be called to end it."""

    def iterate():
        loop.stop()
        return once()

    return iterate


def bare(factory, subject, stock):
    """What Python asks of objects; attributes that are set and deleted; private methods."""
    for title, question in dunders().items():

        def ask(question=question):
            with Lent(factory, subject) as (stage, thing):
                return outcome(stage, lambda: question(thing))

        yield f"{subject}: {title}", ask
    for title in ("eq", "ne", "lt", "le", "gt", "ge", "add", "or_", "and_"):

        def compare(title=title):
            with Lent(factory, subject) as (stage, thing):
                kept = []
                for name, value in VALUES.items():
                    try:
                        kept.append((name, getattr(operator, title)(thing, value(stage.loop))))
                    except BaseException as error:
                        kept.append((name, type(error).__name__))
                stage.settle()
                return {"call": [str(len(kept))]}

        yield f"{subject}: {title}", compare
    with Lent(factory, subject) as (_stage, thing):
        names = every(thing)
    for name in names:
        if name in ("__class__", "__init_subclass__", "__subclasshook__"):
            continue

        def change(name=name, delete=False, title=None):
            with Lent(factory, subject) as (stage, thing):

                def act():
                    if delete:
                        delattr(thing, name)
                    else:
                        setattr(thing, name, VALUES[title](stage.loop))
                    if not hasattr(type(thing), name):
                        return
                    return

                kept = outcome(stage, act)
                quietly(lambda: repr(thing))
                return kept

        yield f"{subject}: del .{name}", functools.partial(change, name, True)
        if name == "stop":  # what ends a run: without it none ends
            continue
        for title in ("none", "minus_one", "int70", "nan", "text", "object", "dict", "loop"):
            yield f"{subject}: .{name} = {title}", functools.partial(change, name, False, title)
    for name in names:
        if name.startswith("__") and name.endswith("__") and name not in ("__del__",):
            continue
        if not name.startswith("_"):
            continue
        for count in (0, 1, 2, 3, 4, 5):
            for title in (
                VALUES
                if count == 1
                else ("none", "zero", "text", "object", "loop", "nan", "closed_socket")
            ):
                if count == 0 and title != "none":
                    continue

                def private(name=name, count=count, title=title):
                    with Lent(factory, subject) as (stage, thing):
                        stage.loop.call_later(0.002, stage.loop.stop)
                        args = [VALUES[title](stage.loop) for _ in range(count)]
                        if name == "_run" and count == 1 and callable(args[0]):
                            args = [stopping(stage.loop, args[0])]
                        return outcome(stage, lambda: getattr(thing, name)(*args))

                yield f"{subject}: {name}({title} * {count})", private


def lies(factory, subject, stock):
    """Each parameter of each public method is an object that does something when looked at."""
    for name, declared in described(stock, subject).items():
        if not declared or name in ("run_forever", "run_until_complete"):
            continue
        for parameter in declared:

            def perform(base, action, lying=None, name=name, declared=declared, p=parameter):
                with Lent(factory, subject) as (stage, thing):
                    method = getattr(thing, name)

                    def again():
                        args, kwargs = arguments_of(stage, declared)
                        result = method(*args, **kwargs)
                        if hasattr(result, "close"):
                            result.close()

                    trap = liars.Trap(liars.actions(stage, thing, again)[action], 3)
                    kind, made_of = liars.BASES[base]
                    value = liars.trapped(
                        kind, (stage.loop,) if base == "future" else made_of, trap, lying
                    )
                    args, kwargs = arguments_of(stage, declared, p.name, value)
                    del value
                    kept = outcome(stage, lambda: method(*args, **kwargs))
                    args.clear()
                    kwargs.clear()
                    return kept

            for base in liars.BASES:
                for action in ACTIONS:
                    yield (
                        f"{subject}.{name}({parameter.name}={base} that does: {action})",
                        functools.partial(perform, base, action),
                    )
            for lying in (bytes, str, int, float, socket.socket, asyncio.Task, ssl.SSLContext):
                yield (
                    f"{subject}.{name}({parameter.name}=object that says {lying.__name__})",
                    functools.partial(perform, "object", "collect", lying),
                )

            def lend(title, name=name, declared=declared, p=parameter):
                with Lent(factory, subject) as (stage, thing):
                    value = dict(liars.buffers(stage.loop))[title]
                    args, kwargs = arguments_of(stage, declared, p.name, value)
                    return outcome(stage, lambda: getattr(thing, name)(*args, **kwargs))

            if parameter.name in ("data", "list_of_data", "buf"):
                with Lent(factory, subject) as (stage, _):
                    titles = list(dict(liars.buffers(stage.loop)))
                for title in titles:
                    yield (
                        f"{subject}.{name}({parameter.name}=buffer: {title})",
                        functools.partial(lend, title),
                    )


ACTIONS = (
    "raise", "interrupt", "close", "abort", "close loop", "again", "collect", "run", "soon",
    "switch",
)  # fmt: skip
GROUPS = {"lies": lies, "arguments": arguments, "bare": bare}
