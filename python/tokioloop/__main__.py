"""``python -m tokioloop``: run an unmodified program on this loop.

Without a program it starts the asyncio REPL.
"""

from __future__ import annotations

import atexit
import builtins
import importlib.machinery
import io
import os
import runpy
import signal
import sys
import types
from typing import Any, NoReturn

import tokioloop
from tokioloop.command_line import info, inheritance, which_loop

USAGE = """\
usage: python -m tokioloop [OPTIONS] (SCRIPT | - | -m MODULE | -c CODE) [ARGS...]
       python -m tokioloop [OPTIONS]

Runs a Python program with tokioloop as asyncio's event loop; without one, the asyncio REPL.
A program that creates a loop of a kind that it names keeps that loop.

options:
  -m MODULE      run a module, as python -m does
  -c CODE        run a program passed as text, as python -c does
  --accelerate   replace asyncio's sleep, gather, run_coroutine_threadsafe and
                 streams by tokioloop's
  --no-children  leave the Pythons alone that the program starts
  --debug        switch asyncio's debug mode on
  --verbose      print which event loops run, in this process and its children
  --info         print versions and build, for a report
  -V, --version  print the version
  -h, --help     print this text
"""


def main() -> None:
    arguments = sys.argv[1:]
    accelerate = verbose = False
    children = True
    while arguments and arguments[0].startswith("-") and arguments[0] not in ("-", "-m", "-c"):
        option = arguments.pop(0)
        if option in ("-h", "--help"):
            print(USAGE, end="")
            return
        if option in ("-V", "--version"):
            print(f"tokioloop {tokioloop.__version__}")
            return
        if option == "--info":
            print(info.report(), end="")
            return
        if option == "--accelerate":
            accelerate = True
        elif option == "--verbose":
            verbose = True
        elif option == "--no-children":
            children = False
        elif option == "--debug":
            # asyncio reads the environment each time it creates a loop.
            os.environ["PYTHONASYNCIODEBUG"] = "1"
        else:
            _usage_error(f"unknown option {option}")
    tokioloop.install(accelerate=accelerate)
    if children:
        inheritance.reach_children(accelerate=accelerate, verbose=verbose)
    else:
        inheritance.leave_children()
    if verbose:
        which_loop.announce()
    else:
        which_loop.warn_if_unused()
    if not arguments:
        sys.argv = ["asyncio"]
        runpy.run_module("asyncio", run_name="__main__", alter_sys=True)
        return
    _hide_our_frames()
    kind = arguments.pop(0)
    try:
        if kind == "-m":
            _run_module(arguments)
        elif kind == "-c":
            _run_code(arguments)
        elif kind == "-":
            _run_text(sys.stdin.read(), "<stdin>", ["-", *arguments])
        else:
            _run_script(kind, arguments)
    except KeyboardInterrupt:
        _die_of_sigint_at_exit()
        raise


def _run_module(arguments: list[str]) -> None:
    if not arguments:
        _usage_error("-m needs a module's name")
    _fresh_main()
    sys.argv = ["-m", *arguments[1:]]
    # The interpreter itself calls this for -m: it finds the module and corrects sys.argv[0].
    runpy._run_module_as_main(arguments[0])  # type: ignore[attr-defined]


def _run_code(arguments: list[str]) -> None:
    if not arguments:
        _usage_error("-c needs a program's text")
    _run_text(arguments[0], "<string>", ["-c", *arguments[1:]])


def _run_text(source: str, name: str, argv: list[str]) -> None:
    """Run the text of a program that has no file."""
    sys.argv = argv
    sys.path[0] = ""
    module = _fresh_main()
    module.__dict__["__loader__"] = importlib.machinery.BuiltinImporter
    exec(_compiled(source, name), module.__dict__)


def _run_script(path: str, arguments: list[str]) -> None:
    sys.argv = [path, *arguments]
    if os.path.isdir(path) or _is_archive(path):
        sys.path[0] = os.path.abspath(path)
        _fresh_main()
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
        return
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    # The interpreter makes the script's path absolute, but leaves sys.argv as it is.
    path = os.path.abspath(path)
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        python = sys.executable or "python"
        print(
            f"{python}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}",
            file=sys.stderr,
        )
        sys.exit(2)
    module = _fresh_main()
    module.__file__ = path
    module.__dict__["__cached__"] = None
    module.__dict__["__loader__"] = importlib.machinery.SourceFileLoader("__main__", path)
    exec(_compiled(source, path), module.__dict__)


def _compiled(source: str | bytes, path: str) -> types.CodeType:
    # Otherwise the program would inherit this file's ``from __future__ import annotations``.
    return compile(source, path, "exec", dont_inherit=True)


def _is_archive(path: str) -> bool:
    import zipfile

    return os.path.isfile(path) and not path.endswith(".py") and zipfile.is_zipfile(path)


def _fresh_main() -> types.ModuleType:
    """Put an empty ``__main__`` in place for the program, as the interpreter does."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    if sys.version_info < (3, 14):
        # Later versions create it when it is first read.
        module.__dict__["__annotations__"] = {}  # noqa: RUF063
    sys.modules["__main__"] = module
    return module


def _hide_our_frames() -> None:
    """Let tracebacks start with the program's own frames."""
    ours = {__file__, runpy.__file__, "<frozen runpy>"}
    show = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
    ) -> Any:
        start = trace
        while start is not None and start.tb_frame.f_code.co_filename in ours:
            start = start.tb_next
        # A syntax error in the program has no frame of the program.
        if start is None and not isinstance(error, SyntaxError):
            start = trace
        return show(kind, error.with_traceback(start), start)

    sys.excepthook = hook


def _die_of_sigint_at_exit() -> None:
    """Kill the process by SIGINT after the exit handlers, as CPython ends a script on Ctrl-C."""

    def die() -> None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)

    exit_callbacks.append(die)


#: Called after the program's own exit handlers, which are registered later.
exit_callbacks: list[Any] = []


@atexit.register
def _run_exit_callbacks() -> None:
    for callback in exit_callbacks:
        callback()


def _usage_error(message: str) -> NoReturn:
    print(f"python -m tokioloop: {message}\n{USAGE}", end="", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
