"""What may stand between a client and the sandbox, or in its place: on loopback, real sockets."""

import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Handle = Callable[[socket.socket], None]
"""What to do with a connection; it is closed afterwards."""


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        # A peer that goes away is part of the play.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def listening(handle: Handle) -> Iterator[int]:
    """The port on which every connection is handled so, each in a thread."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            handle(self.request)

    with _Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def head_of(sock: socket.socket) -> bytes:
    """A request as far as its empty line; less if the peer hangs up."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and (byte := sock.recv(1)):
        head += byte
    return head


def answering(answer: bytes, then: Handle = lambda sock: None) -> Handle:
    """Reads a request, sends these bytes, does something else, hangs up."""

    def handle(sock: socket.socket) -> None:
        head_of(sock)
        sock.sendall(answer)
        then(sock)

    return handle


def relayed(sock: socket.socket, port: int) -> None:
    """Let both ends talk to each other until one hangs up."""
    with socket.create_connection(("127.0.0.1", port)) as far:
        threading.Thread(target=_copy, args=(far, sock), daemon=True).start()
        _copy(sock, far)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        socket.socket.shutdown(target, socket.SHUT_RDWR)


class Certificates:
    """An authority of its own and a certificate of it for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, self.file = folder / "authority.pem", folder / "server.pem"
        usage = "keyUsage=critical,keyCertSign,cRLSign"
        self._openssl("authority", "/CN=authority", usage)
        issuer = ["-CA", str(self.authority), "-CAkey", str(folder / "authority.key")]
        extensions = ["-addext", "basicConstraints=critical,CA:FALSE"]
        self._openssl("server", "/CN=server", "subjectAltName=IP:127.0.0.1", *issuer, *extensions)

    def _openssl(self, name: str, subject: str, extension: str, *more: str) -> None:
        key = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(self.folder / f"{name}.key")]
        out = ["-out", str(self.folder / f"{name}.pem"), "-days", "2"]
        what = ["-subj", subject, "-addext", extension]
        run("openssl", "req", "-x509", *key, *out, *what, *more)

    def tls(self, handle: Handle) -> Handle:
        """The same over TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.file.with_suffix(".key"))

        def secured(sock: socket.socket) -> None:
            with context.wrap_socket(sock, server_side=True) as safe:
                handle(safe)

        return secured


def run(*command: str) -> None:
    """Run it, and say what it said if it fails."""
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


class Proxy:
    """A proxy that opens tunnels; `heads` holds what it was asked."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    def handle(self, sock: socket.socket) -> None:
        """One connection of a client."""
        head = head_of(sock)
        self.heads.append(head)
        method, target, _ = head.split(b" ", 2)
        if method != b"CONNECT":
            sock.sendall(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")
            return
        sock.sendall(b"HTTP/1.1 200 Go on\r\n\r\n")
        relayed(sock, int(target.rpartition(b":")[2]))
