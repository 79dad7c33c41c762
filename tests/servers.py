"""Who answers in tests? Real sockets on port 0 that say exactly what they are told, however rude."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Answer = Callable[[socket.socket, bytes], None]


@dataclass
class Server:
    """Where it listens, and what it was sent: one entry per connection that got as far as sending anything."""

    port: int
    scheme: str
    requests: list[bytes] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server that hands each connection, with the request it read, to `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener.getsockname()[1], "https" if tls else "http")
        threads: list[threading.Thread] = []

        def accept() -> None:
            with suppress(OSError):
                while not server.stopped.is_set():
                    connection, _ = listener.accept()
                    thread = threading.Thread(target=_converse, args=(connection, tls, answer, server), daemon=True)
                    threads.append(thread)
                    thread.start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield server
        finally:
            server.stopped.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for thread in (acceptor, *threads):
                thread.join(5)


def _converse(connection: socket.socket, tls: ssl.SSLContext | None, answer: Answer, server: Server) -> None:
    connection.settimeout(5)
    with suppress(OSError), connection:
        if tls is None:
            _reply(connection, answer, server)
        else:
            with tls.wrap_socket(connection, server_side=True) as secured:
                _reply(secured, answer, server)


def _reply(connection: socket.socket, answer: Answer, server: Server) -> None:
    request = b""
    while b"\r\n\r\n" not in request and (piece := connection.recv(65536)):
        request += piece
    head, _, body = request.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length and (piece := connection.recv(65536)):
        request, body = request + piece, body + piece
    if request:
        server.requests.append(request)
        answer(connection, request)


def says(*pieces: bytes) -> Answer:
    """Send these bytes and close."""

    def answer(connection: socket.socket, request: bytes) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return answer


def resets(*pieces: bytes) -> Answer:
    """Send these bytes and slam the door: the client sees ECONNRESET."""

    def answer(connection: socket.socket, request: bytes) -> None:
        says(*pieces)(connection, request)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return answer


def ok(body: bytes = b"ok", *headers: str, status: str = "200 OK") -> Answer:
    """A proper answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return says("\r\n".join(lines).encode() + body)
