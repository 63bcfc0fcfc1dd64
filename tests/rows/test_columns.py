"""A page as columns holds the rows that the row path makes of it."""

import json
from datetime import datetime, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowiq_source.api.answers import ReadRows, plain_json
from flowiq_source.rows.arrow import MappedPage, map_page, message_table, read_rows
from flowiq_source.rows.convert import Origin
from flowiq_source.rows.extras import extra_columns
from flowiq_source.sandbox import Contact, Sandbox, World
from flowiq_source.sandbox.dialects import DIALECTS, message_json
from flowiq_source.times import parse_timestamp
from tests.rows.test_rows import JSON, OBJECTS
from tests.support.history import answer_with
from tests.support.warehouse import Warehouse

ORIGIN = Origin(
    tenant_id="t",
    contact_id="c",
    whatsapp_id="27820000001",
    synced_at=datetime(2026, 5, 4, tzinfo=timezone.utc),
    scan=2,
)

CORPUS: list[dict[str, Any]] = [
    entry["message"]
    for entry in json.loads(
        Path(__file__).with_name("hostile_rows.json").read_text(encoding="ascii")
    )
]

PLAIN = {"id": "m1", "content": "a", "timestamp": "2026-01-01T00:00:00.123Z", "reactions": []}


def mapped(raws: list[Any], read: ReadRows = read_rows, *, columnar: bool = True) -> MappedPage:
    """A page that comes as JSON; `json.loads` reads it so that every row goes by itself."""
    return map_page(read(json.dumps(raws).encode()), ORIGIN, extra_columns(), columnar=columnar)


def flat_at(page: MappedPage) -> list[int]:
    """The positions of the rows that are columns."""
    return [at for at in range(len(page.keys)) if at not in page.mapped]


def rows(page: MappedPage) -> list[dict[str, Any]]:
    """The rows of a page in its order, without columns that have no value."""
    placed = dict(zip(flat_at(page), message_table([page]).to_pylist(), strict=True))
    placed |= {at: m.row for at, m in page.mapped.items()}
    return [
        {name: value for name, value in placed[at].items() if value not in (None, [])}
        for at in sorted(placed)
    ]


def rejected(page: MappedPage) -> list[Any]:
    """What did not fit, and how many characters were replaced."""
    return [(m.rejected, m.replaced) for m in page.mapped.values() if m.rejected or m.replaced]


def assert_same(raws: list[Any]) -> MappedPage:
    """Columns, rows, and rows that are mapped value by value: all the same rows."""
    page, truth = mapped(raws), mapped(raws, json.loads)
    for other in (page, mapped(raws, columnar=False)):
        assert (other.keys, other.times, other.prints) == (truth.keys, truth.times, truth.prints)
        assert list(map(type, other.keys)) == list(map(type, truth.keys))
        assert (rows(other), rejected(other)) == (rows(truth), rejected(truth))
        ids = [f"{key}-{at}" if at % 3 else None for at, key in enumerate(truth.keys)]
        kept = other.keep(ids)
        assert rows(kept) == rows(mapped(raws, json.loads).keep(ids))
        assert [row["id"] for row in rows(kept)] == [row_id for row_id in ids if row_id]
        assert len(kept.keys) == len(kept.times) == len(kept.prints)
    assert flat_at(truth) == []
    assert len(rows(truth)) == len(truth.rows)
    return mapped(raws)


@pytest.mark.parametrize("raw", CORPUS, ids=lambda raw: repr(raw)[:40])
def test_a_hostile_row_is_the_same_on_either_way(raw: dict[str, Any]) -> None:
    """Alone, and on a page of plain rows."""
    assert_same([raw])
    assert_same([PLAIN, raw, PLAIN | {"id": "m2"}])


@given(st.lists(st.sampled_from(CORPUS), max_size=8))
def test_pages_of_hostile_rows_are_the_same_on_either_way(raws: list[dict[str, Any]]) -> None:
    """In any company and order."""
    assert_same(raws)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.lists(OBJECTS | JSON, max_size=4))
def test_pages_of_any_json_are_the_same_on_either_way(raws: list[Any]) -> None:
    """Documented names with any value, other names, and what is no object at all."""
    assert_same(raws)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_pages_of_the_sandbox_are_the_same_on_either_way(dialect: str) -> None:
    """And columns, but for those with reactions."""
    for contact in World(contacts=6).contacts:
        raws = [message_json(dialect, message) for message in contact.messages]
        page = assert_same(raws)
        reacted = sum(bool(raw["reactions"]) for raw in raws)
        assert len(flat_at(page)) == len(raws) - reacted


UNDOCUMENTED = PLAIN | {"forwarded": True}


@pytest.mark.parametrize(
    ("raws", "flat"),
    [
        ([PLAIN, UNDOCUMENTED, PLAIN], [0, 2]),
        ([PLAIN, PLAIN | {"forwarded": None}], [0, 1]),
        ([PLAIN, PLAIN | {"reactions": [{"emoji": "👍"}]}], [0]),
        ([PLAIN, PLAIN | {"reactions": [{"emoji": "👍", "skin": 3}]}], [0]),
        ([PLAIN, PLAIN | {"reactions": None}, {"id": "m3"}], [0, 1, 2]),
        ([PLAIN, PLAIN | {"content": 5}], [0]),
        ([PLAIN, PLAIN | {"content": "a\0"}], [0]),
        ([PLAIN, PLAIN | {"content": "\ud800"}], [0]),
        ([PLAIN, PLAIN | {"content": float("nan")}], [0]),
        ([PLAIN, PLAIN | {"content": "\\u0000"}], [0]),
        ([PLAIN, PLAIN | {"id": ""}], [0, 1]),
        ([PLAIN, PLAIN | {"id": " "}], [0, 1]),
        ([PLAIN, PLAIN | {"id": "x" * 512}, PLAIN | {"id": "x" * 513}], [0, 1]),
        ([PLAIN, PLAIN | {"content": "", "sender": ""}], [0, 1]),
        ([PLAIN, PLAIN | {"content": 10**4000}], [0]),
        ([PLAIN, PLAIN | {"timestamp": "yesterday"}], [0]),
        ([PLAIN, PLAIN | {"timestamp": ""}], [0]),
        ([PLAIN, PLAIN | {"timestamp": "20260101T000000Z"}], [0]),
        ([PLAIN, PLAIN | {"timestamp": "1767225600"}], [0, 1]),
        ([PLAIN, PLAIN | {"created_at": "2026-01-01T00:00:00Z"}], [0]),
        ([PLAIN, {"id": "m2", "message": "a", "created_at": "2026-01-01T00:00:00Z"}], [0, 1]),
        ([PLAIN, {"id": "m2", "message": "a", "content": None}], [0, 1]),
        ([PLAIN, "text"], [0]),
        ([UNDOCUMENTED], []),
        ([], []),
    ],
    ids=repr,
)
def test_what_becomes_columns(raws: list[Any], flat: list[int]) -> None:
    """Rows of documented fields in one dialect, without reactions; others do not hinder them."""
    assert flat_at(assert_same(raws)) == flat


TIME_TEXTS = st.from_regex(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9](:?[0-5][0-9](:?[0-6][0-9](\.[0-9]{1,7})?)?)?)?"
    r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)?",
    fullmatch=True,
)


@given(st.one_of(TIME_TEXTS, st.datetimes().map(lambda at: f"{at.isoformat()}Z")))
@example("0000-01-01T00:00:00Z")
@example("9999-12-31T23:59:59-05:00")
@example("0001-01-01T00:00:00+05:00")
def test_a_time_is_the_same_on_either_way(text: str) -> None:
    """Or it does not fit, and the row goes by itself."""
    page = mapped([PLAIN | {"timestamp": text}])
    try:
        time = parse_timestamp(text)
    except ValueError:
        assert flat_at(page) == []
    else:
        assert page.flat["timestamp"].to_pylist() == [time]


def test_an_integer_beyond_pythons_is_one_value() -> None:
    """The page is read all the same."""
    digits = "7" * 5_000
    text = f'[{{"id": "m1", "content": {digits}, "n": {digits}, "timestamp": {digits}}}]'
    page = map_page(read_rows(plain_json(text.encode())), ORIGIN, extra_columns(), columnar=True)
    [row] = page.rows
    assert (row["content"], row["n"], row["timestamp"]) == (digits, digits, None)


@pytest.mark.parametrize("depth", [990, 1_500])
def test_a_row_nested_deeply_is_one_row(depth: int) -> None:
    """As far as Python can read it, the rows beside it are as they are without it."""
    deep: Any = []
    for _ in range(depth - 20):
        deep = [deep]
    raws = [PLAIN, PLAIN | {"id": "m2", "deep": deep}]
    page = map_page(
        [*read_rows(json.dumps(raws[:1]).encode()), raws[1]], ORIGIN, extra_columns(), columnar=True
    )
    assert flat_at(page) == [0]
    assert page.rows[0]["deep"] == "[" * (depth - 19) + "]" * (depth - 19)


@pytest.mark.parametrize("raw", [{"id": "a"}, {"created_at": "2026-01-01T00:00:00Z"}])
def test_the_same_message_edited_has_the_same_key(raw: dict[str, Any]) -> None:
    """Content, media and number may change, whatever the key is made of."""
    edited = raw | {"message": "b", "media_url": "https://m.example/1", "message_status": "read"}
    assert mapped([raw]).keys == mapped([edited]).keys
    assert "id" in raw or mapped([raw]).prints != mapped([edited]).prints


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"status": "read"}, True),
        ({"mediaUrl": "https://m.example/1?b"}, True),
        ({"mediaUrl": "https://m.example/2?a"}, False),
        ({"mediaType": "image"}, False),
        ({"content": "b"}, False),
        ({"content": None}, False),
        ({"sender": "bot-whatsapp"}, False),
        ({"timestamp": "2026-01-01T00:00:00.124Z"}, False),
    ],
)
def test_prints_show_sender_time_content_and_media(change: dict[str, Any], *, same: bool) -> None:
    """They are equal for rows without ids that are equal in these."""
    raw = PLAIN | {"id": None, "mediaUrl": "https://m.example/1?a"}
    first, second = mapped([raw, raw | change]).prints
    assert (first == second) is same


@pytest.mark.parametrize("columnar", [True, False])
def test_empty_text_is_not_null(columnar: bool) -> None:
    """Nor null empty text."""
    [row] = rows(mapped([PLAIN | {"content": "", "sender": None}], columnar=columnar))
    assert (row["content"], "sender" in row, row["scan"]) == ("", False, 2)


def test_both_ways_load_the_same_tables(tmp_path: Path, sandbox: Sandbox, alice: Contact) -> None:
    """Over three syncs: tables, columns, types, ids and child rows."""
    columns, row_by_row = Warehouse(tmp_path, "columns"), Warehouse(tmp_path, "rows")
    random = Random(3)
    reacted = [PLAIN | {"id": f"r{n}", "reactions": [{"emoji": "👍"}] * n} for n in range(4)]
    bare = [raw | {"reactions": []} for raw in reacted]
    for step in (reacted, [*CORPUS, *bare], random.sample(CORPUS, len(CORPUS))):
        answer_with(sandbox, step)
        columns.sync(sandbox, backend="pyarrow")
        row_by_row.sync(sandbox, backend="rows")
    schema = (
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_schema = 'flowiq' AND table_name NOT LIKE '\\_dlt%' ESCAPE '\\' ORDER BY ALL"
    )
    assert columns.query(schema) == row_by_row.query(schema)
    moving = {"synced_at", "rescanned_at", "first_seen_at", "seen_at", "_dlt_load_id", "_dlt_id"}
    for table in ("messages", "rejected_rows", "conversations"):
        assert columns.table(table, without=moving) == row_by_row.table(table, without=moving)
    children = (
        "SELECT m.id, c.* EXCLUDE (_dlt_id, _dlt_parent_id, _dlt_root_id) "
        "FROM flowiq.messages__reactions c JOIN flowiq.messages m ON m._dlt_id = c._dlt_parent_id "
        "ORDER BY ALL"
    )
    assert columns.query(children) == row_by_row.query(children) != []
