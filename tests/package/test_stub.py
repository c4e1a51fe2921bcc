"""The stub of the core says what the core itself says: the same parameters and docstrings.

The rule: what ``_core.pyi`` declares for this version of CPython has, name for name, the parameters
that ``inspect.signature`` finds, and exactly the docstring that ``__doc__`` is.
"""

import ast
import asyncio
import importlib.resources
import inspect
import sys

import pytest

pytestmark = pytest.mark.native_only

_core = pytest.importorskip("tokioloop._core")

DECLARING = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef


def for_this_version(body):
    """The statements of a body that hold for this CPython."""
    for node in body:
        if isinstance(node, ast.If):
            condition = compile(ast.Expression(node.test), "_core.pyi", "eval")
            yield from for_this_version(node.body if eval(condition, {"sys": sys}) else node.orelse)
        else:
            yield node


def declarations(body, owner, prefix=""):
    """``(name, object, nodes)``: the nodes are one declaration, or all of its overloads."""
    found = {}
    for node in for_this_version(body):
        if isinstance(node, DECLARING) and not node.name.startswith("_"):
            found.setdefault(node.name, []).append(node)
    for name, nodes in found.items():
        value = inspect.getattr_static(owner, name)
        yield prefix + name, value, nodes
        if isinstance(nodes[0], ast.ClassDef):
            yield from declarations(nodes[0].body, value, f"{prefix}{name}.")


def stub():
    return ast.parse(importlib.resources.files("tokioloop").joinpath("_core.pyi").read_text())


DECLARED = {name: (value, nodes) for name, value, nodes in declarations(stub().body, _core)}
FUNCTIONS = [name for name, (value, nodes) in DECLARED.items() if inspect.isroutine(value)]


def parameters_of_stub(node):
    """As ``parameters``, of a declaration: a default is a literal."""
    given = node.args
    kinds = inspect.Parameter
    by_position = [(each.arg, kinds.POSITIONAL_ONLY) for each in given.posonlyargs]
    by_position += [(each.arg, kinds.POSITIONAL_OR_KEYWORD) for each in given.args]
    defaults = [kinds.empty] * (len(by_position) - len(given.defaults))
    defaults += [ast.literal_eval(each) for each in given.defaults]
    found = [(*each, default) for each, default in zip(by_position, defaults, strict=True)]
    if given.vararg:
        found.append((given.vararg.arg, kinds.VAR_POSITIONAL, kinds.empty))
    for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        value = kinds.empty if default is None else ast.literal_eval(default)
        found.append((each.arg, kinds.KEYWORD_ONLY, value))
    if given.kwarg:
        found.append((given.kwarg.arg, kinds.VAR_KEYWORD, kinds.empty))
    return [each for each in found if each[0] != "self"]


def parameters(function):
    """Names, kinds and defaults; without ``self``, which only C functions make positional-only."""
    every = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in every if each.name != "self"]


def test_the_stub_declares_every_public_name():
    public = {name for name in dir(_core) if not name.startswith("_")}
    assert public == {name for name in _core.__dict__ if not name.startswith("_")}
    assert public - {"sleep"} == {name for name in DECLARED if "." not in name}
    for name, kind in vars(_core).items():
        if inspect.isclass(kind):
            methods = {each for each, value in vars(kind).items() if inspect.isroutine(value)}
            for each in methods:
                assert each.startswith("_") or f"{name}.{each}" in DECLARED


@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters_are_those_of_the_function(name):
    value, nodes = DECLARED[name]
    found, declared = parameters(value), [parameters_of_stub(node) for node in nodes]
    if name == "NativeLoop.create_task" and found[-1][1] is inspect.Parameter.VAR_KEYWORD:
        # From 3.13 on asyncio passes on whatever a task takes; the stub says what that is.
        (stub,) = declared
        assert stub[0] == found[0]
        assert {each[0] for each in stub} <= inspect.signature(asyncio.Task).parameters.keys()
        return
    # Of overloads one has the parameters of the function itself.
    assert found in declared


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_docstrings_are_the_same(name):
    value, nodes = DECLARED[name]
    declared = [text for node in nodes if (text := ast.get_docstring(node)) is not None]
    own = value.__doc__
    assert declared == ([] if own is None else [inspect.cleandoc(own)])


def test_the_docstring_of_sleep_is_the_same():
    import tokioloop

    body = stub().body
    (at,) = (
        number
        for number, node in enumerate(body)
        if isinstance(node, ast.AnnAssign) and node.target.id == "sleep"
    )
    assert inspect.cleandoc(body[at + 1].value.value) == inspect.cleandoc(tokioloop.sleep.__doc__)
