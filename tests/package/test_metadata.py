"""What the package says of itself to PyPI, pip and their readers."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOME = "https://github.com/tokioloop/tokioloop"


@pytest.fixture(scope="module")
def metadata():
    return importlib.metadata.metadata("tokioloop")


def test_urls_lead_to_the_project(metadata):
    urls = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL"))
    assert set(urls) == {"Homepage", "Documentation", "Repository", "Issues", "Changelog"}
    assert all(url.startswith(HOME) for url in urls.values())
    assert f'repository = "{HOME}"' in (ROOT / "Cargo.toml").read_text()


def test_the_interpreters_are_those_that_wheels_are_built_for(metadata):
    prefix = "Programming Language :: Python :: 3."
    minors = {int(it[len(prefix) :]) for it in metadata.get_all("Classifier") if prefix in it}
    assert minors == set(range(10, 16))
    assert metadata["Requires-Python"] == ">=3.10"


def test_nothing_is_installed_besides_and_extras_are_for_tests_only(metadata):
    required = metadata.get_all("Requires-Dist")
    assert [it for it in required if "extra ==" not in it] == []
    assert set(metadata.get_all("Provides-Extra")) == {"conformance", "test"}


def test_other_event_loops_are_in_no_extra(metadata):
    names = {re.split(r"[^\w.-]", it)[0].lower() for it in metadata.get_all("Requires-Dist")}
    assert names & {"uvloop", "rloop", "rsloop", "zuvloop", "zloop", "winloop"} == set()


def test_licences_are_shipped(metadata):
    assert metadata["License-Expression"] == "MIT OR Apache-2.0"
    assert set(metadata.get_all("License-File")) == {"LICENSE-MIT", "LICENSE-APACHE"}


def test_the_readme_has_no_link_that_only_works_in_the_repository():
    text = re.sub(r"^```.*?^```$", "", (ROOT / "README.md").read_text(), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
