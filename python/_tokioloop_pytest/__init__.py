"""The pytest plugin of tokioloop; ``docs/testing-your-program.md`` is its guide.

pytest imports this module in every run in an environment that has tokioloop. So it lies beside the
package ``tokioloop``, and imports that (with its core, and asyncio) only when a run needs it.

All test frameworks come to one place unless they are given a loop factory: ``asyncio.run``,
``asyncio.Runner``, ``unittest.IsolatedAsyncioTestCase``, pytest-asyncio, the plugins of AnyIO and
aiohttp all have asyncio's default policy make their loop. The plugin replaces that method of the
policy. So it sets no policy of its own, which CPython deprecates, and needs no framework's hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import asyncio

    Factory = Callable[[], asyncio.AbstractEventLoop]

_MARKER = (
    "tokioloop(*, autojump=False, start=0.0, autojump_threshold=None): run the test on an event "
    "loop of tokioloop; if autojump is true, in virtual time (see tokioloop.testing)."
)
_NAME = "tokioloop-loops"
_NO_EFFECT = (
    "the mark tokioloop had no effect: no event loop was made for this test. The test may be "
    "without a loop, on a loop of a wider scope than the test, or on one of an explicit factory."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--tokioloop`` and the setting ``tokioloop``."""
    parser.getgroup("tokioloop").addoption(
        "--tokioloop",
        action="store_true",
        help="create tokioloop's event loops wherever asyncio would create its own",
    )
    parser.addini("tokioloop", "the same as --tokioloop, if true", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Make tokioloop's loops the default, if that is wanted."""
    config.addinivalue_line("markers", _MARKER)
    if config.getoption("--tokioloop") or config.getini("tokioloop"):
        config.pluginmanager.register(Loops(enabled=True), _NAME)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check the marks, and prepare for them."""
    for item in items:
        marker = item.get_closest_marker("tokioloop")
        if marker is None:
            continue
        try:
            _options(*marker.args, **marker.kwargs)
        except TypeError as error:
            raise pytest.UsageError(f"{item.nodeid}: mark {error}") from None
        if not config.pluginmanager.has_plugin(_NAME):
            config.pluginmanager.register(Loops(enabled=False), _NAME)


def _options(*args: Any, autojump: bool = False, **options: Any) -> dict[str, Any] | None:
    """Return what a mark asks of the loop's clock; ``None`` for real time."""
    wrong = options.keys() - {"start", "autojump_threshold"}
    if args or wrong:
        what = ", ".join(sorted(wrong)) or "positional arguments"
        raise TypeError(f"tokioloop does not take {what}")
    if not autojump and options:
        raise TypeError(f"tokioloop: {', '.join(sorted(options))} without autojump=True")
    return options if autojump else None


class Loops:
    """Which event loops asyncio makes, test by test. Registered only in runs that need it."""

    def __init__(self, *, enabled: bool) -> None:
        import tokioloop

        self._enabled = enabled
        self._version = tokioloop.__version__
        self._default: Factory | None = tokioloop.new_event_loop if enabled else None
        self._factory: Factory | None = self._default
        #: How many loops were made for the present test.
        self._made = 0
        self._replace()

    def _replace(self) -> None:
        from asyncio import events

        # The name got an underscore in CPython 3.14.
        names = vars(events)
        policy: Any = names.get("BaseDefaultEventLoopPolicy")
        self._policy = policy or names["_BaseDefaultEventLoopPolicy"]
        self._original = original = self._policy.new_event_loop

        def new_event_loop(policy: Any) -> asyncio.AbstractEventLoop:
            factory = self._factory
            loop: asyncio.AbstractEventLoop = factory() if factory else original(policy)
            return loop

        self._policy.new_event_loop = new_event_loop

    def pytest_unconfigure(self) -> None:
        """Give asyncio its own loops back."""
        self._policy.new_event_loop = self._original

    def pytest_report_header(self) -> str | None:
        """Say in pytest's header which event loop the tests run on."""
        return f"event loop: tokioloop {self._version}" if self._enabled else None

    def _for(self, item: pytest.Item) -> Factory | None:
        """Return what makes the loops of a marked test."""
        marker = item.get_closest_marker("tokioloop")
        if marker is None:
            return self._default
        import tokioloop.testing

        options = _options(**marker.kwargs)
        return partial(
            self._make,
            tokioloop.new_event_loop
            if options is None
            else partial(tokioloop.testing.new_event_loop, **options),
        )

    def _make(self, factory: Factory) -> asyncio.AbstractEventLoop:
        self._made += 1
        return factory()

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, None]:
        """Make the loops of a marked test as its mark says."""
        self._factory, self._made = self._for(item), 0
        yield
        self._factory = self._default

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, Any, None]:
        """Make loops that outlive the test as if it had no mark."""
        factory = self._factory
        if fixturedef.scope != "function":
            self._factory = self._default
        yield
        self._factory = factory

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, None]:
        """Fail a marked test whose mark did nothing."""
        outcome = yield
        if outcome.excinfo is None and not self._made and self._must_make(item):
            outcome.force_exception(pytest.fail.Exception(_NO_EFFECT, pytrace=False))

    def _must_make(self, item: pytest.Item) -> bool:
        marker = item.get_closest_marker("tokioloop")
        if marker is None or (self._enabled and _options(**marker.kwargs) is None):
            return False
        # AnyIO may run the same test on Trio as well, which has clocks of its own.
        backend = getattr(item, "funcargs", {}).get("anyio_backend", "asyncio")
        return "asyncio" in (backend, backend[0])
