"""The documentation names files, folders, make targets and places in other pages: they exist."""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]

PAGES = sorted(
    page
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "examples/*/*.md",
        "benchmarks/*.md",
        ".github/*.md",
        ".github/**/*.yml",
        ".pre-commit-config.yaml",
    )
    for page in ROOT.glob(pattern)
)
SOURCES = sorted(file for it in ("src", "crates") for file in (ROOT / it).rglob("*.rs"))

#: Folders of the repository, by which a word is known for a path.
PATH = re.compile(
    r"(?:src|crates|tests|python|docs|benchmarks|examples|release|\.ci|\.github)/[\w./{},*-]*"
)
INLINE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
#: Where the project's own pages and files are for readers on PyPI and crates.io.
HOME = re.compile(
    r"https://(?:github\.com|raw\.githubusercontent\.com)/tokioloop/tokioloop"
    r"/(?:(?:blob|tree)/)?main/"
)
DOCUMENTATION = re.compile(r"^\s*//[/!] ?(.*)$", re.MULTILINE)


def paths_in(text):
    """The words of a piece of code that are paths, without the name of a test behind them."""
    for word in re.split(r"[\s'\"=]+", text):
        path = word.partition("::")[0].partition("#")[0]
        if PATH.fullmatch(path):
            yield path.rstrip(".,")


def alternatives(path):
    """``a/{b,c}.rs`` as ``a/b.rs`` and ``a/c.rs``."""
    found = re.search(r"\{([^{}]*)\}", path)
    if found is None:
        return [path]
    before, after = path[: found.start()], path[found.end() :]
    return [it for each in found[1].split(",") for it in alternatives(before + each + after)]


def exists(path):
    if "*" in path:
        return any(ROOT.glob(path))
    return (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).exists()


def missing(texts):
    named = {path for text in texts for it in paths_in(text) for path in alternatives(it)}
    return sorted(path for path in named if not exists(path))


def without_fences(text):
    return FENCE.sub("", text)


def code(page):
    """What a page has between backticks, and its commands."""
    text = page.read_text()
    commands = [body for language, body in FENCE.findall(text) if language == "sh"]
    return INLINE.findall(without_fences(text)) + commands


def places(page):
    """What a link may name behind ``#``, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ +(.+?) *$", without_fences(page.read_text()), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", it).lower()).replace(
            " ", "-"
        )
        for it in headings
    }


def faults(files, look):
    """What ``look`` finds wrong, by the files that it finds anything in."""
    found = {str(file.relative_to(ROOT)): look(file) for file in files}
    return {file: wrong for file, wrong in found.items() if wrong}


def test_the_files_that_pages_name_exist():
    assert faults(PAGES, lambda page: missing(code(page))) == {}


def test_the_files_that_modules_name_exist():
    def look(source):
        return missing(INLINE.findall("\n".join(DOCUMENTATION.findall(source.read_text()))))

    assert faults(SOURCES, look) == {}


def listed(source):
    """The first column of tables at the head of a module that is called ``file`` or ``module``."""
    in_table = False
    for line in DOCUMENTATION.findall(source.read_text()):
        first, _, rest = line.removeprefix("|").partition("|")
        if not line.startswith("|"):
            in_table = False
        elif first.strip() in ("file", "module"):
            in_table = True
        elif in_table and rest:
            yield from re.findall(r"`(\w+)`", first)


def test_modules_list_files_that_lie_beside_them():
    def look(source):
        def is_beside(name):
            here = source.parent / name
            return here.with_suffix(".rs").exists() or (here / "mod.rs").exists()

        return [name for name in listed(source) if not is_beside(name)]

    assert faults(SOURCES, look) == {}


def test_the_links_of_pages_lead_somewhere():
    def look(page):
        for groups in LINK.findall(without_fences(page.read_text())):
            link = "".join(groups)
            folder = ROOT if HOME.match(link) else page.parent
            local = HOME.sub("", link)
            if re.match(r"[a-z]+:", local):
                continue
            path, _, place = local.partition("#")
            target = folder / path if path else page
            if not target.exists() or (place and place not in places(target)):
                yield link

    assert faults(PAGES, lambda page: list(look(page))) == {}


def targets():
    """The Makefile's targets, each with its line of help or an empty string."""
    makefile = (ROOT / "Makefile").read_text()
    return dict(re.findall(r"^([a-z][a-z-]*):[^=\n]*?(##[^\n]*)?$", makefile, re.MULTILINE))


def test_the_make_targets_that_pages_name_exist():
    def look(page):
        named = re.findall(r"\bmake(?: [A-Z_]+=\S+)* ([a-z][a-z-]*)", "\n".join(code(page)))
        return sorted(set(named) - set(targets()))

    assert faults(PAGES, look) == {}


def test_every_make_target_has_a_line_of_help():
    internal = {"check-rust", "lint-rust", "lint-python"}
    assert {name for name, text in targets().items() if not text} == internal


def test_every_decision_is_in_the_index_once():
    folder = ROOT / "docs" / "decisions"
    pages = sorted(page.name for page in folder.glob("[0-9]*.md"))
    index = re.findall(r"\]\((\d+-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert sorted(index) == pages
    assert [int(name[:3]) for name in pages] == list(range(1, len(pages) + 1))
