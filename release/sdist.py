"""Makes the source distribution, and proves that it is all that is needed.

    make sdist
    make sdist DIST=/var/tmp/dist

It has exactly the files that git tracks, so that all can be done from it that can be done from a
checkout: tests, wheels, and the sdist itself, byte for byte. In an unpacked sdist, where git tracks
nothing, the files are those that .gitignore does not name.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import sys
import tarfile
import tempfile
from pathlib import Path

from project import PROJECT, TOOLS, Failure, is_checkout, output, run, say, source_date, step

#: Added by maturin: the metadata.
GENERATED = {"PKG-INFO"}


def make(source: Path, out: Path) -> Path:
    """Make the sdist of a checkout or of an unpacked sdist."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": source_date(source)}
    with tempfile.TemporaryDirectory() as folder:
        if not is_checkout(source):
            environment |= tracking_everything(source, Path(folder) / "repository")
        command = [str(TOOLS / "maturin"), "sdist", "--out", str(out)]
        run(command, cwd=source, env=environment)
    (sdist,) = out.glob("*.tar.gz")
    keep_modes(sdist, source)
    return sdist


def keep_modes(sdist: Path, source: Path) -> None:
    """Let what can be executed in the source be so in the sdist too, which maturin does not."""
    packed = sdist.read_bytes()
    with (
        tarfile.open(fileobj=io.BytesIO(packed)) as before,
        # A name or a date of its own would make the compressed file another each time.
        sdist.open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as after,
    ):
        for member in before:
            original = source / member.name.partition("/")[2]
            if original.exists() and os.access(original, os.X_OK):
                member.mode |= 0o111
            after.addfile(member, before.extractfile(member))


def tracking_everything(source: Path, repository: Path) -> dict[str, str]:
    """The environment in which git takes a folder for a work tree whose files it all tracks."""
    environment = {
        "GIT_DIR": str(repository),
        "GIT_WORK_TREE": str(source),
        # What a person ignores everywhere is a part of the sdist all the same.
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
    }
    inside = {**os.environ, **environment}
    run(["git", "init", "--quiet", str(source)], cwd=source, env=inside)
    (repository / "info").mkdir(exist_ok=True)
    (repository / "info" / "exclude").write_text("".join(f"/{it}\n" for it in sorted(GENERATED)))
    run(["git", "add", "--all"], cwd=source, env=inside)
    return environment


def unpack(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)
    (root,) = folder.iterdir()
    return root


def files(folder: Path) -> set[str]:
    return {str(it.relative_to(folder)) for it in folder.rglob("*") if not it.is_dir()}


def is_complete(unpacked: Path) -> None:
    """Every file that git tracks is in the sdist, as it is here, and no other."""
    tracked = set(output("git", "ls-files", "-z", cwd=PROJECT).strip("\0").split("\0"))
    packed = files(unpacked)
    if packed != tracked | GENERATED:
        lacks, more = sorted(tracked - packed), sorted(packed - tracked - GENERATED)
        raise Failure(f"the sdist lacks {lacks}, and has {more} besides")
    for name in sorted(tracked):
        here, there = PROJECT / name, unpacked / name
        if here.read_bytes() != there.read_bytes():
            raise Failure(f"{name} in the sdist is not as it is here")
        if os.access(here, os.X_OK) != os.access(there, os.X_OK):
            raise Failure(f"{name} in the sdist can be executed, and here not, or the reverse")


def is_the_same(sdist: Path, other: Path, where: str) -> None:
    if sdist.read_bytes() != other.read_bytes():
        raise Failure(f"made {where}, the sdist differs: compare {sdist} with {other}")


def leaves_out_what_git_does_not_track(folder: Path, out: Path) -> None:
    """Try it on a clone with such files where packagers like to take whole folders."""
    clone = folder / "clone"
    run(["git", "clone", "--quiet", str(PROJECT), str(clone)])
    strays = ["stray.txt", "python/tokioloop/stray.py", "src/stray.rs", "tests/stray/Cargo.toml"]
    for name in strays:
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text("")
    with tarfile.open(make(clone, out)) as archive:
        taken = [name for name in archive.getnames() if "stray" in name]
    if taken:
        raise Failure(f"the sdist has files that git does not track: {taken}")


def builds_a_wheel(sdist: Path, folder: Path) -> None:
    """As a user's pip does it where there is no wheel, with Rust; then uses what was built."""
    venv = folder / "venv"
    python = str(venv / "bin" / "python")
    run([sys.executable, "-m", "venv", str(venv)])
    environment = {**os.environ, "CARGO_TARGET_DIR": str(folder / "builds")}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run([python, "-m", "pip", "install", "--quiet", str(sdist)], cwd=folder, env=environment)
    run([python, "-I", str(PROJECT / "release" / "smoke_test.py")], cwd=folder)


def prove(sdist: Path, folder: Path) -> None:
    outs = [folder / name for name in ("again", "stray", "remade")]
    for place in (*outs, folder / "unpacked", folder / "wheel"):
        place.mkdir()
    unpacked = unpack(sdist, folder / "unpacked")
    if is_checkout(PROJECT):
        say("The sdist has the files that git tracks, and no other")
        is_complete(unpacked)
        leaves_out_what_git_does_not_track(folder, outs[1])
    say("The sdist made again, and made from the sdist, is the same byte for byte")
    is_the_same(sdist, make(PROJECT, outs[0]), "again")
    is_the_same(sdist, make(unpacked, outs[2]), "from the unpacked sdist")
    say("The sdist builds, and what it builds works")
    builds_a_wheel(sdist, folder / "wheel")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Make and check the source distribution.")
    parser.add_argument("--out", type=Path, default=PROJECT / "dist")
    out: Path = parser.parse_args(argv).out.resolve()

    def work() -> None:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "made"
            made.mkdir()
            sdist = make(PROJECT, made)
            prove(sdist, Path(folder))
            published = out / sdist.name
            published.write_bytes(sdist.read_bytes())
        say(f"{published}: {published.stat().st_size / 1e6:.2f} MB")

    return step("sdist", work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
