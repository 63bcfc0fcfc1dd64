"""Dagster's daemon: fifty tenants in two workers, one of which is killed; a run that is ended."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import dlt
import pytest

from flowiq_source.sandbox import Sandbox, Tenant, World
from tests.support.destinations import NEEDS_POSTGRES, SERVER, shown
from tests.support.history import expected

dg = pytest.importorskip(
    "dagster", reason="make orchestrators has it, in an environment of its own"
)

HERE = Path(__file__).parent
PATIENCE_S = 1500
WORKERS = 2

pytestmark = NEEDS_POSTGRES


class Trap:
    """Holds the pages of messages of a tenant until somebody has dealt with its worker."""

    def __init__(self, tenant: str) -> None:
        self.tenant, self.is_in, self.goes_on = tenant, threading.Event(), threading.Event()

    def __call__(self, params: dict[str, str]) -> None:
        """As the sandbox asks before it answers."""
        is_page = params["action"] == "conversation-messages"
        if is_page and params.get("tenantId") == self.tenant and not self.goes_on.is_set():
            self.is_in.set()
            self.goes_on.wait(PATIENCE_S)


class Run(NamedTuple):
    """A run, and when it was under way."""

    id: str
    tenant: str
    status: str
    start: float
    end: float


@dataclass
class Daemon:
    """Dagster's daemon with the example, and the database that everything is loaded into."""

    home: Path
    instance: Any
    environment: dict[str, str]
    warehouse: dlt.Pipeline
    tenants: int

    def load(self) -> None:
        """Have the schedule ask for a run of every tenant, once."""
        before = len(self.runs())
        self.dagster("schedule", "start", "hourly")
        self.wait_until(lambda runs: len(runs) >= before + self.tenants)
        self.dagster("schedule", "stop", "hourly")

    def dagster(self, *command: str) -> None:
        """Run a command of Dagster's."""
        line = [*_program("dagster"), *command, *_example(self.home)]
        environment = os.environ | self.environment
        subprocess.run(line, env=environment, cwd=self.home, check=True, timeout=PATIENCE_S)

    def runs(self) -> list[Run]:
        """All that were ever asked for."""
        return [
            Run(
                record.dagster_run.run_id,
                record.dagster_run.tags["dagster/partition"],
                record.dagster_run.status.value,
                record.start_time,
                record.end_time,
            )
            for record in self.instance.get_run_records()
        ]

    def worker_of(self, tenant: str) -> int:
        """The process that is at a tenant."""
        [run] = [r for r in self.runs() if (r.tenant, r.status) == (tenant, "STARTED")]
        told = (re.search(r"pid: (\d+)", entry.message) for entry in self.instance.all_logs(run.id))
        return int(next(found[1] for found in told if found))

    def wait_until(self, true: Callable[[list[Run]], bool]) -> list[Run]:
        """The runs when that is so."""
        end_s = time.monotonic() + PATIENCE_S
        while not true(runs := self.runs()):
            assert time.monotonic() < end_s, Counter(run.status for run in runs)
            time.sleep(1)
        return runs


def _program(name: str) -> list[str]:
    return [str(Path(sys.executable).parent / name)]


def _example(home: Path) -> list[str]:
    return ["-f", str(home / "flowiq_dagster.py")]


@contextmanager
def daemon(home: Path, sandbox: Sandbox) -> Iterator[Daemon]:
    """It runs until the end of the block."""
    settings = (HERE / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(settings + "telemetry:\n  enabled: false\n")
    example = (HERE / "flowiq_dagster.py").read_text()
    (home / "flowiq_dagster.py").write_text(example.replace('"15 * * * *"', '"* * * * *"'))
    names = [tenant.slug for tenant in sandbox.tenants]
    with database() as url, dg.DagsterInstance.from_config(str(home)) as instance:
        # Where a pool has its default limit, the first look at the queue knows of none.
        instance.event_log_storage.set_concurrency_slots("flowiq", WORKERS)
        environment = {
            **{f"FLOWIQ_TOKEN_{name.upper()}": f"fiq_{name}" for name in names},
            "FLOWIQ_TENANTS": ",".join(names),
            "DAGSTER_HOME": str(home),
            "DESTINATION_TYPE": "postgres",
            "DESTINATION__POSTGRES__CREDENTIALS": url,
            "DLT_DATA_DIR": str(home / "dlt"),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "SOURCES__FLOWIQ__BASE_URL": sandbox.url,
            "SOURCES__FLOWIQ__REQUESTS_PER_MINUTE": "1000000",
        }
        postgres = dlt.destinations.postgres(url)
        warehouse = dlt.pipeline("warehouse", destination=postgres, dataset_name="flowiq")
        line = [*_program("dagster-daemon"), "run", *_example(home)]
        with (home / "daemon.log").open("w") as log:
            process = subprocess.Popen(
                line, env=os.environ | environment, cwd=home, stdout=log, stderr=log
            )
            try:
                yield Daemon(home, instance, environment, warehouse, len(names))
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE_S)


@contextmanager
def database() -> Iterator[str]:
    """The URL of one that is dropped afterwards."""
    name = f"flowiq_{uuid.uuid4().hex}"
    server = dlt.pipeline("server", destination=dlt.destinations.postgres(SERVER or ""))
    with server.sql_client() as client:
        client.native_connection.autocommit = True
        client.execute_sql(f"CREATE DATABASE {name}")
        yield re.sub("/[^/]*$", f"/{name}", SERVER or "")
        client.execute_sql(f"DROP DATABASE {name} WITH (FORCE)")


def test_two_workers_load_fifty_tenants_though_one_is_killed(tmp_path: Path) -> None:
    """Its run is run again, and the warehouse equals the API."""
    tenants = [Tenant(f"t{n:02}", World(2, n)) for n in range(50)]
    with (
        Sandbox(World(1), tenants=tenants, limited=False) as sandbox,
        daemon(tmp_path, sandbox) as running,
    ):
        sandbox.intercept = trap = Trap("t07")
        running.load()
        assert trap.is_in.wait(PATIENCE_S)
        os.kill(running.worker_of("t07"), signal.SIGKILL)
        trap.goes_on.set()
        names = {tenant.slug for tenant in tenants}
        runs = running.wait_until(
            lambda runs: {run.tenant for run in runs if run.status == "SUCCESS"} == names
        )
        assert [run.tenant for run in runs if run.status == "FAILURE"] == ["t07"]
        done = [run for run in runs if run.end]
        assert max(sum(one.start <= run.start < one.end for one in done) for run in done) == WORKERS
        truth = sum((expected(tenant) for tenant in tenants), Counter())  # type: ignore[arg-type]
        assert shown(running.warehouse) == truth


def test_a_run_that_is_terminated_ends_and_the_next_one_loads_the_rest(tmp_path: Path) -> None:
    """Though the API never answers."""
    tenant = Tenant("acme", World(3))
    with (
        Sandbox(World(1), tenants=[tenant], limited=False) as sandbox,
        daemon(tmp_path, sandbox) as running,
    ):
        sandbox.intercept = trap = Trap("acme")
        running.load()
        assert trap.is_in.wait(PATIENCE_S)
        [run] = [run for run in running.runs() if run.status == "STARTED"]
        assert running.instance.run_launcher.terminate(run.id)
        running.wait_until(lambda runs: "CANCELED" in {run.status for run in runs})
        assert not trap.goes_on.is_set()
        trap.goes_on.set()
        running.load()
        running.wait_until(lambda runs: "SUCCESS" in {run.status for run in runs})
        assert shown(running.warehouse) == expected(tenant)  # type: ignore[arg-type]
