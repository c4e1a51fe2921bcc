"""Runs pytest on suites of its users, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from xml.etree import ElementTree

import pytest

#: Settings that keep pytest-asyncio from warning of its own changes; without it they are unknown.
SETTINGS = "asyncio_default_fixture_loop_scope = function"


class Outcome:
    """What pytest said, and how each test ended."""

    def __init__(self, done, report):
        self.status = done.returncode
        self.output = done.stdout + done.stderr
        self.tests = {}
        for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
            kinds = {each.tag for each in case} & {"failure", "error", "skipped"}
            self.tests[case.get("name")] = kinds.pop() if kinds else "passed"

    @property
    def header(self):
        return self.output.partition("collected")[0]

    def all_passed(self):
        """Return the names of the tests, which must have passed."""
        assert self.status == 0, self.output
        assert self.tests, self.output
        assert set(self.tests.values()) == {"passed"}, self.output
        return sorted(self.tests)


class Suites:
    """A folder for suites. Warnings of deprecations are errors in them."""

    def __init__(self, folder):
        self.folder = folder
        self.settings = ""
        self.options = ["-W", "error::DeprecationWarning"]

    def write(self, name, source):
        (self.folder / name).write_text(textwrap.dedent(source))

    def use(self, plugin, settings=""):
        """Have the suites use a plugin, which may be missing for a CPython that is new."""
        pytest.importorskip(plugin)
        self.settings += settings + "\n"

    def without(self, *plugins):
        for plugin in plugins:
            self.options += ["-p", f"no:{plugin}"]

    def run(self, *options):
        """Run all suites of the folder."""
        (self.folder / "pytest.ini").write_text(f"[pytest]\n{self.settings}")
        report = self.folder / "report.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}"]
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))}
        done = subprocess.run(
            [*command, *self.options, *options],
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
        )
        return Outcome(done, report)
