"""The source as a dlt user meets it: tables, selection, chosen contacts, ranges, bad rows."""

import itertools
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import dlt
import pytest
from dlt.common.configuration.container import Container
from dlt.common.pipeline import LoadInfo
from dlt.extract import DltSource
from dlt.extract.incremental.context import TimeIntervalContext
from dlt.load.load import Load
from dlt.pipeline.exceptions import PipelineStepFailed

from flowiq_source import DestinationError, flowiq_source, sync
from flowiq_source.sandbox import Contact, Reply, Sandbox, reply_json
from tests.support.history import (
    DAY,
    HOUR,
    JANUARY,
    answer_with,
    cursors,
    expected,
    loaded,
    message_requests,
    write,
)
from tests.support.warehouse import Warehouse

TABLES = {
    "contacts": {
        "tenant_id": "VARCHAR",
        "id": "VARCHAR",
        "whatsapp_id": "VARCHAR",
        "phone_number": "VARCHAR",
        "full_name": "VARCHAR",
        "email": "VARCHAR",
        "created_at": "TIMESTAMP WITH TIME ZONE",
        "has_unread_messages": "BOOLEAN",
        "archived": "BOOLEAN",
        "unread_count": "BIGINT",
        "bot_status": "VARCHAR",
        "last_message": "VARCHAR",
        "last_message_at": "TIMESTAMP WITH TIME ZONE",
        "profile_picture_url": "VARCHAR",
        "synced_at": "TIMESTAMP WITH TIME ZONE",
        "undocumented": "VARCHAR",
    },
    "contacts__tags": {"value": "VARCHAR"},
    "contact_identities": {
        "tenant_id": "VARCHAR",
        "contact_id": "VARCHAR",
        "kind": "VARCHAR",
        "value": "VARCHAR",
        "first_seen_at": "TIMESTAMP WITH TIME ZONE",
        "last_seen_at": "TIMESTAMP WITH TIME ZONE",
    },
    "messages": {
        "tenant_id": "VARCHAR",
        "id": "VARCHAR",
        "contact_id": "VARCHAR",
        "whatsapp_id": "VARCHAR",
        "timestamp": "TIMESTAMP WITH TIME ZONE",
        "sender": "VARCHAR",
        "status": "VARCHAR",
        "content": "VARCHAR",
        "media_type": "VARCHAR",
        "media_url": "VARCHAR",
        "assignee": "VARCHAR",
        "voice_transcription": "VARCHAR",
        "synced_at": "TIMESTAMP WITH TIME ZONE",
        "scan": "BIGINT",
        "undocumented": "VARCHAR",
    },
    "messages__reactions": {"emoji": "VARCHAR", "sender": "VARCHAR", "undocumented": "VARCHAR"},
    "conversations": {
        "tenant_id": "VARCHAR",
        "contact_id": "VARCHAR",
        "whatsapp_id": "VARCHAR",
        "status": "VARCHAR",
        "message_count": "BIGINT",
        "surplus": "BIGINT",
        "scan": "BIGINT",
        "last_message_at": "TIMESTAMP WITH TIME ZONE",
        "synced_at": "TIMESTAMP WITH TIME ZONE",
        "rescanned_at": "TIMESTAMP WITH TIME ZONE",
        "requests": "BIGINT",
        "error": "VARCHAR",
    },
    "rejected_rows": {
        "tenant_id": "VARCHAR",
        "table_name": "VARCHAR",
        "record_id": "VARCHAR",
        "column_name": "VARCHAR",
        "reason": "VARCHAR",
        "raw": "VARCHAR",
        "first_seen_at": "TIMESTAMP WITH TIME ZONE",
        "seen_at": "TIMESTAMP WITH TIME ZONE",
    },
    "syncs": {
        "tenant_id": "VARCHAR",
        "started_at": "TIMESTAMP WITH TIME ZONE",
        "ended_at": "TIMESTAMP WITH TIME ZONE",
        "kind": "VARCHAR",
        "complete": "BOOLEAN",
        "requests": "BIGINT",
        "conversations": "BIGINT",
        "quiet": "BIGINT",
        "failed": "BIGINT",
        "doubtful": "BIGINT",
        "carried_over": "BIGINT",
    },
    "sync_status": {
        "tenant_id": "VARCHAR",
        "last_sync_at": "TIMESTAMP WITH TIME ZONE",
        "last_complete_sync_at": "TIMESTAMP WITH TIME ZONE",
        "requests": "BIGINT",
        "conversations": "BIGINT",
        "failed": "BIGINT",
        "doubtful": "BIGINT",
        "missing": "BIGINT",
        "behind": "BIGINT",
        "oldest_unread_at": "TIMESTAMP WITH TIME ZONE",
    },
}

TABLES["current_messages"] = TABLES["messages"]


def columns(warehouse: Warehouse) -> dict[str, dict[str, str]]:
    """The tables of the dataset with their columns and types, dlt's own left out."""
    found: dict[str, dict[str, str]] = {}
    for table, column, data_type in warehouse.query(
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'flowiq' AND table_name NOT LIKE '\\_dlt%' ESCAPE '\\' "
        "AND column_name NOT LIKE '\\_dlt%' ESCAPE '\\'"
    ):
        found.setdefault(table, {})[column] = data_type
    return found


@pytest.mark.parametrize("contacts", [0, 1])
def test_every_table_and_column_is_there_after_an_empty_sync(
    warehouse: Warehouse, sandbox: Sandbox, contacts: int
) -> None:
    """Also child tables, and also when there is no contact or message at all."""
    for n in range(contacts):
        sandbox.world.add_contact(f"2782000000{n}")
    assert warehouse.sync(sandbox).complete
    assert columns(warehouse) == TABLES


def test_child_tables_made_empty_take_rows_later(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """The first tag and the first reaction find their tables waiting."""
    warehouse.sync(sandbox)
    alice.tags = ["customer", "premium"]
    sandbox.world.add_message(alice, reactions=[{"emoji": "👍", "sender": "1"}])
    warehouse.sync(sandbox)
    assert warehouse.query("SELECT value FROM flowiq.contacts__tags ORDER BY _dlt_list_idx") == [
        ("customer",),
        ("premium",),
    ]
    assert warehouse.query("SELECT emoji, sender FROM flowiq.messages__reactions") == [("👍", "1")]
    alice.tags = None
    warehouse.sync(sandbox)
    assert warehouse.one("SELECT count(*) FROM flowiq.contacts__tags") == 0
    assert columns(warehouse) == TABLES


def run(warehouse: Warehouse, source: DltSource) -> LoadInfo:
    """As a dlt user runs any source."""
    return warehouse.pipeline.run(source)


def test_it_runs_as_any_dlt_source(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pipeline.run(flowiq_source())`, configured by dlt's environment variables alone."""
    monkeypatch.setenv("SOURCES__FLOWIQ__BEARER_TOKEN", sandbox.token)
    monkeypatch.setenv("SOURCES__FLOWIQ__TENANT_ID", sandbox.tenant)
    monkeypatch.setenv("SOURCES__FLOWIQ__BASE_URL", sandbox.url)
    write(sandbox, alice, 120)
    alice.messages[-1].reactions = [{"emoji": "👍", "sender": "1"}]
    for _ in range(2):
        run(warehouse, flowiq_source())
        assert loaded(warehouse) == expected(sandbox)


@pytest.fixture
def lake(tmp_path: Path) -> dlt.Pipeline:
    """A pipeline into files."""
    return dlt.pipeline(
        "lake",
        pipelines_dir=str(tmp_path / "pipelines"),
        destination=dlt.destinations.filesystem((tmp_path / "lake").as_uri()),
        dataset_name="flowiq",
    )


def in_files(warehouse: Warehouse, folder: Path) -> list[str]:
    """What the messages in the lake say."""
    files = folder / "lake" / "flowiq" / "messages" / "*.parquet"
    rows = warehouse.query(f"SELECT content FROM read_parquet('{files}') ORDER BY 1")
    return [content for (content,) in rows]


def test_files_are_a_destination_too(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, lake: dlt.Pipeline, tmp_path: Path
) -> None:
    """Without a view, and with appended rows, as dlt has it there; the cursors are kept."""
    write(sandbox, alice, 3)
    assert [sync(lake, warehouse.source(sandbox)).newer for _ in range(2)] == [3, 0]
    assert in_files(warehouse, tmp_path) == ["message 0", "message 1", "message 2"]


def test_a_duckdb_file_is_loaded_from_parquet(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, lake: dlt.Pipeline
) -> None:
    """What dlt would take is seven times slower; after files that are appended to as well."""
    write(sandbox, alice, 3)
    source = warehouse.source(sandbox)
    sync(lake, source)
    for one in (warehouse.source(sandbox), source, source):
        sandbox.world.add_message(alice)
        sync(warehouse.pipeline, one)
    load = warehouse.pipeline.last_trace.last_load_info  # type: ignore[union-attr] # it ran
    [package] = load.load_packages  # type: ignore[union-attr] # and loaded
    jobs = [job.job_file_info for job in package.jobs["completed_jobs"]]
    formats = {job.file_format for job in jobs if not job.table_name.startswith("_dlt")}
    assert formats == {"parquet", "sql"}


def test_files_of_a_load_that_broke_off_are_told_apart(
    warehouse: Warehouse,
    sandbox: Sandbox,
    alice: Contact,
    lake: dlt.Pipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing can be deleted there; but the load id of their rows was never recorded."""
    write(sandbox, alice, 2)
    with monkeypatch.context() as broken:
        broken.setattr(Load, "complete_package", Mock(side_effect=OSError("disk is full")))
        with pytest.raises(DestinationError, match="disk is full"):
            sync(lake, warehouse.source(sandbox))
    assert sync(lake, warehouse.source(sandbox)).newer == 2
    with lake.sql_client() as client:
        rows = client.execute_sql(
            "SELECT content FROM messages "
            "WHERE _dlt_load_id IN (SELECT load_id FROM _dlt_loads) ORDER BY 1"
        )
    assert rows == [("message 0",), ("message 1",)]


@pytest.mark.parametrize(
    ("name", "messages_asked"),
    [("contacts", 0), ("messages", 2), ("conversations", 2), ("rejected_rows", 0), ("syncs", 0)],
)
def test_each_resource_is_usable_alone(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, name: str, messages_asked: int
) -> None:
    """It fills its own table and asks for what that takes."""
    write(sandbox, alice, 120)
    run(warehouse, warehouse.source(sandbox).with_resources(name))
    assert [t for t in columns(warehouse) if "__" not in t] == [name]
    assert message_requests(sandbox) == messages_asked
    assert warehouse.one(f"SELECT count(*) FROM flowiq.{name}") == {"messages": 120}.get(
        name, int(name not in {"rejected_rows", "syncs"})
    )


def test_cursors_move_only_when_messages_are_loaded(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """Loading conversations alone does not make a later sync skip messages."""
    write(sandbox, alice, 250, every=DAY)
    run(warehouse, warehouse.source(sandbox).with_resources("conversations"))
    assert warehouse.sync(sandbox).newer == 250
    assert loaded(warehouse) == expected(sandbox)


def test_no_request_is_sent_before_a_resource_is_iterated(sandbox: Sandbox) -> None:
    """Making a source is free."""
    flowiq_source(bearer_token=sandbox.token, tenant_id=sandbox.tenant, base_url=sandbox.url)
    assert sandbox.requests == []


def test_a_resource_can_be_iterated_without_a_pipeline(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """`list(source.contacts)` gives rows, for a look from a notebook."""
    [row] = list(warehouse.source(sandbox).resources["contacts"])
    assert row["id"] == alice.id


@pytest.mark.parametrize("dialect", ["seed", "reference", "overview", "mixed"])
def test_chosen_contacts_are_synced_alone(
    warehouse: Warehouse,
    sandbox: Sandbox,
    alice: Contact,
    dialect: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An unknown number is reported by position and does not stop the others."""
    sandbox.dialect = dialect
    bob, carol = (sandbox.world.add_contact(f"2782000000{n}") for n in (2, 3))
    for contact in (alice, bob, carol):
        write(sandbox, contact, 3)
    numbers = ["+27 82 000 0001", "+27 99 999 9999", carol.number, alice.number]
    summary = warehouse.sync(sandbox, phone_numbers=numbers)
    assert (summary.read, summary.unknown_numbers, summary.requests) == (2, [2], 3)
    assert summary.complete
    assert "number 2 of the list has no contact" in str(summary)
    assert "phone number 2 of 4" in caplog.text
    assert "999" not in caplog.text
    assert {n for (n,) in warehouse.query("SELECT DISTINCT whatsapp_id FROM flowiq.messages")} == {
        alice.number,
        carol.number,
    }


def in_range(warehouse: Warehouse) -> list[str]:
    """The contents of the loaded messages, oldest first."""
    rows = warehouse.query("SELECT content FROM flowiq.messages ORDER BY timestamp")
    return [content for (content,) in rows]


def bounded(source: DltSource, start: datetime, end: datetime | None) -> DltSource:
    """The source with dlt's own incremental on messages."""
    source.resources["messages"].apply_hints(
        incremental=dlt.sources.incremental("timestamp", initial_value=start, end_value=end)
    )
    return source


START, END = JANUARY + 100 * DAY, JANUARY + 150 * DAY
BACKFILLS: dict[str, Callable[[Warehouse, Sandbox], DltSource]] = {
    "arguments": lambda w, s: w.source(s, start_date=START.isoformat(), end_date=END),
    "incremental": lambda w, s: bounded(w.source(s), START, END),
    "scheduler": lambda w, s: w.source(s),
}


@pytest.mark.parametrize("way", BACKFILLS)
def test_a_backfill_loads_a_half_open_range_and_leaves_the_cursors(
    warehouse: Warehouse,
    sandbox: Sandbox,
    alice: Contact,
    way: str,
) -> None:
    """By arguments, by dlt's incremental, or by an orchestrator's data interval."""
    for n in range(350):
        sandbox.world.add_message(alice, JANUARY + n * DAY, content=f"day {n}")
    sandbox.world.now = JANUARY + 400 * DAY
    scheduler = TimeIntervalContext((START, END), allow_external_schedulers=way == "scheduler")
    with Container().injectable_context(scheduler):
        run(warehouse, BACKFILLS[way](warehouse, sandbox))
    assert in_range(warehouse) == [f"day {n}" for n in range(100, 150)]
    # Newest first, 100 a page: the whole fourth page is older than the start.
    assert message_requests(sandbox) == 4
    assert "cursors" not in str(warehouse.pipeline.state)


def test_a_backfill_between_syncs_changes_nothing_but_its_range(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """The next sync goes on from where the last one was."""
    write(sandbox, alice, 250, every=DAY)
    warehouse.sync(sandbox)
    before = cursors(warehouse)
    sandbox.world.advance(DAY)
    alice.messages[0].status = "failed"
    summary = warehouse.sync(
        sandbox, start_date=alice.messages[0].at, end_date=alice.messages[1].at
    )
    assert summary.rows["messages"] == 1
    assert cursors(warehouse) == before
    assert warehouse.sync(sandbox).complete
    assert loaded(warehouse) == expected(sandbox)


@pytest.mark.parametrize("reactions", [[], [{"emoji": "👍"}]], ids=["columns", "rows"])
def test_a_backfill_keeps_its_edges_and_what_has_no_time(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, reactions: list[Any]
) -> None:
    """Equal times at the start belong to it, the end does not; whichever way the rows travel."""
    days = {"inside": "01-05", "first": "01-01", "twin": "01-01", "end": "02-01"}
    rows: list[dict[str, Any]] = [
        {"id": name, "timestamp": f"2026-{day}T00:00:00Z"} for name, day in days.items()
    ]
    answer_with(sandbox, [row | {"reactions": reactions} for row in [*rows, {"id": "no time"}]])
    warehouse.sync(sandbox, start_date="2026-01-01", end_date="2026-02-01")
    loaded_ids = [
        row_id for (row_id,) in warehouse.query("SELECT id FROM flowiq.messages ORDER BY 1")
    ]
    assert loaded_ids == ["first", "inside", "no time", "twin"]


def test_a_failure_in_a_backfill_is_recorded(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """It is the one thing that a backfill writes to conversations."""
    write(sandbox, alice, 3)
    broken = Reply(400, b'{"success": false, "error": "Bad request"}')
    sandbox.intercept = lambda params: broken if "ascending" in params else None
    assert not warehouse.sync(sandbox, start_date="2020-01-01").complete
    assert warehouse.query("SELECT status FROM flowiq.conversations") == [("failed",)]


def test_an_incremental_without_an_end_is_refused(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """One shared cursor would drop the messages of every conversation but the newest."""
    with pytest.raises(PipelineStepFailed, match="needs an end_value"):
        run(warehouse, bounded(warehouse.source(sandbox), JANUARY, None))


BAD_MESSAGE = {
    "id": 12345,
    "timestamp": "when it rained",
    "sender": {"type": "user-whatsapp"},
    "status": "seen-by-a-cat",
    "content": {"header": "h", "buttons": ["a"]},
    "reactions": [{"emoji": "👍", "sender": 27, "at": "2026-01-01"}, 7],
    "delivery": {"attempts": 2**70, "carrier": "x\0y"},
    "forwardedFrom": ["a", "b"],
    "_dlt_id": "mine",
}


def test_a_row_with_bad_values_loads_and_the_values_are_kept_aside(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """Null in the row, the raw value in rejected_rows, unknown fields in columns of their own."""
    text = "ש" * 32_768 + "👩‍👩‍👧"
    rows = [BAD_MESSAGE, {"id": "b", "content": f"\ud83d{text}\0", "timestamp": 1767225600}, "no"]
    pagination = {"currentPage": 1, "totalPages": 1, "totalMessages": 3, "hasNextPage": False}
    answer = reply_json(200, {"success": True, "messages": rows, "pagination": pagination})
    sandbox.intercept = lambda params: answer if "contactId" in params else None
    summary = warehouse.sync(sandbox)
    assert summary.complete
    assert summary.replaced_characters == 3
    [row] = warehouse.query(
        "SELECT timestamp, sender, status, content, delivery, forwarded_from, "
        "dlt_id FROM flowiq.messages WHERE id = '12345'"
    )
    assert row[:3] == (None, None, "seen-by-a-cat")
    assert json.loads(row[3]) == BAD_MESSAGE["content"]
    delivery, forwarded_from, dlt_id = row[4:]
    assert json.loads(delivery) == {"attempts": 2**70, "carrier": "x\ufffdy"}
    assert (json.loads(forwarded_from), dlt_id) == (["a", "b"], "mine")
    assert warehouse.query("SELECT emoji, sender FROM flowiq.messages__reactions") == [("👍", "27")]
    [(content, at)] = warehouse.query(
        "SELECT content, timestamp FROM flowiq.messages WHERE id = 'b'"
    )
    assert content == f"\ufffd{text}\ufffd"
    assert at == JANUARY
    rejected = warehouse.query(
        "SELECT table_name, record_id, column_name, raw FROM flowiq.rejected_rows ORDER BY ALL"
    )
    assert ("messages", "12345", "timestamp", '"when it rained"') in rejected
    assert ("messages", "12345", "sender", '{"type": "user-whatsapp"}') in rejected
    assert ("messages", "12345", "reactions[1]", "7") in rejected
    assert len(rejected) == 4
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 3


def test_an_undocumented_field_may_change_its_type(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """No value makes a load fail, for it would fail for ever."""
    first = [1, 1.5, "2026-01-01T00:00:00Z", True]
    odd = [2**70, str(2**70), float("nan"), "1e999", "2026-01-01", {}, [1], 7, 0.5, False, "word"]
    pairs = list(itertools.product(first, odd))
    for position in (0, 1):
        values = {f"extra_{n}": pair[position] for n, pair in enumerate(pairs)}
        lists = {f"more_{n}": [pair[position]] for n, pair in enumerate(pairs[:9])}
        answer_with(sandbox, [{"id": str(position), "content": "x", **values, **lists}])
        assert warehouse.sync(sandbox).complete
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 2


def test_a_failure_shows_whatever_is_selected(
    warehouse: Warehouse,
    sandbox: Sandbox,
    alice: Contact,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The summary and the log do not depend on the conversations table."""
    broken = Reply(400, b'{"success": false, "error": "Bad request"}')
    sandbox.intercept = lambda params: broken if "ascending" in params else None
    summary = sync(warehouse.pipeline, warehouse.source(sandbox).with_resources("messages"))
    assert (summary.failed, summary.complete) == (1, False)
    assert "one conversation failed: reading a conversation, page 1: HTTP 400" in caplog.text


def test_a_contact_that_cannot_be_asked_for_is_kept_and_reported(
    warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """Without id and number there is a contacts row and a note, but no request."""
    pagination = {"currentPage": 1, "totalPages": 1, "totalContacts": 1, "hasNextPage": False}
    rows = [{"contact_name": "Nobody"}]
    answer = reply_json(200, {"success": True, "contacts": rows, "pagination": pagination})
    sandbox.intercept = lambda params: answer
    assert warehouse.sync(sandbox).requests == 1
    assert warehouse.one("SELECT full_name FROM flowiq.contacts") == "Nobody"
    assert warehouse.one("SELECT column_name FROM flowiq.rejected_rows") == "id"


def test_two_tenants_share_a_dataset(tmp_path: Path) -> None:
    """The same contact and message ids in two tenants are different rows."""
    warehouse = Warehouse(tmp_path)
    with Sandbox(tenant="one") as one, Sandbox(tenant="two") as two:
        for sandbox in (one, two, one):
            assert warehouse.sync(sandbox).complete
        contacts = len(one.world.contacts)
    counts = warehouse.query(
        "SELECT tenant_id, count(*) FROM flowiq.contacts GROUP BY 1 ORDER BY 1"
    )
    assert counts == [("one", contacts), ("two", contacts)]


def test_without_a_tenant_the_token_decides(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """No tenantId is sent, and the rows' tenant_id is empty, not null: it is part of the key."""
    sandbox.tenant_required = False
    sandbox.world.add_contact("27820000001")
    source = flowiq_source(bearer_token=sandbox.token, base_url=sandbox.url)
    run(warehouse, source)
    assert warehouse.query("SELECT DISTINCT tenant_id FROM flowiq.contacts") == [("",)]
    assert all("tenantId" not in request for request in sandbox.requests)


def test_a_sync_finishes_what_an_earlier_one_left(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """A pending load package is loaded first, and then the sync goes on to extract."""
    write(sandbox, alice, 3)
    warehouse.sync(sandbox)
    sandbox.world.add_message(alice, content="in the package that was left")
    pipeline = warehouse.pipeline
    pipeline.extract(warehouse.source(sandbox))
    pipeline.normalize()
    sandbox.world.advance(HOUR)
    sandbox.world.add_message(alice, content="after the first extract")
    assert warehouse.sync(sandbox).newer == 1
    assert loaded(warehouse) == expected(sandbox)
