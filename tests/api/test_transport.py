"""What one request does on the network: certificates, proxies, and how long and large an answer is.

Real sockets on loopback; `openssl` makes the certificates.
"""

import gzip
import itertools
import json
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flowiq_source import errors
from flowiq_source.api.client import FlowiqClient, Meter
from flowiq_source.api.transport import LARGEST_ANSWER, Reply, Transport
from flowiq_source.sandbox import Sandbox
from flowiq_source.settings import Settings
from tests.support.network import (
    Certificates,
    Handle,
    Proxy,
    answering,
    head_of,
    listening,
    relayed,
    run,
)
from tests.support.warehouse import Clock, impatient

NUMBER = "27825550123"
LISTING = json.dumps({"success": True, "contacts": [], "count": 0}).encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(LISTING), LISTING)

Serve = Callable[[Handle], int]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no certificates of this machine's."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in (*names, *map(str.lower, names), "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Handles connections until the test ends; says on which port."""
    with ExitStack() as servers:
        yield lambda handle: servers.enter_context(listening(handle))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made once."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """The environment names the authority."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.authority))
    return certificates


@pytest.fixture
def clock() -> Clock:
    """The time that the client's waits take."""
    return Clock()


@pytest.fixture
def secure(sandbox: Sandbox, certificates: Certificates, serve: Serve) -> str:
    """The sandbox over TLS."""
    return f"https://127.0.0.1:{serve(certificates.tls(lambda sock: relayed(sock, at(sandbox))))}"


def at(sandbox: Sandbox) -> int:
    """The sandbox's port."""
    return urlsplit(sandbox.url).port or 0


def listed(sandbox: Sandbox, clock: Clock, url: str) -> Meter:
    """What it costs to list the contacts at this URL."""
    settings = {"settings": Settings(sandbox.token, sandbox.tenant, url)}
    client = FlowiqClient(**impatient(sandbox, clock) | settings, timeout_s=(2, 2))
    meter = Meter()
    client.contacts(1, meter)
    client.close()
    return meter


def asked(port: int, timeout_s: float = 2.0) -> Reply:
    """What one request to this port gives."""
    transport = Transport(f"http://127.0.0.1:{port}/conversations", "token", (2.0, timeout_s))
    reply = transport.get("trying", {"whatsappNumber": NUMBER})
    transport.close()
    return reply


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("folder", [False, True])
def test_the_environment_names_whom_to_trust(
    sandbox: Sandbox,
    clock: Clock,
    secure: str,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    folder: bool,
) -> None:
    """A file, or a folder as `openssl rehash` leaves it."""
    named = certificates.authority
    if folder:
        named = tmp_path / "trusted"
        named.mkdir()
        (named / "authority.pem").write_bytes(certificates.authority.read_bytes())
        run("openssl", "rehash", str(named))
        (named / "00000000.0").symlink_to(named / "nowhere")
    monkeypatch.setenv(variable, str(named))
    assert listed(sandbox, clock, secure).requests == 1


@pytest.mark.parametrize("case", ["unknown authority", "wrong host"])
def test_a_certificate_that_fails_verification_is_not_tried_again(
    sandbox: Sandbox,
    clock: Clock,
    secure: str,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    """And it is called that."""
    if case == "wrong host":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.authority))
        secure = secure.replace("127.0.0.1", "localhost")
    with pytest.raises(errors.FlowiqError, match="certificate is not trusted") as caught:
        listed(sandbox, clock, secure)
    assert (clock.waits, caught.value.__context__, sandbox.requests) == ([], None, [])
    assert not isinstance(caught.value, errors.Retryable)


def _folder(*names: str) -> Callable[[Path, Certificates], Path]:
    def make(folder: Path, certificates: Certificates) -> Path:
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(certificates.authority.read_bytes())
        return folder

    return make


def _file(text: bytes) -> Callable[[Path, Certificates], Path]:
    def make(file: Path, certificates: Certificates) -> Path:
        file.write_bytes(text)
        return file

    return make


def _key(file: Path, certificates: Certificates) -> Path:
    return certificates.authority.with_suffix(".key")


def _dangling(file: Path, certificates: Certificates) -> Path:
    file.symlink_to(file.with_name("nowhere"))
    return file


UNUSABLE: dict[str, Callable[[Path, Certificates], Path]] = {
    "nothing there": lambda file, _: file,
    "a link to nothing": _dangling,
    "an empty file": _file(b""),
    "a file of something else": _file(b"\x00\x01 no certificate"),
    "half a certificate": _file(b"-----BEGIN CERTIFICATE-----\nMIIB"),
    "a key": _key,
    "an empty folder": _folder(),
    "a folder without hashes": _folder("authority.pem"),
}


@pytest.mark.parametrize("case", UNUSABLE)
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_that_cannot_be_used_are_called_that(
    sandbox: Sandbox,
    clock: Clock,
    secure: str,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    variable: str,
) -> None:
    """With the variable's name, exit status 2, and before anything is sent."""
    named = UNUSABLE[case](tmp_path / "named", certificates)
    monkeypatch.setenv(variable, str(named))
    with pytest.raises(errors.ConfigurationError, match=f"that {variable} names") as caught:
        listed(sandbox, clock, secure)
    assert (caught.value.exit_status, clock.waits, sandbox.requests) == (2, [], [])
    # Nobody needs it for plain http.
    assert listed(sandbox, clock, sandbox.url).requests == 1


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _after_hello(sock: socket.socket) -> None:
    sock.recv(1)
    _reset(sock)


def _to_hello(answer: bytes) -> Handle:
    def handle(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(answer)

    return handle


BROKEN_HANDSHAKES: dict[str, Handle] = {
    "a reset at once": _reset,
    "a reset after the client's hello": _after_hello,
    "the end at once": lambda sock: None,
    "the end after the client's hello": _to_hello(b""),
    "half a hello": _to_hello(b"\x16\x03\x03\x00\x40"),
    "no TLS": _to_hello(OK),
    "an alert": _to_hello(b"\x15\x03\x03\x00\x02\x02\x28"),
}


# Python's own: a socket that is reset before it is wrapped is closed by the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.parametrize("case", BROKEN_HANDSHAKES)
def test_a_handshake_that_breaks_off_is_tried_again(
    sandbox: Sandbox, clock: Clock, trusted: Certificates, serve: Serve, case: str
) -> None:
    """As any broken connection is; nothing is said of certificates when it lasts."""
    whole = trusted.tls(lambda sock: relayed(sock, at(sandbox)))
    handles = itertools.chain([BROKEN_HANDSHAKES[case]], itertools.repeat(whole))
    port = serve(lambda sock: next(handles)(sock))  # noqa: PLW0108 - another one each time
    meter = listed(sandbox, clock, f"https://127.0.0.1:{port}")
    assert (meter.requests, meter.wasted, len(sandbox.requests)) == (2, 1, 1)
    lasting = serve(BROKEN_HANDSHAKES[case])
    with pytest.raises(errors.Unreachable, match="check the network"):
        listed(sandbox, clock, f"https://127.0.0.1:{lasting}")


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("over_tls", [False, True])
def test_a_proxy_gets_a_tunnel_and_never_the_token(
    sandbox: Sandbox,
    clock: Clock,
    secure: str,
    trusted: Certificates,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    over_tls: bool,
) -> None:
    """Whether it is spoken to over TLS or not."""
    proxy = Proxy()
    port = serve(trusted.tls(proxy.handle) if over_tls else proxy.handle)
    monkeypatch.setenv(variable, f"http{'s' * over_tls}://127.0.0.1:{port}")
    assert listed(sandbox, clock, secure).requests == len(sandbox.requests) == 1
    [head] = proxy.heads
    assert head.startswith(b"CONNECT 127.0.0.1:")
    assert sandbox.token.encode() not in head
    assert b"tenantId" not in head


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"])
def test_plain_http_goes_by_no_proxy(
    sandbox: Sandbox, clock: Clock, serve: Serve, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """It would see the token in the clear."""
    proxy = Proxy()
    monkeypatch.setenv(variable, f"http://127.0.0.1:{serve(proxy.handle)}")
    assert listed(sandbox, clock, sandbox.url).requests == 1
    assert proxy.heads == []


def test_no_proxy_names_who_is_asked_directly(
    sandbox: Sandbox,
    clock: Clock,
    secure: str,
    trusted: Certificates,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By requests' own rules."""
    proxy = Proxy()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(proxy.handle)}")
    monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1")
    assert listed(sandbox, clock, secure).requests == 1
    assert proxy.heads == []


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"HTTP/1.1 502 No\r\n\r\n", b"", b"?"],
)
def test_a_proxy_that_refuses_is_said_to(
    sandbox: Sandbox,
    clock: Clock,
    secure: str,
    trusted: Certificates,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
) -> None:
    """And tried again, because most of that passes."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(answering(answer))}")
    with pytest.raises(errors.Unreachable) as caught:
        listed(sandbox, clock, secure)
    assert "proxy" in str(caught.value)
    assert caught.value.__context__ is None
    assert clock.waits


@pytest.mark.parametrize(
    "url", ["socks5://127.0.0.1:1", "gopher://127.0.0.1:1", "http://[", "http://"]
)
def test_a_proxy_that_cannot_be_is_a_wrong_setting(
    sandbox: Sandbox,
    clock: Clock,
    secure: str,
    trusted: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
) -> None:
    """With the variables' names, and not tried again."""
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(errors.ConfigurationError, match="HTTPS_PROXY"):
        listed(sandbox, clock, secure)
    assert clock.waits == []


def _drip(sock: socket.socket) -> None:
    for _ in range(200):
        sock.sendall(b"1")
        time.sleep(0.02)


def _drip_hello(sock: socket.socket) -> None:
    sock.recv(65536)
    sock.sendall(b"\x16\x03\x03\x40")
    _drip(sock)


DRIPS = {
    "the status line": b"",
    "a header": b"HTTP/1.1 200 OK\r\nX-Long: ",
    "a body of known length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    "a body of unknown length": b"HTTP/1.1 200 OK\r\n\r\n",
    "the size of a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n",
    "a trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
}


@pytest.mark.parametrize("case", DRIPS)
def test_an_answer_that_drips_ends_at_the_timeout(serve: Serve, case: str) -> None:
    """Which is for the whole answer, wherever it is slow."""
    port = serve(answering(DRIPS[case], _drip))
    began = time.monotonic()
    failure = asked(port, timeout_s=0.3).failure
    assert isinstance(failure, errors.Unreachable)
    assert "no answer in time" in str(failure)
    assert 0.2 < time.monotonic() - began < 1.5


@pytest.mark.parametrize("case", ["silence", "the handshake", "the answer", "the proxy's answer"])
def test_a_secure_answer_that_drips_ends_at_the_timeout(
    trusted: Certificates, serve: Serve, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Or before, at that for the connection."""
    handles: dict[str, Handle] = {
        "silence": lambda sock: time.sleep(1),
        "the handshake": _drip_hello,
        "the answer": trusted.tls(answering(DRIPS["a header"], _drip)),
        "the proxy's answer": answering(DRIPS["a header"], _drip),
    }
    url = f"https://127.0.0.1:{serve(handles[case])}"
    if case == "the proxy's answer":
        monkeypatch.setenv("HTTPS_PROXY", url.replace("https:", "http:"))
    transport = Transport(f"{url}/conversations", "token", (0.3, 0.3))
    began = time.monotonic()
    assert "no answer in time" in str(transport.get("trying", {}).failure)
    assert 0.2 < time.monotonic() - began < 1.5


def test_a_slow_answer_that_comes_in_time_is_read(serve: Serve) -> None:
    """The bound is for all of it and not for a piece."""

    def slowly(sock: socket.socket) -> None:
        for byte in LISTING:
            sock.sendall(bytes([byte]))
            time.sleep(0.002)

    port = serve(answering(OK[: -len(LISTING)], slowly))
    assert asked(port).body == LISTING


def _endless(piece: bytes) -> Handle:
    def handle(sock: socket.socket) -> None:
        for _ in range(2 * LARGEST_ANSWER // len(piece)):
            sock.sendall(piece)

    return handle


MIB = b"0" * (1 << 20)
ENDLESS: dict[str, Handle] = {
    "a body of known length": answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", _endless(MIB)
    ),
    "a body of unknown length": answering(b"HTTP/1.1 200 OK\r\n\r\n", _endless(MIB)),
    "chunks": answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        _endless(b"100000\r\n" + MIB + b"\r\n"),
    ),
    "trailers": answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        _endless((b"X-T: " + b"1" * 4096 + b"\r\n") * 256),
    ),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_an_answer_without_end_is_given_up(serve: Serve, case: str) -> None:
    """At the same size, whatever part of it has no end."""
    failure = asked(serve(ENDLESS[case]), timeout_s=20).failure
    assert isinstance(failure, errors.NotFlowiq)
    assert "more than 64 MiB" in str(failure)


@pytest.mark.parametrize("encodings", [1, 2])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_bomb_is_unpacked_no_further_than_the_bound(
    serve: Serve, encodings: int, chunked: bool
) -> None:
    """A gigabyte of zeros is a megabyte of gzip, and that a few kilobytes once more."""
    body = gzip.compress(bytes(1 << 30), 1)
    if encodings == 2:
        body = gzip.compress(body)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {', '.join(['gzip'] * encodings)}\r\n"
    if chunked:
        head += "Transfer-Encoding: chunked\r\n"
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    else:
        head += f"Content-Length: {len(body)}\r\n"
    port = serve(answering(head.encode() + b"\r\n" + body))
    tracemalloc.start()
    failure = asked(port, timeout_s=30).failure
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(failure, errors.NotFlowiq)
    assert peak < 3 * LARGEST_ANSWER


def test_a_page_of_the_longest_messages_passes(serve: Serve) -> None:
    """100 of 65,536 characters, each of which takes six in JSON."""
    rows = [{"id": str(n), "message": "é" * 65_536} for n in range(100)]
    body = json.dumps({"success": True, "messages": rows}).encode()
    assert len(body) > 39_000_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert asked(serve(answering(head + body)), timeout_s=30).body == body


def test_a_connection_is_kept_for_who_asks_next(serve: Serve) -> None:
    """One for each request that is under way, whichever thread asks; `close` closes all."""
    requests: list[int] = []
    together, ended = threading.Barrier(2), threading.Semaphore(0)

    def handle(sock: socket.socket) -> None:
        at = len(requests)
        requests.append(0)
        while head_of(sock):
            requests[at] += 1
            if at < 2 and requests[at] == 1:
                together.wait(5)
            sock.sendall(OK)
        ended.release()

    port = serve(handle)
    transport = Transport(f"http://127.0.0.1:{port}/conversations", "token", (2.0, 2.0))

    def get(_: int) -> bytes:
        return transport.get("trying", {}).body

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(get, range(2))) == [LISTING] * 2
    assert [get(n) for n in range(3)] == [LISTING] * 3
    assert sorted(requests) == [1, 4]
    transport.close()
    assert ended.acquire(timeout=5)
    assert ended.acquire(timeout=5)
    assert get(0) == LISTING
    transport.close()


@pytest.mark.parametrize("late", [True, False])
def test_what_is_left_of_an_answer_is_never_the_next_one(serve: Serve, late: bool) -> None:
    """It would be another conversation's: what came too late, and what nobody asked for."""
    other = OK.replace(b"true", b"null")
    assert other != OK
    connections = itertools.count()
    given_up = threading.Event()

    def handle(sock: socket.socket) -> None:
        head_of(sock)
        if next(connections):
            sock.sendall(OK)
            return
        with suppress(OSError):
            if late:
                sock.sendall(OK[:-5])
                given_up.wait(10)
                sock.sendall(OK[-5:])
            else:
                sock.sendall(OK)
            sock.sendall(other * 3)
            head_of(sock)

    url = f"http://127.0.0.1:{serve(handle)}/conversations"
    transport = Transport(url, "token", (2.0, 0.3))
    first = transport.get("trying", {})
    assert (first.failure is not None, first.body) == (late, b"" if late else LISTING)
    given_up.set()
    time.sleep(0.1)
    replies = [transport.get("trying", {}) for _ in range(3)]
    assert {reply.body for reply in replies if reply.failure is None} == {LISTING}
    transport.close()


def test_a_kept_connection_that_has_died_is_tried_again_and_counted(
    sandbox: Sandbox, clock: Clock, serve: Serve
) -> None:
    """Nothing is sent a second time behind the meter's back."""
    heads = []

    def once_and_a_half(sock: socket.socket) -> None:
        heads.append(head_of(sock))
        sock.sendall(OK)
        heads.append(head_of(sock))

    port = serve(once_and_a_half)
    settings = Settings(sandbox.token, sandbox.tenant, f"http://127.0.0.1:{port}")
    client = FlowiqClient(**impatient(sandbox, clock) | {"settings": settings})
    meter = Meter()
    for _ in range(3):
        client.contacts(1, meter)
    client.close()
    assert (meter.requests, meter.wasted) == (5, 2)
    assert len([head for head in heads if head]) == 5


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"",
        b"HTTP/1.1 302 Found\r\nLocation: /conversations?whatsappNumber=27825550123\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbroken 27825550123\r\nX: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 27825550123\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 27825550123 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=27825550123; expires=27825550123\r\n\r\n27825550123",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n27825550123",
    ],
)
def test_no_log_of_the_libraries_holds_a_number_or_the_token(
    serve: Serve, all_logs: Callable[[], str], answer: bytes
) -> None:
    """Whatever the level, and whatever the answer quotes."""
    reply = asked(serve(answering(answer)))
    said = all_logs() + repr(reply.failure) + str(reply.failure and reply.failure.__context__)
    assert "urllib3" not in said
    assert "127.0.0.1" in said
    assert NUMBER not in said
    assert "token" not in said


def test_what_others_log_stays_as_it_is(serve: Serve, all_logs: Callable[[], str]) -> None:
    """The loggers are the process's; only this API's path is cut."""
    import requests  # noqa: PLC0415 - as another library would

    requests.get(f"http://127.0.0.1:{serve(answering(OK))}/others?page=3", timeout=2)
    assert "/others?page=3" in all_logs()


@pytest.mark.parametrize("host", ["*.example.com", "a..b", "x" * 300, "exa mple.com"])
def test_a_host_that_cannot_be_is_a_wrong_setting(host: str) -> None:
    """Found before anything is sent."""
    with pytest.raises(errors.ConfigurationError, match=r"sources\.flowiq\.base_url") as caught:
        Transport(f"https://{host}/conversations", "token", (1, 1))
    assert caught.value.__context__ is None
