"""Objects that do something when they are looked at, and buffers that change under the reader.

Each special method of a `trapped` object first does what the trap says, then what its base does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import mmap
import sys

from hostile.subjects import Listening

BASES = {
    "object": (object, ()),
    "str": (str, ("text",)),
    "int": (int, (3,)),
    "float": (float, (0.001,)),
    "bytes": (bytes, (b"octets",)),
    "bytearray": (bytearray, (b"octets",)),
    "list": (list, ([b"a", b"b"],)),
    "tuple": (tuple, (("127.0.0.1", 1),)),
    "dict": (dict, ({"message": "text"},)),
    "protocol": (Listening, ()),
    "future": (asyncio.Future, ()),
}
SPECIAL = """
    __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __hash__ __bool__ __index__ __int__
    __float__ __add__ __radd__ __sub__ __rsub__ __mul__ __len__ __iter__ __next__
    __getitem__ __contains__ __call__ __repr__ __str__ __format__ __del__ __await__
    __fspath__ __buffer__ __bytes__ __instancecheck__ __get__ __set_name__ __enter__
    __exit__ keys fileno run send throw close connection_made data_received
    connection_lost family type gettimeout add_done_callback get_loop done result
    exception __class_getitem__ __length_hint__ __release_buffer__
""".split()  # noqa: SIM905
# What a plain object answers where it has to.
ANSWERS = {
    "__index__": 1,
    "__int__": 1,
    "__float__": 0.001,
    "__len__": 2,
    "__bool__": True,
    "__repr__": "trapped",
    "__str__": "trapped",
    "__fspath__": "/nonexistent",
    "__bytes__": b"octets",
    "__length_hint__": 1 << 60,
    "fileno": -1,
    "__hash__": 1,
}


class Trap:
    """What happens when the object is looked at; once, or the first few times."""

    def __init__(self, act, times):
        self.act, self.left = act, times

    def __call__(self):
        if self.left > 0:
            self.left -= 1
            self.act()


def trapped(base, arguments, trap, lying_class=None):
    kind = {}

    def method(name):
        real = getattr(base, name, None)

        def looked_at(self, *args, **kwargs):
            trap()
            if name == "__del__":
                return None
            if real is not None and (base is not object or name not in ANSWERS):
                return real(self, *args, **kwargs)
            if name in ANSWERS:
                return ANSWERS[name]
            if name == "__iter__":
                return iter([b"a", bytearray(b"b")])
            if name == "__buffer__":
                return memoryview(b"lent")
            if name == "__await__":
                return iter(())
            if name.startswith("__") and name not in ("__call__", "__enter__", "__exit__"):
                return NotImplemented
            return None

        return looked_at

    for name in SPECIAL:
        if base is not object and not hasattr(base, name) and name not in ("__call__", "__del__"):
            continue
        kind[name] = method(name)
    if base is object:
        kind["__getattr__"] = lambda self, name: (trap(), None)[1]
    if lying_class is not None:
        kind["__class__"] = property(lambda self: (trap(), lying_class)[1])
    made = type("Trapped", (base,), kind)
    left, trap.left = trap.left, 0  # not while it is made
    try:
        if base is asyncio.Future:
            return made(loop=arguments[0])
        return made(*arguments)
    finally:
        trap.left = left


def raiser(error):
    def act():
        raise error

    return act


def actions(stage, thing, call):
    """What a trap may do. ``call`` calls the method under test with the right arguments."""
    loop = stage.loop

    def quietly(function):
        def act():
            with contextlib.suppress(Exception):
                function()

        return act

    return {
        "raise": raiser(ZeroDivisionError("in a trap")),
        "interrupt": raiser(KeyboardInterrupt("in a trap")),
        "close": quietly(getattr(thing, "close", loop.close)),
        "abort": quietly(getattr(thing, "abort", loop.stop)),
        "close loop": quietly(loop.close),
        "again": quietly(call),
        "collect": gc.collect,
        "run": quietly(lambda: loop.run_until_complete(asyncio.sleep(0))),
        "soon": quietly(lambda: loop.call_soon(call)),
        "switch": quietly(lambda: loop.set_debug(not loop.get_debug())),
    }


class Shrinking:
    """Lends buffers and takes them back while it is iterated."""

    def __init__(self):
        self.lent = [bytearray(b"a" * 1000), bytearray(b"b" * 1000), bytearray(b"c")]

    def __iter__(self):
        for number, each in enumerate(self.lent):
            yield each
            if number:
                with contextlib.suppress(BufferError):
                    self.lent[number - 1].clear()


def closing_map():
    made = mmap.mmap(-1, 1000)
    view = memoryview(made)
    view.release()
    made.close()
    return made


def buffers(loop):
    """Buffers that are not what they were."""
    yield "shrinking", Shrinking()
    yield "closed map", closing_map()
    yield "map", mmap.mmap(-1, 1000)
    large = bytearray(300_000)
    view = memoryview(large)
    array = bytearray(300_000)
    if not loop.is_closed():
        loop.call_soon(view.release)
        loop.call_soon(array.clear)
    yield "released later", view
    yield "cleared later", array
    if sys.version_info >= (3, 12):

        class Lender:
            def __init__(self):
                self.lent = bytearray(b"lent" * 1000)

            def __buffer__(self, flags):
                return memoryview(self.lent)

            def __release_buffer__(self, view):
                view.release()
                self.lent.clear()
                loop.stop()

        yield "lender", Lender()

        class Refuser:
            def __buffer__(self, flags):
                raise ZeroDivisionError("no buffer")

        yield "refuser", Refuser()

        class Answer:
            def __buffer__(self, flags):
                return b"no view"

        yield "no view", Answer()
