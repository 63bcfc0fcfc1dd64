"""Pages of raw rows from the FlowIQ API: one request each, retried where that can help.

Everything that decides is a pure function of status, headers and body; `FlowiqClient` adds the
socket, the retries and the count of requests.

Source: FlowIQ API reference, "Conversations", and the vendor's OpenAPI file.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, TypeVar

import requests
import tenacity

from flowiq_source import errors
from flowiq_source.settings import PAGE_SIZE, Settings

logger = logging.getLogger("flowiq_source")

RawRow = Any
"""One element of `messages` or `contacts`, as the JSON has it; an object, if the API is well."""

Params = dict[str, str | int]
Answer = dict[str, Any]
_T = TypeVar("_T")

TIMEOUT_S = (10.0, 60.0)
"""To connect, and between two bytes of the answer."""

RATE_LIMIT_PATIENCE_S = 300.0
"""How long one request waits out 429s: several rate-limit windows of one minute."""

ATTEMPTS = 7
"""How often any other request is sent: half a minute of waits, and one request in five thousand
fails for good when three in ten do."""

_BY_STATUS: dict[int, tuple[type[errors.FlowiqError], str]] = {
    401: (
        errors.CredentialsError,
        "the token is wrong or not the tenant's: check sources.flowiq.bearer_token and tenant_id",
    ),
    403: (
        errors.CredentialsError,
        "the token may not read this: check sources.flowiq.bearer_token and its rights in FlowIQ",
    ),
    404: (errors.NotFound, "the API has no such contact or conversation"),
    408: (errors.ServerError, "the API gave up waiting; run again later"),
    429: (
        errors.RateLimited,
        "the account's requests are used up, perhaps by another program: run again later",
    ),
}
_ORGANISATION = (
    errors.UnknownOrganisation,
    "FlowIQ knows no organisation with this tenant id: check sources.flowiq.tenant_id",
)
_TENANT_MISSING = (
    errors.ConfigurationError,
    "FlowIQ wants a tenant id: set sources.flowiq.tenant_id",
)
_BAD_REQUEST = (errors.BadRequest, "the API refuses the request; please report this as a bug")
_SERVER_ERROR = (errors.ServerError, "FlowIQ has a problem of its own; run again later")
_NOT_FLOWIQ = (
    errors.NotFlowiq,
    "this is not an answer that FlowIQ documents: check sources.flowiq.base_url and any proxy",
)


@dataclass(frozen=True)
class Page:
    """One page of a listing: its raw rows and what the API says of the whole."""

    rows: list[RawRow]
    total: int | None
    """Rows of the whole listing, `totalMessages` or `totalContacts`; None if the API is silent."""
    more: bool
    """Whether a page follows."""


@dataclass
class Meter:
    """How many requests were sent on somebody's account, retries included."""

    requests: int = 0


def check_answer(tried: str, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """The JSON object of a good answer.

    Raises:
        FlowiqError: the class says what kind of trouble it is, the text what to do.
    """
    answer = _json_object(body)
    if status == 200 and answer is not None and answer.get("success") is not False:
        return answer
    kind, advice = _diagnosis(status, answer)
    message = f"{tried}: HTTP {status}{_what_came(status, answer)}: {advice}"
    if issubclass(kind, errors.Retryable):
        raise kind(message, wait_s=_wait_asked(headers))
    raise kind(message)


def _json_object(body: bytes) -> Answer | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _diagnosis(status: int, answer: Answer | None) -> tuple[type[errors.FlowiqError], str]:
    words = f"{(answer or {}).get('error')} {(answer or {}).get('message')}".lower()
    if status in (200, 404) and "organization not found" in words:
        return _ORGANISATION
    if status in (200, 400) and "tenant id is required" in words:
        return _TENANT_MISSING
    if status == 200 and answer is not None:
        return _SERVER_ERROR
    if status in _BY_STATUS and (answer is not None or status != 404):
        return _BY_STATUS[status]
    if status >= 500:
        return _SERVER_ERROR
    return _BAD_REQUEST if answer is not None and status >= 400 else _NOT_FLOWIQ


def _what_came(status: int, answer: Answer | None) -> str:
    if answer is None:
        return ", no JSON object"
    return " with success: false" if status == 200 else ""


def _wait_asked(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `Retry-After`, else until `X-RateLimit-Reset`."""
    # The server's own clock, because ours may be minutes off.
    now = _epoch(headers.get("Date")) or time.time()
    asked = headers.get("Retry-After", "").strip()
    if asked.isdigit():
        return float(asked)
    until = _epoch(asked)
    if until is None and headers.get("X-RateLimit-Remaining", "0").strip() == "0":
        reset = headers.get("X-RateLimit-Reset", "").strip()
        until = float(reset) if reset.isdigit() else None
    return None if until is None else max(0.0, until - now)


def _epoch(http_date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(http_date or "").timestamp()
    except ValueError:
        return None


def page_of(tried: str, answer: Answer, number: int, rows_key: str, total_key: str) -> Page:
    """The page in a good answer.

    Raises:
        NotFlowiq: the rows or the pagination are missing, or it is another page.
    """
    rows = answer.get(rows_key)
    if not isinstance(rows, list):
        _undocumented(tried, f"without a list of {rows_key}")
    pagination = answer.get("pagination")
    if not isinstance(pagination, dict):
        _undocumented(tried, "without pagination")
    if _count(pagination.get("currentPage", number)) != number:
        _undocumented(tried, "of another page")
    total_pages = _count(pagination.get("totalPages"))
    has_next = pagination.get("hasNextPage")
    if not isinstance(has_next, bool):
        if total_pages is None:
            _undocumented(tried, "that does not say whether a page follows")
        has_next = True
    more = has_next and (total_pages is None or number < total_pages)
    return Page(rows, _count(pagination.get(total_key)), more)


def contact_of(tried: str, answer: Answer) -> RawRow:
    """The contact in a good find-by-phone answer.

    Raises:
        NotFlowiq: there is none in it.
    """
    if not isinstance(answer.get("contact"), dict):
        _undocumented(tried, "without a contact")
    return answer["contact"]


def _undocumented(tried: str, what: str) -> NoReturn:
    kind, advice = _NOT_FLOWIQ
    raise kind(f"{tried}: HTTP 200 {what}: {advice}")


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


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
    logger.warning("%s; trying again in %.0f s", error, state.upcoming_sleep)


class _Bearer(requests.auth.AuthBase):
    """Sets the header last, so that no .netrc entry for the host replaces it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


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

    `sleep` waits between retries, in seconds.
    """

    settings: Settings
    sleep: Callable[[float], None] = time.sleep
    timeout_s: tuple[float, float] = TIMEOUT_S
    _local: threading.local = field(default_factory=threading.local, init=False, repr=False)

    def __post_init__(self) -> None:
        # addFilter ignores a filter that is there already.
        logging.getLogger("urllib3.connectionpool").addFilter(_without_query)

    def contacts(self, number: int, meter: Meter) -> Page:
        """One page of all contacts, in no documented order.

        Raises:
            FlowiqError: see `check_answer` and `page_of`.
        """
        tried = f"listing contacts, page {number}"
        return self._get(
            tried,
            {"action": "contacts", "page": number, "limit": PAGE_SIZE},
            meter,
            lambda answer: page_of(tried, answer, number, "contacts", "totalContacts"),
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
            {**who, "action": "conversation-messages", "page": number, "limit": PAGE_SIZE}
            | {"ascending": "false"},
            meter,
            lambda answer: page_of(tried, answer, number, "messages", "totalMessages"),
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
        return self._get(tried, params, meter, lambda answer: contact_of(tried, answer))

    def _get(self, tried: str, params: Params, meter: Meter, read: Callable[[Answer], _T]) -> _T:
        if self.settings.tenant_id:
            params = {"tenantId": self.settings.tenant_id, **params}
        retrying = tenacity.Retrying(
            sleep=self.sleep,
            stop=_give_up,
            wait=_wait,
            retry=tenacity.retry_if_exception_type(errors.Retryable),
            before_sleep=_log_retry,
            reraise=True,
        )
        return retrying(lambda: read(self._get_once(tried, params, meter)))

    def _get_once(self, tried: str, params: Params, meter: Meter) -> Answer:
        meter.requests += 1
        try:
            response = self._session().get(
                self.settings.endpoint,
                params=params,
                timeout=self.timeout_s,
                # The token must not follow a redirect, and the API documents none.
                allow_redirects=False,
            )
        except requests.RequestException as error:
            failure = _unreachable(tried, error)
        else:
            return check_answer(tried, response.status_code, response.headers, response.content)
        # Outside the except block: the original error quotes the URL, phone number and all, and
        # would otherwise hang on this one as its context.
        raise failure

    def _session(self) -> requests.Session:
        """This thread's session; requests does not promise to share one between threads."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.auth = _Bearer(self.settings.bearer_token)
        session: requests.Session = self._local.session
        return session


def _unreachable(tried: str, error: requests.RequestException) -> errors.FlowiqError:
    if isinstance(error, requests.exceptions.SSLError):
        return errors.FlowiqError(
            f"{tried}: the server's certificate is not trusted: check sources.flowiq.base_url, "
            "any proxy and this machine's clock and certificates"
        )
    if isinstance(error, requests.exceptions.Timeout):
        came = "no answer in time"
    elif isinstance(error, requests.exceptions.ConnectionError):
        came = "no connection"
    else:
        came = "an answer that broke off"
    return errors.Unreachable(
        f"{tried}: {came}: check the network and sources.flowiq.base_url, then run again"
    )
