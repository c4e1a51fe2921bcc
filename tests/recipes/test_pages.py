"""The pages are complete: what they name is installed, run, and in the index."""

from __future__ import annotations

import re

import pytest

from recipes.pages import FOLDER, ROOT, Page, names

REQUIREMENTS = ROOT / "tests" / "recipes" / "requirements.txt"


@pytest.mark.parametrize("name", names())
def test_the_packages_of_a_page_are_installed(name):
    pinned = set(re.findall(r"^([\w-]+)==", REQUIREMENTS.read_text(), re.MULTILINE))
    assert Page(name).packages <= pinned


@pytest.mark.parametrize("name", names())
def test_every_program_of_a_page_has_a_file_name(name):
    assert "python" not in Page(name).untitled
    assert Page(name).commands


def test_every_page_is_in_the_index_and_in_the_site():
    index = re.findall(r"\]\(([\w-]+)\.md\)", (FOLDER / "index.md").read_text())
    site = re.findall(r"recipes/([\w-]+)\.md", (ROOT / "mkdocs.yml").read_text())
    assert sorted(index) == names()
    assert sorted(site) == sorted([*names(), "index"])
