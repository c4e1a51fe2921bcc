"""The life of TLS transports: memory, garbage, threads, forks, and loops that stop or close."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import threading
import warnings
import weakref

import pytest

from support.iterations import run_iterations
from support.recording import Recorder, in_thread
from tls.peers import HOST, OLDER_DESIGN, Buffered, descriptors, secure, tls_pair

pytestmark = pytest.mark.native_only(**OLDER_DESIGN)

# --- what is left behind ---


def the_dead(*objects):
    """Weak references to objects that must be free in the end."""
    return [weakref.ref(what) for what in objects]


@pytest.mark.parametrize("ending", ["close", "abort", "peer"])
@pytest.mark.parametrize("kind", [Recorder, lambda: Buffered(100)], ids=["plain", "buffered"])
def test_nothing_outlives_a_lost_connection(loop, certificates, ending, kind):
    class Watched(ssl.SSLObject):
        pass

    async def main():
        context = certificates.client_context()
        context.sslobject_class = Watched
        pair = await tls_pair(loop, certificates, kind(), client_context=context)
        client, server = pair.client, pair.server
        if ending == "peer":
            server.transport.close()
        else:
            getattr(client.transport, ending)()
        await client.lost()
        await server.lost()
        await pair.end()
        ssl_object = client.transport.get_extra_info("ssl_object")
        return the_dead(client, server, context, ssl_object, client.transport)

    dead = loop.run_until_complete(main())
    run_iterations(loop)
    gc.collect()
    assert [what() for what in dead] == [None] * 5


@pytest.mark.native_only(reason="asyncio's traceback keeps it until the collector comes")
def test_a_lost_connection_needs_no_collector(loop, certificates):
    """A transport that its protocol does not keep, and the context, go with the last reference."""

    class Forgets(asyncio.Protocol):
        def connection_lost(self, exc):
            lost.set_result(exc)

    lost = loop.create_future()

    async def main():
        context = certificates.client_context()
        server = await loop.create_server(
            Recorder, "127.0.0.1", 0, ssl=certificates.server_context()
        )
        transport, protocol = await loop.create_connection(
            Forgets, *server.sockets[0].getsockname(), ssl=context
        )
        transport.close()
        await lost
        server.close()
        await server.wait_closed()
        return the_dead(transport, protocol, context)

    gc.collect()
    gc.disable()
    try:
        dead = loop.run_until_complete(main())
        run_iterations(loop)
        assert [what() for what in dead] == [None] * 3
    finally:
        gc.enable()


def test_a_failed_handshake_leaves_nothing(loop, certificates):
    async def main():
        context, protocol = certificates.untrusting_context(), Recorder()
        with pytest.raises(ssl.SSLCertVerificationError):
            await secure(loop, certificates, protocol, client_context=context)
        return the_dead(context, protocol)

    dead = loop.run_until_complete(main())
    run_iterations(loop)
    gc.collect()
    assert [what() for what in dead] == [None] * 2


def test_an_unclosed_transport_warns(loop_factory, certificates):
    before = descriptors()
    loop = loop_factory()

    async def main(loop):
        transport, _protocol, peer = await secure(loop, certificates)
        peer.sock.close()
        transport.pause_reading()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.run_until_complete(main(loop))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        del loop
        gc.collect()
    texts = [str(one.message) for one in caught if one.category is ResourceWarning]
    assert any("unclosed transport" in text and "SSL" in text for text in texts)
    assert descriptors() <= before


def test_closing_a_loop_with_connections_open(loop_factory, certificates):
    before = descriptors()
    loop = loop_factory()
    pair = loop.run_until_complete(tls_pair(loop, certificates))
    pair.client.transport.write(b"in flight")
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del pair, loop
        gc.collect()
    assert descriptors() <= before


async def talk(loop, certificates, address, contexts):
    client = Recorder()
    await loop.create_connection(
        lambda: client, *address, ssl=contexts["client"], server_hostname=HOST
    )
    client.transport.write(b"ping")
    await client.got(4)
    client.transport.close()
    await client.lost()


async def fail(loop, certificates, address, contexts):
    with pytest.raises(ssl.SSLCertVerificationError):
        await loop.create_connection(
            Recorder, *address, ssl=contexts["untrusting"], server_hostname=HOST
        )


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.parametrize("one", [talk, fail], ids=["good", "failed"])
def test_a_thousand_connections_give_everything_back(loop, certificates, one):
    class Echo(Recorder):
        def data_received(self, data):
            self.transport.write(data)

    async def rounds(address, contexts, count):
        for _ in range(count):
            await asyncio.gather(*(one(loop, certificates, address, contexts) for _ in range(10)))
        await asyncio.sleep(0.05)
        gc.collect()
        return len(gc.get_objects()), len(descriptors()), resident()

    async def main():
        contexts = {
            "client": certificates.client_context(),
            "untrusting": certificates.untrusting_context(),
        }
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=certificates.server_context())
        address = server.sockets[0].getsockname()
        before = await rounds(address, contexts, 100)
        after = await rounds(address, contexts, 100)
        server.close()
        await server.wait_closed()
        return before, after

    (objects, opened, memory), after = loop.run_until_complete(main())
    assert after[0] <= objects + 100
    assert after[1] <= opened
    assert after[2] <= memory + (8 << 20)


# --- loops ---


def test_connections_live_on_between_two_runs(loop, certificates):
    pair = loop.run_until_complete(tls_pair(loop, certificates))
    for number in range(3):
        pair.client.transport.write(b"data")
        loop.run_until_complete(pair.server.got(4 * (number + 1)))
    pair.client.transport.close()
    loop.run_until_complete(pair.server.lost())
    loop.run_until_complete(pair.end())


def test_two_loops_in_two_threads(loop_factory, certificates):
    """OpenSSL works without the GIL: both loops are at it at the same time."""
    size, failures = 20 << 20, []
    address = []
    listening, ended = threading.Event(), threading.Event()
    data = bytes(range(256)) * (size // 256)

    def run(main):
        loop = loop_factory()
        try:
            loop.run_until_complete(main(loop))
        except BaseException as error:
            failures.append(error)
            listening.set()
        finally:
            loop.close()

    class Echo(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.write(data)

    async def serve(loop):
        protocols = [Echo() for _ in range(3)]
        unused = list(protocols)
        server = await loop.create_server(
            unused.pop, "127.0.0.1", 0, ssl=certificates.server_context()
        )
        address.extend(server.sockets[0].getsockname())
        listening.set()
        await asyncio.gather(*(protocol.lost() for protocol in protocols))
        assert all(protocol.received == data for protocol in protocols)
        server.close()
        await server.wait_closed()
        ended.set()

    async def ask(loop):
        protocols = [Recorder() for _ in range(3)]
        for protocol in protocols:
            await loop.create_connection(
                lambda protocol=protocol: protocol, *address, ssl=certificates.client_context()
            )
            for start in range(0, size, 1 << 20):
                protocol.transport.write(data[start : start + (1 << 20)])
        for protocol in protocols:
            await protocol.until(lambda p=protocol: len(p.received) >= size, 60)
            assert protocol.received == data
            protocol.transport.close()
            await protocol.lost()

    server = threading.Thread(target=run, args=(serve,))
    server.start()
    assert listening.wait(20)
    client = threading.Thread(target=run, args=(ask,))
    client.start()
    for thread in (client, server):
        thread.join(60)
    assert failures == []
    assert ended.is_set()


def test_a_child_process_goes_on_with_the_connection(programs, certificates):
    """The parent leaves it to the child, loop, keys and all."""
    done = programs.run(
        """
        import asyncio, os, ssl, sys
        certificate, key, authority = sys.argv[1:]
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(certificate, key)
        client_context = ssl.create_default_context(cafile=authority)
        loop = new_event_loop()
        served = []

        async def serve(reader, writer):
            served.append((reader, writer))

        async def connect():
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
            pair = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_context)
            while not served:
                await asyncio.sleep(0.001)
            return server, *pair

        async def talk(reader, writer):
            far_reader, far_writer = served[0]
            for number in range(3):
                writer.write(b"line\\n")
                far_writer.write(await far_reader.readline())
                assert await reader.readline() == b"line\\n"

        server, reader, writer = loop.run_until_complete(connect())
        loop.run_until_complete(talk(reader, writer))
        child = os.fork()
        if child == 0:
            try:
                loop.run_until_complete(talk(reader, writer))
                print("spoken", flush=True)
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status))
        """,
        *certificates.server,
        certificates.authority,
    )
    assert done.stdout == "spoken\n"


def test_in_debug_mode_everything_works_as_well(loop, certificates):
    loop.set_debug(True)

    async def main():
        pair = await tls_pair(loop, certificates)
        client, server = pair.client, pair.server
        client.transport.pause_reading()
        server.transport.write(bytes(1 << 20))
        await asyncio.sleep(0.01)
        client.transport.resume_reading()
        await client.got(1 << 20)
        client.transport.close()
        assert await server.lost() is None
        assert await client.lost() is None
        await pair.end()

    loop.run_until_complete(main())


def test_a_connection_of_a_thread_of_its_own(on_tls):
    """A peer in a thread talks while the loop is busy with the same connection."""

    async def scenario(transport, protocol, peer):
        def converse():
            for number in range(200):
                peer.send(b"%05d" % number)
            return peer.recv_exactly(1000)

        talking = asyncio.ensure_future(in_thread(converse))
        for number in range(200):
            transport.write(b"%05d" % number)
            await asyncio.sleep(0)
        expected = b"".join(b"%05d" % number for number in range(200))
        assert await talking == expected
        await protocol.got(1000)
        assert protocol.received == expected

    on_tls(scenario)
