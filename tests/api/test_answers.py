"""What an answer says, however oddly it is written: its rows, or else a named error."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowiq_source import errors
from flowiq_source.api.answers import (
    Page,
    check_answer,
    contact_of,
    contacts_of,
    messages_of,
    plain_json,
    read_json,
)
from flowiq_source.api.client import FlowiqClient, Meter
from flowiq_source.sandbox import Sandbox
from flowiq_source.settings import PAGE_SIZE, Settings
from tests.support.network import head_of, listening
from tests.support.warehouse import Clock, impatient

ROWS = [{"id": "1"}, {"id": "2"}]
SAID = {"currentPage": 3, "totalPages": 5, "totalMessages": 402, "hasNextPage": True}


def read(body: bytes, status: int = 200, number: int = 3) -> Page:
    """The page of messages in this answer."""
    answer = check_answer("reading", status, {}, body)
    return messages_of("reading", answer, number, json.loads)


def page(rows: Any = ROWS, **said: Any) -> Page:
    """Page 3 of messages with this in its pagination."""
    return read(json.dumps({"success": True, "messages": rows, "pagination": SAID | said}).encode())


def refused(status: int, **body: Any) -> errors.FlowiqError:
    """The error that this answer is."""
    with pytest.raises(errors.FlowiqError) as caught:
        read(json.dumps({"success": False} | body).encode(), status)
    return caught.value


WORDS: dict[str, type[errors.FlowiqError]] = {
    "Contact not found": errors.NotFound,
    "Contact not found for the provided phone number": errors.NotFound,
    "contact_not_found": errors.NotFound,
    "ContactNotFound": errors.NotFound,
    "Conversation could not be found": errors.NotFound,
    "Contact does not exist": errors.NotFound,
    "No contact exists with number +27 82 555 0123": errors.NotFound,
    "Shopify order not found": errors.NotFound,
    "Organization contact not found": errors.NotFound,
    "Not found": errors.NotFound,
    "No messages found": errors.NotFound,
    "NO_CONVERSATIONS": errors.NotFound,
    "No contacts found": errors.NotFound,
    "No records found": errors.NotFound,
    "No data": errors.NotFound,
    "Unknown contact": errors.NotFound,
    "Customer not found": errors.NotFound,
    "Phone number does not exist": errors.NotFound,
    "AuthenticationError": errors.CredentialsError,
    "Authentication mismatch": errors.CredentialsError,
    "Authorization required": errors.CredentialsError,
    "Invalid API key": errors.CredentialsError,
    "API key mismatch": errors.CredentialsError,
    "INVALID_API_KEY": errors.CredentialsError,
    "Invalid token format": errors.CredentialsError,
    "Token expired": errors.CredentialsError,
    "The token has expired": errors.CredentialsError,
    "jwt expired": errors.CredentialsError,
    "TokenExpiredError": errors.CredentialsError,
    "Tenant mismatch": errors.CredentialsError,
    "Unauthorized": errors.CredentialsError,
    "Forbidden": errors.CredentialsError,
    "Organization not found": errors.UnknownOrganisation,
    "Organisation not found": errors.UnknownOrganisation,
    "ORGANIZATION_NOT_FOUND": errors.UnknownOrganisation,
    "No organization found with tenantId: acme": errors.UnknownOrganisation,
    "Organization acme not found": errors.UnknownOrganisation,
    "Tenant not found": errors.UnknownOrganisation,
    "Tenant ID is required": errors.ConfigurationError,
    "tenantId is required": errors.ConfigurationError,
    "Missing tenantId": errors.ConfigurationError,
    "Rate limit exceeded": errors.RateLimited,
    "RateLimitExceeded": errors.RateLimited,
    "Too many requests": errors.RateLimited,
    "Internal server error": errors.ServerError,
    "Unexpected token < in JSON at position 0": errors.ServerError,
    "Invalid token < in JSON": errors.ServerError,
    "Service temporarily unavailable: authentication": errors.ServerError,
    "Something went wrong": errors.ServerError,
    "": errors.ServerError,
}


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("field", ["error", "message", "nested"])
def test_success_false_is_the_status_that_its_words_stand_for(words: str, field: str) -> None:
    """The vendor tells its users to check `success` even on a 200."""
    error = refused(200, **({"error": {"code": words}} if field == "nested" else {field: words}))
    assert type(error) is WORDS[words]
    assert str(error).startswith("reading: HTTP 200 with success: false: ")
    assert "0123" not in str(error)


@pytest.mark.parametrize("success", [False, 0, "false", "False", "0", 0.0])
def test_success_is_false_in_any_form(success: Any) -> None:
    """Though there are rows."""
    assert type(refused(200, success=success, messages=ROWS)) is errors.ServerError


@pytest.mark.parametrize("error", ["Contact not found", {"message": "Contact not found"}])
def test_an_error_without_success_is_one_too(error: Any) -> None:
    """Where the rows are missing, nothing else can be meant."""
    with pytest.raises(errors.NotFound):
        read(json.dumps({"error": error}).encode())


@pytest.mark.parametrize("success", [True, 1, "true", "True", "1", None, 1.0])
def test_any_other_success_is_one(success: Any) -> None:
    """A missing one too, as long as there are rows and no error."""
    assert read(json.dumps({"success": success, "messages": ROWS}).encode()).rows == ROWS
    assert read(json.dumps({"messages": ROWS, "error": None}).encode()).rows == ROWS


@pytest.mark.parametrize("status", [200, 201, 203, 206])
def test_a_good_answer_may_have_another_number(status: int) -> None:
    """A proxy that changes an answer calls it 203; what it says is there to be read."""
    body = json.dumps({"success": True, "messages": ROWS}).encode()
    assert read(body, status).rows == ROWS
    with pytest.raises(errors.NotFlowiq):
        read(b'{"success": true, "status": "pending"}', status)


def test_no_content_is_an_empty_list() -> None:
    """And nobody, where a contact is looked for."""
    assert read(b"", 204) == Page([], None, more=False)
    with pytest.raises(errors.NotFound):
        contact_of("finding", check_answer("finding", 204, {}, b""))
    with pytest.raises(errors.NotFlowiq):
        read(b"", 200)


BY_STATUS: list[tuple[int, Any, type[errors.FlowiqError]]] = [
    (400, "Invalid action", errors.BadRequest),
    (400, "Tenant ID is required", errors.ConfigurationError),
    (400, "Contact not found", errors.BadRequest),
    (401, "Contact not found", errors.CredentialsError),
    (403, None, errors.CredentialsError),
    (404, "Contact not found", errors.NotFound),
    (404, "Order not found", errors.NotFound),
    (404, "Not found", errors.NotFound),
    (404, None, errors.NotFound),
    (404, "Organization not found", errors.UnknownOrganisation),
    (404, "Organisation 'acme' not found", errors.UnknownOrganisation),
    (404, "Invalid endpoint or missing required parameters", errors.BadRequest),
    (404, "INVALID_ENDPOINT", errors.BadRequest),
    (410, "Contact not found", errors.NotFound),
    (410, None, errors.NotFound),
    (203, "Contact not found", errors.NotFound),
    (408, None, errors.ServerError),
    (409, None, errors.BadRequest),
    (422, "Invalid token", errors.BadRequest),
    (429, "Contact not found", errors.RateLimited),
    (500, "Invalid API key", errors.ServerError),
    (503, None, errors.ServerError),
    (302, None, errors.NotFlowiq),
]


@pytest.mark.parametrize(("status", "words", "kind"), BY_STATUS)
def test_a_status_says_more_than_words(
    status: int, words: Any, kind: type[errors.FlowiqError]
) -> None:
    """Only 400 and 404 need them."""
    assert type(refused(status, error=words)) is kind


def test_a_404_of_something_else_is_no_missing_contact() -> None:
    """A gateway answers in JSON too; taking its word would forget a conversation."""
    assert type(refused(404, success=None, message="no Route matched")) is not errors.NotFound
    assert type(refused(404, success=None, message="Resource gone")) is errors.NotFlowiq


@pytest.mark.parametrize("three", [3, 3.0, "3", "3.0", " 3 ", None, "three", 3.5, {}, [], True])
def test_a_page_says_its_number_in_any_form_or_none(three: Any) -> None:
    """What says nothing contradicts nothing."""
    assert page(currentPage=three).rows == ROWS


@pytest.mark.parametrize("other", [2, 4, "2", "4.0", 0, -3, 2**63, "99999999999999999999"])
def test_another_page_than_asked_is_an_error_that_passes(other: Any) -> None:
    """Its rows would be taken for this one's."""
    with pytest.raises(errors.NotFlowiq, match="of another page"):
        page(currentPage=other)


@pytest.mark.parametrize("total", [402, 402.0, "402", "402.0", "4.02e2"])
def test_a_count_may_be_a_text_or_a_float(total: Any) -> None:
    """It is the same count."""
    assert page(totalMessages=total).total == 402


NO_COUNT = [-1, 1.5, "many", "", None, True, [], {}, 10**9 + 1, 2**63, 10**400, "NaN", "-0.5"]
NO_COUNT += [float("nan"), float("inf"), "Infinity", "1e999", "²", "9" * 5000]


@pytest.mark.parametrize("total", NO_COUNT)
def test_a_count_that_cannot_be_is_none(total: Any) -> None:
    """And the rows are read all the same."""
    assert page(totalMessages=total) == page(totalMessages=None)
    assert page(totalMessages=total).total is None


FULL: list[Any] = [{}] * PAGE_SIZE
MORE: list[tuple[Any, dict[str, Any], bool]] = [
    # hasNextPage and totalPages agree
    (ROWS, {}, True),
    (ROWS, {"hasNextPage": False, "totalPages": 3}, False),
    # in other forms
    (ROWS, {"hasNextPage": "true", "totalPages": "5"}, True),
    (ROWS, {"hasNextPage": 1, "totalPages": 5.0}, True),
    (ROWS, {"hasNextPage": "False", "totalPages": None}, False),
    (ROWS, {"hasNextPage": 0, "totalPages": "?"}, False),
    # one of them is silent
    (ROWS, {"hasNextPage": None}, True),
    (ROWS, {"hasNextPage": None, "totalPages": "3"}, False),
    (ROWS, {"hasNextPage": "perhaps", "totalPages": 3}, False),
    (ROWS, {"hasNextPage": True, "totalPages": None}, True),
    (ROWS, {"hasNextPage": True, "totalPages": -5}, True),
    # they contradict each other: the count decides
    (ROWS, {"hasNextPage": True, "totalPages": 3, "totalMessages": 202}, False),
    (ROWS, {"hasNextPage": True, "totalPages": 3, "totalMessages": 203}, True),
    (ROWS, {"hasNextPage": False, "totalPages": 9, "totalMessages": 202}, False),
    (FULL, {"hasNextPage": False, "totalPages": 9, "totalMessages": 301}, True),
    # or whether the page is full
    (ROWS, {"hasNextPage": True, "totalPages": 3, "totalMessages": None}, False),
    (FULL, {"hasNextPage": True, "totalPages": 3, "totalMessages": None}, True),
    # both are silent
    (ROWS, {"hasNextPage": None, "totalPages": None}, True),
    (ROWS, {"hasNextPage": None, "totalPages": None, "totalMessages": 202}, False),
    (ROWS, {"hasNextPage": None, "totalPages": None, "totalMessages": None}, False),
    (FULL, {"hasNextPage": None, "totalPages": None, "totalMessages": None}, True),
    (
        ROWS,
        {"hasNextPage": None, "totalPages": None, "totalMessages": None, "messagesPerPage": "2"},
        True,
    ),
]


@pytest.mark.parametrize(("rows", "said", "more"), MORE)
def test_whether_a_page_follows(rows: Any, said: dict[str, Any], more: bool) -> None:
    """By what the API says, else by its count, else by whether the page is full."""
    assert page(rows, **said).more is more


@pytest.mark.parametrize("pagination", [None, [], "3", 3, {}])
@pytest.mark.parametrize(("rows", "more"), [(ROWS, False), (FULL, True), (FULL * 2, True)])
def test_a_full_page_without_pagination_is_followed(pagination: Any, rows: Any, more: bool) -> None:
    """The vendor's file does not require a pagination."""
    body = {"success": True, "messages": rows, "pagination": pagination}
    assert read(json.dumps(body).encode()) == Page(rows, None, more)
    del body["pagination"]
    assert read(json.dumps(body).encode()) == Page(rows, None, more)


@pytest.mark.parametrize("rows", [None, {}, ...])
def test_nothing_is_an_empty_list_where_the_count_says_so(rows: Any) -> None:
    """And otherwise no list at all."""

    def answer(**said: Any) -> Page:
        written = {} if rows is ... else {"messages": rows}
        return read(json.dumps({"success": True} | written | said).encode())

    nothing = {"totalMessages": "0", "totalPages": 0, "hasNextPage": False}
    assert answer(pagination=nothing).rows == []
    assert answer(count=0).rows == []
    for said in ({"totalMessages": 1}, {"totalMessages": None}):
        with pytest.raises(errors.NotFlowiq, match="without a list of messages"):
            answer(pagination=said)


@pytest.mark.parametrize(
    "blank",
    [
        {"totalMessages": 0},
        {"totalMessages": 0, "totalPages": 0},
        {"currentPage": 0, "totalMessages": 0, "totalPages": 0, "hasNextPage": False},
    ],
    ids=str,
)
def test_a_zero_beside_rows_counts_nothing(blank: dict[str, Any]) -> None:
    """As a server writes that has not counted: a full page is followed, unless it says more."""
    unsaid = {"totalPages": None, "hasNextPage": None} | blank
    assert page(FULL, **unsaid) == Page(FULL, None, more=True)
    assert page(ROWS, **unsaid) == Page(ROWS, None, more=False)
    assert page(ROWS, **unsaid | {"hasNextPage": True}).more
    assert page([], **unsaid) == Page([], None, more=False)


def test_a_list_may_be_written_as_an_object_of_its_places() -> None:
    """As PHP does where something was taken out of it."""
    assert page({"0": ROWS[0], "2": ROWS[1]}).rows == ROWS


@pytest.mark.parametrize("rows", ["{}", '"none"', "0", "true", '{"1": {}, "a": {}}'])
def test_rows_that_are_no_list_are_an_error_that_passes(rows: str) -> None:
    """There is nothing to keep."""
    answer = check_answer("listing", 200, {}, f'{{"contacts": {rows}}}'.encode())
    with pytest.raises(errors.NotFlowiq, match="without a list of contacts"):
        contacts_of("listing", answer, 1)


def _deep(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * levels + b"1" + closing * levels


VALUES: dict[str, bytes] = {
    "a byte of no encoding": b'"caf\xe9"',
    "half a character": b'"\xf0\x9f\x91"',
    "half an emoji": rb'"\ud83d"',
    "a control character": b'"a\nb\x00"',
    "too many digits": b"9" * 5000,
    "400 digits": b"9" * 400,
    "a minus and too many digits": b"-" + b"9" * 5000,
    "beyond a float": b"1e999",
    "no number": b"NaN",
    "infinity": b"-Infinity",
    "990 levels": _deep(990),
    "100,000 levels": _deep(100_000),
    "100,000 levels of objects": _deep(100_000, b'{"a":', b"}"),
    "100,000 levels of both": _deep(50_000, b'[{"]": ', b"}]"),
    "brackets in a text": b'"' + b"[{" * 5000 + b'"',
}


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize("where", ["in a row", "beside the rows", "in the pagination"])
@pytest.mark.parametrize("kind", ["contacts", "messages"])
def test_one_value_costs_no_other(case: str, where: str, kind: str) -> None:
    """The rest of its row, and the other rows, are read."""
    value = VALUES[case]
    odd = {"in a row": b'{"id": "1", "odd": %s}', "beside the rows": b'{"id": "1"}'}
    row = odd.get(where, b'{"id": "1"}').replace(b"%s", value)
    beside = b', "x": ' + value if where == "beside the rows" else b""
    said = value if where == "in the pagination" else b"1"
    body = b'{"success": true, "%s": [%s, {"id": "2"}], "pagination": {"totalPages": %s}%s}'
    answer = check_answer("reading", 200, {}, body % (kind.encode(), row, said, beside))
    read_page = contacts_of if kind == "contacts" else _messages
    rows = read_page("reading", answer, 1).rows
    assert [row["id"] for row in rows] == ["1", "2"]
    assert ("odd" in rows[0]) is (where == "in a row")


def _messages(tried: str, answer: Any, number: int) -> Page:
    return messages_of(tried, answer, number, json.loads)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_is_read_in_any_of_its_encodings(encoding: str) -> None:
    """A mark at the beginning does no harm."""
    rows = [{"message": "café 👍"}]
    assert read(json.dumps({"messages": rows}, ensure_ascii=False).encode(encoding)).rows == rows


def test_what_is_nested_too_deep_becomes_its_own_text() -> None:
    """Nothing is lost, and what stands beside it stays what it is."""
    read_back = read_json(b'{"a": "[", "b": %s, "c": ["]"]}' % _deep(5000))
    assert (read_back["a"], read_back["c"]) == ("[", ["]"])
    inner, levels = read_back["b"], 0
    while isinstance(inner, list):
        [inner], levels = inner, levels + 1
    assert inner == _deep(5000 - levels).decode()


def test_plain_json_keeps_what_python_can_hold() -> None:
    """And writes the rest as text."""
    written = json.loads(plain_json(b'["\xff", 1e999, 12345678901234567890, -%s]' % (b"9" * 5000)))
    assert written == ["\ufffd", float("inf"), 12345678901234567890, "-" + "9" * 5000]


@pytest.mark.parametrize(
    ("contact", "kind"),
    [(None, errors.NotFound), ([], errors.NotFlowiq), ("1", errors.NotFlowiq)],
)
def test_a_search_without_a_contact(contact: Any, kind: type[errors.FlowiqError]) -> None:
    """Null says that there is none; anything else says nothing."""
    answer = check_answer("finding", 200, {}, json.dumps({"contact": contact}).encode())
    with pytest.raises(kind):
        contact_of("finding", answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = ["success", "error", "message", "messages", "contacts", "contact", "count", "pagination"]
SAID_FIELDS = ["currentPage", "totalPages", "totalMessages", "totalContacts", "hasNextPage"]
ENVELOPES = st.dictionaries(
    st.sampled_from(FIELDS), JSON | st.dictionaries(st.sampled_from(SAID_FIELDS), JSON)
).map(lambda body: json.dumps(body).encode())
BODIES = st.binary() | ENVELOPES | st.builds(bytes.__add__, ENVELOPES, st.binary(max_size=3))
STATUSES = st.sampled_from([200, 204, 301, 400, 401, 404, 418, 429, 500, 599])


@given(STATUSES, st.dictionaries(st.text(), st.text()), BODIES)
def test_any_answer_is_a_page_or_a_named_error(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    """Never another exception, for every operation."""
    for read_it in (contacts_of, _messages, lambda tried, answer, _: contact_of(tried, answer)):
        try:
            read_it("trying", check_answer("trying", status, headers, body), 1)
        except errors.FlowiqError as error:
            assert error.__context__ is None  # noqa: PT017 - it need not be raised


NAMES = st.sampled_from(
    [
        *("Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Date"),
        *("Content-Length", "Content-Encoding", "Transfer-Encoding", "Set-Cookie", "Connection"),
    ]
)
TEXTS = [b"\xb2", b"9" * 5000, b"-1", b"nan", b"Thu, 01 Jan 99999 00:00:00 GMT", b"0", b"5, 5"]
TEXTS += [b"chunked", b"gzip", b"br", b"deflate, gzip", b"x-unknown", b"a=b; expires=x; Max-Age=z"]
LINES = st.lists(
    st.builds(
        lambda name, value: name.encode() + b": " + value,
        NAMES,
        st.sampled_from(TEXTS) | st.binary(max_size=20),
    )
    | st.binary(max_size=20),
    max_size=6,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
HEADS = st.sampled_from([b"200 OK", b"429 No", b"204 None", b"100 Go on", b"999 \xff"]) | st.binary(
    max_size=12
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(HEADS, LINES, BODIES | BODIES.map(gzip.compress), st.booleans())
@example(b"429 No", b"Retry-After: \xb2\r\nDate: Thu, 01 Jan 99999 00:00:00 GMT\r\n", b"{}", True)
@example(b"200 OK", b"Content-Length: 5\r\nContent-Length: 6\r\n", b"{}", False)
@example(b"200 OK", b"Transfer-Encoding: chunked\r\n", b"zz\r\n{}", False)
@example(b"200 OK", b"Content-Encoding: gzip\r\n", b"{}", True)
@example(b"200 OK", b"Content-Encoding: x-unknown\r\n", b'{"contacts": []}', True)
@example(b"200 OK", b"", b'{"messages": [], "pagination": {"totalPages": 1e999}}', True)
def test_any_bytes_from_the_network_are_a_page_or_a_named_error(
    sandbox: Sandbox, head: bytes, lines: bytes, body: bytes, measured: bool
) -> None:
    """As they come from a socket, through every library in between."""
    answer = b"HTTP/1.1 " + head + b"\r\n" + lines
    if measured:
        answer += b"Content-Length: %d\r\n" % len(body)

    def handle(sock: Any) -> None:
        head_of(sock)
        sock.sendall(answer + b"\r\n" + body)

    with listening(handle) as port:
        url = {"settings": Settings("token", None, f"http://127.0.0.1:{port}")}
        client = FlowiqClient(**impatient(sandbox, Clock()) | url, timeout_s=(2, 2))
        try:
            assert isinstance(client.contacts(1, Meter()), Page)
        except errors.FlowiqError as error:
            assert error.__context__ is None  # noqa: PT017 - it need not be raised
        finally:
            client.close()
