"""Imports the loop's Python modules from their sources, which the extension has within itself.

Executed once by the core, which then calls ``install``.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from types import CodeType, ModuleType


class PackedLoader(importlib.abc.InspectLoader, importlib.abc.MetaPathFinder):
    """Finds and loads the modules of one package."""

    def __init__(self, package: str, core: ModuleType, sources: Mapping[str, str]) -> None:
        self.package = package
        self.core = core
        self.sources = {
            f"{package}.{name}" if name else package: source for name, source in sources.items()
        }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return self.spec(fullname) if fullname in self.sources else None

    def spec(self, fullname: str) -> importlib.machinery.ModuleSpec:
        spec = importlib.machinery.ModuleSpec(
            fullname,
            self,
            origin=self.get_filename(fullname),
            is_package=self.is_package(fullname),
        )
        # So that modules have a __file__, and tracebacks a name to ask `get_source` for.
        spec.has_location = True
        return spec

    def is_package(self, fullname: str) -> bool:
        return fullname == self.package

    def get_source(self, fullname: str) -> str:
        try:
            return self.sources[fullname]
        except KeyError:
            raise ImportError(f"no module named {fullname!r}", name=fullname) from None

    def get_filename(self, fullname: str) -> str:
        name = "__init__" if self.is_package(fullname) else fullname.rpartition(".")[2]
        return f"<{self.package}>/{name}.py"

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_source(fullname)
        return self.source_to_code(source, self.get_filename(fullname))

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == self.package:
            # There before anything asks for it.
            sys.modules[self.core.__name__] = self.core
            module._core = self.core  # type: ignore[attr-defined]
        super().exec_module(module)


def install(package: str, core: ModuleType, version: str, sources: Mapping[str, str]) -> ModuleType:
    """Import the package; ``version`` is that of the sources."""
    if core.__version__ != version:
        raise ImportError(
            f"the Python side of the event loop is of tokioloop {version}, "
            f"and its core is of tokioloop {core.__version__}"
        )
    loader = PackedLoader(package, core, sources)
    spec = loader.spec(package)
    sys.meta_path.append(loader)
    # By hand: above it is an extension module, which is no package to the import system.
    made = importlib.util.module_from_spec(spec)
    sys.modules[package] = made
    try:
        loader.exec_module(made)
    except BaseException:
        del sys.modules[package]
        sys.meta_path.remove(loader)
        raise
    return made
