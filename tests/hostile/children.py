"""Runs the cases in child processes; a child that dies is followed by one for the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from hostile import differences

TESTS = Path(__file__).parent.parent


def run(loop, group, subjects, only="", every=1, offset=0):
    """The outcome of each case by its name; ``{"died": ...}`` where the process did."""
    outcomes, after = {}, []
    while True:
        command = [sys.executable, "-m", "hostile", "--child", "--loop", loop, "--group", group]
        command += ["--subjects", *subjects, "--only", only]
        command += ["--every", str(every), "--offset", str(offset), *after]
        env = {**os.environ, "PYTHONFAULTHANDLER": "1"}
        env["PYTHONPATH"] = os.pathsep.join([str(TESTS), *sys.path])
        with (
            tempfile.TemporaryDirectory() as folder,
            subprocess.Popen(
                command,
                cwd=folder,  # some names that are passed are names of files
                env=env,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ) as process,
        ):
            out, err = process.communicate()
        case = None
        for line in out.splitlines():
            if line.startswith("?"):
                case = line[1:]
            elif line.startswith("["):
                name, kept = json.loads(line)
                outcomes[name] = kept
                case = None
        if process.returncode == 0 and out.endswith("end\n"):
            if "panicked at" in err:
                outcomes["(stderr)"] = {"died": err[-3000:]}
            return outcomes
        if case is None:  # at the end of the process
            outcomes["(exit)"] = {"died": f"exit {process.returncode}\n{err[-3000:]}"}
            return outcomes
        outcomes[case] = {"died": f"exit {process.returncode}\n{err[-3000:]}"}
        after = ["--after", case]


PANICS = ("internal error", "panicked", "lready borrowed", "lready mutably borrowed", "SystemError")


def defect(kept):
    """What no case may do, whatever asyncio does."""
    text = json.dumps(kept)
    if "died" in kept:
        return kept["died"]
    return next((text for word in PANICS if word in text), None)


def differs(expected, got):
    if "died" in expected or "broken" in expected:
        return False
    mine, theirs = got.get("call"), expected["call"]
    if mine is None:
        return True
    raised, own = theirs[-4:], theirs[-1] is True
    if raised[0] == "raises":
        # What C code says is C code's affair; the type is not.
        same = mine[:-2] == theirs[:-2] and (not own or mine[-2] == theirs[-2])
    else:
        same = mine == theirs
    return not (same and got["reports"] == expected["reports"] and got["loop"] == expected["loop"])


def differ_again(group, case):
    """Whether a case differs each time it is run by itself."""
    subject = case.split(".")[0].split(":")[0]
    for _ in range(3):
        got = run("tokioloop", group, [subject], only=case)
        expected = run("asyncio", group, [subject], only=case)
        if not differs(expected[case], got[case]):
            return False
    return True


def show(options, group):
    """Print what went wrong, cases that went wrong in the same way together, and count them."""
    common = (group, options.subjects, options.only, options.every, options.offset)
    got = run(options.loop, *common)
    expected = run("asyncio", *common) if group == "arguments" else {}
    found, known = {}, 0
    for name, kept in got.items():
        where, _, value = name.partition("=")
        if (why := defect(kept)) is not None:
            found.setdefault((where, f"   {why}"), []).append(value)
        elif name in expected and differs(expected[name], kept):
            if differences.reason(name) is not None:
                known += 1
            # What takes its time may be over in one run and not in the next.
            elif differ_again(group, name):
                why = f"   asyncio   {expected[name]}\n   this loop {kept}"
                found.setdefault((where, why), []).append(value)
        elif options.only and len(got) < 10:
            print(f"   {name}\n   {kept}")
    for (where, why), values in found.items():
        print(f"-- {where} = {' '.join(values)}\n{why}")
    wrong = sum(map(len, found.values()))
    counts = f"{len(got)} cases, {known} differ for a known reason, {wrong} wrong"
    print(f"{group}: {counts}", flush=True)
    return wrong
