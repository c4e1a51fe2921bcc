"""What a page of docs/recipes/ shows: files to write, packages to install, commands."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "recipes"
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'^ title="([^"]+)"$')


class Page:
    def __init__(self, name):
        self.name = name
        self.text = (FOLDER / f"{name}.md").read_text()
        #: The texts of files, by the path that stands over each.
        self.files = {}
        #: Lines for a shell, in their order, without those that install packages.
        self.commands = []
        #: Code that has no title, by language.
        self.untitled = []
        installs = []
        for language, options, body in FENCE.findall(self.text):
            titled = TITLE.match(options)
            if titled:
                self.files[titled[1]] = body
            elif language == "sh":
                for line in body.splitlines():
                    (installs if line.startswith("pip install") else self.commands).append(line)
            else:
                self.untitled.append(language)
        installs += re.findall(r"`(pip install [^`]+)`", self.text)
        self.packages = {
            word.strip('"').partition("[")[0] for line in installs for word in line.split()[2:]
        }

    def write_files(self, folder, **replacements):
        """Write the page's files; replacements are of ports, ``port_8000=...``."""
        for path, body in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(self.adapt(body, replacements))

    @staticmethod
    def adapt(text, replacements):
        for name, port in replacements.items():
            text = re.sub(rf"\b{name.removeprefix('port_')}\b", str(port), text)
        return text


def names():
    return sorted(page.stem for page in FOLDER.glob("*.md") if page.stem != "index")
