"""The file as a user copies it, in the real Airflow: two tenants, two runs, one that fails."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from examples.conftest import Accounts
from flowiq_source.sandbox import Reply

# Airflow reads its settings when it is first imported.
HOME = Path(tempfile.mkdtemp(prefix="flowiq-airflow-"))
SETTINGS = {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
}
os.environ |= SETTINGS
pytest.importorskip("airflow", reason="make orchestrators has it, in an environment of its own")

EXAMPLE = Path(__file__).with_name("flowiq_airflow.py")


@pytest.fixture(scope="module")
def copied() -> Iterator[ModuleType]:
    """The DAG in its folder, and a database of Airflow's."""
    from airflow.utils.db import initdb  # noqa: PLC0415 - after its settings

    (HOME / "dags").mkdir()
    shutil.copy(EXAMPLE, HOME / "dags")
    initdb()
    sys.path.insert(0, str(HOME / "dags"))
    import flowiq_airflow  # noqa: PLC0415 - it was copied just now

    yield flowiq_airflow
    shutil.rmtree(HOME)


@pytest.fixture(autouse=True)
def variables(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an administrator has set."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"AIRFLOW_VAR_FLOWIQ_{name}", value)
    monkeypatch.setenv("FLOWIQ_FOLDER", str(accounts.folder))


VARIABLES = {
    "TENANTS": '["acme", "north"]',
    "TOKEN_ACME": "fiq_acme",
    "TOKEN_NORTH": "fiq_north",
    "TOKEN_BROKEN": "fiq_wrong",
}


def run(copied: ModuleType, accounts: Accounts, **options: Any) -> Any:
    """One run of the DAG."""
    copied.FOLDER = str(accounts.folder)
    return copied.flowiq_dag.test(**options)


def states(done: Any) -> dict[str, str]:
    """How each task ended, and each of the mapped ones."""
    names = {ti: ti.task_id + (f" {ti.map_index}" * (ti.map_index >= 0)) for ti in tasks(done)}
    return {name: str(ti.state) for ti, name in names.items()}


def tasks(done: Any) -> list[Any]:
    """The task instances of a run."""
    return list(done.get_task_instances())


def test_two_tenants_twice_while_a_third_fails(
    copied: ModuleType, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is red and says which tenant is missing; the others equal the API."""
    monkeypatch.setenv("AIRFLOW_VAR_FLOWIQ_TENANTS", '["acme", "north", "broken"]')
    for _ in range(2):
        done = run(copied, accounts)
        assert states(done) == {
            "tenants": "success",
            "load 0": "success",
            "load 1": "success",
            "load 2": "failed",
            "report": "failed",
        }
        # A wrong token is not tried again.
        assert {ti.try_number for ti in tasks(done)} == {1}
        for tenant in ("acme", "north"):
            assert accounts.loaded(tenant) == accounts.at_the_api(tenant)
            assert accounts.query(tenant, "FROM flowiq.current_messages")
        accounts.a_day_passes()


def test_the_summary_goes_to_the_next_task_and_to_the_asset(
    copied: ModuleType, accounts: Accounts, capfd: pytest.CaptureFixture[str]
) -> None:
    """As XCom and as the metadata of the asset's event; the log has the progress."""
    from airflow.models.asset import AssetEvent  # noqa: PLC0415 - after its settings
    from airflow.utils.session import create_session  # noqa: PLC0415

    done = run(copied, accounts)
    assert done.state == "success"
    [report] = [ti for ti in tasks(done) if ti.task_id == "report"]
    assert report.xcom_pull(task_ids="report") == len(accounts.sandbox.requests)
    with create_session() as session:
        events = session.query(AssetEvent).filter_by(source_run_id=done.run_id).all()
        told = {event.extra["tenant"]: event.extra for event in events}
        assert {event.asset.name for event in events} == {"flowiq"}
    for tenant in ("acme", "north"):
        assert told[tenant]["rows"]["messages"] == accounts.at_the_api(tenant).total()
    said = capfd.readouterr().out
    assert "Extract flowiq" in said
    assert "Conversations: 3/3" in said


def test_a_backfill_loads_its_data_interval(
    copied: ModuleType, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-open, of a day's length, and without the cursors."""
    from airflow.models import dagrun  # noqa: PLC0415 - after its settings
    from airflow.utils.types import DagRunType  # noqa: PLC0415

    make = dagrun.get_or_create_dagrun

    def make_backfill(**options: Any) -> Any:
        made = make(**options)
        made.run_type = DagRunType.BACKFILL_JOB
        options["session"].commit()
        return made

    # What `airflow backfill create` makes; dag.test makes manual runs alone.
    monkeypatch.setattr(dagrun, "get_or_create_dagrun", make_backfill)
    end = datetime(2026, 2, 28, 2, 15, tzinfo=timezone.utc)
    run(copied, accounts, logical_date=end)
    for tenant in ("acme", "north"):
        there = [(at, text) for _, at, _, text, *_ in accounts.at_the_api(tenant)]
        wanted = [row for row in there if end - timedelta(days=1) <= row[0] < end]
        loaded = accounts.query(tenant, "SELECT timestamp, content FROM flowiq.messages")
        assert wanted
        assert sorted(loaded) == sorted(wanted)


PROGRAM = "import flowiq_airflow; flowiq_airflow.flowiq_dag.test()"


def test_marked_as_failed_it_ends_and_the_next_run_loads_everything(
    copied: ModuleType, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow sends SIGTERM to the process of the task, here while the API is silent."""
    monkeypatch.setenv("AIRFLOW_VAR_FLOWIQ_TENANTS", '["acme"]')
    asked, over = threading.Event(), threading.Event()

    def is_silent(_: dict[str, str]) -> Reply | None:
        asked.set()
        over.wait(60)
        return None

    accounts.sandbox.intercept = is_silent
    environment = os.environ | SETTINGS | accounts.environment
    environment |= {"PYTHONPATH": os.pathsep.join([str(HOME / "dags"), *filter(None, sys.path)])}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert asked.wait(60)
        process.send_signal(signal.SIGTERM)
        try:
            said, _ = process.communicate(timeout=20)
        finally:
            process.kill()
            over.set()
    assert "AirflowFailException: interrupted" in said, said
    accounts.sandbox.intercept = None
    assert run(copied, accounts).state == "success"
    assert accounts.loaded("acme") == accounts.at_the_api("acme")
