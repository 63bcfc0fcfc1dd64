"""One GET: its connection, proxy and certificates, and how long and how large its answer may be.

Proxies and certificates are what the requests library makes of `HTTPS_PROXY`, `ALL_PROXY`,
`NO_PROXY`, `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE`. No redirect is followed, because the token
must not go to another host and none is documented. Nothing is sent a second time.
"""

import http.client
import io
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema, InvalidURL
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError

from flowiq_source import errors

LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes, unpacked. 100 messages of 65,536 characters, each written as `\\uXXXX`, are 38 MiB."""

_PIECE = 256 * 1024


class Reply(NamedTuple):
    """What came back; `failure` says why it is not all of an answer."""

    status: int = 0
    """0 if not even the headers came."""
    headers: Mapping[str, str] = {}
    """Names in lower case."""
    body: bytes = b""
    failure: errors.FlowiqError | None = None


class Transport:
    """GETs of one URL with one token, which threads may share.

    Each takes a session of its own, with one connection, and leaves it to whoever comes next: to
    connect anew takes longer than many an answer.

    `timeout_s` is how long a connection may take, and how long a whole answer.

    Raises:
        ConfigurationError: the URL, or what the environment says of certificates, cannot be right.
    """

    def __init__(self, endpoint: str, token: str, timeout_s: tuple[float, float]) -> None:
        self._request = _prepared(endpoint, token)
        self._options = _options(endpoint) | {"stream": True, "timeout": timeout_s}
        self._sessions: list[requests.Session] = []
        self._idle: list[requests.Session] = []

    def get(self, tried: str, params: Mapping[str, str]) -> Reply:
        """What came back, or why nothing did."""
        request = self._request.copy()
        request.url = f"{request.url}?{urlencode(params)}"
        status, headers = 0, dict[str, str]()
        session = self._session()
        try:
            adapter = session.get_adapter(request.url)
            with adapter.send(request, **self._options) as response:
                status = response.status_code
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Reply(status, headers, _body(response))
        # All that requests, urllib3, http.client and the socket have for what goes wrong.
        except (OSError, HTTPError, http.client.HTTPException, ValueError) as error:
            return Reply(status, headers, failure=_failure(tried, error))
        finally:
            self._idle.append(session)

    def close(self) -> None:
        """Close what is kept open, whoever uses it."""
        for session in tuple(self._sessions):
            session.close()

    def _session(self) -> requests.Session:
        # CPython does each of these in one step, whatever other threads do.
        with suppress(IndexError):
            return self._idle.pop()
        session = requests.Session()
        session.mount("https://", _Adapter())
        session.mount("http://", _Adapter())
        self._sessions.append(session)
        return session


def _prepared(endpoint: str, token: str) -> requests.PreparedRequest:
    """What all requests have in common."""

    def bearer(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    # As `auth`, because an entry of a netrc file would replace a plain header.
    headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
    try:
        # The host as it is looked up later, where it would be the network's fault.
        str(urlsplit(endpoint).hostname).encode("idna")
        return requests.Request("GET", endpoint, headers, auth=bearer).prepare()
    except ValueError:
        pass
    raise errors.ConfigurationError("sources.flowiq.base_url names no host that can be asked")


def _options(endpoint: str) -> dict[str, Any]:
    """How to send: what the environment says, as requests understands it.

    Raises:
        ConfigurationError: what it names holds no certificate.
    """
    with requests.Session() as session:
        options = session.merge_environment_settings(endpoint, {}, None, None, None)
    if endpoint.startswith("http:"):
        # A proxy would see the token.
        return {**options, "proxies": {}}
    if isinstance(options["verify"], str):
        _check_certificates(Path(options["verify"]))
    return dict(options)


_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


def _check_certificates(named: Path) -> None:
    """Raises what is wrong with a file or folder of trusted certificates, before it is used."""
    readable = os.access(named, os.R_OK)
    if readable and any(map(_holds_certificate, _certificate_files(named))):
        return
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    variable = next(name for name in names if os.environ.get(name))
    wrong = "holds no certificate" if readable else "is missing or cannot be read"
    raise errors.ConfigurationError(
        f"the file or folder of certificates that {variable} names {wrong}: name a PEM file, "
        "or a folder that `openssl rehash` has been through"
    )


def _certificate_files(named: Path) -> list[Path]:
    if not named.is_dir():
        return [named]
    # OpenSSL finds a folder's certificates by these names alone.
    return [file for file in named.iterdir() if _HASHED.fullmatch(file.name)]


def _holds_certificate(file: Path) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=file)
    except OSError:
        # Not readable, or nothing in it; a folder may hold others.
        return False
    return context.cert_store_stats()["x509"] > 0


def _body(response: requests.Response) -> bytes:
    """The whole body, unpacked."""
    body = bytearray()
    for piece in response.iter_content(_PIECE):
        body += piece
        if len(body) > LARGEST_ANSWER:
            raise TooLarge
    return bytes(body)


class TooLarge(OSError):
    """No answer of the API is that large."""


class _Bounded(io.RawIOBase):
    """What a server sends for one answer, until it is too late or too much.

    The socket's own timeout begins again with every byte; here it is for all of them.
    """

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock, self._raw = sock, raw
        self._end = time.monotonic() + (sock.gettimeout() or 0)
        self._left = LARGEST_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise TooLarge
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Bounded(sock, self.fp.detach()), _PIECE)


class _Connection(HTTPConnection):
    response_class = _Answer


class _TlsConnection(HTTPSConnection):
    response_class = _Answer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """Connections whose answers are bounded, with a proxy and without."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _bound(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> PoolManager:
        return _bound(super().proxy_manager_for(*args, **kwargs))


def _bound(manager: PoolManager) -> PoolManager:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return manager


_UNTRUSTED = (
    "the server's certificate is not trusted: check sources.flowiq.base_url, "
    "any proxy and this machine's clock and certificates"
)
_NO_PROXY = (
    "the proxy that the environment names cannot be used: check HTTPS_PROXY and ALL_PROXY "
    "(socks:// needs the package PySocks)"
)
_TOO_LARGE = (
    f"an answer of more than {LARGEST_ANSWER >> 20} MiB: "
    "check sources.flowiq.base_url and any proxy, then run again"
)
_CAME: list[tuple[type[Exception], str]] = [
    (NewConnectionError, "no connection"),
    (TimeoutError, "no answer in time"),
    (ssl.SSLError, "a TLS connection that broke off"),
    (Exception, "an answer that broke off"),
]


def _failure(tried: str, error: BaseException) -> errors.FlowiqError:
    """What to say of an error; nothing of its own text, which may quote a URL or an answer."""
    causes = list(_causes(error))

    def is_a(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if is_a(ssl.SSLCertVerificationError):
        return errors.FlowiqError(f"{tried}: {_UNTRUSTED}")
    if is_a(InvalidURL, InvalidSchema, LocationValueError):
        return errors.ConfigurationError(f"{tried}: {_NO_PROXY}")
    if is_a(TooLarge):
        return errors.NotFlowiq(f"{tried}: {_TOO_LARGE}")
    came = next(text for kind, text in _CAME if is_a(kind))
    return errors.Unreachable(
        f"{tried}: {came}: check the network and sources.flowiq.base_url, "
        "any proxy that HTTPS_PROXY or ALL_PROXY names, and run again"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__context__


def _cut_query(record: logging.LogRecord) -> bool:
    """Keep what urllib3 logs of our requests, without the query and what follows it.

    The query holds numbers, and what follows may quote an answer. urllib3 has no setting for this,
    and its loggers are the process's; so the filter touches nothing but this API's path.
    """
    before, ours, _ = record.getMessage().partition("/conversations?")
    if ours:
        record.msg, record.args, record.exc_info = before + ours, None, None
    return True


for _name in ("connection", "connectionpool", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_cut_query)
