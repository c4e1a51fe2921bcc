"""The tables of docs/compatibility.md, and which test stands for which row."""

from __future__ import annotations

import ast
import asyncio
import gc
import itertools
import pathlib
import re

HERE = pathlib.Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "compatibility.md"


def row(name):
    """Marks the test that shows both sides of a row; ``name`` is the row's first cell."""

    def mark(test):
        return test

    assert isinstance(name, str)
    return mark


def documented():
    """The first cells of all tables, in order."""
    cells = []
    lines = DOCUMENT.read_text().splitlines()
    for previous, line in itertools.pairwise(lines):
        if line.startswith("| ") and previous.startswith("| "):
            cells.append(re.split(r"(?<!\\)\|", line)[1].strip())
    return [cell for cell in cells if set(cell) != {"-"}]


def shown():
    """The names given to ``row`` in the test modules beside this one."""
    # What earlier tests left: `ast.parse` of CPython 3.11 raises a SystemError if the collector
    # runs a destructor meanwhile that prints a traceback, because that parses, too.
    gc.collect()
    names = []
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for decorator in getattr(node, "decorator_list", ()):
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "row":
                    names.append(ast.literal_eval(decorator.args[0]))
    return names


def observe(factories, look):
    """``look(loop)`` on a loop of each kind; a coroutine function runs on the loop."""
    seen = []
    for factory in factories:
        loop = factory()
        try:
            result = look(loop)
            if asyncio.iscoroutine(result):
                result = loop.run_until_complete(result)
            seen.append(result)
        finally:
            loop.close()
    return seen
