"""Makes a site of files that are written for a repository: MkDocs calls these functions.

Pages of the repository that do not lie in ``docs`` become pages of the site, and links go to where
their targets are there. A link to a file that is no page keeps its text alone.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
#: Pages outside of ``docs``, and what they are called on the site.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/rust-embedded/README.md": "rust-embedded.md",
    "examples/rust-http/README.md": "rust-http.md",
    "examples/rust-extension/README.md": "rust-extension.md",
}
ORIGINS = {place: path for path, place in OUTSIDE.items()}
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|`[^`]*`)*)\]\(([^)\s]+)\)")
#: Cross-references in docstrings, whose roles Markdown does not know.
ROLE = re.compile(r":(?:class|func|meth|mod):(?=<code>)")
#: A place for the docstring of a function of the core that the stub has only overloads of:
#: mkdocstrings leaves those out.
DOCSTRING = re.compile(r"<!-- docstring: (\w+) -->")
#: Pages that appear in the navigation once they are written.
OPTIONAL = {"Releasing": "releasing.md", "Your tests": "pytest.md"}


def on_config(config: Any) -> Any:
    """Add the optional pages that exist to the part of the navigation about the project."""
    [project] = [part["Project"] for part in config.nav if "Project" in part]
    project += [
        {title: page} for title, page in OPTIONAL.items() if (ROOT / "docs" / page).exists()
    ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside of ``docs``."""
    for path, place in OUTSIDE.items():
        files.append(File.generated(config, place, content=(ROOT / path).read_text()))
    return files


def docstring(name: str) -> str:
    """Return the docstring that the stub has for a function, in the last of its overloads."""
    stub = ast.parse((ROOT / "python" / "tokioloop" / "_core.pyi").read_text())
    texts = [
        ast.get_docstring(each)
        for each in stub.body
        if isinstance(each, ast.FunctionDef) and each.name == name
    ]
    assert texts, name
    assert texts[-1], name
    return texts[-1]


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Change the links of a page from places in the repository to places on the site."""
    place = page.file.src_uri
    origin = ORIGINS.get(place, f"docs/{place}")

    def changed(found: re.Match[str]) -> str:
        mark, text, target = found.groups()
        path, hash_, heading = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
        if (ROOT / path).is_dir():
            path += "/README.md"
        to = OUTSIDE.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if to is None or files.get_file_from_path(to) is None:
            return text
        return f"{mark}[{text}]({posixpath.relpath(to, posixpath.dirname(place))}{hash_}{heading})"

    markdown = DOCSTRING.sub(lambda found: docstring(found[1]), markdown)

    # Code is set aside, because it may look like a link.
    code: list[str] = []

    def set_aside(found: re.Match[str]) -> str:
        code.append(found[0])
        return f"\0{len(code) - 1}\0"

    text = LINK.sub(changed, CODE.sub(set_aside, markdown))
    return re.sub("\0(\\d+)\0", lambda found: code[int(found[1])], text)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Take the roles away that docstrings have in front of names."""
    return ROLE.sub("", html)
