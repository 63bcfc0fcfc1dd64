"""What an HTTP answer says: a page of raw rows, or which error. Pure.

What is odd but can be read is read: only what leaves a doubt about the rows is an error.

Source: FlowIQ API reference, "Conversations", and the vendor's OpenAPI file.
"""

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from flowiq_source import errors
from flowiq_source.api.waits import wait_asked
from flowiq_source.settings import PAGE_SIZE

RawRow = Any
"""One element of `messages` or `contacts`; an object, if the API is well."""

ReadRows = Callable[[bytes], Any]
"""The JSON text of a page's rows to the rows; `json.loads` does, for one.

What it cannot read is given to it once more as `plain_json` writes it.

Raises:
    ValueError: it is no JSON, whatever it looked like.
"""

MOST_ROWS = 10**9
"""No account has more; a count above is no count."""

_DEEPEST = 200
"""How deep JSON may be nested; Python's reader gives up at about 1,000 levels."""

_LONGEST_INTEGER = 4000
"""How many digits a number may have; Python refuses 4,300."""

_ROUND = 5
"""Servers that hand out fewer rows than they were asked for hand out so many, or twice, …"""

_MOST_WORDS = 1000
"""How many characters of an error are looked at."""


class Answer(msgspec.Struct):
    """What an answer says; its rows and its contact are still JSON text, empty if there is none."""

    success: Any = None
    error: Any = None
    message: Any = None
    pagination: Any = None
    count: Any = None
    contacts: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    contact: msgspec.Raw = msgspec.Raw()


_NOTHING = Answer(
    contacts=msgspec.Raw(b"[]"), messages=msgspec.Raw(b"[]"), contact=msgspec.Raw(b"null")
)
"""What an answer without content says."""

_decoder = msgspec.json.Decoder(Answer)

Verdict = tuple[type[errors.FlowiqError], str]
"""The class of an error, and what to do."""

_CREDENTIALS: Verdict = (
    errors.CredentialsError,
    "the token is wrong or not the tenant's: check sources.flowiq.bearer_token and tenant_id",
)
_ORGANISATION: Verdict = (
    errors.UnknownOrganisation,
    "FlowIQ knows no organisation with this tenant id: check sources.flowiq.tenant_id",
)
_TENANT_MISSING: Verdict = (
    errors.ConfigurationError,
    "FlowIQ wants a tenant id: set sources.flowiq.tenant_id",
)
_NOT_FOUND: Verdict = (errors.NotFound, "the API has no such contact or conversation")
_BAD_REQUEST: Verdict = (
    errors.BadRequest,
    "the API refuses the request; it may have changed, or the connector has a bug",
)
_RATE_LIMITED: Verdict = (
    errors.RateLimited,
    "the account's requests are used up, perhaps by another program; run again later",
)
_SERVER_ERROR: Verdict = (errors.ServerError, "FlowIQ has a problem of its own; run again later")
_NOT_FLOWIQ: Verdict = (
    errors.NotFlowiq,
    "this is not an answer that FlowIQ documents; check sources.flowiq.base_url and any proxy",
)

_BY_STATUS: dict[int, Verdict] = {
    401: _CREDENTIALS,
    403: (
        errors.CredentialsError,
        "the token may not read this: check sources.flowiq.bearer_token and its rights in FlowIQ",
    ),
    408: (errors.ServerError, "the API gave up waiting; run again later"),
    429: _RATE_LIMITED,
}

_TENANT = "(?:organi[sz]ation|tenant)"
_NO_TENANT = rf"{_TENANT} (?:\w+ ){{0,4}}not found|no {_TENANT} found"
_THING = "(?:contact|conversation|order|chat|customer|message|number)s?"
_NOBODY = (
    rf"{_THING} (?:\w+ ){{0,2}}(?:not (?:be )?found|not exist)"
    rf"|(?:no|unknown) (?:such )?(?:{_THING}|records?|results?|data)\b"
)
_BY_404_WORDS: list[tuple[str, Verdict]] = [
    (r"invalid endpoint|missing required|no route|cannot get", _BAD_REQUEST),
    (_NOBODY, _NOT_FOUND),
    (_NO_TENANT, _ORGANISATION),
]
_BY_400_WORDS: list[tuple[str, Verdict]] = [
    (r"tenant ?id (?:is )?(?:required|missing)|missing tenant ?id", _TENANT_MISSING),
]
_BY_WORDS: list[tuple[str, Verdict]] = [
    # First, because credentials end a run and a parser speaks of tokens too.
    (r"internal|unexpected|unavailable|timed? ?out|database|json|syntax", _SERVER_ERROR),
    *_BY_400_WORDS,
    *_BY_404_WORDS[1:],
    (r"^not found$", _NOT_FOUND),
    (r"rate limit|too many requests|quota", _RATE_LIMITED),
    (r"authenticat|authori[sz]|api ?key|\bjwt\b|forbidden|access denied|credential", _CREDENTIALS),
    (rf"(?:token|{_TENANT}) mismatch", _CREDENTIALS),
    (r"(?:bearer|access) token|(?:expired|invalid|missing|revoked) token", _CREDENTIALS),
    (r"token (?:has |is )?(?:been )?(?:expired|invalid|missing|required|revoked)", _CREDENTIALS),
]


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
    is_said: bool = False
    """Whether the API itself says if a page follows; else it is a guess."""


def check_answer(tried: str, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """What a good answer says. The names of `headers` are in lower case.

    Raises:
        FlowiqError: the class says what kind of trouble it is, the text what to do.
    """
    answer = _NOTHING if status == 204 and not body.strip() else _json_object(body)
    if _is_good(status) and answer is not None and not _refuses(answer):
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
        return _lenient_object(body)


def _lenient_object(body: bytes) -> Answer | None:
    """What an answer says that only `read_json` can read."""
    try:
        answer = read_json(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    known = {name: answer[name] for name in Answer.__struct_fields__ if name in answer}
    for name in ("contacts", "messages", "contact"):
        if name in known:
            known[name] = msgspec.Raw(json.dumps(known[name]).encode())
    return Answer(**known)


def read_json(text: bytes) -> Any:
    """What JSON says that may break the rules where they can be bent.

    Bytes in no known encoding become U+FFFD. What is nested too deep, and numbers with too many
    digits, become their own text. Control characters may stand in texts.

    Raises:
        ValueError: it is no JSON.
    """
    known = text.decode(json.detect_encoding(text), "replace")
    try:
        return _loads(known)
    except RecursionError:
        return _loads(_shallow(known))


def plain_json(text: bytes) -> bytes:
    """The same as JSON that breaks no rules; see `read_json`."""
    return json.dumps(read_json(text)).encode()


def _loads(text: str) -> Any:
    return json.loads(text, strict=False, parse_int=_integer)


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else digits


# A text without an end reaches to the end, so that it is looked at once.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


def _shallow(text: str) -> str:
    """The same JSON, in which what is nested too deep is a text."""
    kept, start, depth, deep = [], 0, 0, 0
    for found in _TOKEN.finditer(text):
        if found[0] in "[{":
            depth += 1
            if depth == _DEEPEST:
                deep = found.start()
        elif found[0] in "]}":
            if depth == _DEEPEST:
                kept += [text[start:deep], json.dumps(text[deep : found.end()])]
                start = found.end()
            depth -= 1
    return "".join(kept) + text[start:]


def _is_good(status: int) -> bool:
    """A proxy that changes an answer calls it 203."""
    return 200 <= status < 300


def _refuses(answer: Answer) -> bool:
    success = _flag(answer.success)
    return success is False or (success is None and bool(answer.error))


def _diagnosis(status: int, answer: Answer | None) -> Verdict:
    if answer is None:
        return _by_status(status, _NOT_FLOWIQ)
    words = _words(answer)
    if _is_good(status):
        return _first(_BY_WORDS, words) or _SERVER_ERROR
    if status in {404, 410}:
        # What stands before the API may answer in JSON too; its 404 says nothing of a contact.
        other = _NOT_FOUND if _flag(answer.success) is False else _NOT_FLOWIQ
        return _first(_BY_404_WORDS, words) or other
    if status == 400 and (verdict := _first(_BY_400_WORDS, words)):
        return verdict
    return _by_status(status, _BAD_REQUEST)


def _words(answer: Answer) -> str:
    """What the API says of an error: lower case, one space between words, codes as words."""
    said: list[Any] = []
    for value in (answer.error, answer.message):
        said += value.values() if isinstance(value, dict) else [value]
    text = " ".join(value for value in said if isinstance(value, str))
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text[:_MOST_WORDS])
    return re.sub(r"[\W_]+", " ", apart).strip().lower()


def _first(table: list[tuple[str, Verdict]], words: str) -> Verdict | None:
    return next((verdict for pattern, verdict in table if re.search(pattern, words)), None)


def _by_status(status: int, other_4xx: Verdict) -> Verdict:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return _SERVER_ERROR
    return other_4xx if status >= 400 else _NOT_FLOWIQ


def _what_came(status: int, answer: Answer | None) -> str:
    if answer is None:
        return ", no JSON object"
    return " with success: false" if _is_good(status) else ""


def fingerprint_of(body: bytes) -> str:
    """Eight characters that tell one body from another; one changed body in 4·10^9 keeps them.

    No more, because the state holds them for every conversation.
    """
    return f"{zlib.crc32(body):08x}"


def contacts_of(tried: str, answer: Answer, number: int, size: int = PAGE_SIZE) -> Page:
    """The page of contacts in a good answer.

    Raises:
        NotFlowiq: there are no rows, or it is another page.
    """
    return _page(tried, answer, number, size, "contacts", json.loads)


def messages_of(
    tried: str, answer: Answer, number: int, read_rows: ReadRows, size: int = PAGE_SIZE
) -> Page:
    """The page of messages in a good answer.

    Raises:
        NotFlowiq: there are no rows, or it is another page.
    """
    return _page(tried, answer, number, size, "messages", read_rows)


def contact_of(tried: str, answer: Answer) -> RawRow:
    """The contact in a good find-by-phone answer.

    Raises:
        NotFound: it says that there is none.
        NotFlowiq: it does not say.
    """
    contact = _read(answer.contact, json.loads)
    if answer.contact == _NULL:
        kind, advice = _NOT_FOUND
        raise kind(f"{tried}: HTTP 200 with no contact: {advice}")
    if not isinstance(contact, dict):
        _undocumented(tried, "without a contact")
    return contact


_NULL = msgspec.Raw(b"null")
_NO_ROWS = [_NULL, msgspec.Raw(), msgspec.Raw(b"{}")]
"""How servers write an empty list, too."""


def _read(text: msgspec.Raw, read: ReadRows) -> Any:
    """None where there is no text, or no JSON in it."""
    for written in (bytes, plain_json):
        try:
            return read(written(bytes(text))) if text else None
        except (ValueError, RecursionError):
            continue
    return None


def _page(  # noqa: PLR0913, PLR0917 - what the two listings differ in
    tried: str, answer: Answer, number: int, size: int, kind: str, read: ReadRows
) -> Page:
    # The vendor's file does not require a pagination.
    said = answer.pagination if isinstance(answer.pagination, dict) else {}
    total, pages = (_count(said.get(name)) for name in (f"total{kind.title()}", "totalPages"))
    text = getattr(answer, kind)
    empty = text in _NO_ROWS and (_count(answer.count) if total is None else total) == 0
    rows = [] if empty else _read(text, read)
    if isinstance(rows, dict) and rows and all(map(str.isdecimal, rows)):
        # PHP writes a list so from which something was taken out.
        rows = list(rows.values())
    if not isinstance(rows, list):
        _undocumented(tried, f"without a list of {kind}")
    # A zero is what a server writes that has not counted; beside rows, or behind, it is not true.
    is_blank = 0 in {total, pages}
    at = _integral(said.get("currentPage"))
    if at not in (None, number) and not (is_blank and at == 0):
        _undocumented(tried, "of another page")
    size = _count(said.get(f"{kind}PerPage")) or size
    follows = _flag(said.get("hasNextPage"))
    if is_blank and (rows or number > 1):
        total, pages, follows = total or None, pages or None, follows or None
    seen = (number - 1) * size + len(rows)
    says = _more({follows, None if pages is None else number < pages}, seen, total)
    more = len(rows) >= size or is_round(len(rows)) if says is None else says
    return Page(rows, total, more, is_said=says is not None)


def _more(said: set[bool | None], seen: int, total: int | None) -> bool | None:
    """Whether the API says that a page follows, or its count does; None if neither does."""
    says = said - {None}
    if len(says) == 1:
        return says.pop()
    return None if total is None else seen < total


def is_round(rows: int) -> bool:
    """Whether a page of so many rows may be a full one, though more were asked for."""
    return rows > 0 and rows % _ROUND == 0


def _undocumented(tried: str, what: str) -> NoReturn:
    kind, advice = _NOT_FLOWIQ
    raise kind(f"{tried}: HTTP 200 {what}: {advice}")


_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def _flag(value: object) -> bool | None:
    """What a boolean says that may be a text or a number; None if nothing."""
    return _FLAGS.get(str(value).strip().lower()) if isinstance(value, int | float | str) else None


def _integral(value: object) -> int | None:
    """What a whole number says that may be a text; None if nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() else None


def _count(value: object) -> int | None:
    number = _integral(value)
    return number if number is not None and 0 <= number <= MOST_ROWS else None
