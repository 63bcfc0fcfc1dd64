"""A sync that finds nothing new loads nothing, and still leaves everything as a load would."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from flowiq_source import FlowiqError, Summary, Tenant, status, sync, sync_tenants, verify
from flowiq_source.loading import idle
from flowiq_source.sandbox import Contact, Reply, Sandbox, reply_json
from tests.support.history import DAY, HOUR, expected, loaded, message_requests, write
from tests.support.warehouse import Warehouse

TABLES = ("contacts", "contacts__tags", "contact_identities", "conversations", "messages")
MOVING = {"synced_at", "requests", "rescanned_at", "first_seen_at", "last_seen_at"}
OF_DLT = {"_dlt_load_id", "_dlt_id", "_dlt_parent_id", "_dlt_root_id"}


@pytest.fixture
def crowd(sandbox: Sandbox) -> list[Contact]:
    """Three contacts with tags and messages."""
    people = [sandbox.world.add_contact(f"2782000000{n}", tags=["a", "b"]) for n in range(3)]
    for contact in people:
        write(sandbox, contact, 3)
    return people


def content(warehouse: Warehouse) -> dict[str, list[dict[str, Any]]]:
    """What the tables hold, but for what moves with every sync."""
    return {name: warehouse.table(name, without=MOVING | OF_DLT) for name in TABLES}


def without_readings(tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The same without the numbers of readings, which rise where everything is read again."""
    return {
        name: [{k: v for k, v in row.items() if k != "scan"} for row in rows]
        for name, rows in tables.items()
    }


def loads(warehouse: Warehouse) -> int:
    """How many packages were loaded."""
    return int(warehouse.one("SELECT count(*) FROM flowiq._dlt_loads"))


def test_nothing_new_is_no_load_and_moves_the_times(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """When a row was last seen is told in it, and each sync has its row, as if it was loaded."""
    times = (
        "SELECT min(c.synced_at), min(i.last_seen_at), min(v.synced_at) FROM flowiq.contacts c "
        "JOIN flowiq.contact_identities i ON i.contact_id = c.id "
        "JOIN flowiq.conversations v ON v.contact_id = c.id"
    )
    warehouse.sync(sandbox)
    before, [seen], count = content(warehouse), warehouse.query(times), loads(warehouse)
    for _ in range(2):
        summary = warehouse.sync(sandbox)
        assert (summary.newer, summary.known, summary.changed) == (0, 0, 0)
        assert summary.complete
        assert message_requests(sandbox) == len(crowd)
    assert loads(warehouse) == count
    assert content(warehouse) == before
    [seen_again] = warehouse.query(times)
    assert all(new > old for new, old in zip(seen_again, seen, strict=True))
    syncs = warehouse.query(
        "SELECT kind, complete, conversations, ended_at >= started_at FROM flowiq.syncs"
    )
    assert syncs == [("incremental", True, len(crowd), True)] * 3
    status = "SELECT last_sync_at = last FROM flowiq.sync_status, "
    assert warehouse.one(f"{status} (SELECT max(started_at) AS last FROM flowiq.syncs)")


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM flowiq.contacts__tags; DELETE FROM flowiq.contacts",
        "UPDATE flowiq.contacts SET full_name = 'somebody else'",
        "DELETE FROM flowiq.contacts__tags WHERE value = 'a'",
        "DELETE FROM flowiq.contact_identities",
        "UPDATE flowiq.conversations SET message_count = 7",
        "DROP TABLE flowiq.contacts",
        "DROP TABLE flowiq.contacts__tags",
        "DROP TABLE flowiq.contact_identities",
        "DROP TABLE flowiq.conversations CASCADE",
        "DROP TABLE flowiq.messages CASCADE",
        "DROP VIEW flowiq.current_messages",
        "ALTER TABLE flowiq.contacts DROP COLUMN full_name",
    ],
)
def test_what_was_done_to_the_tables_is_no_idle_sync(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact], damage: str
) -> None:
    """The rows in the destination are looked at, not what was once known of them."""
    warehouse.sync(sandbox)
    before = without_readings(content(warehouse))
    warehouse.query(damage)
    warehouse.sync(sandbox)
    assert without_readings(content(warehouse)) == before
    assert warehouse.one("SELECT count(*) FROM flowiq.current_messages") == 3 * len(crowd)


def test_what_is_new_is_loaded_and_no_page_asked_for_twice(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """What was read before it turned out that there is something new goes into the load."""
    warehouse.sync(sandbox)
    sandbox.world.advance(timedelta(hours=1))
    sandbox.world.add_message(crowd[1])
    crowd[2].full_name = "Renamed"
    summary = warehouse.sync(sandbox)
    assert summary.newer == 1
    assert message_requests(sandbox) == len(crowd)
    assert summary.requests == len(sandbox.requests) == len(crowd) + 1
    assert loaded(warehouse) == expected(sandbox)
    named = "SELECT count(*) FROM flowiq.contacts WHERE full_name = 'Renamed'"
    assert warehouse.one(named) == 1
    sandbox.world.add_contact("27820000009")
    assert warehouse.sync(sandbox).read == len(crowd) + 1
    assert warehouse.one("SELECT count(*) FROM flowiq.contacts") == len(crowd) + 1


def test_the_working_folder_is_afterwards_what_a_load_leaves(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """Also where there is none, as on another machine, or a run that was killed left a package."""
    warehouse.sync(sandbox)
    count = loads(warehouse)
    shutil.rmtree(warehouse.folder / "pipelines")
    pipeline = warehouse.pipeline
    sync(pipeline, warehouse.source(sandbox))
    assert len(pipeline.dataset().messages.fetchall()) == 3 * len(crowd)
    pipeline.extract([{"a": 1}], table_name="left")
    pipeline = warehouse.pipeline
    sync(pipeline, warehouse.source(sandbox))
    assert not pipeline.has_pending_data
    assert loads(warehouse) == count


def test_a_source_that_wants_another_column_gets_it(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """As after an update that declares more: before any row has it."""
    assert crowd
    warehouse.sync(sandbox)
    source = warehouse.source(sandbox)
    source.contacts.apply_hints(columns={"shoe_size": {"data_type": "bigint"}})
    sync(warehouse.pipeline, source)
    assert warehouse.query("SELECT DISTINCT shoe_size FROM flowiq.contacts") == [(None,)]


@pytest.mark.parametrize(
    "column", ["contacts.synced_at", "conversations.requests", "contact_identities.last_seen_at"]
)
def test_what_moves_and_is_dropped_from_now_on_is_dropped(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact], column: str
) -> None:
    """And moves again when the setting is taken back."""
    table, _, name = column.partition(".")
    left = f"SELECT count({name}) FROM flowiq.{table}"
    warehouse.sync(sandbox)
    rows = warehouse.one(left)
    warehouse.sync(sandbox, columns={column: "drop"})
    assert warehouse.one(left) == 0
    packages = loads(warehouse)
    warehouse.sync(sandbox, columns={column: "drop"})
    assert (warehouse.one(left), loads(warehouse)) == (0, packages)
    warehouse.sync(sandbox)
    assert warehouse.one(left) == rows > 0


def test_rows_that_go_through_a_step_are_loaded_each_time(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """Nobody can tell what the step makes of rows that are the same."""
    assert crowd
    warehouse.sync(sandbox)
    source = warehouse.source(sandbox)
    source.contacts.add_map(lambda row: row | {"full_name": "X"})
    sync(warehouse.pipeline, source)
    assert warehouse.query("SELECT DISTINCT full_name FROM flowiq.contacts") == [("X",)]
    warehouse.sync(sandbox)
    assert warehouse.query("SELECT DISTINCT full_name FROM flowiq.contacts") != [("X",)]


def test_two_machines_in_turn_see_what_the_other_has_loaded(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """The folder of each is as old as its last sync."""
    folders = [warehouse.folder / name for name in ("one", "other")]

    def sync_at(folder: Path) -> Summary:
        sandbox.requests.clear()
        pipeline = dlt.pipeline(
            warehouse.name,
            pipelines_dir=str(folder),
            destination=dlt.destinations.duckdb(str(warehouse.file)),
            dataset_name="flowiq",
        )
        return sync(pipeline, warehouse.source(sandbox))

    for turn in range(4):
        assert sync_at(folders[turn % 2]).newer == (0 if turn else 3 * len(crowd))
    for turn in range(4):
        sandbox.world.advance(HOUR)
        sandbox.world.add_message(crowd[turn % 3])
        assert sync_at(folders[turn % 2]).newer == 1
        assert sync_at(folders[1 - turn % 2]).newer == 0
        assert loaded(warehouse) == expected(sandbox)
        assert message_requests(sandbox) == len(crowd)


def test_a_backup_that_is_put_back_is_read_up_to_date(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """It has its own state, and what came after it is new again."""
    warehouse.sync(sandbox)
    shutil.copy(warehouse.file, warehouse.folder / "backup")
    sandbox.world.advance(HOUR)
    sandbox.world.add_message(crowd[0])
    warehouse.sync(sandbox)
    assert warehouse.sync(sandbox).newer == 0
    shutil.copy(warehouse.folder / "backup", warehouse.file)
    assert warehouse.sync(sandbox).newer == 1
    assert loaded(warehouse) == expected(sandbox)


def test_what_comes_after_goes_on_from_there(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """A plain run, `verify` and `status` find everything as a load leaves it."""
    for _ in range(2):
        warehouse.sync(sandbox)
    source = warehouse.source(sandbox)
    assert verify(warehouse.pipeline, source).exit_status == 0
    stands = status(warehouse.pipeline, source)
    assert (stands.conversations, stands.behind) == ({"complete": len(crowd)}, 0)
    assert stands.last_sync_at == warehouse.one("SELECT max(synced_at) FROM flowiq.conversations")
    sandbox.world.advance(HOUR)
    sandbox.world.add_message(crowd[1])
    warehouse.run(sandbox)
    assert message_requests(sandbox) == len(crowd)
    assert loaded(warehouse) == expected(sandbox)
    assert warehouse.sync(sandbox).newer == 0


@pytest.mark.models
def test_a_model_that_was_dropped_is_made_again(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """Though nothing is loaded."""
    warehouse.sync(sandbox)
    warehouse.query("DROP VIEW flowiq.fct_waits")
    warehouse.sync(sandbox)
    assert loads(warehouse) == 1
    assert warehouse.query("SELECT count(*) FROM flowiq.fct_waits") == [(len(crowd),)]
    assert warehouse.one("SELECT count(*) FROM flowiq.fct_messages") == 3 * len(crowd)


def test_a_range_is_read_as_one(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sets it, in the source, by a hint, or an orchestrator whose interval it is."""
    assert crowd
    warehouse.sync(sandbox)
    begin, end = sandbox.world.now - DAY, sandbox.world.now
    warehouse.sync(sandbox, start_date=begin, end_date=end)
    source = warehouse.source(sandbox)
    hint = dlt.sources.incremental("timestamp", initial_value=begin, end_value=end)
    source.messages.apply_hints(incremental=hint)
    sync(warehouse.pipeline, source)
    monkeypatch.setenv("DLT_ALLOW_EXTERNAL_SCHEDULERS", "true")
    monkeypatch.setenv("DLT_INTERVAL_START", begin.isoformat())
    monkeypatch.setenv("DLT_INTERVAL_END", end.isoformat())
    warehouse.sync(sandbox)
    kinds = warehouse.query("SELECT kind FROM flowiq.syncs ORDER BY started_at")
    assert [kind for (kind,) in kinds] == ["incremental", *["backfill"] * 3]


def test_a_list_that_cannot_be_read_fails_as_in_a_load(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """The error is dlt's, its cause is what the API said, and nothing is written."""
    assert crowd
    warehouse.sync(sandbox)
    sandbox.intercept = lambda _: reply_json(401, {"success": False, "error": "no"})
    with pytest.raises(PipelineStepFailed) as failed:
        warehouse.sync(sandbox)
    assert isinstance(failed.value.__cause__, FlowiqError)
    assert warehouse.one("SELECT count(*) FROM flowiq.syncs") == 1


def test_many_tenants_without_news_leave_no_folder_and_go_on(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """What they load after that is what is new."""

    def run() -> Summary:
        sandbox.requests.clear()
        [outcome] = sync_tenants(
            [Tenant("sandbox", "")],
            pipeline_of=lambda _: warehouse.pipeline,
            source_of=lambda _: warehouse.source(sandbox, delete_gone=True),
        ).outcomes
        assert outcome.summary is not None
        return outcome.summary

    run()
    assert [run().newer for _ in range(2)] == [0, 0]
    assert loads(warehouse) == 1
    assert not (warehouse.folder / "pipelines" / warehouse.name).exists()
    sandbox.world.advance(HOUR)
    sandbox.world.add_message(crowd[1])
    sandbox.world.delete_message(crowd[2], crowd[2].messages[0])
    assert run().newer == 1
    assert message_requests(sandbox) == len(crowd)
    assert loaded(warehouse) == expected(sandbox)
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 3 * len(crowd)


class Business:
    """What may happen to a business between two syncs, and to the API while they run."""

    def __init__(self, sandbox: Sandbox, random: Random) -> None:
        self.sandbox, self.world, self.random = sandbox, sandbox.world, random
        self.ahead, self.settings, self.made = timedelta(), dict[str, Any](), 0
        for _ in range(6):
            self.new_contact()

    def happen(self) -> str:
        """One thing in three is nothing at all."""
        self.sandbox.intercept, self.ahead, self.settings = None, timedelta(), {}
        self.world.advance(self.random.choice([timedelta(minutes=1), HOUR, DAY, 9 * DAY]))
        things: list[Callable[[], object]] = [
            *(self.new_message, self.late_message, self.edit, self.deletion, self.rename, self.tag),
            *(self.gone, self.new_contact, self.fault, self.not_found, self.miscount),
            *(self.clock_ahead, self.new_number, self.new_field, self.backfill),
        ]
        if self.random.random() < 1 / 3:
            return "nothing"
        thing = self.random.choice(things)
        thing()
        return thing.__name__

    def one(self) -> Contact:
        """Somebody."""
        return self.random.choice(self.world.contacts)

    def new_contact(self) -> None:
        """Somebody with a few messages, or with none."""
        self.made += 1
        contact = self.world.add_contact(f"2782000{self.made:04d}", tags=["a", "b"])
        write(self.sandbox, contact, self.random.choice([0, 3, 60]), every=5 * HOUR)

    def new_message(self) -> None:
        """It has just been sent."""
        self.world.add_message(self.one())

    def late_message(self) -> None:
        """It was sent long ago."""
        self.world.add_message(self.one(), self.world.now - 20 * DAY)

    def edit(self) -> None:
        """A reaction to the newest."""
        for message in self.one().history(self.world.now)[:1]:
            message.reactions = [{"emoji": "\U0001f44d", "sender": "user-whatsapp"}]

    def deletion(self) -> None:
        """Of any message."""
        contact = self.one()
        if contact.messages:
            self.world.delete_message(contact, self.random.choice(contact.messages))

    def rename(self) -> None:
        """Of a contact."""
        self.one().full_name = f"Name {self.random.random()}"

    def tag(self) -> None:
        """Another one, or one less."""
        self.one().tags = self.random.choice([None, [], ["a"], ["b", "a"], ["a", "b", "c"]])

    def gone(self) -> None:
        """The contact with all messages."""
        if len(self.world.contacts) > 3:
            self.world.delete_contact(self.one())

    def fault(self) -> None:
        """The API fails for one conversation, for the length of a sync."""
        self._answer(500)

    def not_found(self) -> None:
        """It says that there is no such conversation, for the length of a sync."""
        self._answer(404)

    def _answer(self, status: int) -> None:
        who = self.one()

        def intercept(params: dict[str, str]) -> Any:
            if {who.id, who.number} & set(params.values()):
                return reply_json(status, {"success": False, "error": "no"})
            return None

        self.sandbox.intercept = intercept

    def miscount(self) -> None:
        """It counts one message more than it has, of everybody."""

        def intercept(params: dict[str, str]) -> Any:
            if params["action"] != "conversation-messages":
                return None
            body = json.loads(self.sandbox.usual_answer(params).body)
            body["pagination"]["totalMessages"] += 1
            return reply_json(200, body)

        self.sandbox.intercept = intercept

    def clock_ahead(self) -> None:
        """Whoever syncs has a wrong clock; and somebody has written."""
        self.ahead = 3 * DAY
        for contact in self.world.contacts:
            self.world.add_message(contact)

    def new_number(self) -> None:
        """Somebody has another one."""
        self.made += 1
        self.one().number = f"2782000{self.made:04d}"

    def new_field(self) -> None:
        """Nobody documented it."""
        self.one().extra = {f"field_{self.random.randrange(3)}": self.random.choice([1, "x", True])}

    def backfill(self) -> None:
        """A sync of a range instead of the usual one."""
        start, end = self.world.now - 8 * DAY, self.world.now - 2 * DAY
        self.settings = {"start_date": start, "end_date": end}


def everything(warehouse: Warehouse) -> dict[str, Counter[str]]:
    """All rows of all tables, children by their parents' keys, but for the ids of dlt."""
    asked = {
        **{name: f"SELECT * FROM flowiq.{name}" for name in (*TABLES, "rejected_rows", "syncs")},
        "contacts__tags": "SELECT p.id, c.value, c._dlt_list_idx FROM flowiq.contacts__tags c "
        "JOIN flowiq.contacts p ON p._dlt_id = c._dlt_parent_id",
        "reactions": "SELECT p.contact_id, p.id, c.emoji, c.sender, c._dlt_list_idx FROM "
        "flowiq.messages__reactions c JOIN flowiq.messages p ON p._dlt_id = c._dlt_parent_id",
        "sync_status": "SELECT * FROM flowiq.sync_status",
        "current_messages": "SELECT contact_id, id FROM flowiq.current_messages",
    }
    return {
        name: Counter(
            str(sorted((k, v) for k, v in row.items() if k not in OF_DLT and v is not None))
            for row in warehouse.records(sql)
        )
        for name, sql in asked.items()
    }


def asked_for(sandbox: Sandbox) -> Counter[str]:
    """What the last sync asked for, whatever the order."""
    return Counter(str(sorted(request.items())) for request in sandbox.requests)


@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "2"))))
def test_whatever_happens_it_is_as_if_all_was_loaded(
    tmp_path: Path, sandbox: Sandbox, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two warehouses of one business, one of which is loaded each time, never differ."""
    random = Random(seed)
    business, settings = Business(sandbox, random), dict[str, Any]()
    settings |= {"rescan_share": random.choice([0.0, 0.0, 0.1])}
    settings |= {"backend": random.choice(["rows", "pyarrow"])}
    if random.random() < 1 / 4:
        settings |= {"pseudonymise": True, "hash_key": "k" * 32}
    twins = []
    for name in ("idle", "loaded"):
        (tmp_path / name).mkdir()
        twins.append(Warehouse(tmp_path / name))
    idle_syncs = 0
    for step in range(8):
        what = business.happen() if step else "the first"
        found: list[tuple[Any, ...]] = []
        for twin, most in zip(twins, (200, -1), strict=True):
            monkeypatch.setattr(idle, "MOST_CONVERSATIONS", most)
            now = sandbox.world.now + business.ahead
            summary = twin.sync_with(sandbox, now=lambda: now, **settings | business.settings)  # noqa: B023
            summary.seconds = 0
            found.append((summary, asked_for(sandbox), everything(twin)))
        (summary, asked, rows), (full_summary, full_asked, full_rows) = found
        for table, content in rows.items():
            assert content == full_rows[table], f"{table} after {what}, step {step}"
        assert asked == full_asked, f"requests after {what}, step {step}"
        assert summary == full_summary, f"summary after {what}, step {step}"
        idle_syncs = loads(twins[1]) - loads(twins[0])
    assert idle_syncs > 0


def test_what_a_run_learns_of_the_list_is_kept(
    warehouse: Warehouse, sandbox: Sandbox, crowd: list[Contact]
) -> None:
    """A count that is wrong from now on has the list read twice in one sync, not in each."""
    warehouse.sync(sandbox)

    def one_too_many(params: dict[str, str]) -> Reply | None:
        if params["action"] != "contacts":
            return None
        body = json.loads(sandbox.usual_answer(params).body)
        body["pagination"]["totalContacts"] += 1
        return reply_json(200, body)

    sandbox.intercept = one_too_many
    asked = [warehouse.sync(sandbox).requests for _ in range(3)]
    assert asked[0] > asked[1] == asked[2] == 1 + len(crowd)
