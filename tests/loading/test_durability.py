"""A run in several load packages, interrupted anywhere, ends equal to the API."""

import shutil
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from dlt.destinations.exceptions import DatabaseTerminalException
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient

from flowiq_source import sync
from flowiq_source.sandbox import Contact, Reply, Sandbox, reply_json
from flowiq_source.times import utc_now
from tests.support.history import DAY, crowd_of, expected, loaded, message_requests, write
from tests.support.warehouse import Warehouse


@pytest.fixture
def crowd(sandbox: Sandbox) -> list[Contact]:
    """Eleven contacts with three messages each."""
    return crowd_of(sandbox, 11)


def interrupt_after(sandbox: Sandbox, conversations: int) -> None:
    """Refuse the token once so many conversations were asked for: the run ends there."""

    def intercept(params: dict[str, str]) -> Reply | None:
        asked = sum(r.get("action") == "conversation-messages" for r in sandbox.requests)
        return Reply(401, b"{}") if asked > conversations else None

    sandbox.intercept = intercept


def test_a_long_run_is_a_series_of_load_packages(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """Contacts are listed once, every conversation is read once, the summary counts them all."""
    summary = warehouse.sync(sandbox, package=4)
    assert (summary.read, summary.requests) == (11, 12)
    assert len(sandbox.requests) == 12
    assert summary.rows["messages"] == 33
    assert warehouse.one("SELECT count(DISTINCT _dlt_load_id) FROM flowiq.conversations") == 3
    assert loaded(warehouse) == expected(sandbox)


def test_the_destination_keeps_only_the_newest_state(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """Those of other pipelines stay, and so does one that a later package has not replaced."""
    states = "SELECT pipeline_name, count(*) FROM flowiq._dlt_pipeline_state GROUP BY 1 ORDER BY 1"
    other = Warehouse(warehouse.folder, "another")
    other.file = warehouse.file
    other.sync(sandbox)
    for _ in range(2):
        warehouse.sync(sandbox, package=4)
        assert warehouse.query(states) == [("another", 1), ("warehouse", 1)]
    with_nothing_new = warehouse.source(sandbox).with_resources("contacts")
    for _ in range(2):
        sync(warehouse.pipeline, with_nothing_new)
        assert warehouse.query(states) == [("another", 1), ("warehouse", 1)]
    shutil.rmtree(warehouse.folder / "pipelines")
    assert warehouse.sync(sandbox).newer == 0


def test_a_destination_that_keeps_its_old_states_is_loaded_all_the_same(
    warehouse: Warehouse,
    sandbox: Sandbox,
    crowd: list[Contact],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not every one can delete; the log says so."""
    execute_sql = DuckDbSqlClient.execute_sql

    def refuse_to_delete(self: DuckDbSqlClient, sql: str, *values: Any) -> Any:
        if sql.startswith("DELETE") and "_dlt_pipeline_state" in sql:
            raise DatabaseTerminalException(NotImplementedError(sql))
        return execute_sql(self, sql, *values)

    monkeypatch.setattr(DuckDbSqlClient, "execute_sql", refuse_to_delete)
    warehouse.sync(sandbox, package=4)
    assert warehouse.one("SELECT count(*) FROM flowiq._dlt_pipeline_state") == 3
    assert loaded(warehouse) == expected(sandbox)
    assert caplog.text.count("dlt's old states stay where they are: DatabaseTerminal") == 1


def test_a_run_that_breaks_off_continues_where_it_was(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """What is repeated is at most one package; what was committed is not asked for again."""
    interrupt_after(sandbox, conversations=9)
    with pytest.raises(Exception, match="HTTP 401"):
        warehouse.sync(sandbox, package=4)
    assert warehouse.one("SELECT count(*) FROM flowiq.conversations") == 8
    sandbox.intercept = None
    summary = warehouse.sync(sandbox, package=4)
    assert message_requests(sandbox) == summary.read == 3
    assert loaded(warehouse) == expected(sandbox)
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 11


def test_the_same_source_can_be_synced_again_after_a_run_that_broke_off(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """Nothing of what it had read ahead counts as loaded, or is loaded twice."""
    source = warehouse.source(sandbox)
    interrupt_after(sandbox, conversations=9)
    with pytest.raises(Exception, match="HTTP 401"):
        sync(warehouse.pipeline, source, package_conversations=4)
    sandbox.intercept = None
    summary = sync(warehouse.pipeline, source, package_conversations=4)
    assert summary.read == 3
    assert loaded(warehouse) == expected(sandbox)


def test_a_broken_off_run_is_continued_without_its_working_folder(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """As in a container: the state comes back from the destination."""
    interrupt_after(sandbox, conversations=5)
    with pytest.raises(Exception, match="HTTP 401"):
        warehouse.sync(sandbox, package=4)
    warehouse.pipeline.drop()
    sandbox.intercept = None
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 7
    assert loaded(warehouse) == expected(sandbox)


def test_a_broken_off_full_refresh_is_continued_as_one(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """And an ordinary sync in between reads everything as ordinary."""
    write(sandbox, crowd[-1], 250, every=DAY)
    warehouse.sync(sandbox)
    interrupt_after(sandbox, conversations=5)
    with pytest.raises(Exception, match="HTTP 401"):
        warehouse.sync(sandbox, package=4, full_refresh=True)
    sandbox.intercept = None
    warehouse.sync(sandbox, full_refresh=True)
    assert message_requests(sandbox) == 6 + 3
    assert loaded(warehouse) == expected(sandbox)


def test_a_warehouse_put_back_from_a_backup_is_filled_up(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """The destination's cursors count, not newer ones of the working folder."""
    write(sandbox, alice, 150, every=DAY)
    warehouse.sync(sandbox)
    backup = warehouse.file.read_bytes()
    sandbox.world.advance(100 * DAY)
    write(sandbox, alice, 90)
    warehouse.sync(sandbox)
    warehouse.file.write_bytes(backup)
    warehouse.sync(sandbox)
    assert loaded(warehouse) == expected(sandbox)
    warehouse.file.unlink()
    warehouse.sync(sandbox)
    assert loaded(warehouse) == expected(sandbox)


def test_a_backfill_in_several_packages_loads_all_of_its_range(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """Later packages keep its bounds and read what the first one left."""
    first, last = crowd[0].messages[1].at, crowd[0].messages[2].at
    summary = warehouse.sync(sandbox, package=4, start_date=first, end_date=last)
    assert (summary.read, summary.requests) == (11, 12)
    assert warehouse.query("SELECT content, count(*) FROM flowiq.messages GROUP BY 1") == [
        ("message 1", 11)
    ]


def test_an_old_interruption_is_not_continued(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """After a day everything is read again."""
    interrupt_after(sandbox, conversations=5)
    with pytest.raises(Exception, match="HTTP 401"):
        warehouse.sync(sandbox, package=4)
    sandbox.intercept = None
    warehouse.sync_with(sandbox, now=lambda: utc_now() + timedelta(days=1))
    assert message_requests(sandbox) == 11


def test_minutes_bound_a_package_too(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """With no time at all every conversation is a package, so a run always gets on."""
    for contact in crowd[3:]:
        sandbox.world.delete_contact(contact)
    summary = sync(warehouse.pipeline, warehouse.source(sandbox), package_minutes=0)
    assert summary.read == 3
    assert warehouse.one("SELECT count(DISTINCT _dlt_load_id) FROM flowiq.conversations") == 3


def test_a_source_can_be_run_again(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """The same object: each run lists and reads anew, also after one that failed."""
    source = warehouse.source(sandbox)
    for broken in (False, True, False):
        sandbox.requests.clear()
        sandbox.intercept = None
        if broken:
            interrupt_after(sandbox, conversations=5)
            with pytest.raises(Exception, match="HTTP 401"):
                warehouse.pipeline.run(source)
        else:
            warehouse.pipeline.run(source)
            assert len(sandbox.requests) == 12


def test_a_contact_that_is_no_longer_listed_is_missing_and_costs_nothing(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """Its conversation is doubtful, then gone, once; when it comes back it is read whole."""
    warehouse.sync(sandbox)
    lost = crowd[0]
    before = expected(sandbox)
    sandbox.world.delete_contact(lost)
    of_lost = (
        "SELECT status, message_count, error FROM flowiq.conversations "
        f"WHERE contact_id = '{lost.id}'"
    )
    for status, held in (("doubtful", before), *(("missing", expected(sandbox)),) * 2):
        assert warehouse.sync(sandbox).complete
        assert message_requests(sandbox) == 10
        assert loaded(warehouse) == held
        [(said, known, error)] = warehouse.query(of_lost)
        assert (said, known) == (status, 3)
        assert "no longer lists" in error
    sandbox.world._planned.append(lost)
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 11
    assert loaded(warehouse) == expected(sandbox) == before


def test_an_empty_contact_list_makes_nothing_gone(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact], caplog: pytest.LogCaptureFixture
) -> None:
    """A fault is likelier than the end of every conversation, however often it is seen."""
    warehouse.sync(sandbox)
    pagination = {"currentPage": 1, "totalPages": 0, "totalContacts": 0, "hasNextPage": False}
    answer = reply_json(200, {"success": True, "contacts": [], "pagination": pagination})
    sandbox.intercept = lambda params: answer
    for _ in range(3):
        summary = warehouse.sync(sandbox)
        assert (summary.vanished, summary.complete) == (11, False)
    assert "11 of 11 conversations have vanished at once" in caplog.text
    assert loaded(warehouse) == expected(sandbox)
    sandbox.intercept = None
    summary = warehouse.sync(sandbox)
    assert (summary.newer, summary.complete) == (0, True)
    assert loaded(warehouse) == expected(sandbox)


def test_a_conversation_that_answers_404_is_asked_for_once_a_week(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """Seen twice, its messages count as gone; when the API has it again it is read whole."""
    lost = crowd[0]
    # Where the contact list shows unread messages, it is asked for sooner.
    sandbox.world.add_message(lost, sender="human-whatsapp")
    warehouse.sync(sandbox)
    gone = Reply(404, b'{"success": false, "error": "Contact not found"}')
    addresses = {lost.id, lost.number}
    sandbox.intercept = lambda params: (
        gone if addresses & {params.get("contactId"), params.get("whatsappNumber")} else None
    )
    assert warehouse.sync(sandbox).doubtful == 1
    # Both of its addresses.
    assert message_requests(sandbox) == 12
    assert loaded(warehouse) == expected(sandbox)
    assert warehouse.sync(sandbox).missing == 1
    assert loaded(warehouse) == Counter(
        {row: n for row, n in expected(sandbox).items() if row[0] != lost.number}
    )
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 10
    warehouse.sync(sandbox, full_refresh=True)
    assert message_requests(sandbox) == 12
    sandbox.intercept = None
    warehouse.sync_with(sandbox, now=lambda: utc_now() + timedelta(days=7))
    assert message_requests(sandbox) == 11
    assert loaded(warehouse) == expected(sandbox)
