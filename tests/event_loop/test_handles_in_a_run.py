"""Handles that are made while the loop runs: one that is dropped may be given out again."""

import asyncio
import contextvars
import gc
import random
import sys
import weakref

import pytest

from support.forking import FORK


def test_a_dropped_handle_takes_nothing_of_its_call_along(loop):
    ran = []

    async def main():
        loop.call_soon(ran.append, 1)
        second = loop.call_soon(ran.append, 2)
        second.cancel()
        third = loop.call_soon(ran.append, 3)
        loop.call_soon(ran.append, 4)
        third.cancel()
        loop.call_soon(ran.append, 5)
        await asyncio.sleep(0)
        assert (second.cancelled(), third.cancelled()) == (True, True)

    loop.run_until_complete(main())
    assert ran == [1, 4, 5]


def test_a_handle_that_is_kept_belongs_to_its_call_alone(loop):
    ran = []

    async def main():
        kept = loop.call_soon(ran.append, 1)
        others = [loop.call_soon(ran.append, at) for at in range(2, 5)]
        assert len({id(handle) for handle in [kept, *others]}) == 4
        del others[0]
        again = loop.call_soon(ran.append, 5)
        assert again is not kept
        assert again not in others
        kept.cancel()
        await asyncio.sleep(0)
        # Its call has run; the handle is the program's still.
        assert loop.call_soon(ran.append, 6) is not again
        assert not again.cancelled()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert ran == [2, 3, 4, 5, 6]


def test_each_handle_shows_its_own_call(loop):
    async def main():
        loop.call_soon(print, "dropped")
        shown = loop.call_soon(int, "1")
        text = repr(shown)
        loop.call_soon(float, "2")
        assert "int" in text
        assert repr(shown) == text
        await asyncio.sleep(0)
        assert repr(shown) == text

    loop.run_until_complete(main())


def test_a_weak_reference_sees_a_dropped_handle_until_its_call_has_run(loop):
    async def main():
        seen = weakref.ref(loop.call_soon(int))
        loop.call_soon(float)
        assert seen() is not None
        assert seen() is seen()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.call_soon(float)
        assert seen() is None

    loop.run_until_complete(main())


def test_a_weak_reference_to_the_last_handle_dies_with_its_call(loop):
    async def main():
        seen = weakref.ref(loop.call_soon(int))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert seen() is None

    loop.run_until_complete(main())


class Argument:
    pass


def test_what_a_dropped_handles_call_holds_is_freed_once_it_ran(loop):
    async def main():
        argument = Argument()
        freed = weakref.ref(argument)
        loop.call_soon(id, argument)
        del argument
        assert freed() is not None
        await asyncio.sleep(0)
        assert freed() is None

    loop.run_until_complete(main())


@pytest.mark.parametrize("look", [False, True], ids=["kept", "looked at"])
def test_what_a_handles_call_holds_is_freed_with_the_handle(loop, look):
    async def main():
        argument = Argument()
        freed = weakref.ref(argument)
        handle = loop.call_soon(id, argument)
        if look:
            repr(handle)
        del argument
        await asyncio.sleep(0)
        assert freed() is not None
        del handle
        assert freed() is None

    loop.run_until_complete(main())


@pytest.mark.parametrize("look", [False, True], ids=["kept", "looked at"])
def test_the_last_handle_that_was_made_keeps_its_call_no_longer_than_the_program(loop, look):
    kept, freed = [], []

    def schedule():
        argument = Argument()
        freed.append(weakref.ref(argument))
        kept.append(loop.call_soon(id, argument))
        if look:
            repr(kept[0])

    def check():
        # Nothing was scheduled since, save by timers.
        freed.append(freed[0]() is not None)
        kept.clear()
        freed.append(freed[0]() is None)
        loop.stop()

    loop.call_later(0.02, check)
    loop.call_soon(schedule)
    loop.run_forever()
    assert freed[1:] == [True, True]


@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
def test_after_a_run_no_handle_keeps_its_loop(loop_factory, keep):
    def run():
        loop, kept = loop_factory(), []

        def schedule():
            handle = loop.call_soon(loop.stop)
            if keep:
                kept.append(handle)

        loop.call_soon(schedule)
        loop.run_forever()
        loop.close()
        return weakref.ref(loop)

    gone = run()
    gc.collect()
    assert gone() is None


def test_a_handle_kept_past_a_run_is_collected_with_its_cycle(loop_factory):
    loop = loop_factory()

    class Holder:
        def stop(self):
            loop.stop()

    def schedule():
        holder = Holder()
        holder.handle = loop.call_soon(holder.stop)
        return weakref.ref(holder)

    found = []
    loop.call_soon(lambda: found.append(schedule()))
    loop.run_forever()
    loop.close()
    gc.collect()
    assert found[0]() is None


def test_a_call_in_a_context_that_cannot_be_entered_is_reported_as_the_standard_librarys(
    loop, caplog
):
    context = contextvars.copy_context()

    async def main():
        loop.call_soon(int, context=context)
        await asyncio.sleep(0)

    context.run(loop.run_until_complete, main())
    (record,) = caplog.records
    assert record.exc_info[0] is RuntimeError
    assert "cannot enter context" in str(record.exc_info[1])


def test_an_error_after_the_context_was_left_is_the_callbacks(loop):
    reported = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    async def main():
        loop.call_soon(int, "no number")
        loop.call_soon(int, "none either", context=contextvars.copy_context())
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert [type(error) for error in reported] == [ValueError, ValueError]


def test_more_calls_than_there_is_room_for(loop):
    ran = []

    async def main():
        for at in range(10_000):
            loop.call_soon(ran.append, at)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert ran == list(range(10_000))


STEPS = ["drop", "drop", "keep", "cancel", "forget", "look", "weak", "turn"]


@pytest.mark.parametrize("seed", range(20))
def test_calls_run_in_order_whatever_becomes_of_their_handles(loop, seed):
    choices = random.Random(seed)
    ran, expected, kept = [], [], {}

    def schedule(at):
        arguments = [at] * choices.randint(0, 5)
        context = choices.choice([None, None, contextvars.copy_context()])
        handle = loop.call_soon(lambda *args: ran.append((at, args)), *arguments, context=context)
        expected.append((at, tuple(arguments)))
        return handle

    def cancel(at):
        kept[at].cancel()
        expected[:] = [one for one in expected if one[0] != at or one in ran]

    async def main():
        for number in range(400):
            match choices.choice(STEPS):
                case "drop":
                    schedule(number)
                case "keep":
                    kept[number] = schedule(number)
                case "weak":
                    kept[number] = weakref.ref(schedule(number))
                case "cancel" | "forget" | "look" as what if kept:
                    at = choices.choice(list(kept))
                    if isinstance(kept[at], weakref.ref):
                        handle = kept[at]()
                        assert (handle is None) == (at in [one for one, _ in ran])
                        del handle
                    elif what == "cancel":
                        cancel(at)
                    elif what == "look":
                        assert repr(kept[at]).startswith("<Handle")
                    if what == "forget":
                        del kept[at]
                case "turn":
                    await asyncio.sleep(0)
            if choices.random() < 0.01:
                gc.collect()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert ran == expected


def test_the_tuple_of_a_tasks_arguments_is_not_shown_to_the_collector(loop):
    async def nothing():
        pass

    async def main():
        coroutine = nothing()
        task = loop.create_task(coroutine)
        shown = [one for one in gc.get_referrers(coroutine) if type(one) is tuple]
        await task
        return shown

    assert loop.run_until_complete(main()) == []


def test_a_task_of_something_else_than_a_coroutine_leaves_the_next_one_alone(loop):
    async def main():
        for wrong in (1, None, [], print):
            with pytest.raises(TypeError, match="a coroutine was expected"):
                loop.create_task(wrong)
        wrong = object()
        before = sys.getrefcount(wrong), sys.getrefcount(None)
        for _ in range(1000):
            with pytest.raises(TypeError):
                loop.create_task(wrong)
            await loop.create_task(asyncio.sleep(0))
        gc.collect()
        assert sys.getrefcount(wrong) == before[0]
        assert abs(sys.getrefcount(None) - before[1]) < 500

    loop.run_until_complete(main())


def test_a_fork_between_two_calls_leaves_each_process_its_own(programs):
    done = programs.run(
        FORK
        + """
import asyncio

async def main():
    loop, ran = asyncio.get_running_loop(), []
    loop.call_soon(ran.append, "before")
    pid = os.fork()
    asyncio._set_running_loop(loop)
    loop.call_soon(ran.append, "after")
    kept = loop.call_soon(ran.append, "cancelled")
    loop.call_soon(ran.append, "last")
    kept.cancel()
    await asyncio.sleep(0)
    kept = loop.call_soon(ran.append, "kept")
    loop.call_soon(ran.append, "end")
    await asyncio.sleep(0)
    assert ran == ["before", "after", "last", "kept", "end"], ran
    assert not kept.cancelled()
    if pid:
        wait(pid)
        print("both")
    else:
        os._exit(0)

run(main())
"""
    )
    assert done.stdout == "both\n", done.stderr


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.03])
def test_the_interpreter_ends_while_a_thread_makes_handles(programs, seconds):
    done = programs.run(
        f"""
        import asyncio, threading, time

        def again(loop):
            loop.call_soon(int)
            loop.call_soon(again, loop)
            kept.append(loop.call_soon(int))

        def endless():
            loop = new_event_loop()
            loop.call_soon(again, loop)
            begun.set()
            loop.run_forever()

        kept, begun = [], threading.Event()
        threading.Thread(target=endless, daemon=True).start()
        begun.wait()
        time.sleep({seconds})
        """
    )
    assert (done.stdout, done.stderr) == ("", "")
