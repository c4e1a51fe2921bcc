"""The arguments of the operations, their counts, and sleeps that end early."""

import asyncio
import sys
from types import SimpleNamespace

import pytest
from benchmarks.loops import EXTENSIONS_LOOP, PACKAGES
from benchmarks.micro import bridging
from benchmarks.micro.context import Context, Primitives
from benchmarks.micro.sleeping import EarlySleep, overshoots

import tokioloop


async def awake(delay):
    pass


@pytest.fixture
def package_with_sleep(monkeypatch):
    monkeypatch.setattr(tokioloop, "sleep", awake, raising=False)


def test_native_primitives_are_the_packages_own_on_its_loop_only(package_with_sleep):
    assert Primitives.of("tokioloop", native=True).sleep is awake
    assert Primitives.of("tokioloop", native=False).sleep is asyncio.sleep
    assert Primitives.of("uvloop", native=True).sleep is asyncio.sleep


def test_a_primitive_that_the_package_lacks_is_asyncios(monkeypatch):
    monkeypatch.delattr(tokioloop, "gather", raising=False)
    assert Primitives.of("tokioloop", native=True).gather is asyncio.gather


def test_an_early_sleep_is_no_result(package_with_sleep):
    loop = tokioloop.new_event_loop()
    try:
        with pytest.raises(EarlySleep, match="5 of 5 sleeps ended early"):
            overshoots(Context(loop, 5, Primitives.of("tokioloop", native=True)))
        found = overshoots(Context(loop, 5, Primitives.of("tokioloop", native=False)))
    finally:
        loop.close()
    assert len(found) == 5
    assert min(found) >= 0


class Futures:
    """Coroutines in the place of Rust futures: what awaits them is the same."""

    def __init__(self):
        self.awaited = 0

    async def ready(self):
        self.awaited += 1
        return 1

    yields = ready

    async def ask(self, responder):
        await self.ready()

    async def get(self, client, url):
        assert url == "http://127.0.0.1:80/"
        await asyncio.sleep(0)
        return await self.ready()

    async def pass_on(self, passes):
        self.awaited += passes

    def players(self, passes):
        return self.pass_on(passes), self.pass_on(passes)

    sleep = staticmethod(asyncio.sleep)
    Client = Responder = SimpleNamespace


@pytest.mark.parametrize("name", ["ready", "yields", "hand_over", "thread", "gather", "http"])
def test_rust_futures_are_awaited_as_often_as_asked(name):
    loop, futures = tokioloop.new_event_loop(), Futures()
    primitives = Primitives.of("tokioloop", native=True)
    try:
        context = Context(loop, 250, primitives, ("127.0.0.1", 80), futures)
        assert getattr(bridging, name)(context) > 0
        assert min(bridging.overshoots(context.with_count(2))) >= 0
    finally:
        loop.close()
    assert futures.awaited == 250


@pytest.mark.parametrize("name", ["opendal", "opendal_gather"])
def test_what_others_wrote_is_awaited_as_often_as_asked(name, monkeypatch):
    written, reads = [], Futures()

    class Operator:
        def __init__(self, store):
            assert store == "memory"

        def write(self, file, data):
            written.append(file)

        def to_async_operator(self):
            return self

        def read(self, file):
            assert [file] == written
            return reads.ready()

    monkeypatch.setitem(sys.modules, "opendal", SimpleNamespace(Operator=Operator))
    bridging._store.cache_clear()
    loop = tokioloop.new_event_loop()
    try:
        context = Context(loop, 250, Primitives.of("tokioloop", native=True), None, None)
        assert getattr(bridging, name)(context) > 0
    finally:
        loop.close()
        bridging._store.cache_clear()
    assert reads.awaited == 250


def test_the_extensions_own_loop_has_the_primitives_of_its_own_package(monkeypatch):
    monkeypatch.setitem(PACKAGES, EXTENSIONS_LOOP, "tokioloop")
    assert Primitives.of(EXTENSIONS_LOOP, native=True).gather is tokioloop.gather
    assert Primitives.of(EXTENSIONS_LOOP, native=False).gather is asyncio.gather
