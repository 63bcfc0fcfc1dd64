"""SIGKILL at any point of a run; the next run leaves what the API shows, nothing twice."""

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from flowiq_source.sandbox import Reply, Sandbox
from flowiq_source.sync import begin
from tests.support.history import expected, loaded, message_requests, write
from tests.support.killed_sync import BEGINNING, CHANGE, NOTHING_NEW, POINTS
from tests.support.warehouse import Warehouse

KILLS = int(os.environ.get("KILLS", "3"))
SCRIPT = Path(__file__).parents[1] / "support" / "killed_sync.py"


@pytest.fixture
def busy(sandbox: Sandbox) -> Sandbox:
    """Nine conversations in three packages, one of several pages, in rows without ids."""
    for n in range(9):
        write(
            sandbox, sandbox.world.add_contact(f"2782000{n:04d}", tags=["a"]), 120 if n == 2 else 4
        )
        sandbox.world.contacts[n].messages[0].reactions = [{"emoji": "👍", "sender": "1"}]
    return sandbox


def write_to_all(sandbox: Sandbox) -> None:
    """A new message in every conversation."""
    sandbox.world.advance(timedelta(minutes=5))
    for contact in sandbox.world.contacts:
        sandbox.world.add_message(contact, content="new")


def start(
    warehouse: Warehouse,
    sandbox: Sandbox,
    point: str = "",
    passes: int = 0,
    backend: str = "rows",
) -> subprocess.Popen[bytes]:
    """A sync in a process of its own."""
    folder = str(warehouse.folder / "pipelines")
    arguments = [folder, str(warehouse.file), sandbox.url, point, str(passes), backend]
    environment = os.environ | {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "PYTHONPATH": str(SCRIPT.parents[2]),
    }
    return subprocess.Popen(
        [sys.executable, SCRIPT, *arguments], env=environment, stderr=subprocess.DEVNULL
    )


def assert_next_run_equals_the_api(
    warehouse: Warehouse, sandbox: Sandbox, backend: str = "rows"
) -> None:
    """Row for row, child row for child row."""
    assert warehouse.sync(sandbox, package=4, backend=backend).complete
    assert loaded(warehouse) == expected(sandbox)
    keys = {
        "messages": "tenant_id, contact_id, id",
        "messages__reactions": "_dlt_parent_id, _dlt_list_idx",
        "contact_identities": "tenant_id, contact_id, kind, value",
        "contacts": "tenant_id, id",
        "conversations": "tenant_id, contact_id",
        "_dlt_loads": "load_id",
    }
    for table, key in keys.items():
        twice = f"SELECT {key} FROM flowiq.{table} GROUP BY {key} HAVING count(*) > 1"
        assert warehouse.query(twice) == []
    contacts = len(sandbox.world.contacts)
    assert warehouse.one("SELECT count(*) FROM flowiq.contacts") == contacts
    assert warehouse.one("SELECT count(*) FROM flowiq.contacts__tags") == contacts
    assert warehouse.one("SELECT count(*) FROM flowiq.conversations") == contacts
    in_view = warehouse.one("SELECT count(*) FROM flowiq.current_messages")
    assert in_view == expected(sandbox).total()


LOST = ("before load", "when load jobs have started", "between packages")


@pytest.mark.parametrize(
    ("point", "lost_folder", "backend"),
    [
        *((point, False, "rows") for point in POINTS),
        *((point, True, "pyarrow") for point in LOST),
    ],
)
def test_a_kill_at_a_named_point_loses_and_doubles_nothing(
    warehouse: Warehouse, busy: Sandbox, point: str, lost_folder: bool, backend: str
) -> None:
    """In the second of three packages, with the working folder kept or lost as in a container.

    Tables are made in the first alone, and old states deleted once, after the last.
    """
    passes = 0 if "tables are made" in point or "old states" in point else 1
    assert start(warehouse, busy, point, passes, backend).wait() == -signal.SIGKILL
    if lost_folder:
        shutil.rmtree(warehouse.folder / "pipelines")
    assert_next_run_equals_the_api(warehouse, busy, backend)


@pytest.mark.parametrize("point", NOTHING_NEW)
def test_a_kill_of_a_sync_that_finds_nothing_new_leaves_all_of_it_or_nothing(
    warehouse: Warehouse, busy: Sandbox, point: str
) -> None:
    """The times of all rows and the row of `syncs` are written together."""
    warehouse.sync(busy)
    assert start(warehouse, busy, point).wait() == -signal.SIGKILL
    last = "SELECT count(DISTINCT s.started_at), {} FROM flowiq.syncs s, flowiq.conversations v"
    is_seen = "min(v.synced_at) > max(s.started_at)"
    is_committed = point == "when what was seen is committed"
    assert warehouse.query(last.format(is_seen)) == [(1 + is_committed, True)]
    assert_next_run_equals_the_api(warehouse, busy)
    assert warehouse.one("SELECT count(*) FROM flowiq._dlt_loads") == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("between dlt's two notes that a load begins", "when a package is marked as loaded"),
        ("when a job's rows are committed", "when a job is done"),
        ("before load", "when load jobs have started"),
    ],
)
def test_a_load_that_is_killed_twice_loses_and_doubles_nothing(
    warehouse: Warehouse, busy: Sandbox, first: str, second: str
) -> None:
    """Where neither of dlt's notes says that it has begun, and again with rows of the first."""
    for point in (first, second):
        assert start(warehouse, busy, point).wait() == -signal.SIGKILL
        write_to_all(busy)
    # The first finishes the run that was killed, the second sees what changed behind it.
    warehouse.sync(busy)
    assert_next_run_equals_the_api(warehouse, busy)


@pytest.mark.parametrize("point", BEGINNING)
@pytest.mark.parametrize("first", ["", "when load jobs have started"])
def test_a_kill_while_a_sync_begins_loses_and_doubles_nothing(
    warehouse: Warehouse, busy: Sandbox, first: str, point: str
) -> None:
    """The second sync, whether the first has ended or left a package."""
    start(warehouse, busy, first, passes=1 if first else 0).wait()
    write_to_all(busy)
    assert start(warehouse, busy, point).wait() == -signal.SIGKILL
    warehouse.sync(busy)
    assert_next_run_equals_the_api(warehouse, busy)


@pytest.mark.parametrize("whole", [False, True])
def test_what_a_killed_load_brought_and_the_api_lost_does_not_stay(
    warehouse: Warehouse, busy: Sandbox, whole: bool
) -> None:
    """Its rows carry the number of a reading that no cursor knows.

    The count and the first page are then what they were before the killed run.
    """
    warehouse.sync(busy, package=4)
    write_to_all(busy)
    assert start(warehouse, busy, "before a package is complete").wait() == -signal.SIGKILL
    brought = warehouse.one("SELECT count(*) FROM flowiq.messages WHERE content = 'new'")
    assert brought > 0
    for contact in busy.world.contacts:
        busy.world.delete_message(contact, contact.messages[-1])
    assert_next_run_equals_the_api(warehouse, busy)
    # And that is the end of it.
    warehouse.sync(busy, full_refresh=whole)
    assert loaded(warehouse) == expected(busy)
    if not whole:
        assert message_requests(busy) == 9


def test_a_schema_update_that_was_killed_half_way_is_mended(
    warehouse: Warehouse, busy: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Some tables are not there, and the stored hash says that they are."""
    assert start(warehouse, busy, "before load").wait() == -signal.SIGKILL
    for table in ("messages__reactions", "rejected_rows", "contacts__tags", "conversations"):
        warehouse.query(f"DROP TABLE flowiq.{table}")
    assert_next_run_equals_the_api(warehouse, busy)
    warehouse.query("DROP TABLE flowiq.rejected_rows")
    assert_next_run_equals_the_api(warehouse, busy)
    assert "made again, because the destination lacked them: rejected_rows" in caplog.text


def files_of(warehouse: Warehouse) -> list[Path]:
    """The files in the working folder, relative to it."""
    folder = warehouse.folder / "pipelines" / warehouse.name
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", ["empty", "gone"])
@pytest.mark.parametrize("point", ["before load", "before normalize"])
def test_a_damaged_working_folder_does_not_stop_a_sync(
    tmp_path: Path, busy: Sandbox, point: str, damage: str
) -> None:
    """Every file of it, as a killed run and a machine that lost its power leave it.

    `dlt.pipeline` itself cannot open one with an empty state.json; the script can.
    """
    killed = Warehouse(tmp_path / "killed")
    killed.folder.mkdir()
    assert start(killed, busy, point, passes=1).wait() == -signal.SIGKILL
    files = files_of(killed)
    assert len(files) > 5
    unreadable: set[str] = set()
    for number, name in enumerate(files):
        warehouse = Warehouse(shutil.copytree(killed.folder, tmp_path / f"copy {number}"))
        path = warehouse.folder / "pipelines" / warehouse.name / name
        path.unlink()
        if damage == "empty":
            path.touch()
        try:
            pipeline = warehouse.pipeline
        except ValueError:
            unreadable.add(str(name))
            continue
        begin(pipeline, warehouse.source(busy))
        assert not pipeline.has_pending_data
    # Those the script survives.
    assert unreadable <= {"state.json", "schemas/flowiq.schema.json"}
    warehouse = Warehouse(killed.folder)
    assert_next_run_equals_the_api(warehouse, busy)


def test_a_kill_before_any_change_of_a_file_loses_and_doubles_nothing(
    tmp_path: Path, busy: Sandbox
) -> None:
    """KILLS sets before how many; a second sync makes some 600, and 500 tries the first 500."""
    synced = Warehouse(tmp_path / "synced")
    synced.folder.mkdir()
    synced.sync(busy, package=4)
    write_to_all(busy)
    for change in Random(7).sample(range(500), KILLS):
        warehouse = Warehouse(shutil.copytree(synced.folder, tmp_path / f"change {change}"))
        assert start(warehouse, busy, CHANGE, change).wait() == -signal.SIGKILL
        assert_next_run_equals_the_api(warehouse, busy)


@pytest.mark.parametrize("request_number", [1, 2, 5, 8])
def test_a_kill_during_extract_loses_and_doubles_nothing(
    warehouse: Warehouse, busy: Sandbox, request_number: int
) -> None:
    """While a request is under way."""
    running: list[subprocess.Popen[bytes]] = []

    def intercept(params: dict[str, str]) -> Reply | None:
        if running and len(busy.requests) == request_number:
            running.pop().kill()
        return None

    busy.intercept = intercept
    running.append(process := start(warehouse, busy))
    assert process.wait() == -signal.SIGKILL
    assert_next_run_equals_the_api(warehouse, busy)


def test_kills_at_random_moments_lose_and_double_nothing(
    warehouse: Warehouse, busy: Sandbox
) -> None:
    """Many in a row on the same warehouse, with changes between them; KILLS sets how many."""
    began = time.monotonic()
    start(warehouse, busy).wait()
    whole_s = time.monotonic() - began
    random = Random(7)
    for n in range(KILLS):
        busy.world.advance(timedelta(minutes=5))
        busy.world.add_message(busy.world.contacts[n % 9], content=f"message {n}")
        process = start(warehouse, busy)
        time.sleep(random.uniform(0.4, 1.0) * whole_s)
        process.kill()
        process.wait()
    # The first finishes the run that was killed, the second sees what changed behind it.
    warehouse.sync(busy)
    assert_next_run_equals_the_api(warehouse, busy)
