"""What an HTTP answer says: a page of raw rows, or which error. Pure.

Source: FlowIQ API reference, "Conversations", and the vendor's OpenAPI file.
"""

import json
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import msgspec

from flowiq_source import errors

RawRow = Any
"""One element of `messages` or `contacts`; an object, if the API is well."""

ReadRows = Callable[[bytes], Any]
"""The JSON text of a page's rows to the rows; `json.loads` does, for one.

Raises:
    ValueError: it is no JSON, whatever it looked like.
"""


class Answer(msgspec.Struct):
    """What an answer says; its rows and its contact are still JSON text, empty if there is none."""

    success: Any = None
    error: Any = None
    message: Any = None
    pagination: Any = None
    contacts: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    contact: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(Answer)

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
        "the account's requests are used up, perhaps by another program; run again later",
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
_BAD_REQUEST = (
    errors.BadRequest,
    "the API refuses the request; it may have changed, or the connector has a bug",
)
_SERVER_ERROR = (errors.ServerError, "FlowIQ has a problem of its own; run again later")
_NOT_FLOWIQ = (
    errors.NotFlowiq,
    "this is not an answer that FlowIQ documents; check sources.flowiq.base_url and any proxy",
)


@dataclass(frozen=True)
class Page:
    """One page of a listing: its raw rows and what the API says of the whole."""

    rows: list[RawRow]
    total: int | None
    """Rows of the whole listing, `totalMessages` or `totalContacts`; None if the API is silent."""
    more: bool
    """Whether a page follows."""
    fingerprint: str = ""
    """The same for the same answer, byte by byte; empty if it was not taken."""


def check_answer(tried: str, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """What a good answer says. The names of `headers` are in lower case.

    Raises:
        FlowiqError: the class says what kind of trouble it is, the text what to do.
    """
    answer = _json_object(body)
    if status == 200 and answer is not None and answer.success is not False:
        return answer
    kind, advice = _diagnosis(status, answer)
    message = f"{tried}: HTTP {status}{_what_came(status, answer)}: {advice}"
    if issubclass(kind, errors.Retryable):
        raise kind(message, wait_s=wait_asked(headers))
    raise kind(message)


def _json_object(body: bytes) -> Answer | None:
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # Python's own takes more: numbers beyond bounds, half an emoji, other encodings.
        return _lenient_object(body)


def _lenient_object(body: bytes) -> Answer | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    known = {name: answer[name] for name in Answer.__struct_fields__ if name in answer}
    for name in ("contacts", "messages", "contact"):
        if name in known:
            known[name] = msgspec.Raw(json.dumps(known[name]).encode())
    return Answer(**known)


def _diagnosis(status: int, answer: Answer | None) -> tuple[type[errors.FlowiqError], str]:
    words = f"{answer.error} {answer.message}".lower() if answer else ""
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


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `Retry-After`, else until `X-RateLimit-Reset`."""
    # The server's own clock, because ours may be minutes off.
    now = _epoch(headers.get("date")) or time.time()
    asked = headers.get("retry-after", "")
    if asked.isdigit():
        return float(asked)
    until = _epoch(asked)
    if until is None and headers.get("x-ratelimit-remaining", "0") == "0":
        reset = headers.get("x-ratelimit-reset", "")
        until = float(reset) if reset.isdigit() else None
    return None if until is None else max(0.0, until - now)


def _epoch(http_date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(http_date or "").timestamp()
    except ValueError:
        return None


def fingerprint_of(body: bytes) -> str:
    """Eight characters that tell one body from another; one changed body in 4·10^9 keeps them.

    No more, because the state holds them for every conversation.
    """
    return f"{zlib.crc32(body):08x}"


def contacts_of(tried: str, answer: Answer, number: int) -> Page:
    """The page of contacts in a good answer.

    Raises:
        NotFlowiq: the rows or the pagination are missing, or it is another page.
    """
    rows = _read(answer.contacts, json.loads)
    return _page(tried, answer, number, rows, "contacts", "totalContacts")


def messages_of(tried: str, answer: Answer, number: int, read_rows: ReadRows) -> Page:
    """The page of messages in a good answer.

    Raises:
        NotFlowiq: the rows or the pagination are missing, or it is another page.
    """
    rows = _read(answer.messages, read_rows)
    return _page(tried, answer, number, rows, "messages", "totalMessages")


def contact_of(tried: str, answer: Answer) -> RawRow:
    """The contact in a good find-by-phone answer.

    Raises:
        NotFlowiq: there is none in it.
    """
    contact = _read(answer.contact, json.loads)
    if not isinstance(contact, dict):
        _undocumented(tried, "without a contact")
    return contact


def _read(text: msgspec.Raw, read: ReadRows) -> Any:
    """None where there is no text, or no JSON in it."""
    try:
        return read(bytes(text)) if text else None
    except (ValueError, RecursionError):
        return None


def _page(  # noqa: PLR0913, PLR0917 - what the two listings differ in
    tried: str, answer: Answer, number: int, rows: Any, rows_key: str, total_key: str
) -> Page:
    if not isinstance(rows, list):
        _undocumented(tried, f"without a list of {rows_key}")
    pagination = answer.pagination
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


def _undocumented(tried: str, what: str) -> NoReturn:
    kind, advice = _NOT_FLOWIQ
    raise kind(f"{tried}: HTTP 200 {what}: {advice}")


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
