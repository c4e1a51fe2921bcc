"""How the event loop of ``python -m tokioloop`` reaches the Pythons that the program starts.

A forked child is a copy of its parent. Any other child starts anew: it finds the folder
``children`` in front of its ``PYTHONPATH``, and in ``TOKIOLOOP_CHILDREN`` how to install the loop.
"""

from __future__ import annotations

import os
from pathlib import Path

from tokioloop.policy import install

from . import which_loop

#: The folder whose ``sitecustomize`` installs the loop.
FOLDER = str(Path(__file__).with_name("children"))
#: The options of ``python -m tokioloop`` that children share, separated by commas.
VARIABLE = "TOKIOLOOP_CHILDREN"


def reach_children(*, accelerate: bool, verbose: bool) -> None:
    """Have Pythons that this process starts from now on install the loop as well."""
    options = {"install": True, "accelerate": accelerate, "verbose": verbose}
    os.environ[VARIABLE] = ",".join(name for name, wanted in options.items() if wanted)
    os.environ["PYTHONPATH"] = os.pathsep.join([FOLDER, *_other_entries()])


def leave_children() -> None:
    """Undo `reach_children`, of this process or of a parent."""
    os.environ.pop(VARIABLE, None)
    entries = _other_entries()
    if entries:
        os.environ["PYTHONPATH"] = os.pathsep.join(entries)
    else:
        os.environ.pop("PYTHONPATH", None)


def _other_entries() -> list[str]:
    path = os.environ.get("PYTHONPATH")
    return [entry for entry in path.split(os.pathsep) if entry != FOLDER] if path else []


def install_in_child() -> None:
    """Install the loop as the parent's ``python -m tokioloop`` was told to."""
    options = os.environ.get(VARIABLE, "").split(",")
    install(accelerate="accelerate" in options)
    if "verbose" in options:
        which_loop.announce()
