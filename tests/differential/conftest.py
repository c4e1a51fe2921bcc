"""Fixtures of the tests that compare both loops."""

from __future__ import annotations

from asyncio import constants, selector_events
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


@pytest.fixture(autouse=True)
def corrected_lines(monkeypatch):
    """Corrects asyncio's `writelines()` where it pauses no protocol, and where it stumbles
    over a lost connection, as newer ones do.

    Without it nothing that follows could be compared.
    """
    transport = selector_events._SelectorSocketTransport
    uncorrected = vars(transport).get("writelines")
    if uncorrected is None or "_conn_lost" in uncorrected.__code__.co_names:
        return

    def writelines(self, list_of_data):
        list_of_data = list(list_of_data)
        if list_of_data and self._conn_lost and not self._eof and self._empty_waiter is None:
            # As `write()` does it.
            if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
                selector_events.logger.warning("socket.send() raised exception.")
            self._conn_lost += 1
            return
        uncorrected(self, list_of_data)
        if self._buffer:
            self._maybe_pause_protocol()

    monkeypatch.setattr(transport, "writelines", writelines)
