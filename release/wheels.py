"""Builds a wheel for each CPython that is found, checks it, and tries it in a clean environment.

    python release/wheels.py [--out dist] [PYTHON ...]

Linked by zig against glibc 2.17 (manylinux2014), the wheels run on every Linux of the last ten
years. zig, maturin and auditwheel are installed into an environment of their own below ``target/``.
Each wheel is then installed into a new environment of its interpreter, where ``release/smoke.py``
runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "target" / "release-tools"
VERSIONS = [f"3.{minor}" for minor in range(10, 16)]
REQUIREMENTS = ["maturin>=1.9,<2", "ziglang==0.15.2", "auditwheel==6.8.2"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder (dist)")
    parser.add_argument("pythons", nargs="*", help="interpreters; none means all that are found")
    options = parser.parse_args()
    pythons = options.pythons or list(found())
    if not pythons:
        sys.exit("no CPython 3.10 to 3.15 was found")
    tools = make_tools()
    for python in pythons:
        wheel = build(tools, python, options.out)
        check(tools, wheel)
        smoke(python, wheel)
        print(f"{wheel.name}: built, checked and tried", flush=True)
    if not options.pythons:
        named = {version_of(python) for python in pythons}
        left_out = [version for version in VERSIONS if version not in named]
        if left_out:
            print(f"left out, not found here: CPython {', '.join(left_out)}")


def found() -> Iterator[str]:
    """One interpreter of each version, from PATH or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in VERSIONS:
        places = [shutil.which(f"python{version}")]
        places += sorted(str(path) for path in pyenv.glob(f"{version}.*/bin/python"))
        for python in filter(None, places):
            if version_of(python) == version:
                yield python
                break


def version_of(python: str) -> str:
    """As ``3.13``; nothing if it does not run, or cannot make environments."""
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip()


def make_tools() -> Path:
    """The environment with the tools; the folder of its programs."""
    stamp = TOOLS / "requirements"
    if not stamp.exists() or stamp.read_text() != repr(REQUIREMENTS):
        venv.create(TOOLS, with_pip=True, clear=True)
        pip(TOOLS, *REQUIREMENTS)
        stamp.write_text(repr(REQUIREMENTS))
    return TOOLS / "bin"


def pip(environment: Path, *what: str) -> None:
    options = ("--quiet", "--disable-pip-version-check")
    subprocess.run([environment / "bin" / "pip", "install", *options, *what], check=True)


def build(tools: Path, python: str, out: Path) -> Path:
    """Builds the wheel of an interpreter."""
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    flags = [
        os.environ.get("RUSTFLAGS", ""),
        f"-Clink-arg=-Wl,--version-script={ROOT / 'release' / 'exports.map'}",
        # No path of the machine that builds is in the file.
        f"--remap-path-prefix={ROOT}=tokioloop",
        f"--remap-path-prefix={cargo / 'registry' / 'src'}=crates",
    ]
    before = set(out.glob("*.whl"))
    for old in before:
        if f"-cp{version_of(python).replace('.', '')}-" in old.name:
            old.unlink()
    subprocess.run(
        [
            *(tools / "maturin", "build", "--release", "--quiet", "--zig"),
            *("--compatibility", "manylinux2014", "--interpreter", python),
            *("--out", out, "--target-dir", ROOT / "target" / "wheels"),
        ],
        cwd=ROOT,
        check=True,
        env={
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "RUSTFLAGS": " ".join(flags).strip(),
        },
    )
    (wheel,) = set(out.glob("*.whl")) - {old for old in before if old.exists()}
    return wheel


def check(tools: Path, wheel: Path) -> None:
    """Refuses a wheel that is not what its name says, or that exports or tells too much."""
    run = [tools / "auditwheel", "show", wheel]
    shown = " ".join(subprocess.run(run, check=True, capture_output=True, text=True).stdout.split())
    if 'platform tag: "manylinux_2_17_x86_64"' not in shown:
        sys.exit(f"{wheel.name} needs a newer system than manylinux2014:\n{shown}")
    script = ROOT / "release" / "contents.py"
    subprocess.run([tools / "python", script, wheel, ROOT, Path.home()], check=True)


def smoke(python: str, wheel: Path) -> None:
    """Installs the wheel as a user would, and runs a program on the loop."""
    environment = ROOT / "target" / "wheels" / f"environment-{version_of(python)}"
    subprocess.run([python, "-m", "venv", "--clear", environment], check=True)
    pip(environment, "--no-index", "--no-deps", str(wheel))
    script = ROOT / "release" / "smoke.py"
    # Isolated: neither the checkout nor the folder of the script is where Python looks.
    subprocess.run([environment / "bin" / "python", "-I", script], check=True, cwd=environment)


if __name__ == "__main__":
    main()
