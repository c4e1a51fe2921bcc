"""Callbacks for handles, and a check that no two handles share memory."""


class AtEnd:
    """A callback that calls something else when it dies."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *args):
        pass

    def __del__(self):
        self.function()


def callback(*args):
    pass


def assert_handles_are_distinct(loop_factory, count=100):
    """Memory that was given back twice is given out twice."""
    loop, ran = loop_factory(), []
    handles = [loop.call_soon(ran.append, i) for i in range(count)]
    timers = [loop.call_later(60, callback, i) for i in range(count)]
    assert len({id(handle) for handle in [*handles, *timers]}) == 2 * count
    assert [handle._args for handle in handles] == [(i,) for i in range(count)]
    assert [timer._args for timer in timers] == [(i,) for i in range(count)]
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert ran == list(range(count))
