"""SIGKILL at any point of a run; the next run leaves what the API shows, nothing twice."""

import itertools
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
from tests.support.history import expected, loaded, write
from tests.support.killed_sync import CHANGE, DROPPING, POINTS, REWINDING
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
    warehouse: Warehouse, sandbox: Sandbox, point: str = "", passes: int = 0
) -> subprocess.Popen[bytes]:
    """A sync in a process of its own."""
    folder = str(warehouse.folder / "pipelines")
    arguments = [folder, str(warehouse.file), sandbox.url, point, str(passes)]
    environment = os.environ | {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "PYTHONPATH": str(SCRIPT.parents[2]),
    }
    return subprocess.Popen(
        [sys.executable, SCRIPT, *arguments], env=environment, stderr=subprocess.DEVNULL
    )


def assert_next_run_equals_the_api(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """Row for row, child row for child row."""
    assert warehouse.sync(sandbox, package=4).complete
    assert loaded(warehouse) == expected(sandbox)
    keys = {
        "messages": "tenant_id, id",
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


LOST = ("before load", "when load jobs have started", "between packages")


@pytest.mark.parametrize(
    ("point", "lost_folder"), [*((p, False) for p in POINTS), *((p, True) for p in LOST)]
)
def test_a_kill_at_a_named_point_loses_and_doubles_nothing(
    warehouse: Warehouse, busy: Sandbox, point: str, lost_folder: bool
) -> None:
    """In the second of three packages, with the working folder kept or lost as in a container.

    Tables are made in the first alone: later they are there.
    """
    passes = 0 if point == "before the tables are made" else 1
    assert start(warehouse, busy, point, passes).wait() == -signal.SIGKILL
    if lost_folder:
        warehouse.pipeline.drop()
    assert_next_run_equals_the_api(warehouse, busy)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("between dlt's two notes that a load begins", "when a package is marked as loaded"),
        *itertools.product(("when a job is done", "when a package is marked as loaded"), REWINDING),
    ],
)
def test_a_load_that_is_killed_twice_loses_and_doubles_nothing(
    warehouse: Warehouse, busy: Sandbox, first: str, second: str
) -> None:
    """Where neither of dlt's notes says that it has begun, and while it is put back."""
    for point in (first, second):
        assert start(warehouse, busy, point).wait() == -signal.SIGKILL
    assert_next_run_equals_the_api(warehouse, busy)


@pytest.mark.parametrize("point", DROPPING)
@pytest.mark.parametrize("first", ["", "before the tables are made"])
def test_a_kill_while_the_working_folder_is_dropped_loses_and_doubles_nothing(
    warehouse: Warehouse, busy: Sandbox, first: str, point: str
) -> None:
    """By a second sync, whether the first has ended or left a package for a new warehouse."""
    start(warehouse, busy, first).wait()
    write_to_all(busy)
    assert start(warehouse, busy, point).wait() == -signal.SIGKILL
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
