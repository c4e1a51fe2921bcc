"""Every row of docs/compatibility.md has a test, and every test here has a row."""

from __future__ import annotations

import collections

from compatibility.rows import documented, shown


def test_every_row_has_a_test():
    assert set(documented()) - set(shown()) == set()


def test_every_test_has_a_row():
    assert set(shown()) - set(documented()) == set()


def test_rows_are_named_once():
    assert [name for name, count in collections.Counter(documented()).items() if count > 1] == []
