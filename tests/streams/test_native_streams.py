"""What only the native streams can get wrong: their classes, their coroutines, hostile programs."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import sys
import warnings
import weakref
from unittest import mock

import pytest

from support.recording import Reports, blocking_pair

pytestmark = pytest.mark.native_only

tokioloop = pytest.importorskip("tokioloop")

ASYNCIOS_READER = inspect.getmro(tokioloop.StreamReader)[2]
ASYNCIOS_WRITER = inspect.getmro(tokioloop.StreamWriter)[2]


@pytest.fixture(autouse=True)
def streams():
    """Instead of that of the folder: here it is the native ones that have to be asked for."""
    return "native"


@pytest.fixture
def reader(loop):
    return tokioloop.StreamReader(loop=loop)


def run(loop, coroutine):
    return loop.run_until_complete(coroutine)


# --- the classes ---


def test_they_are_asyncios_to_isinstance(loop, reader):
    assert isinstance(reader, asyncio.StreamReader)
    assert issubclass(tokioloop.StreamReader, asyncio.StreamReader)
    assert issubclass(tokioloop.StreamWriter, asyncio.StreamWriter)


def test_asyncios_are_theirs_to_isinstance(loop):
    """So that they can stand in the place of asyncio's names."""

    class Derived(asyncio.StreamReader):
        pass

    class Ours(tokioloop.StreamReader):
        pass

    assert isinstance(asyncio.StreamReader(loop=loop), tokioloop.StreamReader)
    assert isinstance(Derived(loop=loop), tokioloop.StreamReader)
    assert not isinstance(asyncio.StreamReader(loop=loop), Ours)
    assert not isinstance(object(), tokioloop.StreamReader)


def test_a_writer_takes_a_reader_that_is_asyncios(loop):
    reader = asyncio.StreamReader(loop=loop)
    near, far = blocking_pair()

    async def scenario():
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        writer = tokioloop.StreamWriter(transport, protocol, reader, loop)
        far.sendall(b"x")
        assert await reader.read(1) == b"x"
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    with far:
        run(loop, scenario())


@pytest.mark.parametrize("name", ["read", "readline", "readexactly", "readuntil", "__anext__"])
def test_methods_of_readers_are_coroutine_functions(name):
    method = getattr(tokioloop.StreamReader, name)
    assert inspect.iscoroutinefunction(method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert asyncio.iscoroutinefunction(method)
    assert inspect.signature(method) == inspect.signature(getattr(ASYNCIOS_READER, name))
    assert pickle.loads(pickle.dumps(method)) is method


def test_methods_of_writers_are_coroutine_functions():
    for name in ("drain", "wait_closed", "start_tls"):
        method = getattr(tokioloop.StreamWriter, name, None)
        assert method is None or inspect.iscoroutinefunction(method)


def test_mocks_know_which_methods_are_coroutines(loop):
    mocked = mock.create_autospec(tokioloop.StreamReader, instance=True)
    mocked.read.return_value = b"mocked"
    assert run(loop, mocked.read(10)) == b"mocked"
    mocked.read.assert_awaited_once_with(10)
    mocked.at_eof.return_value = True
    assert mocked.at_eof() is True


def test_in_asyncios_place_and_out_of_it(loop):
    names = {name: getattr(asyncio, name) for name in tokioloop.streams.__all__}
    tokioloop.install(accelerate=True)
    try:
        for name in names:
            assert getattr(asyncio, name) is getattr(tokioloop, name)
            assert getattr(asyncio.streams, name) is getattr(tokioloop, name)
        run(loop, child_with_native_pipes())
    finally:
        tokioloop.uninstall()
    assert {name: getattr(asyncio, name) for name in names} == names


async def child_with_native_pipes():
    child = await asyncio.create_subprocess_exec(
        *("cat",), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert type(child.stdout) is tokioloop.StreamReader
    assert await child.communicate(b"through") == (b"through", None)


def test_asyncios_names_that_were_imported_before(loop, monkeypatch):
    """A reader and a writer of asyncio's own, made while the names stand for the native ones."""
    reader_class, writer_class = asyncio.StreamReader, asyncio.StreamWriter
    near, far = blocking_pair()

    async def scenario():
        reader = reader_class(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        writer = writer_class(transport, protocol, reader, loop)
        assert type(reader) is ASYNCIOS_READER
        assert isinstance(reader, asyncio.StreamReader)
        far.sendall(b"line\n")
        assert await reader.readline() == b"line\n"
        writer.close()
        await writer.wait_closed()

    tokioloop.install(accelerate=True)
    try:
        with far:
            run(loop, scenario())
    finally:
        tokioloop.uninstall()


def test_a_call_is_a_coroutine(loop, reader):
    call = reader.read(1)
    assert asyncio.iscoroutine(call)
    assert type(call).__name__ == "StreamCall"
    assert call.__qualname__ == "StreamReader.read"
    assert repr(call).startswith("<coroutine object StreamReader.read at 0x")
    call.close()


@pytest.mark.parametrize(
    "ask", [lambda reader: reader.read(1), lambda reader: reader.readline()], ids=["read", "line"]
)
def test_a_call_that_is_never_awaited_warns(reader, ask):
    with pytest.warns(RuntimeWarning, match=r"coroutine 'StreamReader\.\w+' was never awaited"):
        ask(reader)
        gc.collect()


def test_neither_copied_nor_pickled_readers_are_of_use(reader):
    """As asyncio's, whose loop cannot be copied."""
    with pytest.raises(TypeError):
        pickle.dumps(reader)
    with pytest.raises(TypeError):
        copy.deepcopy(reader)


def test_the_representation_is_asyncios(loop, reader):
    theirs = asyncio.StreamReader(loop=loop)
    for each in (reader, theirs):
        each.feed_data(b"1234")
        each.feed_eof()
    assert repr(reader) == repr(theirs) == "<StreamReader 4 bytes eof>"


def test_attributes_are_those_of_asyncio(loop, reader):
    theirs = asyncio.StreamReader(loop=loop)
    assert {name: getattr(reader, name) for name in vars(theirs)} == vars(theirs)
    for name in vars(theirs):
        setattr(reader, name, getattr(theirs, name))
    reader.note = 1
    assert reader.note == 1
    assert vars(reader) == {"note": 1}


def test_a_reader_whose_constructor_has_not_run_has_no_attributes(loop):
    reader = tokioloop.StreamReader.__new__(tokioloop.StreamReader)
    with pytest.raises(AttributeError, match="_buffer"):
        repr(reader)
    with pytest.raises(AttributeError):
        run(loop, reader.read(1))
    writer = tokioloop.StreamWriter.__new__(tokioloop.StreamWriter)
    with pytest.raises(AttributeError, match="_transport"):
        writer.write(b"x")
    with pytest.raises(AttributeError):
        run(loop, writer.drain())
    # What else asyncio's destructor would complain of.
    writer._transport = type("Transport", (), {"is_closing": lambda self: True})()


def test_the_buffer_that_was_looked_at_stays_the_buffer(loop, reader):
    reader.feed_data(b"ab")
    buffer = reader._buffer
    assert buffer == b"ab"
    reader.feed_data(b"cd")
    assert buffer == b"abcd"
    buffer += b"ef"
    assert run(loop, reader.read(3)) == b"abc"
    assert buffer == b"def"
    assert reader._buffer is buffer
    del buffer[:]
    reader.feed_data(b"gh")
    assert buffer == b"gh"


def test_a_chunk_that_is_read_whole_is_not_copied(loop, reader):
    chunk = bytes(1000)
    reader.feed_data(chunk)
    assert run(loop, reader.read(2000)) is chunk
    line = b"x" * 100 + b"\n"
    reader.feed_data(line)
    assert run(loop, reader.readline()) is line


def test_a_chunk_is_read_in_pieces(loop, reader):
    reader.feed_data(b"one\ntwo\nthree")
    assert run(loop, reader.read(2)) == b"on"
    assert run(loop, reader.readline()) == b"e\n"
    reader.feed_data(b"four")
    assert run(loop, reader.readuntil(b"o\n")) == b"two\n"
    assert run(loop, reader.readexactly(9)) == b"threefour"
    assert not reader._buffer


def test_exported_memory_of_the_buffer_refuses_to_change(loop, reader):
    with memoryview(reader._buffer), pytest.raises(BufferError):
        reader.feed_data(b"x")
    reader.feed_data(b"xy")
    with memoryview(reader._buffer), pytest.raises(BufferError):
        run(loop, reader.read(1))
    assert reader._buffer == b"xy"


# --- the coroutines ---


def test_data_that_is_there_is_returned_without_the_loop(reader):
    reader.feed_data(b"one\ntwo\nrest")
    for call, expected in (
        (reader.readline(), b"one\n"),
        (reader.readuntil(b"\n"), b"two\n"),
        (reader.readexactly(2), b"re"),
        (reader.read(10), b"st"),
        (reader.read(0), b""),
        (reader.readexactly(0), b""),
    ):
        with pytest.raises(StopIteration) as returned:
            call.send(None)
        assert returned.value.value == expected
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            call.send(None)


def test_a_fresh_call_takes_no_value(reader):
    call = reader.read(1)
    with pytest.raises(TypeError, match="just-started"):
        call.send(1)
    call.close()


def waiting_call(loop, reader, make=None):
    """A call that waits, stepped by hand, and its future."""

    async def step():
        call = reader.read(10) if make is None else make(reader)
        return call, call.send(None)

    return run(loop, step())


def test_an_exception_that_is_thrown_ends_the_wait(loop, reader):
    call, future = waiting_call(loop, reader)
    assert reader._waiter is future
    with pytest.raises(LookupError, match="thrown"):
        call.throw(LookupError("thrown"))
    assert reader._waiter is None
    with pytest.raises(RuntimeError, match="cannot reuse"):
        call.send(None)


def test_closing_ends_the_wait(loop, reader):
    call, _ = waiting_call(loop, reader)
    call.close()
    assert reader._waiter is None
    call.close()


def test_a_call_that_is_dropped_ends_the_wait(loop, reader):
    call, _ = waiting_call(loop, reader)
    assert reader._waiter is not None
    del call
    gc.collect()
    assert reader._waiter is None


def test_cancelling_at_each_point_loses_nothing(loop, reader):
    async def scenario():
        for steps in range(4):
            task = asyncio.ensure_future(reader.readexactly(3))
            for _ in range(steps):
                await asyncio.sleep(0)
            if steps == 2:
                reader.feed_data(b"ab")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert reader._waiter is None
        reader.feed_data(b"c")
        assert await reader.readexactly(3) == b"abc"

    run(loop, scenario())


def test_cancelled_after_the_data_came_it_is_cancelled_and_the_data_stays(loop, reader):
    async def scenario():
        task = asyncio.ensure_future(reader.read(10))
        await asyncio.sleep(0)
        reader.feed_data(b"data")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await reader.read(10) == b"data"

    run(loop, scenario())


def test_a_second_step_from_inside_of_a_step_is_refused(loop, reader):
    refused = []

    class Transport:
        def resume_reading(self):
            try:
                call.send(None)
            except ValueError as error:
                refused.append(str(error))
            with pytest.raises(ValueError, match="already executing"):
                call.close()

    reader._transport = Transport()
    reader._paused = True
    call = reader.read(1)

    async def step():
        return call.send(None)

    run(loop, step())
    assert refused == ["coroutine already executing"]
    call.close()


def test_what_resume_reading_raises_is_raised(loop, reader):
    class Transport:
        def resume_reading(self):
            raise LookupError("resumed")

    reader._transport = Transport()
    reader._paused = True
    with pytest.raises(LookupError, match="resumed"):
        run(loop, reader.read(1))
    assert not reader._paused
    assert reader._waiter is None


def test_a_reader_that_is_changed_while_it_waits_is_read_by_asyncio(loop, reader):
    async def scenario():
        task = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0)
        reader.feed_data(b"before,")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reader._limit = 4.5
        reader.feed_data(b"after")
        reader._limit = 5
        vars(reader)
        reader.feed_eof()
        return await task

    assert run(loop, scenario()) == b"before,after"


def test_another_future_in_the_place_of_the_waiter(loop, reader):
    async def scenario():
        reader._waiter = loop.create_future()
        with pytest.raises(RuntimeError, match=r"readuntil\(\) called while another coroutine"):
            await reader.readline()
        waiter = reader._waiter
        reader.feed_data(b"x")
        assert waiter.done()
        assert reader._waiter is None

    run(loop, scenario())


def test_a_waiter_that_raises_when_it_is_woken(loop, reader):
    class Waiter:
        def cancelled(self):
            raise LookupError("asked")

    reader._waiter = Waiter()
    with pytest.raises(LookupError, match="asked"):
        reader.feed_data(b"x")
    assert reader._waiter is None
    assert run(loop, reader.read(1)) == b"x"


def test_arguments_of_other_kinds_are_asyncios_to_judge(loop, reader):
    class Index:
        def __index__(self):
            return 2

    class Bytes(bytes):
        pass

    reader.feed_data(b"abcdefgh")
    with pytest.raises(TypeError):
        run(loop, reader.read("1"))
    with pytest.raises(TypeError):
        run(loop, reader.read(Index()))
    with pytest.raises(TypeError):
        reader.read(1, 2)
    with pytest.raises(TypeError):
        reader.readexactly()
    with pytest.raises(ValueError, match="less than zero"):
        run(loop, reader.readexactly(-1))
    assert run(loop, reader.read(True)) == b"a"
    assert run(loop, reader.read(n=1)) == b"b"
    assert run(loop, reader.readuntil(separator=b"d")) == b"cd"
    assert run(loop, reader.readuntil(bytearray(b"e"))) == b"e"
    assert run(loop, reader.readuntil(Bytes(b"g"))) == b"fg"
    for nothing in (b"", bytearray()):
        with pytest.raises(ValueError, match="at least one-byte"):
            run(loop, reader.readuntil(nothing))


@pytest.mark.skipif(sys.version_info < (3, 13), reason="several separators since Python 3.13")
def test_of_several_separators_the_first_end_counts(loop, reader):
    reader.feed_data(b"aXXXbYc")
    assert run(loop, reader.readuntil((b"XXX", b"XX"))) == b"aXX"
    assert run(loop, reader.readuntil((b"Y", b"XbY"))) == b"XbY"
    with pytest.raises(ValueError, match="at least one element"):
        run(loop, reader.readuntil(()))


def test_a_huge_number_of_bytes_is_waited_for(loop, reader):
    async def scenario():
        task = asyncio.ensure_future(reader.readexactly(1 << 62))
        await asyncio.sleep(0)
        reader.feed_data(b"few")
        reader.feed_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await task
        assert caught.value.partial == b"few"

    run(loop, scenario())
    with pytest.raises(asyncio.IncompleteReadError):
        run(loop, reader.readexactly(1 << 80))


def test_a_line_that_is_too_long_says_in_which_way(loop):
    reader = tokioloop.StreamReader(limit=3, loop=loop)
    reader.feed_data(b"long line\nshort")
    with pytest.raises(ValueError, match="Separator is found") as caught:
        run(loop, reader.readline())
    assert isinstance(caught.value.__context__, asyncio.LimitOverrunError)
    assert caught.value.__context__.consumed == 9
    assert reader._buffer == b"short"
    with pytest.raises(ValueError, match="Separator is not found"):
        run(loop, reader.readline())
    assert not reader._buffer


# --- where asyncio's own code does the work ---


def test_a_method_that_is_overridden_is_called(loop):
    calls = []

    class Reader(tokioloop.StreamReader):
        async def _wait_for_data(self, name):
            calls.append(name)
            await super()._wait_for_data(name)

        def feed_data(self, data):
            calls.append(data)
            super().feed_data(data)

        async def readuntil(self, separator=b"\n"):
            calls.append(separator)
            return await super().readuntil(separator)

    reader = Reader(loop=loop)

    async def scenario():
        loop.call_soon(reader.feed_data, b"line\n")
        assert await reader.readline() == b"line\n"

    run(loop, scenario())
    assert calls == [b"\n", "readuntil", b"line\n"]


def test_a_method_that_is_replaced_is_called(loop, reader, monkeypatch):
    calls = []

    async def wait(self, name):
        calls.append(name)
        self.feed_eof()

    monkeypatch.setattr(tokioloop.StreamReader, "_wait_for_data", wait, raising=False)
    assert run(loop, reader.read(1)) == b""
    monkeypatch.undo()
    other = tokioloop.StreamReader(loop=loop)
    monkeypatch.setattr(ASYNCIOS_READER, "_wait_for_data", wait)
    assert run(loop, other.read(1)) == b""
    monkeypatch.undo()
    own = tokioloop.StreamReader(loop=loop)
    vars(own)["_wait_for_data"] = lambda name: wait(own, name)
    assert run(loop, own.read(1)) == b""
    assert calls == ["read"] * 3


def test_in_debug_mode_the_coroutines_are_asyncios(loop, reader):
    loop.set_debug(True)
    call = reader.read(1)
    assert inspect.iscoroutine(call)
    call.close()


def test_on_another_loop(reader):
    async def scenario():
        reader, writer = await tokioloop.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        await writer.drain()
        assert await reader.readline() == b"HELLO\n"
        writer.close()
        await writer.wait_closed()

    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    other = asyncio.SelectorEventLoop()
    server = other.run_until_complete(asyncio.wait_for(start(tokioloop.start_server, serve), 5))
    other.run_until_complete(scenario())
    server.close()
    other.run_until_complete(server.wait_closed())
    other.close()


async def start(start_server, serve):
    return await start_server(serve, "127.0.0.1", 0)


def test_a_reader_of_another_loop_is_refused_as_by_asyncio(loop, reader):
    other = tokioloop.new_event_loop()
    with pytest.raises(RuntimeError, match="attached to a different loop"):
        other.run_until_complete(reader.read(1))
    other.close()
    assert reader._waiter is None


def test_a_reader_without_a_loop_that_runs(loop, reader):
    """asyncio's future needs none either."""
    call = reader.read(1)
    future = call.send(None)
    assert future.get_loop() is loop
    reader.feed_data(b"x")
    with pytest.raises(StopIteration) as returned:
        call.send(None)
    assert returned.value.value == b"x"


def test_after_the_loop_is_closed(reader, loop):
    reader.feed_data(b"data")
    loop.close()
    call = reader.read(2)
    with pytest.raises(StopIteration):
        call.send(None)
    reader.feed_eof()
    assert not reader.at_eof()


# --- what remains ---


def test_nothing_keeps_a_reader_or_a_call(loop):
    reader = tokioloop.StreamReader(loop=loop)
    gone = weakref.ref(reader)
    call, _ = waiting_call(loop, reader)
    reader.itself = call
    del reader, call
    gc.collect()
    assert gone() is None


def test_references_are_counted_right(loop, reader):
    class Payload(bytes):
        pass

    async def scenario():
        for _ in range(50):
            task = asyncio.ensure_future(reader.readuntil(b"\n"))
            await asyncio.sleep(0)
            reader.feed_data(b"xy")
            reader.feed_data(b"z\nrest")
            await task
            await reader.readexactly(4)
            reader.feed_data(Payload(b"p"))
            await reader.read(1)

    run(loop, scenario())
    gc.collect()
    before = sys.getrefcount(reader), sys.getrefcount(loop), len(gc.get_objects())
    run(loop, scenario())
    gc.collect()
    after = sys.getrefcount(reader), sys.getrefcount(loop), len(gc.get_objects())
    assert after[:2] == before[:2]
    assert after[2] - before[2] < 20


def test_a_destructor_that_reads_while_the_buffer_is_replaced(loop, reader):
    class Last(bytearray):
        def __del__(self):
            seen.append(bytes(reader._buffer))
            reader.feed_data(b"!")

    seen = []
    reader._buffer = Last(b"old")
    reader._buffer = bytearray(b"new")
    assert seen == [b"new"]
    assert run(loop, reader.read(10)) == b"new!"


# --- servers ---


def serving(loop, callback, talk, **options):
    async def scenario():
        server = await tokioloop.start_server(callback, "127.0.0.1", 0, **options)
        reader, writer = await tokioloop.open_connection(*server.sockets[0].getsockname())
        try:
            await talk(reader, writer)
        finally:
            writer.close()
            server.close()
        await server.wait_closed()

    run(loop, scenario())


def test_a_server_gives_native_streams_to_its_callback(loop):
    kinds = []

    async def serve(reader, writer):
        kinds.extend((type(reader), type(writer)))
        writer.writelines([await reader.readline(), b"end"])
        writer.close()
        await writer.wait_closed()

    async def talk(reader, writer):
        writer.write(b"line\n")
        assert [line async for line in reader] == [b"line\n", b"end"]

    serving(loop, serve, talk)
    assert kinds == [tokioloop.StreamReader, tokioloop.StreamWriter]


def test_what_a_callback_raises_is_reported_as_by_asyncio(loop):
    async def serve(reader, writer):
        try:
            raise LookupError("in a callback")
        finally:
            writer.close()

    async def scenario(package):
        reports = Reports(loop)
        server = await package.start_server(serve, "127.0.0.1", 0)
        reader, writer = await package.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        gc.collect()
        return [context["message"] for context in reports.contexts]

    reported = run(loop, scenario(tokioloop))
    assert reported == run(loop, scenario(asyncio))
    assert len(reported) == 1


def test_over_a_unix_socket(loop, tmp_path):
    async def serve(reader, writer):
        writer.write(await reader.readexactly(3))
        writer.close()

    async def scenario():
        path = tmp_path / "socket"
        server = await tokioloop.start_unix_server(serve, path)
        reader, writer = await tokioloop.open_unix_connection(path)
        writer.write(b"abc")
        assert await reader.read() == b"abc"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(loop, scenario())


def test_draining_waits_for_the_peer(loop):
    near, far = blocking_pair()

    async def scenario():
        _reader, writer = await tokioloop.open_connection(sock=near)
        payload = bytes(8 << 20)
        writer.write(payload)
        task = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0)
        assert not task.done()
        assert writer._protocol._paused

        def take():
            left = len(payload)
            while left:
                left -= len(far.recv(1 << 20))

        await asyncio.gather(loop.run_in_executor(None, take), task)
        writer.close()
        with pytest.raises(ConnectionResetError, match="Connection lost"):
            await writer.drain()

    with far:
        run(loop, scenario())


def test_an_unclosed_writer_warns_as_asyncios(loop):
    async def scenario(package):
        near, far = blocking_pair()
        with far:
            reader, writer = await package.open_connection(sock=near)
            transport = writer.transport
            del reader
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del writer
                gc.collect()
            transport.abort()
            await asyncio.sleep(0.01)
        return [str(warning.message).partition(" ")[0] for warning in caught]

    warned = run(loop, scenario(tokioloop))
    assert warned == run(loop, scenario(asyncio))
    assert warned == (["unclosed"] if hasattr(ASYNCIOS_WRITER, "__del__") else [])
