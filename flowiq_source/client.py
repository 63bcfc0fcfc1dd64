"""The API's three operations, one request each, retried where that can help.

What an answer means is decided in `answers.py`; here are the socket, the retries and the count of
requests.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import tenacity
import urllib3

from flowiq_source import errors
from flowiq_source.answers import (
    Answer,
    Page,
    RawRow,
    check_answer,
    contact_of,
    fingerprint_of,
    page_of,
)
from flowiq_source.in_flight import IN_FLIGHT, sleep
from flowiq_source.limiter import RateLimiter, shared_limiter
from flowiq_source.settings import PAGE_SIZE, Settings

logger = logging.getLogger("flowiq_source")

Params = dict[str, str]
_T = TypeVar("_T")

TIMEOUT_S = (10.0, 60.0)
"""To connect, and between two bytes of the answer."""

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


class _WithoutQuery(logging.Filter):
    """Cuts query strings, which hold phone numbers, out of what urllib3 logs at DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args
            )
        return True


_without_query = _WithoutQuery()


@dataclass
class FlowiqClient:
    """The API's three operations for one tenant; any number of threads may share it.

    `sleep` waits between requests, in seconds; `limiter` is the account's unless one is given.
    """

    settings: Settings
    sleep: Callable[[float], None] = sleep
    timeout_s: tuple[float, float] = TIMEOUT_S
    limiter: RateLimiter | None = None

    def __post_init__(self) -> None:
        # addFilter ignores a filter that is there already.
        logging.getLogger("urllib3.connectionpool").addFilter(_without_query)
        self._headers = urllib3.make_headers(accept_encoding=True) | {
            "Authorization": f"Bearer {self.settings.bearer_token}"
        }
        self._http = _connections(self.settings.endpoint)
        self._limiter = self.limiter or shared_limiter(self.settings)
        self._retrying = tenacity.Retrying(
            sleep=self.sleep,
            stop=_give_up,
            wait=_wait,
            retry=tenacity.retry_if_exception_type(errors.Retryable),
            before_sleep=_log_retry,
            reraise=True,
        )

    def contacts(self, number: int, meter: Meter) -> Page:
        """One page of all contacts, in no documented order.

        Raises:
            FlowiqError: see `check_answer` and `page_of`.
        """
        tried = f"listing contacts, page {number}"
        return self._get(
            tried,
            {"action": "contacts", "page": str(number), "limit": str(PAGE_SIZE)},
            meter,
            lambda answer, _: page_of(tried, answer, number, "contacts", "totalContacts"),
        )

    def messages(self, who: Params, number: int, meter: Meter) -> Page:
        """One page of a conversation, newest message first.

        `who` is `contactId` or `whatsappNumber` with its value.

        Raises:
            NotFound: the API has no such conversation.
            FlowiqError: see `check_answer` and `page_of`.
        """
        tried = f"reading a conversation, page {number}"
        return self._get(
            tried,
            {**who, "action": "conversation-messages", "page": str(number), "limit": str(PAGE_SIZE)}
            | {"ascending": "false"},
            meter,
            lambda answer, body: replace(
                page_of(tried, answer, number, "messages", "totalMessages"),
                fingerprint=fingerprint_of(body),
            ),
        )

    def contact_by_phone(self, digits: str, meter: Meter) -> RawRow:
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
        return self._get(tried, params, meter, lambda answer, _: contact_of(tried, answer))

    def _get(
        self, tried: str, params: Params, meter: Meter, read: Callable[[Answer, bytes], _T]
    ) -> _T:
        if self.settings.tenant_id:
            params = {"tenantId": self.settings.tenant_id, **params}

        def once() -> _T:
            meter.requests += 1
            try:
                return read(*self._get_once(tried, params))
            except errors.Retryable:
                meter.wasted += 1
                raise

        return self._retrying(once)

    def _get_once(self, tried: str, params: Params) -> tuple[Answer, bytes]:
        connect_s, read_s = self.timeout_s
        self._limiter.acquire(self.sleep)
        said: Mapping[str, str] = {}
        try:
            answer = self._http.request(
                "GET",
                self.settings.endpoint,
                fields=params,
                headers=self._headers,
                timeout=urllib3.Timeout(connect=connect_s, read=read_s),
                # tenacity retries; the token must not follow a redirect, and none is documented.
                retries=False,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            failure = _unreachable(tried, error)
        else:
            said, body = answer.headers, answer.data
            return check_answer(tried, answer.status, said, body), body
        finally:
            self._limiter.note(said)
        # Outside the except block: the original error quotes the URL, phone number and all, and
        # would otherwise hang on this one as its context.
        raise failure


def _connections(url: str) -> urllib3.PoolManager:
    """Kept connections, through the proxy that the environment names for the URL, if it does."""
    parts = urlsplit(url)
    options: dict[str, Any] = {"maxsize": IN_FLIGHT, "ca_certs": _certificates()}
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)


def _certificates() -> str:
    """The file of trusted certificates: the one that the environment names, else certifi's."""
    named = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"))
    return next(filter(None, named), certifi.where())


def _unreachable(tried: str, error: urllib3.exceptions.HTTPError) -> errors.FlowiqError:
    if isinstance(error, urllib3.exceptions.SSLError):
        return errors.FlowiqError(
            f"{tried}: the server's certificate is not trusted: check sources.flowiq.base_url, "
            "any proxy and this machine's clock and certificates"
        )
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        came = "no connection"
    elif isinstance(error, urllib3.exceptions.TimeoutError):
        came = "no answer in time"
    else:
        came = "an answer that broke off"
    return errors.Unreachable(
        f"{tried}: {came}: check the network and sources.flowiq.base_url, then run again"
    )
