"""Other code in a function, which stays the same object: as ddtrace does it."""

from __future__ import annotations

import contextlib
from types import FunctionType


def _trampoline(*args, **options):
    wrapper = "the wrapper"
    original = "the original"
    return wrapper(original, *args, **options)


@contextlib.contextmanager
def rewritten(function, wrapper):
    """Have ``function`` call ``wrapper(original, *args, **options)`` meanwhile."""
    code = function.__code__
    original = FunctionType(code, function.__globals__, "original", function.__defaults__)
    original.__kwdefaults__ = function.__kwdefaults__
    constants = {"the wrapper": wrapper, "the original": original}
    template = _trampoline.__code__
    function.__code__ = template.replace(
        co_consts=tuple(constants.get(constant, constant) for constant in template.co_consts),
        co_filename=code.co_filename,
        co_name=code.co_name,
    )
    try:
        yield
    finally:
        function.__code__ = code
