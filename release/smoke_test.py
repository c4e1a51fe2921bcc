"""Uses an installed tokioloop as a first program would, without anything besides.

    python -I release/smoke_test.py

Runs in an environment that has the wheel alone; it needs no checkout. The samples are those of the
README that is in the wheel, which is the page on PyPI.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import tokioloop


def python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise AssertionError(f"{arguments} failed: {done.stderr}")
    return done.stdout


def is_installed_whole() -> None:
    package = Path(tokioloop.__file__).resolve()
    assert "site-packages" in package.parts, f"this is not the installed one: {package}"
    assert tokioloop.__version__ == importlib.metadata.version("tokioloop")


def echoes_over_tcp() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def main() -> bytes:
        assert type(asyncio.get_running_loop()) is tokioloop.Loop
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"to and fro\n")
            answer = await reader.read()
            writer.close()
            return answer

    assert tokioloop.run(main()) == b"to and fro\n"


def runs_a_child() -> None:
    async def main() -> bytes:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "print(input()[::-1])"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        answer, _ = await child.communicate(b"olleh\n")
        assert child.returncode == 0
        return answer

    assert tokioloop.run(main()) == b"hello\n"


def resolves_and_calls_from_threads() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert await loop.getaddrinfo("127.0.0.1", 80)
        return await asyncio.to_thread(lambda: 42)

    assert tokioloop.run(main()) == 42


def runs_unchanged_programs() -> None:
    program = "import asyncio\nasync def main():\n    print(type(asyncio.get_running_loop()))\n"
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(program + "asyncio.run(main())\n")
        assert "tokioloop" in python("-m", "tokioloop", str(script))
        assert "tokioloop" in python("-m", "tokioloop", "--accelerate", str(script))
        assert "tokioloop" not in python(str(script))


def samples() -> list[str]:
    """The programs in Python that the README shows."""
    text = importlib.metadata.metadata("tokioloop")["Description"]
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def the_readme_tells_the_truth() -> None:
    first, *others = samples()
    assert python("-c", first).startswith("on <tokioloop.Loop running=True ")
    for other in others:
        python("-W", "ignore::DeprecationWarning", "-c", other)


def becomes_the_default() -> None:
    async def main() -> type:
        return type(asyncio.get_running_loop())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        tokioloop.install()
        assert asyncio.run(main()) is tokioloop.Loop
        tokioloop.uninstall()
        assert asyncio.run(main()) is not tokioloop.Loop


CHECKS = (
    is_installed_whole,
    echoes_over_tcp,
    runs_a_child,
    resolves_and_calls_from_threads,
    runs_unchanged_programs,
    the_readme_tells_the_truth,
    becomes_the_default,
)


def main() -> None:
    for check in CHECKS:
        check()
    libc = " ".join(platform.libc_ver())
    print(f"    CPython {platform.python_version()} on {libc}: {len(CHECKS)} checks passed")


if __name__ == "__main__":
    main()
