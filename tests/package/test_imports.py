"""The package's modules import each other in one direction, type checkers' imports included."""

import ast
import graphlib
import importlib.resources

import pytest

pytestmark = pytest.mark.native_only

pytest.importorskip("tokioloop")


def modules():
    """The tree of each module and stub of the package, by the module's name."""
    for path in importlib.resources.files("tokioloop").iterdir():
        name, _, kind = path.name.rpartition(".")
        if kind in ("py", "pyi"):
            yield name, ast.parse(path.read_text())


def imported(tree, names):
    """Which of the package's modules a module imports, at its head, in a function or for types."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                package, _, module = each.name.partition(".")
                if package == "tokioloop":
                    yield module or "__init__"
        elif isinstance(node, ast.ImportFrom):
            inside = node.level == 1 or (node.module or "").partition(".")[0] == "tokioloop"
            if not inside:
                continue
            module = node.module or "" if node.level else (node.module or "").partition(".")[2]
            if module:
                yield module
            else:
                yield from (each.name if each.name in names else "__init__" for each in node.names)


def test_no_module_imports_one_that_imports_it():
    trees = dict(modules())
    graph = {name: set(imported(tree, trees)) for name, tree in trees.items()}
    assert {"__init__", "_core", "loop", "primitives"} <= graph.keys()
    assert graph["loop"] >= {"_core", "connections", "tls"}
    assert set().union(*graph.values()) <= graph.keys()
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("_core") < order.index("loop") < order.index("__init__")


def test_the_core_and_what_it_calls_stand_below_all_others():
    trees = dict(modules())
    for name in ("_core", "coroutines", "debug_mode", "error_reports", "servers"):
        assert not set(imported(trees[name], trees)), name
