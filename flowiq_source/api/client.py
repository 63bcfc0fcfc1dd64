"""The API's three operations, one request each, retried where that can help.

What an answer means is decided in `answers.py`, how it comes in `transport.py`; here are the
retries and the count of requests.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

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
from flowiq_source.api.limiter import RateLimiter, shared_limiter
from flowiq_source.api.transport import Reply, Transport
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
    """The API's three operations for one tenant; any number of threads may share it.

    `sleep` waits between requests, in seconds; what it raises goes through, so that it can end a
    run. `limiter` is the account's unless one is given.

    Raises:
        ConfigurationError: see `Transport`.
    """

    settings: Settings
    sleep: Callable[[float], None] = time.sleep
    timeout_s: tuple[float, float] = TIMEOUT_S
    limiter: RateLimiter | None = None
    read_rows: ReadRows = json.loads
    requests: int = 0
    """How many were sent."""
    quickest_s: float = math.inf
    """How long the quickest answer took."""

    def __post_init__(self) -> None:
        settings = self.settings
        self._transport = Transport(settings.endpoint, settings.bearer_token, self.timeout_s)
        self._limiter = self.limiter or shared_limiter(settings)
        self._retrying = tenacity.Retrying(
            sleep=self.sleep,
            stop=_give_up,
            wait=_wait,
            retry=tenacity.retry_if_exception_type(errors.Retryable),
            before_sleep=_log_retry,
            reraise=True,
        )

    def contacts(self, number: int, meter: Meter, *, size: int = PAGE_SIZE) -> Page:
        """One page of all contacts, in no documented order.

        Raises:
            FlowiqError: see `check_answer` and `contacts_of`.
        """
        tried = f"listing contacts, page {number}"
        params = {"action": "contacts", **_paging(number, size)}
        return self._get(
            tried, params, meter, lambda answer, _: contacts_of(tried, answer, number, size)
        )

    def messages(
        self,
        who: Params,
        number: int,
        meter: Meter,
        *,
        size: int = PAGE_SIZE,
        ascending: bool = False,
    ) -> Page:
        """One page of a conversation, newest first, or oldest first if `ascending`.

        Raises:
            FlowiqError: see `check_answer` and `messages_of`.
        """
        tried = f"reading a conversation, page {number}"

        def read(answer: Answer, body: bytes) -> Page:
            page = messages_of(tried, answer, number, self.read_rows, size)
            return replace(page, fingerprint=fingerprint_of(body))

        params = {**who, "action": "conversation-messages", **_paging(number, size)}
        return self._get(tried, params | {"ascending": str(ascending).lower()}, meter, read)

    def contact_by_phone(self, value: str, meter: Meter) -> RawRow:
        """The contact with this phone number or business-scoped id, asked for as it is given.

        Raises:
            NotFound: there is none.
            FlowiqError: see `check_answer`.
        """
        tried = "finding a contact by phone"
        # The quick start names the parameter phoneNumber, the reference whatsappNumber.
        params = {"action": "find-by-phone", "phoneNumber": value, "whatsappNumber": value}
        return self._get(tried, params, meter, lambda answer, _: contact_of(tried, answer))

    def close(self) -> None:
        """Close the connections that are kept open, whichever thread they belong to."""
        self._transport.close()

    def pace(self) -> str:
        """How the account's limit stands, for a person."""
        return self._limiter.pace()

    def _get(
        self, tried: str, params: Params, meter: Meter, read: Callable[[Answer, bytes], _T]
    ) -> _T:
        if self.settings.tenant_id:
            params = {"tenantId": self.settings.tenant_id, **params}

        def once() -> _T:
            status, headers, body, failure = self._ask(tried, params, meter)
            try:
                if failure:
                    raise failure
                return read(check_answer(tried, status, headers, body), body)
            except errors.Retryable:
                meter.wasted += 1
                raise

        # Most requests need none of the machinery of retries.
        try:
            return once()
        except errors.Retryable as error:
            first = [error]

        def again() -> _T:
            if first:
                raise first.pop()
            return once()

        return self._retrying(again)

    def _ask(self, tried: str, params: Params, meter: Meter) -> Reply:
        number = self._limiter.acquire(self.sleep)
        meter.requests += 1
        self.requests += 1
        reply = Reply()
        began_s = time.monotonic()
        try:
            reply = self._transport.get(tried, params)
            self.quickest_s = min(self.quickest_s, time.monotonic() - began_s)
        finally:
            self._limiter.note(number, reply.status or None, reply.headers)
        return reply


def _paging(number: int, size: int) -> Params:
    return {"page": str(number), "limit": str(size)}
