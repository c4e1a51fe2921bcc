"""The end of a stream transport, its extra information and its repr."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
import weakref

import pytest

from support.recording import Recorder, blocking_pair, in_thread, read_all, reset, transport_pair

# More than the kernel buffers for both ends of a connection together.
TOO_MUCH = 32 << 20


# --- closing ---


def test_close_delivers_written_data(on_pair):
    async def scenario(transport, protocol, far):
        transport.write(b"c" * TOO_MUCH)
        transport.close()
        assert transport.is_closing()
        assert protocol.losses == 0
        received = await in_thread(read_all, far)
        assert len(received) == TOO_MUCH
        assert await protocol.lost() is None

    on_pair(scenario)


def test_connection_lost_is_never_called_from_within_close(on_pair):
    async def scenario(transport, protocol, _far):
        transport.close()
        assert protocol.losses == 0
        await protocol.lost()
        assert transport.get_extra_info("socket").fileno() == -1

    on_pair(scenario)


def test_data_written_after_close_is_dropped(on_pair):
    async def scenario(transport, protocol, far):
        transport.write(b"before")
        transport.close()
        transport.write(b"after")
        transport.write_eof()
        assert await in_thread(read_all, far) == b"before"
        await protocol.lost()
        transport.write(b"long after")

    on_pair(scenario)


def test_abort_drops_unsent_data(on_pair):
    async def scenario(transport, protocol, far):
        transport.write(bytes(TOO_MUCH))
        assert transport.get_write_buffer_size() > 0
        assert transport.abort() is None
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert await protocol.lost() is None
        received = await in_thread(read_all, far)
        assert len(received) < TOO_MUCH

    on_pair(scenario)


def test_a_word_written_just_before_abort_is_sent(on_pair):
    async def scenario(transport, protocol, far):
        transport.write(b"goodbye")
        transport.abort()
        assert await protocol.lost() is None
        assert await in_thread(read_all, far) == b"goodbye"

    on_pair(scenario)


@pytest.mark.parametrize(
    "ways",
    [("close", "close"), ("close", "abort"), ("abort", "close"), ("abort", "abort")],
    ids="-".join,
)
def test_however_often_it_is_closed_it_is_lost_once(on_pair, ways):
    async def scenario(transport, protocol, far):
        for way in ways:
            getattr(transport, way)()
        await protocol.lost()
        far.close()
        for way in ways:
            getattr(transport, way)()
        await asyncio.sleep(0.01)
        assert protocol.losses == 1
        assert protocol.story == ["connection_made", "connection_lost"]

    on_pair(scenario)


def test_abort_ends_a_close_that_cannot_finish(on_pair):
    async def scenario(transport, protocol, _far):
        transport.write(bytes(TOO_MUCH))
        transport.close()
        await asyncio.sleep(0.01)
        assert protocol.losses == 0
        transport.abort()
        assert await protocol.lost() is None

    on_pair(scenario)


def test_closing_within_a_callback(on_pair):
    class Closes(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.write(b"bye")
            self.transport.close()

    async def scenario(_transport, protocol, far):
        far.sendall(b"x")
        assert await in_thread(read_all, far) == b"bye"
        assert await protocol.lost() is None
        assert protocol.story == ["connection_made", "data_received", "connection_lost"]

    on_pair(scenario, Closes())


def test_a_reset_is_reported_once_with_its_reason(on_pair, loop):
    contexts = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))

    async def scenario(transport, protocol, far):
        reset(far)
        assert isinstance(await protocol.lost(), ConnectionResetError)
        transport.write(b"into the void")
        await asyncio.sleep(0.01)
        assert protocol.losses == 1
        assert protocol.story == ["connection_made", "connection_lost"]

    on_pair(scenario)
    # It happens every day: no news for the exception handler.
    assert contexts == []


def test_a_reset_while_writing_is_reported_once(on_pair):
    async def scenario(transport, protocol, far):
        transport.pause_reading()
        transport.write(bytes(TOO_MUCH))
        await asyncio.sleep(0.005)
        reset(far)
        assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))
        assert transport.get_write_buffer_size() == 0
        await asyncio.sleep(0.01)
        assert protocol.losses == 1

    on_pair(scenario)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
def test_the_last_data_of_a_peer_that_closed_is_delivered_first(loop, family):
    """A server may refuse a long upload with an answer and a close: the answer must arrive."""

    async def scenario():
        near, far = blocking_pair() if family == socket.AF_INET else socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=near)
        transport.write(bytes(TOO_MUCH))
        await asyncio.sleep(0.005)
        # Both in one go, so that reading and writing become possible in the same iteration.
        far.sendall(b"too large")
        far.close()
        assert isinstance(await protocol.lost(), ConnectionError)
        assert protocol.received == b"too large"
        assert protocol.losses == 1

    loop.run_until_complete(scenario())


# --- what a transport is ---


def test_a_transport_is_an_asyncio_transport(on_pair):
    async def scenario(transport, _protocol, _far):
        for kind in (
            asyncio.Transport,
            asyncio.ReadTransport,
            asyncio.WriteTransport,
            asyncio.BaseTransport,
        ):
            assert isinstance(transport, kind)
        assert not isinstance(transport, asyncio.DatagramTransport)

    on_pair(scenario)


def test_a_transport_takes_attributes_and_weak_references(on_pair):
    async def scenario(transport, _protocol, _far):
        transport.remember_me = 42
        assert transport.remember_me == 42
        assert weakref.ref(transport)() is transport
        assert transport in {transport}

    on_pair(scenario)


def test_a_closed_transport_is_freed_with_its_protocol(loop):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        far.close()
        await protocol.lost()
        return weakref.ref(transport), weakref.ref(protocol)

    references = loop.run_until_complete(scenario())
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_extra_info_has_addresses_and_socket(on_pair):
    async def scenario(transport, _protocol, far):
        assert transport.get_extra_info("peername") == far.getsockname()
        assert transport.get_extra_info("sockname") == far.getpeername()
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert sock.getpeername() == far.getsockname()
        assert sock.family == socket.AF_INET
        assert transport.get_extra_info("nothing of the kind") is None
        assert transport.get_extra_info("nothing of the kind", 5) == 5
        assert transport.get_extra_info("ssl_object") is None

    on_pair(scenario)


def test_extra_info_outlives_the_connection(on_pair):
    async def scenario(transport, protocol, far):
        expected = far.getsockname(), far.getpeername()
        transport.close()
        await protocol.lost()
        found = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        assert found == expected

    on_pair(scenario)


def test_the_repr_shows_descriptor_and_state(on_pair):
    async def scenario(transport, protocol, _far):
        fd = transport.get_extra_info("socket").fileno()
        shown = repr(transport)
        assert f" fd={fd} " in shown
        assert "read=polling" in shown
        assert "write=<idle, bufsize=0>" in shown
        transport.pause_reading()
        transport.write(bytes(TOO_MUCH))
        assert "read=idle" in repr(transport)
        assert f"write=<polling, bufsize={transport.get_write_buffer_size()}>" in repr(transport)
        transport.close()
        assert " closing " in repr(transport)
        transport.abort()
        await protocol.lost()
        assert " closed " in repr(transport)

    on_pair(scenario)


def test_a_transport_never_closed_is_complained_about(loop_factory):
    loop = loop_factory()
    near, far = blocking_pair()
    with far:
        transport, protocol = loop.run_until_complete(
            loop.create_connection(asyncio.Protocol, sock=near)
        )
        loop.close()
        del protocol, near
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport
            gc.collect()
    assert any(str(warning.message).startswith("unclosed transport <") for warning in caught)
    assert {warning.category for warning in caught} == {ResourceWarning}


@pytest.mark.parametrize("kind", ["stream", "pipe"])
def test_a_long_chain_of_closed_transports_is_freed(programs, kind):
    done = programs.run(
        f"""
        import asyncio, gc, os, socket, threading, warnings

        warnings.simplefilter("ignore")
        loop = new_event_loop()

        async def stream():
            near, far = socket.socketpair()
            far.close()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
            return transport, transport.set_protocol

        async def pipe():
            reading, writing = os.pipe()
            os.close(writing)
            file = os.fdopen(reading, "rb", 0)
            transport, _ = await loop.connect_read_pipe(asyncio.Protocol, file)
            return transport, lambda value: setattr(transport, "_pipe", value)

        async def chain():
            last = asyncio.Protocol()
            for _ in range(2000):
                transport, tie = await {kind}()
                transport.close()
                while transport.get_protocol() is not None:
                    await asyncio.sleep(0)
                tie(last)
                last = transport
            return [last]

        chain = loop.run_until_complete(chain())
        gc.collect()
        threading.stack_size(256 * 1024)
        thread = threading.Thread(target=chain.clear)
        thread.start()
        thread.join()
        loop.close()
        print("freed")
        """
    )
    assert done.stdout == "freed\n"
