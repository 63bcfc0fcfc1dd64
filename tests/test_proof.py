"""The warehouse equals the API, and says so: the view, deletion, verification, the lock."""

import json
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flowiq_source import DestinationError, Verification, plan, sync, verify
from flowiq_source.errors import Busy, ConfigurationError
from flowiq_source.loading import patience
from flowiq_source.loading.lock import sole_sync
from flowiq_source.sandbox import Contact, Reply, Sandbox
from tests.support.history import DAY, expected, loaded, message_requests, write
from tests.support.warehouse import Warehouse


@pytest.fixture
def history(sandbox: Sandbox, alice: Contact) -> list[Contact]:
    """Three conversations; the API has since lost a message of the first and all of the third."""
    others = [sandbox.world.add_contact(f"2782000000{n}") for n in (2, 3)]
    contacts = [alice, *others]
    for contact in contacts:
        write(sandbox, contact, 150, every=DAY)
        contact.messages[0].reactions = [{"emoji": "👍", "sender": "1"}]
    return contacts


def lose(sandbox: Sandbox, contacts: list[Contact]) -> None:
    """Delete the first message of the first contact, and the third contact."""
    sandbox.world.delete_message(contacts[0], contacts[0].messages[0])
    sandbox.world.delete_contact(contacts[2])


def see_what_is_lost(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """Sync twice: a contact that is listed no longer is doubtful first."""
    for _ in range(2):
        warehouse.sync(sandbox)


def current(warehouse: Warehouse) -> int:
    """How many messages the view shows."""
    count: int = warehouse.one("SELECT count(*) FROM flowiq.current_messages")
    return count


def test_the_view_leaves_out_what_the_api_has_no_longer(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact]
) -> None:
    """It has the columns of messages, new ones included, and the table keeps everything."""
    warehouse.sync(sandbox)
    assert current(warehouse) == 450
    lose(sandbox, history)
    see_what_is_lost(warehouse, sandbox)
    assert current(warehouse) == 149 + 150
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 450
    pagination = {"currentPage": 1, "totalPages": 1, "totalMessages": 1, "hasNextPage": False}
    body = {"success": True, "messages": [{"id": "x", "novel": 1}], "pagination": pagination}
    sandbox.intercept = lambda params: (
        Reply(200, json.dumps(body).encode()) if params.get("contactId") == history[1].id else None
    )
    warehouse.sync(sandbox)
    described = warehouse.query("SELECT column_name FROM (DESCRIBE flowiq.current_messages)")
    assert ("novel",) in described
    assert described == warehouse.query("SELECT column_name FROM (DESCRIBE flowiq.messages)")


def test_gone_messages_can_be_deleted_instead(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact]
) -> None:
    """With their reactions, and nothing else."""
    warehouse.sync(sandbox)
    lose(sandbox, history)
    warehouse.sync(sandbox)
    sync(warehouse.pipeline, warehouse.source(sandbox), delete_gone=True)
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == current(warehouse) == 299
    assert warehouse.one("SELECT count(*) FROM flowiq.messages__reactions") == 1
    assert loaded(warehouse) == expected(sandbox)


def verified(warehouse: Warehouse, sandbox: Sandbox, **options: bool) -> Verification:
    """A verification; `sandbox.requests` holds what it asked."""
    sandbox.requests.clear()
    return verify(warehouse.pipeline, warehouse.source(sandbox), **options)


def test_a_warehouse_that_equals_the_api_is_verified(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact]
) -> None:
    """For a request per conversation, or none against what the last sync saw."""
    warehouse.sync(sandbox)
    lose(sandbox, history)
    see_what_is_lost(warehouse, sandbox)
    found = verified(warehouse, sandbox)
    assert (found.conversations, found.differences) == (3, [])
    assert found.requests == len(sandbox.requests) == 3
    found = verified(warehouse, sandbox, from_last_sync=True)
    assert (found.differences, found.requests, sandbox.requests) == ([], 0, [])


def test_a_difference_is_named_and_can_be_marked_for_a_rescan(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact]
) -> None:
    """The next sync reads the marked conversation to its beginning, the others as ever."""
    warehouse.sync(sandbox)
    warehouse.query(
        "DELETE FROM flowiq.messages WHERE content = 'message 5' AND whatsapp_id LIKE '%2'"
    )
    for from_last_sync in (True, False):
        [difference] = verified(warehouse, sandbox, from_last_sync=from_last_sync).differences
        assert (difference.warehouse, difference.api) == (149, 150)
        assert difference.contact_id == history[1].id
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 3
    text = str(verified(warehouse, sandbox, mark=True))
    assert f"contact {history[1].id}: 149 in the warehouse, 150 at the API" in text
    assert warehouse.sync(sandbox).newer == 0
    assert message_requests(sandbox) == 4
    assert verified(warehouse, sandbox).differences == []
    assert loaded(warehouse) == expected(sandbox)


@pytest.mark.parametrize("from_last_sync", [False, True])
def test_a_verification_needs_neither_working_folder_nor_view(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact], from_last_sync: bool
) -> None:
    """All that it takes is in the destination, also what it marks."""
    warehouse.sync(sandbox)
    warehouse.query("DELETE FROM flowiq.messages WHERE content = 'message 5'")
    warehouse.query("DROP VIEW flowiq.current_messages")
    folder = warehouse.folder / "pipelines"
    shutil.rmtree(folder)
    found = verified(warehouse, sandbox, from_last_sync=from_last_sync, mark=True)
    assert [one.warehouse for one in found.differences] == [149] * 3
    shutil.rmtree(folder)
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 6
    assert loaded(warehouse) == expected(sandbox)


def test_what_another_process_reads_can_be_verified(
    warehouse: Warehouse,
    sandbox: Sandbox,
    history: list[Contact],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And planned: neither writes to the DuckDB file."""
    warehouse.sync(sandbox)
    read = "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", read, str(warehouse.file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as reader:
        assert reader.stdout
        reader.stdout.readline()
        assert verified(warehouse, sandbox).differences == []
        assert plan(warehouse.pipeline, warehouse.source(sandbox)).new == 0
        monkeypatch.setattr(patience, "HELD_PATIENCE_S", 0)
        with pytest.raises(DestinationError, match="is open in"):
            warehouse.sync(sandbox)
        reader.kill()


def test_what_this_process_has_open_can_be_verified(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact]
) -> None:
    """As in a notebook."""
    warehouse.sync(sandbox)
    with duckdb.connect(str(warehouse.file)):
        assert verified(warehouse, sandbox).differences == []


def test_what_was_never_loaded_is_not_verified(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """That nothing differs would be a false promise where the dataset's name is wrong."""
    with pytest.raises(ConfigurationError, match="no tables messages and conversations"):
        verified(warehouse, sandbox)
    assert sandbox.requests == []


@pytest.mark.parametrize("asks", [verify, plan])
def test_nothing_is_compared_while_a_sync_goes_on(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact], asks: Callable[..., Any]
) -> None:
    """The numbers would be of two moments."""
    warehouse.sync(sandbox)
    sandbox.requests.clear()
    with sole_sync(warehouse.pipeline), pytest.raises(Busy):
        asks(warehouse.pipeline, warehouse.source(sandbox))
    assert sandbox.requests == []


def test_a_verification_leaves_a_pending_package(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact]
) -> None:
    """It only looks."""
    warehouse.sync(sandbox)
    warehouse.pipeline.extract(warehouse.source(sandbox))
    verified(warehouse, sandbox)
    plan(warehouse.pipeline, warehouse.source(sandbox))
    assert warehouse.pipeline.has_pending_data


def test_a_verification_shows_no_phone_number(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """Where a contact's id is its number, the last three digits must do."""
    sandbox.dialect = "overview"
    contact = sandbox.world.add_contact("27825550123")
    warehouse.sync(sandbox)
    sandbox.world.add_message(contact)
    text = str(verified(warehouse, sandbox))
    assert "contact …123: 0 in the warehouse, 1 at the API" in text
    assert contact.number not in text


def hold(warehouse: Warehouse, ready: "multiprocessing.synchronize.Event") -> None:
    """Hold the lock until killed."""
    with sole_sync(warehouse.pipeline):
        ready.set()
        multiprocessing.Event().wait()


def test_a_second_sync_at_the_same_time_refuses(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """It says who is at it and since when; a lock whose owner is dead is taken over."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(warehouse, ready))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(Busy, match=rf"process {holder.pid} on .* since .* \(0 minutes\)"):
        warehouse.sync(sandbox)
    assert sandbox.requests == []
    holder.kill()
    holder.join()
    assert warehouse.sync(sandbox).complete


def test_the_lock_is_the_pipelines_own(tmp_path: Path, sandbox: Sandbox) -> None:
    """Another pipeline may sync meanwhile."""
    (tmp_path / "other").mkdir()
    one, two = Warehouse(tmp_path, "one"), Warehouse(tmp_path / "other", "two")
    with sole_sync(one.pipeline):
        assert two.sync(sandbox).complete


def test_a_share_of_requests_rescans_in_turn(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact]
) -> None:
    """Each sync rereads what was reread longest ago, so every old change arrives in time."""
    warehouse.sync(sandbox)
    for contact in history:
        contact.messages[0].status = "failed"
    for arrived in (1, 2, 3):
        warehouse.sync(sandbox, rescan_share=0.3)
        assert message_requests(sandbox) == 3 + 1
        failed = "SELECT count(*) FROM flowiq.messages WHERE status = 'failed'"
        assert warehouse.one(failed) == arrived
    warehouse.sync(sandbox, rescan_share=1)
    assert message_requests(sandbox) == 3 + 3


def test_changes_behind_the_lookback_wait_for_a_full_refresh(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """The promise that cannot be kept: no count changes, and no page shows it."""
    write(sandbox, alice, 250, every=timedelta(days=1))
    warehouse.sync(sandbox)
    alice.messages[0].status = "failed"
    warehouse.sync(sandbox)
    failed = "SELECT count(*) FROM flowiq.messages WHERE status = 'failed'"
    assert warehouse.one(failed) == 0
    warehouse.sync(sandbox, full_refresh=True)
    assert warehouse.one(failed) == 1
