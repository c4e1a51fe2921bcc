"""In the process of a suite: sets the loop that is tested, and writes down how each test ended."""

from __future__ import annotations

import json
import os


def set_loop() -> None:
    if os.environ["TESTED_LOOP"] == "tokioloop":
        import tokioloop

        tokioloop.install()


def note(test: str, outcome: str) -> None:
    # At once: the process may not live long enough.
    with open(os.environ["OUTCOMES"], "a") as file:
        file.write(json.dumps([test, outcome]) + "\n")
