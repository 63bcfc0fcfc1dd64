"""The row mapping: the documented shapes as examples, arbitrary JSON as properties."""

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from dlt.common.json import json as dlt_json
from dlt.common.normalizers.naming.snake_case import NamingConvention
from hypothesis import given, settings
from hypothesis import strategies as st

from flowiq_source.rows.columns import CONTACT, MESSAGE, OUR_COLUMNS, Column
from flowiq_source.rows.convert import (
    MAX_RAW,
    Mapped,
    Origin,
    Row,
    contact_row,
    message_digest,
    message_row,
    rejected_rows,
)
from flowiq_source.rows.extras import extra_columns
from flowiq_source.rows.values import MAX_KEY
from flowiq_source.sandbox.dialects import DIALECTS, message_json
from flowiq_source.sandbox.world import Message

Mapper = Callable[[Any], Mapped]
NOW = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
AT = datetime(2026, 3, 2, 8, tzinfo=timezone.utc)
SECONDS = 1772438400


ORIGIN = Origin(tenant_id="acme", contact_id="c1", whatsapp_id="27821234567", synced_at=NOW, scan=3)


def message(raw: Any) -> Mapped:
    return message_row(raw, ORIGIN, extra_columns())


def contact(raw: Any) -> Mapped:
    return contact_row(raw, "acme", NOW, extra_columns())


def digest(row: Row, origin: Origin = ORIGIN) -> str:
    return message_digest(row | {"timestamp": row["timestamp"] and str(row["timestamp"])}, origin)


TABLES: dict[Mapper, dict[str, Column]] = {message: MESSAGE, contact: CONTACT}

SEED_MESSAGE = json.loads("""{
    "id": "wamid.HBgL1", "content": "Where is it?", "sender": "user-whatsapp", "status": "read",
    "timestamp": "2026-03-02T08:00:00Z", "mediaType": "audio", "mediaUrl": "https://m.example/1?a",
    "voiceTranscription": "My order?", "assignee": null,
    "reactions": [{"emoji": "👍", "sender": "27123456789"}]}""")
REFERENCE_MESSAGE = json.loads("""{
    "message": "Where is it?", "sender_type": "user-whatsapp", "message_status": "read",
    "created_at": "2026-03-02T08:00:00.000Z", "media_type": "audio",
    "media_url": "https://m.example/1?a", "voice_note_transcription": "My order?", "assignee": null,
    "reactions": [{"emoji": "👍", "sender": "27123456789"}]}""")
MIXED_MESSAGE = json.loads("""{
    "message": "Where is it?", "sender": "user-whatsapp", "message_status": "read",
    "timestamp": "2026-03-02T10:00:00+02:00", "media_type": "audio",
    "mediaUrl": "https://m.example/1?a", "voice_note_transcription": "My order?",
    "reactions": [{"emoji": "👍", "sender": "27123456789"}]}""")
MESSAGE_ROW = json.loads("""{
    "id": null, "content": "Where is it?", "sender": "user-whatsapp", "status": "read",
    "media_type": "audio", "media_url": "https://m.example/1?a", "voice_transcription": "My order?",
    "assignee": null, "reactions": [{"emoji": "👍", "sender": "27123456789"}],
    "tenant_id": "acme", "contact_id": "c1", "whatsapp_id": "27821234567"}""")
MESSAGE_ROW |= {"timestamp": AT, "synced_at": NOW, "scan": 3}
REFERENCE_CONTACT = json.loads("""{
    "id": "6f1f5a3e-0000-4000-8000-000000000001", "full_name": "Amahle Dlamini",
    "whatsapp_id": "27821234567", "phone_number": "+27 82 123 4567", "email": "a@example.com",
    "created_at": "2026-03-02T08:00:00Z", "tags": ["customer", "premium"],
    "has_unread_messages": true, "bot_status": "active", "archived": false}""")
OVERVIEW_CONTACT = json.loads("""{
    "contact_name": "Amahle Dlamini", "whatsapp_number": "27821234567", "last_message": "Hi",
    "last_message_time": "2026-03-02T08:00:00Z", "unread_count": 2,
    "profile_picture_url": "https://m.example/p.jpg"}""")
OVERVIEW_ROW = json.loads("""{
    "id": "27821234567", "full_name": "Amahle Dlamini", "whatsapp_id": "27821234567",
    "last_message": "Hi", "unread_count": 2, "profile_picture_url": "https://m.example/p.jpg"}""")


@pytest.mark.parametrize("raw", [SEED_MESSAGE, REFERENCE_MESSAGE, MIXED_MESSAGE])
def test_a_message_is_the_same_row_in_every_dialect(raw: Row) -> None:
    """Whatever a document calls the fields, even mixed, rows of one message differ in id only."""
    mapped = message(raw)
    assert mapped.row == MESSAGE_ROW | {"id": raw.get("id")}
    assert (mapped.rejected, mapped.replaced) == ([], 0)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (REFERENCE_CONTACT, REFERENCE_CONTACT | {"created_at": AT}),
        (OVERVIEW_CONTACT, OVERVIEW_ROW | {"last_message_at": AT}),
    ],
)
def test_a_contact_fills_the_same_columns_in_every_dialect(raw: Row, shown: Row) -> None:
    """What both documents show is in the same columns; what one leaves out is empty."""
    empty = {name: column.empty for name, column in CONTACT.items()}
    assert contact(raw).row == empty | shown | {"tenant_id": "acme", "synced_at": NOW}


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ({"status": "a", "message_status": "b"}, {"status": "a", "message_status": "b"}),
        ({"status": "a", "message_status": "a"}, {"status": "a"}),
        ({"status": None, "message_status": "b"}, {"status": "b"}),
        ({"mediaType": "a", "media_type": "b"}, {"media_type": "b", "api_media_type": "a"}),
    ],
)
def test_the_columns_own_name_wins_over_an_alias(raw: Row, shown: Row) -> None:
    """Of two names the column's own is taken; the other is kept if it says something else."""
    assert message(raw).row == message({}).row | shown


@pytest.mark.parametrize("mapper", TABLES)
def test_an_undocumented_field_keeps_its_name(mapper: Mapper) -> None:
    """A field nobody documented is a column of its name, out of the way of ours and of dlt's."""
    raw = json.loads("""{
        "waMessageId": 1, "HTTPStatus": 2, "line-items": 3, "a__b": 4, "source.type": 5,
        "select": 6, "ORDER BY": 7, "_dlt_id": 8, "_dlt_load_id": 9, "tenant_id": 10,
        "syncedAt": 11, "contact_id": 12, "scan": 13, "undocumented": 14, "api_scan": 15,
        "xmin": 16, "row_id": 17}""")
    kept = json.loads("""{
        "wa_message_id": "1", "http_status": "2", "line_items": "3", "a_b": "4",
        "source_type": "5", "select": "6", "order_by": "7", "dlt_id": "8", "dlt_load_id": "9",
        "api_tenant_id": "10", "api_synced_at": "11", "api_contact_id": "12", "api_scan": "13",
        "api_undocumented": "14", "api_api_scan": "15", "api_xmin": "16", "api_row_id": "17"}""")
    known = {"phone_number": "27820000001"}
    mapped = mapper(known | raw)
    assert mapped.row == mapper(known).row | kept
    assert mapped.overflowed == 0


UNDOCUMENTED: list[tuple[Any, Any]] = [
    ("0821234567", "0821234567"),
    ("1_0", "1_0"),
    ("2026-03-02T08:00:00Z", "2026-03-02T08:00:00Z"),
    ("0x52908400098527886E0F7030069857D2E4169EE7", "0x52908400098527886E0F7030069857D2E4169EE7"),
    ("\u0661" * 21, "\u0661" * 21),
    ("", ""),
    (9007199254740993, "9007199254740993"),
    (10**5000, "1" + "0" * 5000),
    (7, "7"),
    (7.0, "7.0"),
    (1e19, "1e+19"),
    (True, "true"),
    (math.nan, "NaN"),
    (-math.inf, "-Infinity"),
    ([], "[]"),
    ({"é": [1, None, 10**5000]}, f'{{"é": [1, null, 1{"0" * 5000}]}}'),
    ([math.nan, math.inf], '["NaN", "Infinity"]'),
    ({"a": "\0", "b": "\\u0000", "c": "\ud83d"}, '{"a": "�", "b": "\\\\u0000", "c": "�"}'),
]


@pytest.mark.parametrize(("value", "text"), UNDOCUMENTED, ids=lambda value: repr(type(value)))
def test_an_undocumented_value_is_its_text(value: Any, text: str) -> None:
    """Text as it is, anything else as JSON: nothing is guessed, and nothing can change its type."""
    mapped = message({"forwarded": value, "reactions": [{"skin": value}]})
    assert mapped.row["forwarded"] == mapped.row["reactions"][0]["skin"] == text


def test_null_under_an_undocumented_name_is_no_value() -> None:
    """Neither a column nor an entry of `undocumented`."""
    assert message({"forwarded": None, "27820000001": None}).row == message({}).row


def test_keys_that_meet_in_one_name_all_survive() -> None:
    """The one that is the name has the column, the others go to `undocumented`."""
    mapped = message({"orderId": 1, "order_id": 2, "Order-Id": 3})
    kept = {"order_id": "2", "undocumented": '{"Order-Id": 3, "orderId": 1}'}
    assert (mapped.row, mapped.overflowed) == (message({}).row | kept, 2)


FITS: list[tuple[Mapper, str, list[tuple[Any, Any]]]] = [
    (message, "id", [(42, "42"), ("wamid.HBgL1", "wamid.HBgL1"), ("", None)]),
    (message, "sender", [("alien", "alien"), (5, "5"), (1e19, "1e+19"), ("", "")]),
    (message, "content", [({"b": "é", "n": [1]}, '{"b": "é", "n": [1]}'), (["a"], '["a"]')]),
    (message, "reactions", [(["👍"], [{"emoji": "👍", "sender": None}]), (None, []), ([], [])]),
    (contact, "id", [(42, "42"), (" ", "27821234567"), ("", "27821234567")]),
    (
        contact,
        "whatsapp_id",
        [("+27 82-1", "27821"), (27821234567, "27821234567"), ("", None), ("US.13A", None)],
    ),
    (contact, "phone_number", [("+27 82", "+27 82"), (27821234567, "27821234567")]),
    (
        contact,
        "archived",
        [(True, True), ("TRUE", True), (0, False), (1.0, True), ("no", False), ("", None)],
    ),
    (contact, "unread_count", [(" 3 ", 3), (3.0, 3), ("", None), (-(2**63), -(2**63))]),
    (contact, "bot_status", [(True, "active"), (False, "paused"), ("paused", "paused")]),
    (contact, "created_at", [(" ", None), (SECONDS, AT)]),
    (contact, "last_message", [("Hi", "Hi"), ({"body": "Hi"}, '{"body": "Hi"}')]),
    (contact, "tags", [(["a", 5, ""], ["a", "5", ""]), (None, [])]),
]


@pytest.mark.parametrize(
    ("mapper", "column", "value", "kept"), [(m, c, *pair) for m, c, pairs in FITS for pair in pairs]
)
def test_a_value_that_fits_is_converted(mapper: Mapper, column: str, value: Any, kept: Any) -> None:
    """What can be read as the column's type is, and nothing is rejected for it."""
    mapped = mapper({"phone_number": "27821234567", column: value})
    assert (mapped.row[column], mapped.rejected) == (kept, [])


NO_TIME = "that is no time between the years 1 and 9999"
MISFITS: dict[str, list[tuple[Mapper, str, Any]]] = {
    "a boolean where text is documented": [(message, "id", True), (message, "content", False)],
    "an object where text is documented": [(message, "sender", {"a": "secret"})],
    "a list where text is documented": [(contact, "email", ["secret"])],
    "a boolean where a list is documented": [(message, "reactions", False)],
    "text where a list is documented": [(message, "reactions", "secret")],
    "an object where a list is documented": [(contact, "tags", {"secret": 1})],
    "no digits where a phone number is documented": [(contact, "whatsapp_id", "secret")],
    "characters that no warehouse can hold, where an id is documented": [(message, "id", "a\0")],
    "text where true or false is documented": [(contact, "archived", "secret")],
    "a number where true or false is documented": [(contact, "archived", 2)],
    "text where a whole number is documented": [(contact, "unread_count", "secret")],
    "a number where a whole number is documented": [
        (contact, "unread_count", value) for value in (3.5, -math.inf, 1e30, 2.0**53)
    ],
    "a boolean where a whole number is documented": [(contact, "unread_count", True)],
    "a number beyond 64 bits": [(contact, "unread_count", 2**63)],
    "text of more than 512 characters": [
        (message, "id", "x" * 513),
        (contact, "whatsapp_id", "2" * 513),
    ],
    "a number of more than 512 characters": [(message, "id", 10**513)],
    f"text {NO_TIME}": [(message, "timestamp", "secret"), (contact, "created_at", "08:00:00")],
    f"a boolean {NO_TIME}": [(message, "timestamp", True)],
    f"a number {NO_TIME}": [(message, "timestamp", math.inf)],
}


@pytest.mark.parametrize(
    ("reason", "mapper", "column", "value"),
    [(reason, *misfit) for reason, misfits in MISFITS.items() for misfit in misfits],
)
def test_a_value_that_does_not_fit_is_rejected(
    reason: str, mapper: Mapper, column: str, value: Any
) -> None:
    """The column is empty, and the value is one rejected entry whose reason does not quote it."""
    mapped = mapper({"phone_number": "27821234567", column: value})
    assert mapped.row[column] == TABLES[mapper][column].empty
    raw = json.dumps(value).replace("\\u0000", "�")
    assert mapped.rejected == [{"column_name": column, "reason": reason, "raw": raw}]


def test_bad_elements_are_rejected_one_by_one() -> None:
    """A list keeps its good elements; each bad one is named by its place."""
    mapped = message({"reactions": [{"emoji": "👍", "at": 1}, 5, None, {"emoji": []}]})
    empty = {"emoji": None, "sender": None}
    assert mapped.row["reactions"] == [empty | {"emoji": "👍", "at": "1"}, empty]
    names = [rejected["column_name"] for rejected in mapped.rejected]
    assert names == ["reactions[1]", "reactions[2]", "reactions[3].emoji"]
    assert contact({"id": "c", "tags": ["a", None, {}]}).row["tags"] == ["a"]


@pytest.mark.parametrize("raw", [None, [], "text", 5, True, math.nan])
def test_a_row_that_is_no_object_is_rejected_whole(raw: Any) -> None:
    """Its columns are empty, and what came is one entry for `*`."""
    mapped = message(raw)
    assert mapped.row == message({}).row
    assert [(r["column_name"], r["raw"]) for r in mapped.rejected] == [("*", json.dumps(raw))]


def test_a_rejected_value_says_where_it_comes_from() -> None:
    """Its row in `rejected_rows` names tenant, table, row, column and times; none is null."""
    where = {"tenant_id": "acme", "table_name": "messages", "record_id": "m1"}
    what = {"column_name": "status", "reason": "a list where text is documented", "raw": "[]"}
    seen = {"first_seen_at": NOW, "seen_at": NOW}
    assert list(rejected_rows(message({"id": "m1", "status": []}), "messages", NOW)) == [
        where | what | seen
    ]
    [row] = rejected_rows(message({"status": []}), "messages", NOW)
    assert row["record_id"] == ""


def test_a_rejected_value_is_cut_and_says_so() -> None:
    """It is part of a key: 9 MB of it are in nobody's interest."""
    [rejected] = message({"status": ["x" * 9_000_000]}).rejected
    assert rejected["raw"][:MAX_RAW] == '["' + "x" * (MAX_RAW - 2)
    assert rejected["raw"][MAX_RAW:] == "… (the first 10000 of 9000004 characters)"


def test_what_no_warehouse_holds_is_replaced_and_counted() -> None:
    """NULs and lone surrogates become U+FFFD wherever they are."""
    mapped = message({"content": "a\0b\ud800", "status": ["\udfff"], "x": {"y": [{"z": "\0"}]}})
    assert (mapped.row["content"], mapped.row["x"]) == ("a�b�", '{"y": [{"z": "�"}]}')
    assert (mapped.rejected[0]["raw"], mapped.replaced) == ('["�"]', 4)


@pytest.mark.parametrize("text", ["🙏🏽", "👩‍👩‍👧", "שלום, האם", "\u202eabc\u202c", "é👍" * 32_768])
def test_real_text_is_untouched(text: str) -> None:
    """Emoji, joined sequences, right-to-left and long texts arrive as they were sent."""
    mapped = message({"content": text, "caption": text})
    assert (mapped.row["content"], mapped.row["caption"], mapped.replaced) == (text, text, 0)


_NO_UUID = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("raw", "contact_id"),
    [
        ({"id": "c", "whatsapp_id": "27"}, "c"),
        ({"id": "10", "whatsapp_id": "27"}, "10"),
        ({"whatsapp_id": "+27000", "phone_number": "28000"}, "27000"),
        ({"phone_number": "+2 8000"}, "28000"),
        ({"id": [], "phone_number": "28000"}, "28000"),
        ({"id": "x" * 9_000_000, "phone_number": "28000"}, "28000"),
        ({"whatsapp_id": "US.13491", "phone_number": "28000"}, "28000"),
        ({"whatsapp_id": "US.13491"}, "US.13491"),
        ({"whatsapp_id": "", "whatsapp_number": "28000"}, "28000"),
        ({"whatsapp_number": "120363000000000000@g.us"}, "120363000000000000@g.us"),
        *(
            ({"id": word, "phone_number": "28000"}, "28000")
            for word in (*("null", "None", "undefined", "NaN", 0, "0", "[object Object]"), _NO_UUID)
        ),
        ({"id": "0"}, "0"),
    ],
)
def test_a_contact_has_the_apis_id_or_its_number(raw: Row, contact_id: str) -> None:
    """Without an id that is one it is a number, else another id of WhatsApp as it is."""
    mapped = contact(raw)
    assert (mapped.row["id"], mapped.addressable) == (contact_id, True)


@pytest.mark.parametrize("raw", [{"full_name": "A", "phone_number": "none"}, {}, None])
def test_a_contact_without_id_and_number_has_a_digest(raw: Any) -> None:
    """It is the same in every run, and the API cannot be asked for the conversation."""
    mapped = contact(raw)
    assert re.fullmatch("[0-9a-f]{32}", mapped.row["id"])
    assert mapped.row["id"] == contact(raw).row["id"] != contact({"full_name": "B"}).row["id"]
    assert (mapped.addressable, mapped.rejected[-1]["column_name"]) == (False, "id")


def test_two_hidden_numbers_are_two_contacts() -> None:
    """What distinguishes business-scoped ids is not only their digits."""
    first, second = (contact({"whatsapp_id": f"US.{x}13491"}).row for x in "ab")
    assert (first["id"], second["id"]) == ("US.a13491", "US.b13491")
    assert first["whatsapp_id"] is None


@pytest.mark.parametrize("edited", ["unread_count", "last_message", "tags", "undocumented_field"])
def test_a_contacts_digest_stays_while_it_is_used(edited: str) -> None:
    """What changes with every message is no part of it, as long as there is anything else."""
    raw = {"full_name": "A", edited: 1}
    assert contact(raw).row["id"] == contact(raw | {edited: 2}).row["id"]


KEY = ("timestamp", "sender")
EDITABLE = ("content", "media_type", "media_url", "status", "assignee", "voice_transcription")


@pytest.mark.parametrize("column", KEY + EDITABLE)
def test_a_digest_follows_what_cannot_be_edited(column: str) -> None:
    """Tenant, contact, time and sender tell messages apart, nothing else does."""
    changed = digest(MESSAGE_ROW | {column: "other"}) != digest(MESSAGE_ROW)
    assert changed is (column in KEY)
    assert {digest(message(m).row) for m in (SEED_MESSAGE, REFERENCE_MESSAGE)} == {
        digest(MESSAGE_ROW)
    }


@pytest.mark.parametrize(
    ("name", "is_key"),
    [("tenant_id", True), ("contact_id", True), ("whatsapp_id", False), ("scan", False)],
)
def test_a_digest_follows_the_contact_not_its_number(name: str, is_key: bool) -> None:
    """A number that is rewritten, or hidden, changes no message."""
    other: Any = {name: "other"}
    moved = digest(MESSAGE_ROW, dataclasses.replace(ORIGIN, **other))
    assert (moved != digest(MESSAGE_ROW)) is is_key


@pytest.mark.parametrize("column", ["sender", "content", "media_type", "media_url"])
def test_without_a_time_a_digest_follows_whatever_there_is(column: str) -> None:
    """All but the signature of a URL."""
    row = MESSAGE_ROW | {"timestamp": None}
    assert digest(row | {column: "other"}) != digest(row) != digest(MESSAGE_ROW)
    assert digest(row | {"media_url": "https://m.example/1?b"}) == digest(row)


def test_nan_is_rejected_once() -> None:
    """NaN under a documented name is no undocumented field as well."""
    assert message({"timestamp": math.nan}).row == message({}).row


def test_an_alias_of_another_type_says_something_new() -> None:
    """True beside 1 is kept: only the same value says nothing new."""
    assert message({"sender": 1, "sender_type": True}).row["sender_type"] == "true"


@pytest.mark.parametrize("field", ["whatsapp_id", "phone_number"])
def test_a_number_written_as_a_float_is_the_same_number(field: str) -> None:
    """JSON's 27821234567.0 is 27821234567."""
    assert contact({field: 27821234567.0}).row["id"] == "27821234567"


def nested(depth: int, value: Any) -> Any:
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    return value


@pytest.mark.parametrize("depth", [300, 990, 100_000])
@pytest.mark.parametrize("name", ["deep", "27820000001", "content", "sender", "reactions", "id"])
def test_a_deeply_nested_value_does_not_stop_the_run(name: str, depth: int) -> None:
    """Under any name it becomes text, a rejected value or a part of `undocumented`."""
    raw = {name: nested(depth, "core"), "sender_type": nested(depth, "core")}
    first, second = message(raw), message(raw)
    assert (first.row, first.rejected) == (second.row, second.rejected)
    shown = dlt_json.dumps([first.row, first.rejected])
    assert "core" in shown or "the first 10000 of" in shown


@pytest.mark.parametrize("mapper", TABLES)
def test_a_field_without_end_is_a_value_like_any_other(mapper: Mapper) -> None:
    """9 MB of text, and numbers of thousands of digits, under every documented name."""
    for value in ("x" * 9_000_000, 10**5000, -(10**5000), [10**5000]):
        for name in DOCUMENTED:
            row = mapper({name: value}).row
            assert len(row["id"] or "") <= MAX_KEY
            assert len(row["whatsapp_id"] or "") <= MAX_KEY


def test_more_fields_than_columns_go_into_one() -> None:
    """1,700 fields are 100 columns, the same in every run, and one of JSON."""
    raw = {f"field_{n}": n for n in range(1_700 - 700)} | {f"More{n}": n for n in range(700)}
    mapped = message(raw)
    others = json.loads(mapped.row["undocumented"])
    named = set(mapped.row) - set(message({}).row) - {"undocumented"}
    assert (len(named), len(others), mapped.overflowed) == (100, 1_600, 1_600)
    assert mapped.row == message(dict(reversed(raw.items()))).row


def test_the_origin_has_the_columns_that_we_add() -> None:
    """Each under its own name."""
    assert [field.name for field in dataclasses.fields(Origin)] == list(OUR_COLUMNS)


PROPERTY = settings(deadline=None, max_examples=80, derandomize=True, report_multiple_bugs=False)
both_tables = pytest.mark.parametrize("mapper", TABLES)
COLUMNS = [*MESSAGE.items(), *CONTACT.items()]
DOCUMENTED = sorted({name for n, column in COLUMNS for name in (n, *column.aliases)})
ODD_KEYS = ["aB", "a_b", "A b", "api_a_b", "1a", "1a!", "_dlt_id", "tenantId", "", "😀", "_"]
ODD_TEXTS = ["2026-03-02T08:00:00Z", "08:00", "1772438400", "+27 82", "true", "-5", " "]
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
KEYS = st.sampled_from(DOCUMENTED) | st.sampled_from(ODD_KEYS) | ANY_TEXT
NUMBERS = st.integers() | st.integers(-(10**300), 10**300) | st.floats()
SCALARS = st.none() | st.booleans() | NUMBERS | ANY_TEXT | st.sampled_from(ODD_TEXTS)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=8)
TYPES = {"text": str, "timestamp": datetime, "bool": bool, "bigint": int, "list": list}


def parts(value: Any) -> Iterator[Any]:
    """The value and everything inside it, keys included."""
    yield value
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    if isinstance(inner, list):
        yield from itertools.chain.from_iterable(map(parts, inner))


def word(number: int) -> str:
    """A word that no column reads as a number, a time or a truth value."""
    return f"{number:05}".translate(str.maketrans("0123456789", "ghijklmnop"))


def worded(value: Any, numbers: Iterator[int]) -> Any:
    """The value with a word of its own in place of every leaf that is not null."""
    if isinstance(value, dict):
        return {key: worded(inner, numbers) for key, inner in value.items()}
    if isinstance(value, list):
        return [worded(inner, numbers) for inner in value]
    return None if value is None else word(next(numbers))


@both_tables
@PROPERTY
@given(raw=OBJECTS | JSON)
def test_any_json_becomes_a_row_that_a_warehouse_holds(mapper: Mapper, raw: Any) -> None:
    """Every column has its type or is empty; text is UTF-8 without NUL, numbers have 64 bits."""
    mapped = mapper(raw)
    for name, column in TABLES[mapper].items():
        value = mapped.row[name]
        assert value == column.empty or type(value) is TYPES[column.data_type]
        assert not isinstance(value, datetime) or value.tzinfo is timezone.utc
    for name in set(mapped.row) - set(TABLES[mapper]) - set(OUR_COLUMNS):
        assert type(mapped.row[name]) is str
    for part in parts([mapped.row, mapped.rejected]):
        assert not isinstance(part, str) or b"\0" not in part.encode()
        assert not isinstance(part, int) or -(2**63) <= part < 2**63


@both_tables
@PROPERTY
@given(raw=OBJECTS)
def test_every_word_is_in_the_row_or_rejected(mapper: Mapper, raw: Row) -> None:
    """Whatever the shape, a word at any depth is still there after the mapping."""
    numbers = itertools.count()
    mapped = mapper(worded(raw, numbers))
    shown = json.dumps([mapped.row, mapped.rejected], default=str)
    assert [n for n in range(next(numbers)) if word(n) not in shown] == []


@both_tables
@PROPERTY
@given(raw=OBJECTS)
def test_every_field_has_a_column_or_is_rejected(mapper: Mapper, raw: Row) -> None:
    """A documented field fills its column, is blank or rejected; each other has its own column."""
    mapped = mapper(raw)
    documented = {name: (name, *column.aliases) for name, column in TABLES[mapper].items()}
    others = set(raw).difference(*documented.values())
    named = set(mapped.row) - set(mapper({}).row) - {"undocumented"}
    valued = [name for name in others if raw[name] is not None]
    aliases = {name for names in documented.values() for name in names[1:]} & set(raw)
    assert len(valued) <= len(named) + mapped.overflowed <= len(valued) + len(aliases)
    for column, names in documented.items():
        value = next((raw[name] for name in names if raw.get(name) is not None), None)
        blank = value in (None, []) or (isinstance(value, str) and not value.strip())
        rejected = any(r["column_name"].startswith(column) for r in mapped.rejected)
        assert blank or rejected or mapped.row[column] not in (None, [])


@both_tables
@PROPERTY
@given(raw=OBJECTS)
def test_dlt_leaves_every_name_as_it_is(mapper: Mapper, raw: Row) -> None:
    """No name is dlt's own, and dlt's naming changes none, so that no two can meet there."""
    normalize = NamingConvention().normalize_identifier
    for name in (n for part in parts(mapper(raw).row) if isinstance(part, dict) for n in part):
        assert re.fullmatch("(?!_dlt)_?[a-z0-9]+(_[a-z0-9]+)*", name)
        assert normalize(name) == name


MESSAGES = st.builds(
    Message,
    id=st.text(min_size=1),
    at=st.datetimes(timezones=st.just(timezone.utc)),
    reactions=st.lists(st.fixed_dictionaries({"emoji": ANY_TEXT, "sender": ANY_TEXT}), max_size=3),
    **dict.fromkeys(("sender", "content", "status"), ANY_TEXT),
    **dict.fromkeys(("media_type", "media_url", "voice_transcription"), st.none() | ANY_TEXT),
)


@PROPERTY
@given(sent=MESSAGES)
def test_any_message_is_one_row_and_one_digest(sent: Message) -> None:
    """Rows of one message differ between dialects in nothing but the id."""
    rows = [message(message_json(dialect, sent)).row for dialect in DIALECTS]
    assert all(row | {"id": None} == rows[0] | {"id": None} for row in rows)
    assert (rows[0]["timestamp"], len({digest(row) for row in rows})) == (sent.at, 1)
