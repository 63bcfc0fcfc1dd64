"""What was done to the warehouse between two syncs is found out, and mended.

Backups, other warehouses, other machines, tables that are gone: with `sync`, and with dlt's own
`pipeline.run`.
"""

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import dlt
import pytest
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials

from flowiq_source import DestinationError, sync
from flowiq_source.loading import patience
from flowiq_source.sandbox import Contact, Sandbox, World
from tests.support.history import DAY, answer_with, expected, loaded, message_requests, write
from tests.support.warehouse import Warehouse

WAYS = ["sync", "run"]


def load(warehouse: Warehouse, sandbox: Sandbox, way: str) -> None:
    """Bring the warehouse up to date, in one way or the other."""
    if way == "sync":
        assert warehouse.sync(sandbox).complete
    else:
        warehouse.run(sandbox)


@pytest.fixture
def history(sandbox: Sandbox, alice: Contact) -> list[Contact]:
    """Three conversations, the first of several pages; each with a reaction and a tag."""
    contacts = [alice, *(sandbox.world.add_contact(f"2782000000{n}", tags=["a"]) for n in (2, 3))]
    for contact in contacts:
        write(sandbox, contact, 130 if contact is alice else 3, every=DAY)
        contact.messages[0].reactions = [{"emoji": "👍", "sender": "1"}]
    return contacts


def arrive(sandbox: Sandbox, contact: Contact, count: int) -> None:
    """New messages, a day later."""
    sandbox.world.advance(DAY)
    write(sandbox, contact, count, every=timedelta(seconds=1))


def leave_a_package(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """Extract and normalize, as a run does that is killed before its load."""
    pipeline = warehouse.pipeline
    pipeline.extract(warehouse.source(sandbox))
    pipeline.normalize()


# dlt 1.31 says by a deprecated method that it loads what is pending and extracts nothing.
SAYS_PENDING = pytest.mark.filterwarnings("ignore:The 'warn' method")


@SAYS_PENDING
@pytest.mark.parametrize("way", [*WAYS, "pending"])
def test_a_backup_put_back_after_a_load_that_failed_is_filled_up(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact], way: str
) -> None:
    """Whether what the failed load left is dropped, or loaded onto the backup first."""
    warehouse.sync(sandbox)
    backup = warehouse.file.read_bytes()
    arrive(sandbox, history[1], 40)
    load(warehouse, sandbox, "run")
    arrive(sandbox, history[0], 120)
    leave_a_package(warehouse, sandbox)
    warehouse.file.write_bytes(backup)
    if way == "run":
        warehouse.pipeline.abort_packages()
    if way == "pending":
        # dlt loads what is pending, and extracts nothing.
        load(warehouse, sandbox, "run")
    load(warehouse, sandbox, "sync" if way == "sync" else "run")
    assert loaded(warehouse) == expected(sandbox)


@SAYS_PENDING
@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_was_killed_for_one_warehouse_takes_nothing_from_another(
    tmp_path: Path, sandbox: Sandbox, history: list[Contact], way: str, is_new: bool
) -> None:
    """Two files, one pipeline name and one working folder."""
    dev, prod = Warehouse(tmp_path), Warehouse(tmp_path)
    prod.file = tmp_path / "prod.duckdb"
    if not is_new:
        load(prod, sandbox, way)
        shutil.rmtree(tmp_path / "pipelines")
        arrive(sandbox, history[2], 7)
    for _ in range(2):
        load(dev, sandbox, way)
        arrive(sandbox, history[1], 5)
    leave_a_package(dev, sandbox)
    for _ in range(1 if way == "sync" else 2):
        # dlt's own run may load what is pending, and then extracts nothing.
        load(prod, sandbox, way)
    assert loaded(prod) == expected(sandbox)
    load(dev, sandbox, way)
    assert loaded(dev) == expected(sandbox)


@pytest.mark.parametrize("way", WAYS)
def test_two_machines_load_one_warehouse_in_turn(
    tmp_path: Path, sandbox: Sandbox, history: list[Contact], way: str
) -> None:
    """Each goes on from where the other was: nothing live leaves, nothing gone stays."""
    machines = [Warehouse(tmp_path / name) for name in ("one", "two")]
    for machine in machines:
        machine.folder.mkdir()
        machine.file = tmp_path / "shared.duckdb"
    for turn in range(6):
        arrive(sandbox, history[turn % 3], 2)
        for contact in history[:2]:
            sandbox.world.delete_message(contact, contact.messages[turn % 2])
        history[2].messages[-1].status = f"status {turn}"
        load(machines[turn % 2], sandbox, way)
        assert loaded(machines[0]) == expected(sandbox)
    before = expected(sandbox)
    sync(machines[0].pipeline, machines[0].source(sandbox), delete_gone=True)
    assert machines[0].one("SELECT count(*) FROM flowiq.messages") == before.total()
    load(machines[1], sandbox, way)
    assert loaded(machines[1]) == before


TABLES = {
    "messages": "read again",
    "messages__reactions": "read again",
    "conversations": "read again",
    "contacts": "made again",
    "contacts__tags": "made again",
    "contact_identities": "made again",
    "rejected_rows": "made again",
    "syncs": "made again",
    "_dlt_loads": "read again",
    "_dlt_pipeline_state": "",
    "_dlt_version": "",
}
"""What the log says where a table is dropped; where it is emptied, of what is read again."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_was_dropped_or_emptied_is_filled_again(
    warehouse: Warehouse,
    sandbox: Sandbox,
    history: list[Contact],
    way: str,
    table: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By the next sync; the one after that asks for no more than ever."""
    warehouse.sync(sandbox)
    for damage in ("DROP TABLE", "DELETE FROM"):
        sandbox.world.delete_message(history[0], history[0].messages[1])
        caplog.clear()
        warehouse.query(f"{damage} flowiq.{table}")
        arrive(sandbox, history[2], 1)
        load(warehouse, sandbox, way)
        assert loaded(warehouse) == expected(sandbox)
        for name in ("contacts", "contact_identities", "conversations"):
            assert warehouse.one(f"SELECT count(*) FROM flowiq.{name}") == 3
        assert warehouse.one("SELECT count(*) FROM flowiq.contacts__tags") == 2
        said = TABLES[table]
        assert said in caplog.text or (damage == "DELETE FROM" and said == "made again")
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 3
    assert loaded(warehouse) == expected(sandbox)
    in_view = warehouse.one("SELECT count(*) FROM flowiq.current_messages")
    assert in_view == expected(sandbox).total()


def test_a_view_that_was_dropped_is_made_again(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact]
) -> None:
    """By the next sync, though nothing is new."""
    warehouse.sync(sandbox)
    warehouse.query("DROP VIEW flowiq.current_messages")
    warehouse.sync(sandbox)
    assert warehouse.one("SELECT count(*) FROM flowiq.current_messages") == 136


def test_what_is_gone_stays_gone_without_the_state(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact]
) -> None:
    """The numbers of readings go on rising, and a contact that was missing is not live again."""
    warehouse.sync(sandbox)
    sandbox.world.delete_message(history[0], history[0].messages[1])
    sandbox.world.delete_contact(history[2])
    for _ in range(3):
        warehouse.sync(sandbox)
    warehouse.query("DELETE FROM flowiq._dlt_pipeline_state")
    sandbox.world.delete_message(history[0], history[0].messages[1])
    for _ in range(2):
        summary = warehouse.sync(sandbox)
        assert (summary.complete, summary.doubtful) == (True, 0)
        assert loaded(warehouse) == expected(sandbox)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("damage", ["DROP TABLE", "DELETE FROM"])
def test_every_tenant_gets_its_reactions_back(tmp_path: Path, way: str, damage: str) -> None:
    """Those of one that was read again first say nothing of the other's."""
    with ExitStack() as stack:
        tenants = []
        for tenant in ("acme", "brook"):
            api = Sandbox(World(contacts=0), tenant=tenant, token=tenant, limited=False)
            tenants.append((Warehouse(tmp_path, tenant), stack.enter_context(api)))
        for warehouse, sandbox in tenants:
            warehouse.file = tmp_path / "both.duckdb"
            contact = sandbox.world.add_contact("27820000001")
            write(sandbox, contact, 3, every=30 * DAY)
            contact.messages[0].reactions = [{"emoji": "👍", "sender": "1"}]
            warehouse.sync(sandbox)
        warehouse.query(f"{damage} flowiq.messages__reactions")
        for warehouse, sandbox in tenants:
            load(warehouse, sandbox, way)
        assert warehouse.query(
            "SELECT m.tenant_id, count(*) FROM flowiq.messages m JOIN flowiq.messages__reactions r "
            "ON r._dlt_parent_id = m._dlt_id GROUP BY ALL ORDER BY ALL"
        ) == [("acme", 1), ("brook", 1)]


def test_reactions_that_were_all_taken_back_are_looked_for_once(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """An empty table may be right: the second sync after that asks for no more than ever."""
    write(sandbox, alice, 120, every=DAY)
    alice.messages[-1].reactions = [{"emoji": "👍", "sender": "1"}]
    warehouse.sync(sandbox)
    alice.messages[-1].reactions = []
    asked = []
    for _ in range(3):
        warehouse.sync(sandbox)
        asked.append(message_requests(sandbox))
    assert asked == [1, 2, 1]
    assert loaded(warehouse) == expected(sandbox)


@pytest.mark.parametrize("way", WAYS)
def test_messages_alone_are_not_read_again_for_want_of_conversations(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, way: str
) -> None:
    """Where that table was never loaded, it is not missed."""
    write(sandbox, alice, 130, every=DAY)
    asked = []
    for _ in range(2):
        sandbox.requests.clear()
        source = warehouse.source(sandbox).with_resources("messages")
        if way == "sync":
            sync(warehouse.pipeline, source)
        else:
            warehouse.pipeline.run(source)
        asked.append(message_requests(sandbox))
    assert asked == [2, 1]


def test_the_same_misfits_are_kept_once(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """With the time at which they were first seen, and the last."""
    answer_with(sandbox, [{"id": "a", "timestamp": "noon", "status": 7}, {"id": "b", "sender": []}])
    seen = []
    for _ in range(3):
        warehouse.sync(sandbox, full_refresh=True)
        seen.append(
            warehouse.query(
                "SELECT count(*), min(first_seen_at), max(first_seen_at), min(seen_at) "
                "FROM flowiq.rejected_rows"
            )[0]
        )
    counts, first, last, again = zip(*seen, strict=True)
    assert counts[0] > 0
    assert len(set(counts)) == 1
    assert len({*first, *last}) <= 2
    assert first[0] == first[2]
    assert again[0] < again[1] < again[2]


@pytest.fixture
def holder(warehouse: Warehouse, history: list[Contact]) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that has the warehouse's file open to write."""
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(warehouse.file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def test_a_file_that_another_process_holds_is_found_before_a_request(
    warehouse: Warehouse,
    sandbox: Sandbox,
    holder: "subprocess.Popen[bytes]",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is asked of the API for a load that cannot be; file and process are named."""
    monkeypatch.setattr(patience, "HELD_PATIENCE_S", 0.5)
    said = rf"{warehouse.file} is open in .* \(process {holder.pid}\)"
    with pytest.raises(DestinationError, match=said):
        warehouse.sync(sandbox)
    assert sandbox.requests == []


def test_a_file_that_is_held_for_a_moment_is_waited_for(
    warehouse: Warehouse,
    sandbox: Sandbox,
    holder: "subprocess.Popen[bytes]",
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And the log says what for."""
    threading.Timer(1.5, holder.kill).start()
    assert warehouse.sync(sandbox).complete
    assert "another program has the DuckDB file open" in caplog.text


def test_a_destination_that_cannot_be_written_to_is_found_before_a_request(
    warehouse: Warehouse, sandbox: Sandbox, history: list[Contact]
) -> None:
    """Though it answers what it has."""
    warehouse.sync(sandbox)
    sandbox.requests.clear()
    pipeline = dlt.pipeline(
        warehouse.name,
        pipelines_dir=str(warehouse.folder / "pipelines"),
        destination=dlt.destinations.duckdb(
            # As a file of another user's; root may write to any.
            DuckDbCredentials(str(warehouse.file), read_only=True)
        ),
        dataset_name="flowiq",
    )
    with pytest.raises(Exception, match="read-only"):
        sync(pipeline, warehouse.source(sandbox))
    assert sandbox.requests == []


def test_a_server_that_is_away_is_found_before_a_request(
    tmp_path: Path, warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """Nobody listens there."""
    pipeline = dlt.pipeline(
        "away",
        pipelines_dir=str(tmp_path / "pipelines"),
        destination=dlt.destinations.postgres("postgresql://flowiq:unused@127.0.0.1:9/none"),
        dataset_name="flowiq",
    )
    with pytest.raises(DestinationError, match="the server is away"):
        sync(pipeline, warehouse.source(sandbox))
    assert sandbox.requests == []
