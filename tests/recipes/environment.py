"""Makes the environment of the recipes: the frameworks, and the package under test as it is built.

    environment.py FOLDER

It is kept, and made anew when ``requirements.txt`` has changed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    python = folder / "bin" / "python"
    installed = folder / "requirements.txt"
    wanted = f"{sys.version}\n{REQUIREMENTS.read_text()}"
    if not installed.exists() or installed.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        # Far quicker than pip with so many packages.
        subprocess.run([*pip, "uv"], check=True)
        uv = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python]
        subprocess.run([*uv, "--requirement", REQUIREMENTS], check=True)
        installed.write_text(wanted)
    spec = importlib.util.find_spec("tokioloop")
    if spec is None or spec.origin is None:
        raise SystemExit("tokioloop is not installed: build it first")
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.check_output([python, "-c", query], text=True).strip()
    # The package without the environment that it is installed in.
    (Path(packages) / "tokioloop.pth").write_text(str(Path(spec.origin).resolve().parents[1]))


if __name__ == "__main__":
    main()
