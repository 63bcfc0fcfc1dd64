"""The API's three operations, one request each, retried where that can help.

What an answer means is decided in `answers.py`; here are the socket, the retries and the count of
requests.
"""

import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import pycurl
import tenacity

from flowiq_source import errors
from flowiq_source.api.answers import (
    Answer,
    Page,
    RawRow,
    ReadRows,
    check_answer,
    contact_of,
    contacts_of,
    fingerprint_of,
    messages_of,
)
from flowiq_source.api.in_flight import answered, sleep
from flowiq_source.api.limiter import RateLimiter, shared_limiter
from flowiq_source.settings import PAGE_SIZE, Settings

logger = logging.getLogger("flowiq_source")

Params = dict[str, str]
_T = TypeVar("_T")

TIMEOUT_S = (10.0, 60.0)
"""To connect, and until the answer is complete."""

RATE_LIMIT_PATIENCE_S = 300.0
"""How long one request waits out 429s: several rate-limit windows of one minute."""

ATTEMPTS = 7
"""How often any other request is sent: half a minute of waits, and one request in five thousand
fails for good when three in ten do."""


@dataclass
class Meter:
    """What was spent on something: `wasted` are the requests that had to be repeated.

    `expected` is what it will cost in all, as far as is known; `closed` says that it is done.
    """

    requests: int = 0
    wasted: int = 0
    expected: int = 0
    closed: bool = False


def _give_up(state: tenacity.RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, errors.RateLimited):
        return state.idle_for >= RATE_LIMIT_PATIENCE_S
    return state.attempt_number >= ATTEMPTS


_backoff = tenacity.wait_exponential_jitter(multiplier=0.5, max=60, jitter=0.5)
_jitter = tenacity.wait_random(0, 1)


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait_s if isinstance(error, errors.Retryable) else None
    if asked is None:
        return _backoff(state)
    return min(asked, RATE_LIMIT_PATIENCE_S) + _jitter(state)


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    # What happened, without the advice that is for the day when no try has helped.
    happened = str(error).rpartition(": ")[0]
    # Waiting for the next minute's requests is how a long run goes.
    level = logging.INFO if isinstance(error, errors.RateLimited) else logging.WARNING
    logger.log(level, "%s; trying again in %.0f s", happened, state.upcoming_sleep)


@dataclass
class FlowiqClient:
    """The API's three operations for one tenant; any number of tasks may share it.

    `sleep` waits between requests, in seconds; `limiter` is the account's unless one is given.
    """

    settings: Settings
    sleep: Callable[[float], Awaitable[None]] = sleep
    timeout_s: tuple[float, float] = TIMEOUT_S
    limiter: RateLimiter | None = None

    def __post_init__(self) -> None:
        self._request = _request(self.settings, *self.timeout_s)
        self._limiter = self.limiter or shared_limiter(self.settings)
        self._retrying = tenacity.AsyncRetrying(
            sleep=self.sleep,
            stop=_give_up,
            wait=_wait,
            retry=tenacity.retry_if_exception_type(errors.Retryable),
            before_sleep=_log_retry,
            reraise=True,
        )

    async def contacts(self, number: int, meter: Meter) -> Page:
        """One page of all contacts, in no documented order.

        Raises:
            FlowiqError: see `check_answer` and `contacts_of`.
        """
        tried = f"listing contacts, page {number}"
        return await self._get(
            tried,
            {"action": "contacts", "page": str(number), "limit": str(PAGE_SIZE)},
            meter,
            lambda answer, _: contacts_of(tried, answer, number),
        )

    async def messages(
        self, who: Params, number: int, meter: Meter, read_rows: ReadRows = json.loads
    ) -> Page:
        """One page of a conversation, newest first.

        Raises:
            FlowiqError: see `check_answer` and `messages_of`.
        """
        tried = f"reading a conversation, page {number}"
        return await self._get(
            tried,
            {**who, "action": "conversation-messages", "page": str(number), "limit": str(PAGE_SIZE)}
            | {"ascending": "false"},
            meter,
            lambda answer, body: replace(
                messages_of(tried, answer, number, read_rows), fingerprint=fingerprint_of(body)
            ),
        )

    async def contact_by_phone(self, digits: str, meter: Meter) -> RawRow:
        """The contact with this phone number.

        Raises:
            NotFound: there is none.
            FlowiqError: see `check_answer`.
        """
        tried = "finding a contact by phone"
        # The quick start names the parameter phoneNumber, the reference whatsappNumber.
        params: Params = {
            "action": "find-by-phone",
            "phoneNumber": digits,
            "whatsappNumber": digits,
        }
        return await self._get(tried, params, meter, lambda answer, _: contact_of(tried, answer))

    async def _get(
        self, tried: str, params: Params, meter: Meter, read: Callable[[Answer, bytes], _T]
    ) -> _T:
        if self.settings.tenant_id:
            params = {"tenantId": self.settings.tenant_id, **params}
        url = f"{self.settings.endpoint}?{urlencode(params)}"

        async def once() -> _T:
            meter.requests += 1
            try:
                return read(*await self._get_once(tried, url))
            except errors.Retryable:
                meter.wasted += 1
                raise

        # Most requests need none of the machinery of retries, which costs as much as they do.
        try:
            return await once()
        except errors.Retryable as error:
            first = error
        return await self._retrying(_after(first, once))

    async def _get_once(self, tried: str, url: str) -> tuple[Answer, bytes]:
        number = await self._limiter.acquire(self.sleep)
        request, lines, body = self._request.duphandle(), list[bytes](), BytesIO()
        request.setopt(pycurl.URL, url)
        request.setopt(pycurl.HEADERFUNCTION, lines.append)
        request.setopt(pycurl.WRITEDATA, body)
        request.setopt(pycurl.PREREQFUNCTION, _once())
        said: Mapping[str, str] = {}
        try:
            await answered(request)
        except pycurl.error as error:
            failure = _unreachable(tried, *error.args)
        else:
            said = _headers(lines)
            status = request.getinfo(pycurl.RESPONSE_CODE)
            return check_answer(tried, status, said, body.getvalue()), body.getvalue()
        finally:
            self._limiter.note(number, said)
        # Outside the except block: libcurl's own text may quote the host, and would otherwise
        # hang on this one as its context.
        raise failure


def _after(first: Exception, once: Callable[[], Awaitable[_T]]) -> Callable[[], Awaitable[_T]]:
    """What has failed once already, as the first of several tries."""
    failed = [first]

    async def again() -> _T:
        if failed:
            raise failed.pop()
        return await once()

    return again


def _request(settings: Settings, connect_s: float, answer_s: float) -> pycurl.Curl:
    """What all requests have in common; redirects are not followed, nor is a netrc file read.

    The token must not go to another host, and no redirect is documented.
    """
    request = pycurl.Curl()
    options: dict[int, Any] = {
        pycurl.HTTPHEADER: [f"Authorization: Bearer {settings.bearer_token}"],
        # All encodings that libcurl knows; it undoes them.
        pycurl.ACCEPT_ENCODING: "",
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.CONNECTTIMEOUT_MS: round(connect_s * 1000),
        pycurl.TIMEOUT_MS: round(answer_s * 1000),
        # Without it, libcurl's timeouts use signals.
        pycurl.NOSIGNAL: True,
        pycurl.CAINFO: _certificates(),
        pycurl.PROXY: _proxy(settings.endpoint),
        # A page in one piece.
        pycurl.BUFFERSIZE: 256 * 1024,
    }
    for option, value in options.items():
        request.setopt(option, value)
    return request


def _once() -> Callable[..., int]:
    """Keeps libcurl from sending a request again by itself when a kept connection has died.

    Such a request would be counted by nobody.
    """
    answers = iter([pycurl.PREREQFUNC_OK])
    return lambda *_: next(answers, pycurl.PREREQFUNC_ABORT)


def _proxy(url: str) -> str:
    """The proxy that the environment names for the URL; empty if there is none."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme, "")
    return "" if proxy_bypass(parts.hostname or "") else proxy


def _certificates() -> str:
    """The file of trusted certificates: the one that the environment names, else certifi's."""
    named = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"))
    return next(filter(None, named), certifi.where())


def _headers(lines: list[bytes]) -> dict[str, str]:
    """The headers of an answer, names in lower case."""
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return {name.lower(): value.strip() for name, colon, value in pairs if colon}


_UNTRUSTED = {
    pycurl.E_SSL_CONNECT_ERROR,
    pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_CACERT_BADFILE,
}
_CAME: dict[int, str] = {
    pycurl.E_COULDNT_CONNECT: "no connection",
    pycurl.E_COULDNT_RESOLVE_HOST: "no connection",
    pycurl.E_COULDNT_RESOLVE_PROXY: "no connection",
    pycurl.E_OPERATION_TIMEDOUT: "no answer in time",
}


def _unreachable(tried: str, code: int, _: str) -> errors.FlowiqError:
    if code in _UNTRUSTED:
        return errors.FlowiqError(
            f"{tried}: the server's certificate is not trusted: check sources.flowiq.base_url, "
            "any proxy and this machine's clock and certificates"
        )
    came = _CAME.get(code, "an answer that broke off")
    return errors.Unreachable(
        f"{tried}: {came}: check the network and sources.flowiq.base_url, then run again"
    )
