"""What each sync asks and writes, sync after sync."""

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from flowiq_source.sandbox import Contact, Reply, Sandbox, World
from flowiq_source.sandbox.dialects import DIALECTS
from tests.support.history import (
    DAY,
    HOUR,
    JANUARY,
    MESSAGE_DIALECTS,
    cursors,
    expected,
    loaded,
    message_requests,
    write,
)
from tests.support.warehouse import Warehouse


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_loads_the_same_rows(warehouse: Warehouse, dialect: str) -> None:
    """A sync, a day and another sync leave what the API shows, whatever words it uses."""
    with Sandbox(World(contacts=12), dialect=dialect) as sandbox:
        for _ in range(4):
            assert warehouse.sync_with(sandbox, now=lambda: sandbox.world.now).complete
            assert loaded(warehouse) == expected(sandbox)
            sandbox.world.advance(DAY)
    assert warehouse.one("SELECT count(*) FROM flowiq.rejected_rows") == 0
    names = {contact.full_name for contact in sandbox.world.contacts}
    assert {name for (name,) in warehouse.query("SELECT full_name FROM flowiq.contacts")} == names


def test_a_first_sync_asks_for_every_page_once(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """100 rows a page, and one page for a conversation without messages."""
    for n, count in enumerate([0, 1, 100, 101, 250]):
        write(sandbox, sandbox.world.add_contact(f"2782000000{n}"), count)
    summary = warehouse.sync(sandbox)
    assert message_requests(sandbox) == 1 + 1 + 1 + 2 + 3
    assert summary.requests == len(sandbox.requests) == 1 + 8
    assert all(request["limit"] == "100" for request in sandbox.requests)


def test_a_second_sync_adds_nothing_and_asks_one_page_per_conversation(
    warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """Nothing new costs a request per conversation plus the pages of contacts."""
    for n in range(120):
        sandbox.world.add_contact(f"2782{n:07d}")
    for contact in sandbox.world.contacts[:3]:
        write(sandbox, contact, 250, every=3 * HOUR)
    warehouse.sync(sandbox)

    moving = {"synced_at", "rescanned_at", "requests", "_dlt_load_id", "_dlt_id"}

    def content() -> list[list[dict[str, Any]]]:
        names = ("contacts", "messages", "conversations", "rejected_rows")
        return [warehouse.table(name, without=moving) for name in names]

    before = content()
    summary = warehouse.sync(sandbox)
    assert message_requests(sandbox) == 120
    assert summary.requests == len(sandbox.requests) == 120 + 2
    assert (summary.saved, summary.wasted) == (3 * 2, 0)
    assert summary.newer == 0
    assert summary.rows == {
        "contact_identities": 120,
        "contacts": 120,
        "conversations": 120,
    }
    assert content() == before


def test_changes_inside_the_lookback_arrive(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """A status, a reaction, a transcription and an assignee on a page behind a changed one."""
    write(sandbox, alice, 400)
    warehouse.sync(sandbox)
    alice.messages[-1].status = "failed"
    old = alice.history(sandbox.world.now)[140]
    assert sandbox.world.now - old.at < 7 * DAY
    old.status, old.voice_transcription, old.assignee = "failed", "spoken words", "agent"
    old.reactions = [{"emoji": "👍", "sender": alice.number}]
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 2
    assert loaded(warehouse) == expected(sandbox)
    assert warehouse.one("SELECT count(*) FROM flowiq.messages WHERE assignee = 'agent'") == 1


@pytest.mark.parametrize("dialect", MESSAGE_DIALECTS)
def test_a_first_page_that_is_the_same_as_last_time_is_the_end(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, dialect: str
) -> None:
    """One request, no message row; what is known of the conversation stays, child rows included."""
    sandbox.dialect = dialect
    write(sandbox, alice, 250)
    alice.messages[-1].reactions = [{"emoji": "👍", "sender": "1"}]
    warehouse.sync(sandbox)
    before = warehouse.table("messages"), warehouse.table("messages__reactions")
    for _ in range(2):
        summary = warehouse.sync(sandbox)
        assert (message_requests(sandbox), summary.newer, summary.saved) == (1, 0, 2)
        assert summary.rows == {"contact_identities": 1, "contacts": 1, "conversations": 1}
    assert (warehouse.table("messages"), warehouse.table("messages__reactions")) == before
    assert loaded(warehouse) == expected(sandbox)
    [row] = warehouse.table("conversations")
    assert (row["status"], row["message_count"], row["requests"]) == ("complete", 250, 1)
    assert row["rescanned_at"] < row["synced_at"]


@pytest.mark.parametrize("change", ["status", "reactions", "deleted", "late", "new"])
def test_any_change_of_the_first_page_or_the_count_is_seen(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, change: str
) -> None:
    """After syncs in which nothing had changed."""
    write(sandbox, alice, 250)
    for _ in range(2):
        warehouse.sync(sandbox)
    match change:
        case "status":
            alice.messages[-100].status = "failed"
        case "reactions":
            alice.messages[-100].reactions = [{"emoji": "👍", "sender": "1"}]
        case "deleted":
            sandbox.world.delete_message(alice, alice.messages[3])
        case "late":
            sandbox.world.add_message(alice, sandbox.world.now - 300 * DAY)
        case "new":
            sandbox.world.add_message(alice, sandbox.world.now + HOUR)
            sandbox.world.advance(HOUR)
    warehouse.sync(sandbox)
    assert loaded(warehouse) == expected(sandbox)


def test_a_conversation_that_the_contact_list_calls_quiet_costs_nothing(
    warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """Its last message is known and was read after it had left the lookback of seven days."""
    sandbox.dialect = "overview"
    for n, age in enumerate([300, 8, 6, 0]):
        contact = sandbox.world.add_contact(f"2782000000{n}")
        sandbox.world.add_message(contact, sandbox.world.now - age * DAY)
    sandbox.world.add_contact("27820000009")

    def sync() -> tuple[int, int, int]:
        summary = warehouse.sync_with(sandbox, now=lambda: sandbox.world.now)
        assert summary.requests == len(sandbox.requests)
        assert loaded(warehouse) == expected(sandbox)
        return summary.read, summary.quiet, summary.saved

    assert sync() == (5, 0, 0)
    sandbox.world.advance(HOUR)
    assert sync() == (3, 2, 2)
    old = sandbox.world.contacts[0]
    sandbox.world.add_message(old)
    sandbox.world.advance(2 * DAY)
    # The third was last read when its message was six days old: once more, then never again.
    assert sync() == (4, 1, 1)
    sandbox.world.advance(HOUR)
    assert sync() == (3, 2, 2)


def test_a_quiet_conversation_has_its_turn_and_its_full_refresh(
    warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """A deletion in it waits for either."""
    sandbox.dialect = "overview"
    contact = sandbox.world.add_contact("27820000001")
    write(sandbox, contact, 3)
    warehouse.sync(sandbox)
    for settings in ({"rescan_share": 1.0}, {"full_refresh": True}):
        sandbox.world.delete_message(contact, contact.messages[0])
        assert warehouse.sync(sandbox).quiet == 1
        assert loaded(warehouse) != expected(sandbox)
        assert warehouse.sync(sandbox, **settings).read == 1
        assert loaded(warehouse) == expected(sandbox)


def test_requests_that_had_to_be_repeated_are_called_wasted(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """Faults, and the pages of a pass that did not add up."""
    write(sandbox, alice, 250)
    failing = [Reply(500, b"{}"), Reply(502, b"")]
    sandbox.intercept = lambda params: failing.pop() if failing else None
    assert warehouse.sync_with(sandbox).wasted == 2
    during_the_walk(sandbox, 2, lambda: sandbox.world.delete_message(alice, alice.messages[-1]))
    summary = warehouse.sync(sandbox, full_refresh=True)
    assert (summary.requests, summary.wasted) == (1 + 3 + 3, 3)


def test_the_newest_hundred_are_refreshed_however_old(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """The first page is paid for, so all of it is merged, the lookback notwithstanding."""
    write(sandbox, alice, 150, every=10 * DAY)
    warehouse.sync(sandbox)
    alice.history(sandbox.world.now)[99].status = "failed"
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 1
    assert warehouse.one("SELECT count(*) FROM flowiq.messages WHERE status = 'failed'") == 1


def test_the_lookback_is_a_setting(warehouse: Warehouse, sandbox: Sandbox, alice: Contact) -> None:
    """A longer one reads further, none reads one page."""
    write(sandbox, alice, 400)
    warehouse.sync(sandbox)
    alice.messages[-1].status = "delivered"
    warehouse.sync(sandbox, lookback_days=10)
    assert message_requests(sandbox) == 3
    alice.messages[-1].status = "read"
    warehouse.sync(sandbox, lookback_days=0)
    assert message_requests(sandbox) == 1


def test_a_reaction_taken_back_disappears(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """Child rows follow their message."""
    message = sandbox.world.add_message(alice)
    message.reactions = [{"emoji": "👍", "sender": "1"}, {"emoji": "❤️", "sender": "2"}]
    warehouse.sync(sandbox)
    assert warehouse.query(
        "SELECT emoji, sender FROM flowiq.messages__reactions ORDER BY _dlt_list_idx"
    ) == [("👍", "1"), ("❤️", "2")]
    message.reactions = message.reactions[1:]
    warehouse.sync(sandbox)
    assert warehouse.query("SELECT emoji FROM flowiq.messages__reactions") == [("❤️",)]
    message.reactions = []
    warehouse.sync(sandbox)
    assert warehouse.one("SELECT count(*) FROM flowiq.messages__reactions") == 0


def test_a_late_message_with_an_old_time_arrives(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """The API's count gives it away, and the conversation is read to its end in the same run."""
    write(sandbox, alice, 350, every=DAY)
    warehouse.sync(sandbox)
    sandbox.world.add_message(alice, sandbox.world.now - 300 * DAY, content="late")
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 4
    assert loaded(warehouse) == expected(sandbox)
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 1


def test_a_deleted_message_is_recognisable(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """Even when a new one arrives in its place: its synced_at is before the rescan."""
    write(sandbox, alice, 250, every=DAY)
    warehouse.sync(sandbox)
    sandbox.world.delete_message(alice, alice.messages[3])
    sandbox.world.advance(HOUR)
    sandbox.world.add_message(alice, content="new")
    warehouse.sync(sandbox)
    gone = warehouse.query(
        "SELECT content FROM flowiq.messages m JOIN flowiq.conversations c USING (contact_id) "
        "WHERE m.synced_at < c.rescanned_at"
    )
    assert gone == [("message 3",)]
    assert loaded(warehouse) == expected(sandbox)


def test_the_newest_message_deleted_is_noticed(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """The count at the cursor itself is checked too."""
    write(sandbox, alice, 250, every=DAY)
    warehouse.sync(sandbox)
    sandbox.world.delete_message(alice, alice.messages[-1])
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 3
    assert loaded(warehouse) == expected(sandbox)


def test_a_new_contact_with_old_history_arrives_whole(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """Another conversation's newer cursor hides nothing."""
    write(sandbox, alice, 5)
    warehouse.sync(sandbox)
    bob = sandbox.world.add_contact("27820000002")
    for n in range(230):
        sandbox.world.add_message(bob, JANUARY - n * DAY)
    warehouse.sync(sandbox)
    assert (
        warehouse.one(f"SELECT count(*) FROM flowiq.messages WHERE whatsapp_id = '{bob.number}'")
        == 230
    )


def test_a_message_from_the_future_hides_nothing(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """The cursor never passes the run's start, and the future message is counted once."""
    write(sandbox, alice, 150, every=DAY)
    future = datetime(2999, 1, 1, tzinfo=timezone.utc)
    show_future(sandbox, alice, future)
    warehouse.sync(sandbox)
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 1
    now = datetime.now(timezone.utc)
    sandbox.world.add_message(alice, now, content="after")
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 1
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 152
    [cursor] = cursors(warehouse).values()
    assert cursor
    assert cursor.newest
    assert cursor.newest <= datetime.now(timezone.utc)


def show_future(sandbox: Sandbox, contact: Contact, at: datetime) -> None:
    """Make the API show messages that are dated later than now."""
    sandbox.world.add_message(contact, at, content="from the future")
    sandbox.world.now = at


@pytest.mark.parametrize("dialect", MESSAGE_DIALECTS)
def test_equal_messages_in_one_second_are_both_kept(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, dialect: str
) -> None:
    """Also where they have no ids, over syncs, and at the border of two pages."""
    sandbox.dialect = dialect
    write(sandbox, alice, 98)
    start = alice.messages[0].at
    for _ in range(4):
        sandbox.world.add_message(alice, start, content="twin")
    for _ in range(3):
        assert warehouse.sync(sandbox).complete
        assert loaded(warehouse) == expected(sandbox)
        sandbox.world.advance(HOUR)
        sandbox.world.add_message(alice, content="twin")
        sandbox.world.add_message(alice, content="twin")
    ids = warehouse.one("SELECT count(DISTINCT id) FROM flowiq.messages WHERE content = 'twin'")
    assert ids == 4 + 2 + 2


def during_the_walk(sandbox: Sandbox, page: int, change: Callable[[], object]) -> None:
    """Do something to the conversation just before the page is answered, once."""
    pending = [change]

    def intercept(params: dict[str, str]) -> Reply | None:
        if pending and params["action"] == "conversation-messages" and params["page"] == str(page):
            pending.pop()()
        return None

    sandbox.intercept = intercept


@pytest.mark.parametrize("dialect", MESSAGE_DIALECTS)
@pytest.mark.parametrize("page", [2, 3])
def test_a_message_that_arrives_during_the_walk_neither_doubles_nor_hides_a_row(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, dialect: str, page: int
) -> None:
    """The rows it pushes over the page border are met twice and kept once."""
    sandbox.dialect = dialect
    write(sandbox, alice, 250)
    during_the_walk(sandbox, page, lambda: sandbox.world.add_message(alice, content="arrived"))
    assert warehouse.sync(sandbox).complete
    assert message_requests(sandbox) == 3
    warehouse.sync(sandbox)
    assert loaded(warehouse) == expected(sandbox)
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 251


@pytest.mark.parametrize("dialect", MESSAGE_DIALECTS)
def test_a_message_deleted_during_the_walk_hides_no_row(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, dialect: str
) -> None:
    """The row that it pulls back over the page border is found by reading again."""
    sandbox.dialect = dialect
    write(sandbox, alice, 250)
    newest = alice.messages[-1]
    during_the_walk(sandbox, 2, lambda: sandbox.world.delete_message(alice, newest))
    assert warehouse.sync(sandbox).complete
    assert message_requests(sandbox) == 6
    assert loaded(warehouse) == expected(sandbox)


def test_a_contact_pushed_over_a_page_border_is_listed_once(
    warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """And one that a deletion pulls back is found by listing again."""
    for n in range(150):
        sandbox.world.add_contact(f"2782{n:07d}")
    first = sandbox.world.contacts[0]
    pending = [lambda: sandbox.world.delete_contact(first)]

    def intercept(params: dict[str, str]) -> Reply | None:
        if pending and params["action"] == "contacts" and params["page"] == "2":
            pending.pop()()
        return None

    sandbox.intercept = intercept
    summary = warehouse.sync(sandbox)
    listed = {i for (i,) in warehouse.query("SELECT whatsapp_id FROM flowiq.contacts")}
    assert {contact.number for contact in sandbox.world.contacts} <= listed
    assert summary.read == 149
    assert summary.missing == 1


def test_a_full_refresh_rereads_everything_and_loses_nothing(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """What the API forgot stays in the table, recognisably gone; the rest is as fresh as it is."""
    write(sandbox, alice, 350, every=DAY)
    warehouse.sync(sandbox)
    old = alice.messages[0]
    old.status = "failed"
    summary = warehouse.sync(sandbox, full_refresh=True)
    assert summary.newer == 0
    assert message_requests(sandbox) == 4
    assert summary.complete
    assert loaded(warehouse) == expected(sandbox)
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 1


def test_the_cursor_survives_a_lost_working_folder(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """The state comes back from the destination."""
    write(sandbox, alice, 250, every=DAY)
    warehouse.sync(sandbox)
    warehouse.pipeline.drop()
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 1


def test_a_failed_conversation_is_read_again_from_where_it_was(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """Its cursor stays, the rows that came are kept, the others go on."""
    bob = sandbox.world.add_contact("27820000002")
    write(sandbox, alice, 250, every=DAY)
    write(sandbox, bob, 3)
    broken = Reply(400, b'{"success": false, "error": "Bad request"}')
    sandbox.intercept = lambda params: broken if params.get("page") == "2" else None
    summary = warehouse.sync(sandbox)
    assert (summary.read, summary.failed, summary.complete) == (1, 1, False)
    assert list(cursors(warehouse)) == [bob.id]
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 103
    [(status, error, count)] = warehouse.query(
        "SELECT status, error, message_count FROM flowiq.conversations "
        f"WHERE contact_id = '{alice.id}'"
    )
    assert (status, count) == ("failed", 250)
    assert "page 2: HTTP 400" in error
    sandbox.intercept = None
    assert warehouse.sync(sandbox).complete
    assert loaded(warehouse) == expected(sandbox)
    assert warehouse.one("SELECT count(*) FROM flowiq.conversations WHERE error IS NOT NULL") == 0


def test_a_conversation_that_is_gone_is_missing_and_no_failure(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """404 by id and by number, twice, is recorded; what was loaded and known of it stays."""
    write(sandbox, alice, 3)
    warehouse.sync(sandbox)
    gone = Reply(404, b'{"success": false, "error": "Contact not found"}')
    sandbox.intercept = lambda params: gone if "page" in params and "ascending" in params else None
    summary = warehouse.sync(sandbox)
    assert (summary.doubtful, summary.missing, summary.complete) == (1, 0, True)
    assert loaded(warehouse) == expected(sandbox)
    summary = warehouse.sync(sandbox)
    assert (summary.doubtful, summary.missing, summary.complete) == (0, 1, True)
    [row] = warehouse.query(
        "SELECT status, message_count, last_message_at IS NOT NULL, rescanned_at IS NOT NULL, "
        "requests FROM flowiq.conversations"
    )
    assert row == ("missing", 3, True, True, 2)
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 3
