"""The functions that scripts use, and their outcomes in a form that two runs have in common."""

from __future__ import annotations

import re
import types

#: Where an object is, and which task it is counted as, differ from run to run.
INCIDENTAL = re.compile(r"0x[0-9a-f]+|Task-\d+")


def namespace(module):
    names = ("sleep", "gather", "run_coroutine_threadsafe")
    return types.SimpleNamespace(**{name: getattr(module, name) for name in names})


def plain(value):
    """What can be compared between two runs."""
    if isinstance(value, BaseException):
        return type(value), plain(value.args)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return INCIDENTAL.sub("*", value) if isinstance(value, str) else value
