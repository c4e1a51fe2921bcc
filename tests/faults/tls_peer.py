"""The other side of a TLS connection, with its records in reach."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ctypes.util
import socket
import ssl
import struct

from support.recording import Recorder, blocking_pair, in_thread

HOST = "localhost"
# What a session may cost of the memory of its context; a forgotten connection costs 50 KiB.
SESSION = 4096


class Peer:
    """TLS over a blocking socket; what is encrypted can be had before it is sent."""

    def __init__(self, sock, context, *, server_side=False):
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=None if server_side else HOST,
        )

    def records(self, data=None):
        """What there is to send, and ``data`` encrypted, one record of up to 16 KiB each."""
        if data is not None:
            self.tls.write(data)
        return self._outgoing.read()

    def _drive(self, step, *args):
        while True:
            try:
                result = step(*args)
            except ssl.SSLWantReadError:
                self.sock.sendall(self.records())
                received = self.sock.recv(1 << 16)
                if received:
                    self._incoming.write(received)
                else:
                    self._incoming.write_eof()
            else:
                self.sock.sendall(self.records())
                return result

    def shake_hands(self):
        self._drive(self.tls.do_handshake)

    def send(self, data):
        self.sock.sendall(self.records(data))

    def receive(self, size):
        data = b""
        while len(data) < size and (chunk := self._drive(self.tls.read, size - len(data))):
            data += chunk
        return data

    def send_close_notify(self):
        self._drive(self.tls.unwrap)

    def hello(self):
        """The first flight of a client, not sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.records()


def contexts(certificates, version=None):
    """A server's and a client's."""
    server, client = certificates.server_context(), certificates.client_context(version=version)
    # A ticket that the client has not read when it closes would make a reset of its end.
    server.num_tickets = 0
    if version is not None:
        server.minimum_version = server.maximum_version = version
    return server, client


def starting(loop, near, protocol, context, ours, **options):
    """Our end begins the handshake; ``ours`` is 'server' or 'client'."""
    if ours == "server":
        return loop.connect_accepted_socket(lambda: protocol, near, ssl=context, **options)
    return loop.create_connection(
        lambda: protocol, sock=near, ssl=context, server_hostname=HOST, **options
    )


async def tls_pair(loop, both, ours="server", protocol=None, small=False, **options):
    """A TLS transport and its peer; ``both`` are the contexts of a server and of a client."""
    near, far = blocking_pair()
    if small:
        for sock in (near, far):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    server, client = both
    protocol = Recorder() if protocol is None else protocol
    theirs = client if ours == "server" else server
    peer = Peer(far, theirs, server_side=ours == "client")
    shaking = asyncio.ensure_future(in_thread(peer.shake_hands))
    context = server if ours == "server" else client
    transport, _ = await starting(loop, near, protocol, context, ours, **options)
    await shaking
    return transport, protocol, peer


def clog_tls(transport, protocol):
    """Write until the protocol is paused: one write alone may all go down at once."""
    while "pause_writing" not in protocol.calls:
        transport.write(bytes(64 * 1024))


# --- OpenSSL itself, for what Python's module does not offer ---


def libssl():
    """OpenSSL's library, or None where there is none that ctypes finds."""
    name = ctypes.util.find_library("ssl")
    if name is None:
        return None
    library = ctypes.CDLL(name)
    if not hasattr(library, "SSL_key_update"):
        return None
    pointer = ctypes.c_void_p
    for function, result, arguments in (
        ("TLS_client_method", pointer, []),
        ("SSL_CTX_new", pointer, [pointer]),
        ("SSL_CTX_free", None, [pointer]),
        ("SSL_new", pointer, [pointer]),
        ("SSL_free", None, [pointer]),
        ("SSL_set_fd", ctypes.c_int, [pointer, ctypes.c_int]),
        ("SSL_connect", ctypes.c_int, [pointer]),
        ("SSL_do_handshake", ctypes.c_int, [pointer]),
        ("SSL_key_update", ctypes.c_int, [pointer, ctypes.c_int]),
        ("SSL_renegotiate", ctypes.c_int, [pointer]),
        ("SSL_write", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_int]),
        ("SSL_read", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_int]),
        ("SSL_ctrl", ctypes.c_long, [pointer, ctypes.c_int, ctypes.c_long, pointer]),
    ):
        prototype = getattr(library, function)
        prototype.restype, prototype.argtypes = result, arguments
    return library


class OpenSSLClient:
    """A client that sends any request, and reads only when the test has it read."""

    SET_MAX_PROTO_VERSION = 124
    UPDATE_REQUESTED = 1

    def __init__(self, library, sock, version):
        self._library, self.sock = library, sock
        self._context = library.SSL_CTX_new(library.TLS_client_method())
        self._tls = library.SSL_new(self._context)
        library.SSL_ctrl(self._tls, self.SET_MAX_PROTO_VERSION, int(version), None)
        # OpenSSL does not wait on a socket that Python has made non-blocking for its time-outs.
        sock.settimeout(None)
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 10, 0))
        library.SSL_set_fd(self._tls, sock.fileno())

    def shake_hands(self):
        assert self._library.SSL_connect(self._tls) == 1

    def write(self, data):
        return self._library.SSL_write(self._tls, data, len(data))

    def read(self, size):
        buffer = ctypes.create_string_buffer(size)
        count = self._library.SSL_read(self._tls, buffer, size)
        return buffer.raw[: max(count, 0)]

    def update_keys(self, times):
        """Ask for new keys, again and again; how often before the connection ended."""
        for done in range(times):
            if self._library.SSL_key_update(self._tls, self.UPDATE_REQUESTED) != 1:
                return done
            if self._library.SSL_do_handshake(self._tls) != 1:
                return done
        return times

    def renegotiate(self):
        return (
            self._library.SSL_renegotiate(self._tls) == 1
            and self._library.SSL_do_handshake(self._tls) == 1
        )

    def close(self):
        self._library.SSL_free(self._tls)
        self._library.SSL_CTX_free(self._context)
        self.sock.close()
