"""One person is forgotten: nothing of them is in any file, and no sync brings them back."""

import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from flowiq_source import Forgotten, forget, plan, snapshot, verify
from flowiq_source.errors import Busy, ConfigurationError, DestinationError
from flowiq_source.loading.lock import sole_sync
from flowiq_source.rows.privacy import Hasher
from flowiq_source.sandbox import Contact, Sandbox, World
from tests.support.killed_forget import POINTS
from tests.support.people import NUMBER, add_thandiwe
from tests.support.scan import found_in, states_of
from tests.support.warehouse import Warehouse

KEY = "0123456789abcdef" * 2
OLD_NUMBER = "27825550100"
KILLED = Path(__file__).parent / "support" / "killed_forget.py"

PERSONAL = {
    *(NUMBER, OLD_NUMBER, "+27 82 555 0101", "Thandiwe Mkhize", "thandiwe@example.org"),
    *("Thandi-nick", "maybe-Thandiwe", "I am here 1", "I am with others", "Thandiwe-tag"),
}


@pytest.fixture
def thandiwe(sandbox: Sandbox) -> Contact:
    """Somebody of whom every table has a row, and who wrote and reacted elsewhere."""
    world = sandbox.world
    sandbox.dialect = "seed"
    thandiwe = add_thandiwe(
        world,
        tags=["Thandiwe-tag"],
        extra={"nickname": "Thandi-nick", "archived": "maybe-Thandiwe"},
    )
    other = world.add_contact("27825550199", full_name="Somebody Else")
    for n in range(3):
        at = world.now - timedelta(hours=n)
        world.add_message(thandiwe, at, content=f"I am here {n}", reactions=[{"emoji": "x"}])
        world.add_message(other, at, content=f"Else {n}")
    other.messages[0].reactions = [
        {"emoji": "y", "sender": "+27 82 555 0101"},
        {"emoji": "z", "sender": "27825550199"},
    ]
    world.add_message(other, content="I am with others", sender=NUMBER)
    return thandiwe


def forgotten(warehouse: Warehouse, sandbox: Sandbox, **who: Any) -> Forgotten:
    """What is forgotten of somebody."""
    settings = {name: who.pop(name) for name in ("hash_key", "pseudonymise") if name in who}
    source = warehouse.source(sandbox, **{"hash_key": KEY} | settings)
    return forget(warehouse.pipeline, source, **who)


def sync(warehouse: Warehouse, sandbox: Sandbox, **settings: Any) -> Any:
    """A sync that knows the key."""
    return warehouse.sync(sandbox, **{"hash_key": KEY} | settings)


@pytest.fixture
def loaded(warehouse: Warehouse, sandbox: Sandbox, thandiwe: Contact) -> Warehouse:
    """A warehouse that has seen an older number of theirs, and its file as DuckDB leaves it."""
    thandiwe.number, number = OLD_NUMBER, thandiwe.number
    sync(warehouse, sandbox)
    thandiwe.number = number
    sync(warehouse, sandbox, full_refresh=True)
    return warehouse


@pytest.mark.parametrize(
    "who",
    [{"phone": "+27 (82) 555-0101"}, {"phone": OLD_NUMBER}, {"contact": "id"}],
    ids=["a number", "an older number", "an id"],
)
def test_no_file_holds_anything_of_a_person_who_is_forgotten(
    loaded: Warehouse,
    sandbox: Sandbox,
    thandiwe: Contact,
    tmp_path: Path,
    all_logs: Callable[[], str],
    who: dict[str, str],
) -> None:
    """Not the tables, DuckDB's freed blocks, dlt's folder or state; another finds nothing."""
    if "contact" in who:
        who = {"contact": thandiwe.id}
    assert found_in(tmp_path, PERSONAL) == PERSONAL
    assert thandiwe.id in states_of(loaded)
    done = forgotten(loaded, sandbox, **who)
    assert (done.contacts, done.blanked, done.mentions, done.left) == (1, 1, {}, "")
    assert done.rows["messages"] == 3
    assert done.rows["messages__reactions"] == 4
    assert found_in(tmp_path, {thandiwe.id, *PERSONAL}) == set()
    said = states_of(loaded) + all_logs() + str(done)
    assert [word for word in (thandiwe.id, *PERSONAL) if word in said] == []
    again = forgotten(loaded, sandbox, **who)
    assert (again.contacts, again.rows, again.left) == (0, {}, "")


def test_what_belongs_to_others_stays(
    loaded: Warehouse, sandbox: Sandbox, thandiwe: Contact
) -> None:
    """Their rows, the view, and whatever else lies in the file."""
    loaded.query("CREATE SCHEMA mine; CREATE TABLE mine.notes (id INTEGER PRIMARY KEY, text TEXT)")
    loaded.query(
        "INSERT INTO mine.notes VALUES (1, 'a'); CREATE INDEX by_text ON mine.notes (text)"
    )
    loaded.query("CREATE VIEW mine.all_of_it AS SELECT * FROM flowiq.current_messages, mine.notes")
    where = f"contact_id <> '{thandiwe.id}' AND sender NOT LIKE '27%'"
    theirs = f"SELECT * FROM flowiq.messages WHERE {where} ORDER BY ALL"
    before = loaded.query(theirs)
    mode = loaded.file.stat().st_mode
    assert forgotten(loaded, sandbox, phone=NUMBER).left == ""
    assert loaded.query(theirs) == before
    assert loaded.one("SELECT count(*) FROM mine.all_of_it") == 4
    assert loaded.one("SELECT count(*) FROM duckdb_indexes()") == 1
    assert loaded.file.stat().st_mode == mode
    assert {path.name for path in loaded.folder.iterdir() if path.is_file()} == {loaded.file.name}


@pytest.mark.parametrize("backend", ["rows", "pyarrow"])
def test_no_sync_brings_a_person_back(
    loaded: Warehouse, sandbox: Sandbox, thandiwe: Contact, tmp_path: Path, backend: str
) -> None:
    """Nor what they do in others' conversations; nothing is missing, and nothing is read again."""
    forgotten(loaded, sandbox, phone=NUMBER)
    sandbox.world.advance(timedelta(days=1))
    sandbox.world.add_message(thandiwe, content="I am here 1")
    other = sandbox.world.find("27825550199")
    assert other
    sandbox.world.add_message(other, content="I am with others", sender="+27 82 555 0101")
    for full_refresh in (False, True):
        summary = sync(loaded, sandbox, backend=backend, full_refresh=full_refresh)
        assert (summary.complete, summary.forgotten, summary.read) == (True, 1, 1)
        assert found_in(loaded.folder / loaded.file.name, PERSONAL) == set()
        assert found_in(tmp_path, PERSONAL) == set()
    assert loaded.query("SELECT DISTINCT sender FROM flowiq.messages__reactions") == [
        ("27825550199",)
    ]
    assert loaded.one("SELECT count(*) FROM flowiq.contacts") == 1
    source = loaded.source(sandbox, hash_key=KEY)
    assert verify(loaded.pipeline, source).differences == []
    assert verify(loaded.pipeline, source, from_last_sync=True).differences == []
    assert plan(loaded.pipeline, source).quiet == 0


def test_a_number_of_theirs_under_another_contact_is_theirs(
    loaded: Warehouse, sandbox: Sandbox, thandiwe: Contact, tmp_path: Path
) -> None:
    """Also one that they had before, and also when it is asked for by itself."""
    forgotten(loaded, sandbox, contact=thandiwe.id)
    sandbox.world.delete_contact(thandiwe)
    back = sandbox.world.add_contact(OLD_NUMBER, id="another-id", full_name="Thandiwe Mkhize")
    sandbox.world.add_message(back, content="I am here 1")
    assert sync(loaded, sandbox).forgotten == 1
    assert sync(loaded, sandbox, phone_numbers=[OLD_NUMBER]).unknown_numbers == []
    assert found_in(tmp_path, PERSONAL) == set()


def test_who_has_a_number_now_stays_when_its_former_owner_is_forgotten_by_id(
    loaded: Warehouse, sandbox: Sandbox, thandiwe: Contact
) -> None:
    """By number both would be forgotten: it says so before."""
    heir = sandbox.world.add_contact(OLD_NUMBER, full_name="The Heir")
    sandbox.world.add_message(heir, content="Hello")
    sync(loaded, sandbox)
    assert forgotten(loaded, sandbox, phone=OLD_NUMBER, dry_run=True).contacts == 2
    forgotten(loaded, sandbox, contact=thandiwe.id)
    assert sync(loaded, sandbox).forgotten == 1
    assert loaded.one("SELECT count(*) FROM flowiq.messages WHERE content = 'Hello'") == 1


def test_what_others_wrote_of_a_person_is_named_and_stays(
    loaded: Warehouse, sandbox: Sandbox
) -> None:
    """Nobody but the warehouse's owner can say what is to be done with it."""
    other = sandbox.world.find("27825550199")
    assert other
    sandbox.world.add_message(other, content=f"Ask Thandiwe Mkhize, {NUMBER}")
    sync(loaded, sandbox)
    done = forgotten(loaded, sandbox, phone=NUMBER)
    assert done.mentions == {"messages.content": 1}
    assert "messages.content" in str(done)


def test_states_of_other_pipelines_forget_too_and_other_tenants_do_not(
    loaded: Warehouse, sandbox: Sandbox, thandiwe: Contact
) -> None:
    """A contact of another organisation is another one, though the number is the same."""
    another = Warehouse(loaded.folder, "another")
    another.file = loaded.file
    sync(another, sandbox)
    world = World(contacts=0)
    world.add_message(world.add_contact(NUMBER, id="of-another-tenant"), content="Hello")
    with Sandbox(world, tenant="other", limited=False) as other:
        theirs = Warehouse(loaded.folder, "theirs")
        theirs.file = loaded.file
        sync(theirs, other)
        forgotten(loaded, sandbox, phone=NUMBER)
        assert loaded.one("SELECT count(*) FROM flowiq._dlt_pipeline_state") == 3
        assert thandiwe.id not in states_of(loaded)
        assert "of-another-tenant" in states_of(loaded)
        assert sync(another, sandbox).forgotten == 1
        assert sync(theirs, other).forgotten == 0
    assert loaded.query("SELECT tenant_id, id FROM flowiq.contacts ORDER BY 1")[0] == (
        "other",
        "of-another-tenant",
    )


def test_a_dry_run_counts_and_changes_nothing(loaded: Warehouse, sandbox: Sandbox) -> None:
    """The same counts as the forgetting."""
    before = loaded.table("messages")
    told = forgotten(loaded, sandbox, phone=NUMBER, dry_run=True)
    assert (told.contacts, told.dry_run) == (1, True)
    assert loaded.table("messages") == before
    done = forgotten(loaded, sandbox, phone=NUMBER)
    assert (done.rows, done.blanked) == (told.rows, told.blanked)


def test_a_snapshot_that_has_them_still_is_named(loaded: Warehouse, sandbox: Sandbox) -> None:
    """And what else there may be; a number that nobody has is said to be one."""
    assert forgotten(loaded, sandbox, phone="27825559999", dry_run=True).snapshot == ""
    made = snapshot(loaded.pipeline, loaded.source(sandbox, hash_key=KEY))
    done = forgotten(loaded, sandbox, phone=NUMBER)
    assert done.snapshot == made.file
    assert f"{made.file} is older: make it anew" in str(done)
    assert "reports, exports, backups and FlowIQ" in str(done)
    again = forgotten(loaded, sandbox, phone=NUMBER)
    assert "nobody here has that number or id" in str(again)


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_forget_is_run_again(
    loaded: Warehouse, sandbox: Sandbox, tmp_path: Path, point: str
) -> None:
    """Whatever it had come to, the next one ends it."""
    folder, file = str(loaded.folder / "pipelines"), str(loaded.file)
    killed = subprocess.run(
        [sys.executable, str(KILLED), folder, file, sandbox.url, point, NUMBER], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert forgotten(loaded, sandbox, phone=NUMBER).left == ""
    assert found_in(tmp_path, PERSONAL) == set()
    assert sync(loaded, sandbox).forgotten == 1


def test_a_pseudonymous_warehouse_forgets_by_number_and_by_id(
    tmp_path: Path, sandbox: Sandbox, thandiwe: Contact
) -> None:
    """Where the contact's id is the number's pseudonym, both find it."""
    sandbox.dialect = "overview"
    pseudonym = Hasher(KEY)(NUMBER)
    for who in ({"phone": NUMBER}, {"contact": NUMBER}, {"contact": pseudonym}):
        warehouse = Warehouse(tmp_path, f"by_{'_'.join(who)}_{len(next(iter(who.values())))}")
        sync(warehouse, sandbox, pseudonymise=True)
        assert pseudonym in states_of(warehouse)
        done = forgotten(warehouse, sandbox, pseudonymise=True, **who)
        assert (done.contacts, done.rows["messages"], done.blanked) == (1, 3, 1)
        assert pseudonym not in states_of(warehouse)
        assert sync(warehouse, sandbox, pseudonymise=True).forgotten == 1
        assert warehouse.one("SELECT count(*) FROM flowiq.contacts") == 1


def test_the_only_contact_is_forgotten(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, caplog: pytest.LogCaptureFixture
) -> None:
    """The next sync takes the empty tables for what they are."""
    sandbox.world.add_message(alice, reactions=[{"emoji": "x", "sender": alice.number}])
    sync(warehouse, sandbox)
    forgotten(warehouse, sandbox, phone=alice.number)
    caplog.clear()
    summary = sync(warehouse, sandbox)
    assert (summary.complete, summary.requests, summary.forgotten) == (True, 1, 1)
    assert "read again" not in caplog.text


@pytest.mark.parametrize("key", [None, KEY[::-1]])
def test_without_the_key_no_sync_and_no_forgetting(
    loaded: Warehouse, sandbox: Sandbox, key: str | None
) -> None:
    """The tombstones could not be matched, and those people would come back."""
    forgotten(loaded, sandbox, phone=NUMBER)
    with pytest.raises(PipelineStepFailed, match="hash_key"):
        loaded.sync(sandbox, hash_key=key)
    assert sandbox.requests == []
    with pytest.raises(ConfigurationError, match="hash_key"):
        forgotten(loaded, sandbox, phone=NUMBER, hash_key=key)


@pytest.mark.parametrize(
    ("who", "says"),
    [
        ({}, "one of them"),
        ({"phone": NUMBER, "contact": "a"}, "one of them"),
        ({"phone": "nobody"}, "country code"),
        ({"phone": "12"}, "country code"),
        ({"contact": " "}, "is empty"),
        ({"phone": NUMBER, "hash_key": None}, "hash_key is not set"),
    ],
)
def test_whom_it_cannot_know_it_does_not_forget(
    warehouse: Warehouse, sandbox: Sandbox, who: dict[str, Any], says: str
) -> None:
    """In one line."""
    with pytest.raises(ConfigurationError, match=says):
        forgotten(warehouse, sandbox, **who)


def test_an_empty_dataset_and_a_running_sync_are_named(
    warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """Nobody is forgotten in a dataset that is not the right one, or that is being loaded."""
    with pytest.raises(ConfigurationError, match="sync first"):
        forgotten(warehouse, sandbox, phone=NUMBER)
    with sole_sync(warehouse.pipeline), pytest.raises(Busy):
        forgotten(warehouse, sandbox, phone=NUMBER)


def test_a_file_that_somebody_reads_is_not_forgotten_in_silence(
    loaded: Warehouse, sandbox: Sandbox
) -> None:
    """DuckDB lets nobody write meanwhile."""
    reader = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1], read_only=True); print(); \
sys.stdout.flush(); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", reader, str(loaded.file)], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(DestinationError, match="is open in"):
            forgotten(loaded, sandbox, phone=NUMBER)
        other.kill()
    assert forgotten(loaded, sandbox, phone=NUMBER).contacts == 1


def test_a_copy_keeps_the_version_of_its_file(loaded: Warehouse, sandbox: Sandbox) -> None:
    """Who reads it with an older DuckDB still can."""
    sql = "SELECT tags FROM duckdb_databases() WHERE NOT internal"
    before = loaded.query(sql)
    forgotten(loaded, sandbox, phone=NUMBER)
    assert loaded.query(sql) == before
    with duckdb.connect(str(loaded.file), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM flowiq.contacts").fetchall() == [(1,)]
