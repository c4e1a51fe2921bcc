"""What an index shows of the package, and what installing it brings along."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

pytestmark = pytest.mark.native_only


@pytest.fixture(scope="module")
def metadata():
    return importlib.metadata.metadata("tokioloop")


def test_it_requires_nothing_but_python(metadata):
    required = metadata.get_all("Requires-Dist") or []
    assert [each for each in required if "extra ==" not in each] == []
    assert metadata["Requires-Python"] == ">=3.10"


def test_its_extras_name_no_other_loop(metadata):
    required = " ".join(metadata.get_all("Requires-Dist") or [])
    for rival in ("uvloop", "rloop", "rsloop", "zuvloop", "zloop", "aiofastnet"):
        assert not re.search(rf"\b{rival}\b", required)


def test_it_says_where_it_lives(metadata):
    urls = dict(each.split(", ", 1) for each in metadata.get_all("Project-URL"))
    assert {"Homepage", "Source", "Issues", "Changelog"} <= urls.keys()
    assert all(url.startswith("https://") for url in urls.values())


def test_it_names_each_version_that_is_supported(metadata):
    classifiers = metadata.get_all("Classifier")
    for minor in range(10, 16):
        assert f"Programming Language :: Python :: 3.{minor}" in classifiers
