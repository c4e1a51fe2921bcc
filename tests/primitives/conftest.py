"""The same script with asyncio's primitives and with ours, on the tested loop."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from primitives.outcomes import namespace, plain


@pytest.fixture
def native():
    """tokioloop's three functions."""
    import tokioloop

    return namespace(tokioloop)


@pytest.fixture(params=[False, True], ids=["", "debug"])
def both(request, loop_factory):
    """``both(script)``: what ``await script(api)`` gives, the same with either ``api``.

    An exception that leaves the script, warnings and what reaches the loop's exception handler are
    compared, too. Runs with the loop's debug mode off, and on.
    """
    import tokioloop

    def run(script, api):
        gc.collect()  # what tests before this one left may warn
        loop = loop_factory()
        loop.set_debug(request.param)
        reported = []
        loop.set_exception_handler(
            lambda loop, context: reported.append((context["message"], context.get("exception")))
        )
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    outcome = loop.run_until_complete(script(api))
                except BaseException as error:
                    outcome = error
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()
        # In debug mode asyncio's warning goes on with where the coroutine was made.
        warned = [(w.category, str(w.message).partition("\n")[0]) for w in caught]
        return plain(outcome), plain(reported), warned

    def both(script):
        theirs, ours = run(script, namespace(asyncio)), run(script, namespace(tokioloop))
        assert ours == theirs
        return ours[0]

    return both
