"""Gives the children of ``python -m tokioloop`` its event loop.

Python imports a module of this name whenever it starts. ``python -m tokioloop`` puts this folder in
front of ``PYTHONPATH``, so every Python that the program starts finds this one: the workers of a
server, the processes of ``multiprocessing``. It takes its folder out of ``sys.path`` again, has
asyncio install tokioloop once it is imported, and then imports the ``sitecustomize`` that Python
would have found without it.

Pythons of other versions and environments read it too: in all of them it must do no harm.
"""

import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))


class Installer(object):  # noqa: UP004
    """Finds asyncio and tokioloop where they are, and follows their import."""

    def find_spec(self, name, path=None, target=None):
        if name not in ("asyncio", "tokioloop"):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                follow(spec.loader, self.asyncio_is_there if name == "asyncio" else self.install)
                return spec
        return None

    def asyncio_is_there(self):
        # If tokioloop is in the middle of its own import, that import installs it at its end.
        if "tokioloop" not in sys.modules:
            try:
                import tokioloop  # noqa: F401
            except ImportError:
                # Another environment's Python.
                sys.meta_path.remove(self)

    def install(self):
        sys.meta_path.remove(self)
        from tokioloop.command_line.inheritance import install_in_child

        install_in_child()


def follow(loader, action):
    """Have ``action`` called when the module of a loader has been executed."""
    execute = loader.exec_module

    def exec_module(module):
        del loader.exec_module
        execute(module)
        action()

    loader.exec_module = exec_module


def import_the_next():
    """Import the ``sitecustomize`` behind this one, if there is one. Errors are its own."""
    this = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if getattr(error, "name", None) != "sitecustomize":
            raise
    finally:
        # The import system wants a module under the name that it has imported.
        sys.modules.setdefault("sitecustomize", this)


sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != FOLDER]
if sys.version_info >= (3, 10) and os.environ.get("TOKIOLOOP_CHILDREN"):
    sys.meta_path.insert(0, Installer())
if __name__ == "sitecustomize":
    import_the_next()
