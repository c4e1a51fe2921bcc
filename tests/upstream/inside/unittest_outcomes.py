"""Runs Tornado's tests as its own runner does, on the tested loop, and writes down the outcomes."""

from __future__ import annotations

import unittest

import outcomes

outcomes.set_loop()


class Result(unittest.TextTestResult):
    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        outcomes.note(test.id(), "failed")

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        outcomes.note(test.id(), "passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        outcomes.note(test.id(), "skipped")


def runner_factory(stderr: object) -> type[unittest.TextTestRunner]:
    class Runner(unittest.TextTestRunner):
        def __init__(self, *args: object, **keywords: object) -> None:
            super().__init__(*args, **{**keywords, "stream": stderr, "resultclass": Result})

    return Runner


if __name__ == "__main__":
    from tornado.test import runtests

    runtests.test_runner_factory = runner_factory
    runtests.main()
