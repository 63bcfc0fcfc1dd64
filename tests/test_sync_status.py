"""What `sync_status` tells an orchestrator of each tenant, and `syncs` of each sync."""

import signal
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flowiq_source.sandbox import Contact, Reply, Sandbox
from flowiq_source.times import utc_now
from tests.support.apart import synced_apart
from tests.support.history import HOUR, write
from tests.support.warehouse import Warehouse

STATUS = """
    SELECT requests, conversations, failed, doubtful, missing, behind,
           last_complete_sync_at IS NOT NULL AND last_complete_sync_at >= last_sync_at
    FROM flowiq.sync_status"""
SYNCS = "SELECT kind, complete, conversations, failed FROM flowiq.syncs ORDER BY started_at"


def broken(contact: Contact) -> Any:
    """400 for one contact's conversation."""
    return lambda params: (
        Reply(400, b'{"success": false, "error": "Bad request"}')
        if {contact.id, contact.number} & {params.get("contactId"), params.get("whatsappNumber")}
        else None
    )


def test_the_view_says_how_the_last_sync_ended(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """And when the last one was that read everything."""
    bob = sandbox.world.add_contact("27820000002")
    write(sandbox, alice, 3)
    write(sandbox, bob, 3)
    warehouse.sync(sandbox)
    assert warehouse.query(STATUS) == [(3, 2, 0, 0, 0, 0, True)]
    write(sandbox, bob, 1)
    sandbox.intercept = broken(bob)
    warehouse.sync(sandbox)
    [row] = warehouse.query(STATUS)
    assert row[1:] == (2, 1, 0, 0, 0, False)
    assert warehouse.query(SYNCS) == [("incremental", True, 2, 0), ("incremental", False, 1, 1)]


def test_what_the_contact_list_shows_and_no_sync_has_read_is_behind(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """With the time of the oldest of it."""
    sandbox.dialect = "overview"
    bob = sandbox.world.add_contact("27820000002")
    for contact in (alice, bob):
        write(sandbox, contact, 3)
    warehouse.sync(sandbox)
    sandbox.world.advance(HOUR)
    for contact in (alice, bob):
        sandbox.world.add_message(contact)
    sandbox.world.advance(HOUR)
    warehouse.sync(sandbox, max_requests=2)
    assert warehouse.query("SELECT behind, oldest_unread_at FROM flowiq.sync_status") == [
        (1, sandbox.world.now - HOUR)
    ]


def test_a_run_that_is_not_at_its_end_has_none(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """The run that goes on with it writes the end into the same row."""
    assert alice.id
    for n in range(8):
        write(sandbox, sandbox.world.add_contact(f"278200001{n:02d}"), 3)
    ended, _ = synced_apart(warehouse, sandbox, "before load", "1", "rows")
    assert ended == -signal.SIGKILL
    ends = "SELECT count(*), count(ended_at), count(complete) FROM flowiq.syncs"
    assert warehouse.query(ends) == [(1, 0, 0)]
    warehouse.sync(sandbox)
    assert warehouse.query(ends) == [(1, 1, 1)]


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"full_refresh": True}, "full"),
        ({"start_date": "2020-01-01"}, "backfill"),
        ({"phone_numbers": ["27820000001"]}, "chosen"),
    ],
)
def test_a_sync_of_a_part_is_none_of_everything(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, settings: dict[str, Any], kind: str
) -> None:
    """A full refresh is."""
    write(sandbox, alice, 3)
    warehouse.sync(sandbox, **settings)
    assert warehouse.query("SELECT kind, complete FROM flowiq.syncs") == [(kind, True)]
    complete = warehouse.one("SELECT last_complete_sync_at FROM flowiq.sync_status")
    assert (complete is not None) == (kind == "full")


def test_plain_dlt_keeps_the_table_too(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """With the times of the run, in UTC."""
    write(sandbox, alice, 3)
    before = utc_now() - timedelta(seconds=1)
    warehouse.pipeline.run(warehouse.source(sandbox))
    [(started, ended)] = warehouse.query("SELECT started_at, ended_at FROM flowiq.syncs")
    assert before <= started <= ended <= datetime.now(timezone.utc)
