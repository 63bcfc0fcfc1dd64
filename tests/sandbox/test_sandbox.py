"""The sandbox answers as the vendor documents it, and its business lives as the clock goes on."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
import requests

from flowiq_source.sandbox import (
    TENANT,
    TOKEN,
    Contact,
    RateLimit,
    Reply,
    Sandbox,
    Tenant,
    World,
    documented,
    reply_json,
)
from flowiq_source.sandbox.dialects import DIALECTS
from flowiq_source.sandbox.replies import REFUSALS
from flowiq_source.sandbox.world import START, Message

Json = dict[str, Any]

SCHEMA = json.loads(Path(__file__).with_name("reference_schema.json").read_text("utf-8"))
FORMATS = jsonschema.FormatChecker()

SEED_MESSAGE = (
    "id content sender status timestamp mediaType mediaUrl assignee voiceTranscription reactions"
)
REFERENCE_MESSAGE = (
    "message sender_type message_status created_at media_type media_url assignee "
    "voice_note_transcription reactions"
)
REFERENCE_CONTACT = (
    "id full_name whatsapp_id phone_number email created_at tags has_unread_messages bot_status "
    "archived"
)
OVERVIEW_CONTACT = (
    "contact_name whatsapp_number last_message last_message_time unread_count profile_picture_url"
)


def is_time(value: object) -> bool:
    """Whether it is a time in UTC; jsonschema needs another package to check that."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z", str(value))
    return match is not None and bool(datetime.fromisoformat(match[1]))


FORMATS.checks("date-time", raises=ValueError)(is_time)


def conforms(body: object, name: str) -> None:
    """Validate a body against one of the vendor's schemas."""
    schema = {**SCHEMA, "$ref": f"#/$defs/{name}"}
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(body)


def ask(
    sandbox: Sandbox, *, token: str | None = TOKEN, tenant: str | None = TENANT, **params: Any
) -> requests.Response:
    """One answer; what is None is not sent."""
    return requests.get(
        f"{sandbox.url}/conversations",
        params={"tenantId": tenant, **params},
        headers={"Authorization": token and f"Bearer {token}"},
        timeout=10,
    )


def messages(sandbox: Sandbox, number: str, **params: Any) -> list[Json]:
    """The newest 100 messages of a conversation, or the oldest."""
    answer = ask(sandbox, whatsappNumber=number, limit=100, **params)
    rows: list[Json] = answer.json()["messages"]
    return rows


def contacts(sandbox: Sandbox, **params: Any) -> list[Json]:
    """A page of contacts."""
    rows: list[Json] = ask(sandbox, action="contacts", **params).json()["contacts"]
    return rows


@pytest.fixture(scope="module")
def town() -> Iterator[Sandbox]:
    """The default world, for tests that only read."""
    with Sandbox() as running:
        yield running


@pytest.mark.parametrize("days", [0, 45])
def test_every_answer_of_the_reference_dialect_conforms(days: int) -> None:
    """Contacts, their messages and the search by phone follow the vendor's schemas at any time."""
    with Sandbox() as sandbox:
        sandbox.world.advance(timedelta(days=days))
        conforms(ask(sandbox, action="contacts").json(), "ContactsResponse")
        for contact in sandbox.world.contacts:
            address = {"whatsappNumber": contact.number}
            conforms(ask(sandbox, **address, limit=100).json(), "ConversationResponse")
            found = ask(sandbox, **address, action="find-by-phone").json()
            conforms(found, "FindContactResponse")
            assert found["contact"]["id"] == contact.id


WRONG = [{"id": "7"}, {"created_at": "2026-02-30T08:00:00Z"}, {"bot_status": "on"}, {"tags": [1]}]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_the_schemas_refuse_what_is_not_documented(town: Sandbox, change: Json) -> None:
    """One wrong field in a good row is noticed: to conform means something."""
    row = contacts(town)[0]
    conforms(row, "Contact")
    with pytest.raises(jsonschema.ValidationError):
        conforms({**row, **change}, "Contact")


@pytest.mark.parametrize(
    ("status", "error", "params"),
    [
        (400, "Tenant ID is required", {"tenant": None}),
        (400, "Invalid action", {"action": "send"}),
        (400, "Contact is required", {"whatsappNumber": None}),
        (400, "Phone number is required", {"whatsappNumber": None, "action": "find-by-phone"}),
        *[(400, "Invalid limit", {"limit": limit}) for limit in (0, -1, 101, "ten", "")],
        *[(400, "Invalid limit", {"limit": limit, "action": "contacts"}) for limit in (0, 101)],
        *[(400, "Invalid page", {"page": page}) for page in (0, -1, "one")],
        (400, "Invalid ascending", {"ascending": "maybe"}),
        (401, "Authorization required", {"token": None}),
        (401, "Invalid API key", {"token": "fiq_wrong"}),
        (401, "API key mismatch", {"tenant": "another-organisation"}),
        (404, "Organization not found", {"tenant": "nobody"}),
        (404, "Contact not found", {"whatsappNumber": "27820000009"}),
        (404, "Contact not found", {"whatsappNumber": "27820000009", "action": "find-by-phone"}),
        (404, "Contact not found", {"contactId": "00000000-0000-4000-8000-000000000000"}),
        (404, "Order not found", {"orderId": "1"}),
    ],
    ids=str,
)
def test_a_refusal_has_the_documented_status_and_shape(
    town: Sandbox, status: int, error: str, params: Json
) -> None:
    """A request that is wrong, or nobody's, gets an error as the documents show it."""
    answer = ask(town, **{"whatsappNumber": town.world.contacts[0].number, **params})
    conforms(answer.json(), "ErrorResponse")
    said = (answer.status_code, answer.json()["success"], answer.json()["error"])
    assert said == (status, False, error)


WORD_FOR_WORD = [
    (
        {"tenant": None},
        {"error": "Tenant ID is required", "message": "Please provide tenantId query parameter"},
    ),
    ({"action": "send"}, {"error": "Invalid action"}),
    (
        {"token": None},
        {
            "error": "Authorization required",
            "message": "Please provide Authorization bearer token",
        },
    ),
    (
        {"token": "fiq_wrong"},
        {"error": "Invalid API key", "message": "API key has been revoked"},
    ),
    (
        {"tenant": "another-organisation"},
        {
            "error": "API key mismatch",
            "message": "API key does not belong to the specified tenant",
        },
    ),
    (
        {"tenant": "YOUR_TENANT_ID"},
        {
            "error": "Organization not found",
            "message": "No organization found with tenantId: YOUR_TENANT_ID",
        },
    ),
    (
        {"whatsappNumber": "+27 999"},
        {
            "error": "Contact not found",
            "message": "Contact not found for the provided phone number",
            "normalized_phone": "27999",
        },
    ),
    ({"contactId": "nobody"}, {"error": "Contact not found"}),
    ({"orderId": "1"}, {"error": "Order not found", "details": "Shopify order not found"}),
]


@pytest.mark.parametrize(("params", "body"), WORD_FOR_WORD, ids=str)
def test_a_refusal_has_the_words_of_the_documents(town: Sandbox, params: Json, body: Json) -> None:
    """And what no document puts into it does not stand in it."""
    asked = {"whatsappNumber": town.world.contacts[0].number, **params}
    assert ask(town, **asked).json() == {"success": False, **body}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_can_be_had_by_name(sandbox: Sandbox, name: str) -> None:
    """An intercept answers with a documented error that the sandbox itself has no reason for."""
    sandbox.intercept = lambda params: documented(name).reply
    answer = ask(sandbox, action="contacts")
    conforms(answer.json(), "ErrorResponse")
    assert answer.status_code in (400, 401, 404, 429, 500)


@pytest.mark.parametrize("path", ["", "contact", "conversations/", "v1/conversations"])
@pytest.mark.parametrize(
    ("token", "status", "error"),
    [
        (None, 401, "Authorization required"),
        ("Basic x", 401, "Authorization required"),
        ("Bearer ", 401, "Authorization required"),
        ("Bearer fiq_wrong", 401, "Invalid API key"),
        (f"Bearer {TOKEN}", 404, "Invalid endpoint or missing required parameters"),
    ],
)
def test_another_path_is_not_there_for_those_who_may_ask(
    town: Sandbox, path: str, token: str | None, status: int, error: str
) -> None:
    """Who has no token does not even learn which paths there are."""
    headers = {"Authorization": token}
    answer = requests.get(f"{town.url}/{path}", headers=headers, timeout=10)
    assert (answer.status_code, answer.json()) == (status, answer.json() | {"error": error})


def test_each_tenant_has_its_own_token_and_business() -> None:
    """A token opens its own tenant, is another one's nowhere, and decides where none is named."""
    tenants = [Tenant("north", World(seed=2)), Tenant("south", World(seed=3), "fiq_7")]
    with Sandbox(tenant_required=False, tenants=tenants) as sandbox:

        def answer(token: str, tenant: str | None) -> Any:
            asked = ask(sandbox, token=token, tenant=tenant, action="contacts")
            return asked.json()["contacts"] if asked.ok else asked.status_code

        north, own = answer("fiq_north", "north"), answer(TOKEN, TENANT)
        south = answer("fiq_7", None)
        assert [answer("fiq_north", name) for name in ("south", TENANT, "east")] == [401, 401, 404]
        assert [answer(TOKEN, name) for name in ("north", None)] == [401, own]
        assert len({people[0]["id"] for people in (own, north, south)}) == 3
        requests.post(f"{sandbox.url}/sandbox/advance?hours=24", timeout=10)
        assert {t.world.now for t in tenants} == {sandbox.world.now}


def test_one_tenant_does_not_use_up_the_limit_of_another() -> None:
    """Each token has a rate limit of its own."""
    with Sandbox(tenants=[Tenant("north", rate_limit=RateLimit(1, 1))]) as sandbox:
        asked = [("fiq_north", "north")] * 2 + [(TOKEN, TENANT)]
        statuses = [
            ask(sandbox, token=t, tenant=n, action="contacts").status_code for t, n in asked
        ]
    assert statuses == [200, 429, 200]


def test_a_tenant_is_optional_where_it_is_not_required() -> None:
    """Without the requirement a request may leave the tenant out, but not name a wrong one."""
    with Sandbox(tenant_required=False) as sandbox:
        tenants = [None, TENANT, "nobody", "another-organisation"]
        statuses = [ask(sandbox, action="contacts", tenant=name).status_code for name in tenants]
    assert statuses == [200, 200, 404, 401]


@pytest.mark.parametrize(
    ("total", "limit", "pages"),
    [(0, 10, 0), (1, 10, 1), (10, 10, 1), (11, 10, 2), (7, 3, 3), (3, 1, 3), (5, 100, 1)],
)
def test_pages_add_up_to_the_conversation(
    sandbox: Sandbox, alice: Contact, total: int, limit: int, pages: int
) -> None:
    """Every message is on exactly one page, newest first, and the page after the last is empty."""
    for n in range(total):
        sandbox.world.add_message(alice, content=str(n))
    seen: list[str] = []
    for page in range(1, pages + 2):
        body = ask(sandbox, whatsappNumber=alice.number, page=page, limit=limit).json()
        assert body["count"] == len(body["messages"]) == min(limit, total - len(seen))
        flags = {"hasNextPage": page < pages, "hasPrevPage": page > 1}
        sizes = {"totalPages": pages, "totalMessages": total, "messagesPerPage": limit}
        assert body["pagination"] == {"currentPage": page, **sizes, **flags}
        seen += [row["message"] for row in body["messages"]]
    assert seen == [str(n) for n in reversed(range(total))]


def test_pages_add_up_to_all_contacts(town: Sandbox) -> None:
    """Every contact is on exactly one page."""
    pages = [contacts(town, page=page, limit=4) for page in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [4, 4, 2, 0]
    assert {row["id"] for page in pages for row in page} == {c.id for c in town.world.contacts}


def test_defaults_are_page_1_of_10_messages_or_50_contacts(
    sandbox: Sandbox, alice: Contact
) -> None:
    """A request that names no page gets the first, newest messages first."""
    for n in range(51):
        sandbox.world.add_contact(f"2783{n:07d}")
        sandbox.world.add_message(alice, START - timedelta(hours=n), content=str(n))
    body = ask(sandbox, whatsappNumber=alice.number).json()
    assert [row["message"] for row in body["messages"]] == [str(n) for n in range(10)]
    assert (body["pagination"]["currentPage"], body["pagination"]["totalPages"]) == (1, 6)
    body = ask(sandbox, action="contacts").json()
    assert (body["count"], body["pagination"]["currentPage"]) == (50, 1)
    oldest_first = messages(sandbox, alice.number, ascending="true")
    assert oldest_first == messages(sandbox, alice.number, ascending="false")[::-1]


@pytest.mark.parametrize(
    ("params", "terms", "found"),
    [
        ({}, None, {"Urgent!", "Where is #4275?", "Hi"}),
        ({"query": "HI, urgent,"}, ["HI", "urgent"], {"Urgent!", "Hi"}),
        ({"query": "nothing"}, ["nothing"], set()),
        ({"search": "HI, urgent,"}, ["HI", "urgent"], {"Urgent!", "Hi"}),
        ({"query": "hi", "search": "urgent,hi"}, ["hi", "urgent"], {"Urgent!", "Hi"}),
        ({"orderId": "1234567890"}, ["#4275"], {"Where is #4275?"}),
        ({"orderId": "1234567890", "query": "hi"}, ["hi", "#4275"], {"Where is #4275?", "Hi"}),
    ],
)
def test_messages_are_searched_for_words_and_orders(
    sandbox: Sandbox, alice: Contact, params: Json, terms: list[str] | None, found: set[str]
) -> None:
    """A search finds the messages with any of its terms, and the answer says what was applied."""
    for text in ("Urgent!", "Where is #4275?", "Hi"):
        sandbox.world.add_message(alice, content=text)
    body = ask(sandbox, whatsappNumber=alice.number, **params).json()
    assert {row["message"] for row in body["messages"]} == found
    assert body["pagination"]["totalMessages"] == body["count"] == len(found)
    assert (body["filtered"], body["searchTerms"]) == (terms is not None, terms)


@pytest.mark.parametrize(
    ("search", "found"),
    [("", "AB-"), ("ALI", "A"), ("bob b", "B"), ("+27 82 999", "B"), ("2782", "AB"), ("zed", "")],
)
def test_contacts_are_searched_by_name_and_phone(
    sandbox: Sandbox, alice: Contact, search: str, found: str
) -> None:
    """A search finds the contacts with this text in the name, or these digits in the number."""
    sandbox.world.add_contact("27829999999", full_name="Bob Botha")
    sandbox.world.add_contact("4912345", full_name=None)
    assert {(row["full_name"] or "-")[0] for row in contacts(sandbox, search=search)} == {*found}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["phoneNumber", "whatsappNumber"])
def test_find_by_phone_takes_the_parameter_of_every_document(
    sandbox: Sandbox, alice: Contact, dialect: str, name: str
) -> None:
    """A contact is found by either name of the parameter, whatever the number's punctuation."""
    sandbox.dialect = dialect
    body = ask(sandbox, action="find-by-phone", **{name: "+27 82 000 0001"}).json()
    assert (body["original_phone"], body["normalized_phone"]) == ("+27 82 000 0001", alice.number)
    assert [body["contact"]] == contacts(sandbox)
    nobody = ask(sandbox, action="find-by-phone", **{name: "+27 82 000 0009"})
    assert (nobody.status_code, nobody.json()["normalized_phone"]) == (404, "27820000009")
    assert ask(sandbox, action="find-by-phone", **{name: ""}).status_code == 400


@pytest.mark.parametrize("number", ["+27820000001", "+27 82 000 0001", "+27 (82) 000-0001"])
def test_a_conversation_has_a_number_and_an_id(
    sandbox: Sandbox, alice: Contact, number: str
) -> None:
    """Any way to write the number, and the contact's id, lead to the same answer."""
    sandbox.world.add_message(alice)
    sandbox.world.add_message(sandbox.world.add_contact("27820000002"), content="Not this")
    plain = ask(sandbox, whatsappNumber=alice.number, action="conversation-messages")
    assert plain.json()["count"] == 1
    assert ask(sandbox, whatsappNumber=number).content == plain.content
    assert ask(sandbox, contactId=alice.id).content == plain.content


def test_every_answer_carries_the_rate_limit(sandbox: Sandbox) -> None:
    """Good answers and errors alike say what is left of the rate limit."""
    sandbox.rate_limit = RateLimit(clock=lambda: 1000.0)
    sandbox.intercept = lambda params: reply_json(500, {}) if params.get("page") == "500" else None
    asked: list[Json] = [{}, {"limit": 0}, {"token": None}, {"tenant": "x"}, {"page": 500}]
    answers = [ask(sandbox, action="contacts", **params) for params in asked]
    assert [answer.status_code for answer in answers] == [200, 400, 401, 404, 500]
    names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
    said = [[answer.headers[name] for name in names] for answer in answers]
    assert said == [["100", str(left), "1000"] for left in (149, 148, 147, 146, 145)]


def test_a_burst_of_150_is_served_then_100_a_minute(sandbox: Sandbox) -> None:
    """Request 151 gets a 429 without Retry-After, and the clock brings new requests."""
    now = [1000.0]
    sandbox.rate_limit = RateLimit(clock=lambda: now[0])

    def burst(size: int) -> list[int]:
        return [ask(sandbox, action="contacts").status_code for _ in range(size)]

    assert burst(151) == [200] * 150 + [429]
    refused = ask(sandbox, action="contacts")
    conforms(refused.json(), "ErrorResponse")
    assert "Retry-After" not in refused.headers
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    assert refused.headers["X-RateLimit-Reset"] == "1060"
    now[0] += 30
    assert burst(51) == [200] * 50 + [429]
    now[0] += 3600
    assert ask(sandbox, action="contacts").headers["X-RateLimit-Remaining"] == "149"


@pytest.mark.parametrize(
    ("dialect", "row", "contact", "flags"),
    [
        ("seed", SEED_MESSAGE, REFERENCE_CONTACT, {"hasPreviousPage"}),
        ("reference", REFERENCE_MESSAGE, REFERENCE_CONTACT, {"hasPrevPage", "messagesPerPage"}),
        ("overview", REFERENCE_MESSAGE, OVERVIEW_CONTACT, {"hasPrevPage", "messagesPerPage"}),
    ],
)
def test_each_dialect_writes_its_own_names(
    sandbox: Sandbox, dialect: str, row: str, contact: str, flags: set[str]
) -> None:
    """The same message, contact and pagination come under the names of the dialect's document."""
    sandbox.dialect = dialect
    alice = sandbox.world.add_contact("27820000001", full_name="Alice", tags=["vip"], email="a@b.c")
    reaction = {"emoji": "👍", "sender": alice.number}
    facts: Json = {"content": "שלום", "status": "sent", "media_type": "audio", "media_url": "url"}
    facts |= {"assignee": "agent", "voice_transcription": "So", "reactions": [reaction]}
    message = sandbox.world.add_message(alice, **facts)
    time = "2026-03-02T08:00:00Z"
    said = ["שלום", "user-whatsapp", "sent", time, "audio", "url", "agent", "So", [reaction]]
    said = [message.id, *said] if dialect == "seed" else said
    body = ask(sandbox, whatsappNumber=alice.number).json()
    assert body["messages"] == [dict(zip(row.split(), said, strict=True))]
    everywhere = {"currentPage", "totalPages", "totalMessages", "hasNextPage"}
    assert set(body["pagination"]) == everywhere | flags
    known: list[object] = [alice.id, "Alice", alice.number, "+27 82 0000001", "a@b.c", time]
    known += [["vip"], True, "active", False]
    if dialect == "overview":
        known = ["Alice", alice.number, "שלום", time, 1, ANY]
    assert contacts(sandbox) == [dict(zip(contact.split(), known, strict=True))]


def test_mixed_changes_the_dialect_from_row_to_row() -> None:
    """One answer of `mixed` holds rows of several documents."""
    with Sandbox(dialect="mixed") as sandbox:
        answers = messages(sandbox, sandbox.world.contacts[1].number), contacts(sandbox)
    shapes = [{frozenset(row) for row in rows} for rows in answers]
    assert shapes == [
        {frozenset(SEED_MESSAGE.split()), frozenset(REFERENCE_MESSAGE.split())},
        {frozenset(REFERENCE_CONTACT.split()), frozenset(OVERVIEW_CONTACT.split())},
    ]


def test_the_same_seed_and_clock_give_the_same_answers() -> None:
    """Three days in one step or in 72 end in the same world; another seed is another world."""
    answers = []
    for seed, steps in [(7, 1), (7, 72), (8, 1)]:
        with Sandbox(World(seed=seed)) as sandbox:
            for _ in range(steps):
                sandbox.world.advance(timedelta(hours=72 / steps))
            histories = [messages(sandbox, contact.number) for contact in sandbox.world.contacts]
            answers.append((contacts(sandbox), histories))
    (people, histories), again, (others, other_histories) = answers
    assert (people, histories) == again
    assert people[0]["id"] != others[0]["id"]
    assert [rows[:1] for rows in histories] != [rows[:1] for rows in other_histories]


def planned(world: World, name: str, changes: int) -> tuple[Contact, Message]:
    """A message still to come, one field of which will change so many times."""
    for _ in range(100):
        for contact in world.contacts:
            for message in contact.messages:
                changing = [changed for _, changed, _ in message.changes]
                if message.at > world.now and changing.count(name) == changes:
                    return contact, message
        world.advance(timedelta(days=1))
    pytest.fail(f"no message whose {name} changes {changes} times")


@pytest.mark.parametrize(
    ("name", "field", "values"),
    [
        ("status", "status", ["sent", "delivered", "read"]),
        ("status", "status", ["sent", "failed"]),
        ("reactions", "reactions", [[], [{"emoji": ANY, "sender": ANY}], []]),
        ("voice_transcription", "voiceTranscription", [None, "Hi, I wanted to ask whether"]),
    ],
)
def test_a_message_arrives_and_changes(name: str, field: str, values: list[Any]) -> None:
    """A message is absent before its time, and then lives through its changes."""
    with Sandbox(dialect="seed") as sandbox:
        contact, message = planned(sandbox.world, name, len(values) - 1)
        assert message.id not in {row["id"] for row in messages(sandbox, contact.number)}
        moments = [message.at, *(at for at, changed, _ in message.changes if changed == name)]
        for moment, value in zip(moments, values, strict=True):
            sandbox.world.advance(moment - sandbox.world.now)
            rows = {row["id"]: row for row in messages(sandbox, contact.number)}
            seen = rows[message.id][field]
            assert seen.startswith(value) if isinstance(value, str) else seen == value


def test_a_contact_joins_as_the_clock_goes_on() -> None:
    """A contact that was not there appears, with no message from before it joined."""
    with Sandbox() as sandbox:
        known = contacts(sandbox)
        sandbox.world.advance(timedelta(days=30))
        joined = [row for row in contacts(sandbox) if row["id"] not in {old["id"] for old in known}]
        assert len(joined) == 2
        for row in joined:
            oldest = messages(sandbox, row["whatsapp_id"], ascending="true")[0]
            assert oldest["created_at"] >= row["created_at"] > "2026-03-02T08:00:00Z"


def test_an_old_message_may_arrive_late(sandbox: Sandbox, alice: Contact) -> None:
    """A message added with an old timestamp takes its place in the order of time."""
    for text, days in [("new", 0), ("old", 9), ("late", 5)]:
        sandbox.world.add_message(alice, START - timedelta(days=days), content=text)
    assert [row["message"] for row in messages(sandbox, alice.number)] == ["new", "late", "old"]


def test_what_is_deleted_is_gone(sandbox: Sandbox, alice: Contact) -> None:
    """A deleted message leaves its conversation, a deleted contact takes it along."""
    erased, _ = (sandbox.world.add_message(alice, content=text) for text in ("erased", "kept"))
    sandbox.world.delete_message(alice, erased)
    body = ask(sandbox, whatsappNumber=alice.number).json()
    assert [row["message"] for row in body["messages"]] == ["kept"]
    assert body["pagination"]["totalMessages"] == 1
    sandbox.world.delete_contact(alice)
    assert contacts(sandbox) == []
    assert ask(sandbox, contactId=alice.id).status_code == 404


def test_a_post_moves_the_clock(sandbox: Sandbox, alice: Contact) -> None:
    """`POST /sandbox/advance` brings what was in the future; any other POST is refused."""
    sandbox.world.add_message(alice, START + timedelta(minutes=90))
    assert messages(sandbox, alice.number) == []
    moved = requests.post(f"{sandbox.url}/sandbox/advance?hours=1.5", timeout=10)
    assert moved.json() == {"success": True, "now": "2026-03-02T09:30:00+00:00"}
    assert len(messages(sandbox, alice.number)) == 1
    for path in ("sandbox/advance", "sandbox/advance?hours=-1", "conversations?hours=1"):
        assert requests.post(f"{sandbox.url}/{path}", timeout=10).status_code == 404
    assert sandbox.world.now == START + timedelta(minutes=90)


def test_an_intercept_may_answer_instead(sandbox: Sandbox) -> None:
    """An intercept sees each request's parameters and answers the ones it wants to."""
    error = {"success": False, "error": "Internal server error"}
    sandbox.intercept = lambda params: reply_json(500, error) if params["page"] == "2" else None
    answers = [ask(sandbox, action="contacts", page=page) for page in (1, 2, 3)]
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert answers[1].json() == error
    assert [params["page"] for params in sandbox.requests] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("reply", "noticed"),
    [
        (Reply(200, b'{"success": true}', cut_at=5), "IncompleteRead"),
        (Reply(0, b""), "closed connection without response"),
    ],
    ids=["cut", "hang up"],
)
def test_an_intercept_may_break_the_connection(
    sandbox: Sandbox, reply: Reply, noticed: str
) -> None:
    """A body cut short, or no answer at all, is an error to the client and to nobody after it."""
    sandbox.intercept = lambda _: reply
    with pytest.raises(requests.RequestException, match=noticed):
        ask(sandbox, action="contacts")
    sandbox.intercept = None
    assert ask(sandbox, action="contacts").status_code == 200


def test_an_intercept_may_change_the_usual_answer(sandbox: Sandbox, alice: Contact) -> None:
    """What the sandbox would say by itself can be had, and be said in another way."""

    def without_pagination(params: dict[str, str]) -> Reply:
        body = json.loads(sandbox.usual_answer(params).body)
        del body["pagination"]
        return reply_json(200, body)

    sandbox.intercept = without_pagination
    body = ask(sandbox, whatsappNumber=alice.number).json()
    assert (body["count"], "pagination" in body) == (0, False)
    assert ask(sandbox, whatsappNumber="27999").status_code == 404
