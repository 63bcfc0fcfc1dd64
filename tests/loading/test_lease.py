"""One sync per tenant in a PostgreSQL, from whatever machine; one that was paused is overtaken."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dlt
import pytest

from flowiq_source import Summary, flowiq_source, sync
from flowiq_source.errors import Busy
from flowiq_source.loading.lease import lease
from flowiq_source.sandbox import Sandbox, World
from tests.support.destinations import NEEDS_POSTGRES, SERVER
from tests.support.history import write
from tests.support.script import FLOWIQ, settings_of

psycopg2: Any = pytest.importorskip("psycopg2")
pytestmark = NEEDS_POSTGRES


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[str]:
    """A dataset that is dropped afterwards."""
    name = f"flowiq_{uuid.uuid4().hex}"
    yield name
    ask(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
    ask(f'DROP SCHEMA IF EXISTS "{name}_staging_sandbox" CASCADE')
    ask(f'DROP SCHEMA IF EXISTS "{name}_staging" CASCADE')


def ask(sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query in the server."""
    with closing(psycopg2.connect(SERVER)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def run(api: Sandbox, folder: Path, dataset: str) -> Summary:
    """A sync from a machine of its own."""
    pipeline = machine(folder, dataset)
    return sync(pipeline, flowiq_source(api.token, api.tenant, api.url, requests_per_minute=1e6))


def machine(folder: Path, dataset: str) -> dlt.Pipeline:
    """Its pipeline."""
    return dlt.pipeline(
        f"machine_{folder.name}",
        pipelines_dir=str(folder),
        destination=dlt.destinations.postgres(SERVER or ""),
        dataset_name=dataset,
    )


def start(api: Sandbox, folder: Path, dataset: str) -> subprocess.Popen[str]:
    """The command on another machine."""
    folder.mkdir()
    settings = settings_of(api, folder) | {
        "DESTINATION_TYPE": "postgres",
        "DESTINATION__POSTGRES__CREDENTIALS": SERVER or "",
        "DATASET_NAME": dataset,
    }
    return subprocess.Popen(
        [*FLOWIQ, "sync"], env=os.environ | settings, cwd=folder, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot pause a process")
@pytest.mark.parametrize("ended", [False, True])
def test_a_paused_sync_keeps_others_out_until_its_session_ends_and_then_writes_nothing(
    tmp_path: Path, dataset: str, *, ended: bool
) -> None:
    """The other is told who is at it; what the paused one had read is read again by it."""
    with Sandbox(World(contacts=0), limited=False) as api:
        for n in range(3):
            write(api, api.world.add_contact(f"2782000000{n}"), 3)
        paused = start(api, tmp_path / "one", dataset)

        def pause(params: dict[str, str]) -> None:
            if params["action"] == "conversation-messages":
                api.intercept = None
                os.kill(paused.pid, signal.SIGSTOP)

        api.intercept = pause
        while api.intercept is not None:
            time.sleep(0.05)
        with pytest.raises(Busy, match=f"process {paused.pid} on .* has been doing that since"):
            run(api, tmp_path / "two", dataset)
        if ended:
            # As a server does with the connections of a machine that has gone to sleep.
            ask("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
            assert run(api, tmp_path / "two", dataset).complete
            loads = ask(f'SELECT count(*) FROM "{dataset}"._dlt_loads')
        os.kill(paused.pid, signal.SIGCONT)
        said = paused.communicate(timeout=120)[1]
        assert paused.returncode == int(ended), said
        if ended:
            assert "the session that held its lease was ended" in said
            assert ask(f'SELECT count(*) FROM "{dataset}"._dlt_loads') == loads
        assert ask(f'SELECT count(*) FROM "{dataset}".current_messages') == [(9,)]
        assert run(api, tmp_path / "three", dataset).complete


def test_two_tenants_of_one_dataset_keep_nobody_out(tmp_path: Path, dataset: str) -> None:
    """Each has a lease of its own."""
    with Sandbox(World(contacts=1), limited=False) as api:
        source = flowiq_source(api.token, api.tenant, api.url)
        with lease(machine(tmp_path / "one", dataset), source.schema, "another") as check:
            assert run(api, tmp_path / "two", dataset).complete
            check()
