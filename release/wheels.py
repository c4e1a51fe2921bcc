"""Builds a manylinux wheel for every CPython that is here, checks it, and tries it out.

    make wheels
    make wheels WHEEL_PYTHONS='3.10 3.11 3.12'
    make wheels DIST=/var/tmp/dist BUILDS=/var/tmp/builds

zig links against the symbols of an old glibc, so that no old Linux is needed to build for one. Each
wheel is read (release/inspection.py), then installed into an empty environment of its interpreter,
where neither Rust nor this checkout can help it, and used (release/smoke_test.py).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from inspection import faults, size
from project import PROJECT, TOOLS, Failure, output, run, say, source_date, step
from sbom import replace_paths

COMPATIBILITY = "manylinux2014"

sys.path.append(str(PROJECT / "tests" / "conformance"))
# Finds interpreters: on the path, and those of pyenv.
everywhere: Any = importlib.import_module("everywhere")


def interpreters(required: list[str]) -> list[Any]:
    """Every CPython that the project supports, or those that are required."""
    found = []
    for version in required or everywhere.VERSIONS:
        interpreter = everywhere.find(version, [])
        if interpreter is not None:
            found.append(interpreter)
        elif required:
            raise Failure(f"no CPython {version} here, and WHEEL_PYTHONS requires it")
        else:
            say(f"Left out: there is no CPython {version} here")
    return found


def machine_paths(builds: Path) -> dict[str, str]:
    """Folders of this machine, and what stands for them in messages of panics."""
    cargo = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    return {
        # rustc takes the last that matches: the special ones come after those around them.
        str(Path.home()): "/home",
        str(cargo): "/cargo",
        output("rustc", "--print", "sysroot"): "/rust",
        str(PROJECT): "/tokioloop",
        str(builds): "/build",
    }


def build_environment(paths: dict[str, str], builds: Path) -> dict[str, str]:
    flags = [f"--remap-path-prefix={path}={name}" for path, name in paths.items()]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(TOOLS), os.environ["PATH"]]),
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
        "CARGO_TARGET_DIR": str(builds),
        "SOURCE_DATE_EPOCH": source_date(PROJECT),
    }
    environment.pop("RUSTFLAGS", None)
    return environment


def build(interpreter: Any, folder: Path, environment: dict[str, str]) -> Path:
    """Build the wheel of one interpreter into an empty folder."""
    run(
        [
            *(str(TOOLS / "maturin"), "build", "--release", "--locked"),
            *("--zig", "--compatibility", COMPATIBILITY, "--auditwheel", "check"),
            *("--interpreter", interpreter.path, "--out", str(folder)),
        ],
        cwd=PROJECT,
        env=environment,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def try_out(wheel: Path, interpreter: Any) -> None:
    """Install the wheel where there is nothing else, and use it."""
    with tempfile.TemporaryDirectory() as empty:
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": empty,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        python = f"{empty}/venv/bin/python"
        install = ["-m", "pip", "install", "--quiet", "--no-index", "--only-binary", ":all:"]
        for command in (
            [interpreter.path, "-m", "venv", f"{empty}/venv"],
            [python, *install, str(wheel)],
            [python, "-I", str(PROJECT / "release" / "smoke_test.py")],
        ):
            run(command, cwd=empty, env=environment)


def make(pythons: list[str], out: Path, builds: Path) -> list[Path]:
    """Build, check and try the wheels; those of earlier interpreters stay if a later one fails."""
    out.mkdir(parents=True, exist_ok=True)
    paths = machine_paths(builds)
    environment = build_environment(paths, builds)
    made: list[Path] = []
    for interpreter in interpreters(pythons):
        say(f"{interpreter}: building the wheel")
        with tempfile.TemporaryDirectory(dir=out) as folder:
            wheel = build(interpreter, Path(folder), environment)
            replace_paths(wheel, paths)
            wrong = faults(wheel, interpreter.version, forbidden=list(paths))
            if wrong:
                raise Failure("\n  ".join([f"{wheel.name} is not to be published:", *wrong]))
            try_out(wheel, interpreter)
            made.append(wheel.replace(out / wheel.name))
    if not made:
        raise Failure("no CPython that the project supports is here")
    return made


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Build and check the wheels.")
    parser.add_argument("--out", type=Path, default=PROJECT / "dist")
    parser.add_argument("--builds", type=Path, default=PROJECT / "target" / "wheels-build")
    parser.add_argument("pythons", nargs="*", metavar="VERSION", help="required, such as 3.12")
    args = parser.parse_args(argv)

    def work() -> None:
        out = args.out.resolve()
        made = make(args.pythons, out, args.builds.resolve())
        say(f"Built, checked and used, in {out}:")
        for wheel in made:
            print(f"    {wheel.name}  {size(wheel)}")

    return step("wheels", work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
