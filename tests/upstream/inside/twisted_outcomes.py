"""Runs Twisted's tests as trial does, on the asyncio reactor and the tested loop.

The tests that Twisted repeats for each of its reactors run for the asyncio reactor only.
"""

from __future__ import annotations

import asyncio
import sys

import outcomes
from twisted.internet import asyncioreactor

outcomes.set_loop()
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
asyncioreactor.install(loop)

# Imports the reactor, and would install another.
from twisted.internet.test.reactormixins import ReactorBuilder  # noqa: E402
from twisted.trial import reporter, runner  # noqa: E402

ReactorBuilder._reactors = ["twisted.internet.test.reactormixins.AsyncioSelectorReactor"]


class Reporter(reporter.VerboseTextReporter):
    def startTest(self, test: object) -> None:
        super().startTest(test)
        outcomes.note(test.id(), "failed")

    def addSuccess(self, test: object) -> None:
        super().addSuccess(test)
        outcomes.note(test.id(), "passed")

    def addSkip(self, test: object, reason: str) -> None:
        super().addSkip(test, reason)
        outcomes.note(test.id(), "skipped")

    def addExpectedFailure(self, test: object, *details: object) -> None:
        super().addExpectedFailure(test, *details)
        outcomes.note(test.id(), "skipped")

    def addError(self, test: object, error: object) -> None:
        # What a class leaves behind is reported after its last test, which passed.
        super().addError(test, error)
        outcomes.note(test.id(), "failed")


if __name__ == "__main__":
    trial = runner.TrialRunner(Reporter, realTimeErrors=True)
    sys.exit(not trial.run(runner.TestLoader().loadByNames(sys.argv[1:])).wasSuccessful())
