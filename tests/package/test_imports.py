"""The package's modules import each other in one direction, type checkers' imports included."""

import ast
import graphlib
from pathlib import Path

import pytest

pytestmark = pytest.mark.native_only

tokioloop = pytest.importorskip("tokioloop")

FOLDER = Path(tokioloop.__file__).parent


def modules():
    """The tree of each module and stub of the package, by the module's name in it."""
    for path in [*FOLDER.rglob("*.py"), *FOLDER.rglob("*.pyi")]:
        *packages, name = path.relative_to(FOLDER).with_suffix("").parts
        if name == "__init__" and packages:
            name = packages.pop()
        if name != "sitecustomize":
            yield ".".join([*packages, name]), ast.parse(path.read_text())


def imported(name, trees):
    """Which of the package's modules a module imports, at its head, in a function or for types."""
    own = name.split(".")
    is_package = any(other.startswith(f"{name}.") for other in trees)
    packages = own if is_package else own[:-1]
    for node in ast.walk(trees[name]):
        if isinstance(node, ast.Import):
            found = [each.name.split(".") for each in node.names]
            yield from (".".join(it[1:]) or "__init__" for it in found if it[0] == "tokioloop")
        elif isinstance(node, ast.ImportFrom):
            path = (node.module or "").split(".") if node.module else []
            if node.level:
                path = [*packages[: len(packages) - node.level + 1], *path]
            elif path[0] == "tokioloop":
                path = path[1:]
            else:
                continue
            for each in node.names:
                inside = ".".join([*path, each.name])
                yield inside if inside in trees else ".".join(path) or "__init__"


def test_no_module_imports_one_that_imports_it():
    trees = dict(modules())
    graph = {name: set(imported(name, trees)) for name in trees}
    assert {"__init__", "_core", "loop", "primitives"} <= graph.keys()
    assert graph["loop"] >= {"_core", "connections", "tls"}
    assert set().union(*graph.values()) <= graph.keys()
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("_core") < order.index("loop") < order.index("__init__")


def test_the_core_and_what_it_calls_stand_below_all_others():
    trees = dict(modules())
    for name in ("_core", "coroutines", "debug_mode", "error_reports", "servers"):
        assert not set(imported(name, trees)), name
