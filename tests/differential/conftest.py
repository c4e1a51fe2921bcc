"""What the tests that compare share."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    # start_tls() on a connection that is lost already leaves a TLS transport unclosed.
    unclosed = pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(unclosed)


@pytest.fixture(scope="session")
def contexts(certificates):
    from differential.tls import Contexts  # late: its tests are skipped without trustme

    return Contexts(certificates)
