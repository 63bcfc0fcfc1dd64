"""Many tenants in one process: each complete, whatever becomes of the others."""

import ctypes
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest

from flowiq_source import (
    Outcome,
    Tenant,
    TenantsInterrupted,
    query_tenants,
    read_tenants,
    sync_tenants,
    tenant_pipeline,
)
from flowiq_source.errors import ConfigurationError
from flowiq_source.sandbox import Reply, Sandbox, World
from tests.support.destinations import NEEDS_POSTGRES, SERVER
from tests.support.organisations import (
    a_day_later,
    named,
    organisations,
    secrets_of,
    stored,
    told,
)
from tests.support.script import FLOWIQ, ROOT

Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sandbox]]:
    """A sandbox of organisations, whose secrets are in the environment."""
    running: list[Sandbox] = []

    def start(*names: str, contacts: int = 2) -> Sandbox:
        one = Sandbox(
            World(contacts=0), limited=False, tenants=organisations(names, contacts=contacts)
        )
        running.append(one.__enter__())
        for name, value in secrets_of(one).items():
            monkeypatch.setenv(name, value)
        return one

    yield start
    for one in running:
        one.__exit__(None, None, None)


@pytest.fixture(params=["duckdb", pytest.param("postgres", marks=NEEDS_POSTGRES)])
def ask(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ask]:
    """A destination that is configured, and questions to it."""
    if request.param == "duckdb":
        yield in_file
        return
    psycopg2: Any = pytest.importorskip("psycopg2")
    name = f"flowiq_{uuid.uuid4().hex}"
    monkeypatch.setenv("DESTINATION_TYPE", "postgres")
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", SERVER or "")
    monkeypatch.setenv("DATASET_NAME", name)

    def rows(sql: str) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(SERVER)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.replace("flowiq.", f"{name}."))
            found = list(cursor.fetchall()) if cursor.description else []
        connection.close()
        return found

    yield rows
    schemas = (
        f"SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '{name}%'"
    )
    for (schema,) in rows(schemas):
        rows(f'DROP SCHEMA "{schema}" CASCADE')


def in_file(sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query of the DuckDB file."""
    with duckdb.connect("flowiq_pipeline.duckdb") as connection:
        return connection.execute(sql).fetchall()


EIGHT = ("ada", "bea", "cat", "dot", "eva", "fay", "gil", "hal")


@pytest.mark.models
def test_many_tenants_side_by_side_end_equal_to_the_api(
    api: Callable[..., Sandbox], ask: Ask
) -> None:
    """In one dataset, from the first sync, which makes the tables, to the next with a change."""
    there = api(*EIGHT)
    for _ in range(2):
        summary = sync_tenants(named(there), at_once=4)
        assert (summary.exit_status, summary.counts()) == (0, {"complete": 8}), str(summary)
        assert [one.tenant_id for one in summary.outcomes] == list(EIGHT)
        assert stored(ask) == told(there)
        a_day_later(there)
    [(synced,)] = ask(
        "SELECT count(*) FROM flowiq.sync_status WHERE last_complete_sync_at > '2000-01-01'"
    )
    assert synced == 8
    [(asked,)] = ask("SELECT count(DISTINCT tenant_id) FROM flowiq.fct_messages")
    assert asked == 8


WRONG = """
[ada]
secret = "sources.flowiq.tokens.ada"

[unset]
secret = "sources.flowiq.tokens.nobody"

[bare]

[leaked]
secret = "fiq_ada"

[refused]
secret = "refused_by_the_api"

[misspelt]
secret = "sources.flowiq.tokens.ada"
max_request = 3

[wrong]
secret = "sources.flowiq.tokens.ada"
lookback_days = "a week"

[doubled]
secret = "sources.flowiq.tokens.ada"
tenant_id = "ada"

[unloadable]
secret = "sources.flowiq.tokens.unloadable"
dataset_name = "flowiq_pipeline"

[odd]
secret = "sources.flowiq.tokens.odd"

[""]
secret = "sources.flowiq.tokens.ada"

[bea]
secret = "sources.flowiq.tokens.bea"
"""

SAID = {
    "ada": (0, "complete"),
    "unset": (2, "SOURCES__FLOWIQ__TOKENS__NOBODY"),
    "bare": (2, "names no secret"),
    "leaked": (2, "not the token itself"),
    "refused": (2, "HTTP 401"),
    "misspelt": (2, "max_request is no setting of a tenant: did you mean max_requests?"),
    "wrong": (2, "lookback_days must be a number"),
    "doubled": (2, "tenant_id is no setting of a tenant"),
    "unloadable": (2, "one name"),
    "odd": (1, "ZeroDivisionError, which nobody foresaw"),
    "": (2, "no id"),
    "bea": (0, "complete"),
}


def test_what_is_wrong_with_one_tenant_stops_no_other(
    api: Callable[..., Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secret, setting, token, dataset, or an error that nobody foresaw."""
    there = api("ada", "unloadable", "odd", "bea")
    monkeypatch.setenv("REFUSED_BY_THE_API", "fiq_stranger")
    # Nobody's own token stands in for the one that is not there.
    monkeypatch.setenv("SOURCES__FLOWIQ__BEARER_TOKEN", "fiq_bea")
    monkeypatch.setenv("SOURCES__FLOWIQ__TENANT_ID", "bea")
    (tmp_path / "tenants.toml").write_text(WRONG)

    def odd(tenant: Tenant) -> dlt.Pipeline:
        return tenant.pipeline() if tenant.id != "odd" else 1 / 0  # type: ignore[return-value]

    told_at_once: list[Outcome] = []
    tenants = read_tenants(tmp_path / "tenants.toml")
    summary = sync_tenants(tenants, at_once=3, pipeline_of=odd, done=told_at_once.append)
    found = {one.tenant_id: one for one in summary.outcomes}
    assert list(found) == list(SAID)
    for name, (status, text) in SAID.items():
        assert (found[name].exit_status, text in str(found[name])) == (status, True), found[name]
    assert sorted(map(str, told_at_once)) == sorted(map(str, summary.outcomes))
    assert summary.exit_status == 1
    assert "fiq_" not in str(summary)
    assert stored(in_file) == told(there, "ada", "bea")


def test_who_stands_twice_in_the_list_is_not_loaded(api: Callable[..., Sandbox]) -> None:
    """A query may find somebody twice, with other settings: which of them is meant?"""
    there = api("ada", "bea")
    ada, bea = named(there)
    summary = sync_tenants([ada, bea, ada])
    assert [one.status for one in summary.outcomes] == ["failed", "complete", "failed"]
    assert "twice" in summary.outcomes[0].error
    assert stored(in_file) == told(there, "bea")


def test_each_has_its_own_bounds_and_dataset(api: Callable[..., Sandbox]) -> None:
    """What one may not spend, another may."""
    there = api("ada", "bea", contacts=5)
    ada, bea = named(there)
    poor = Tenant(ada.id, ada.secret, {"max_requests": 3}, dataset_name="of_ada")
    summary = sync_tenants([poor, bea])
    [one, other] = (outcome.summary for outcome in summary.outcomes)
    assert one
    assert other
    assert (one.requests, one.carried_over) == (3, 3)
    assert (other.read, other.carried_over) == (5, 0)
    assert stored(in_file) == told(there, "bea")
    assert {tenant for tenant, _ in stored(in_file, "of_ada")} == {"ada"}
    [(staging,)] = in_file(
        "SELECT count(DISTINCT table_schema) FROM information_schema.tables "
        "WHERE table_schema LIKE 'flowiq_staging%'"
    )
    # A thousand tenants' own would make the file slow to open.
    assert staging == 1


class Thread(threading.Thread):
    """A thread that keeps what its target raises, and can be told to raise something."""

    error: BaseException | None = None

    def run(self) -> None:
        """Run it."""
        try:
            super().run()
        except BaseException as error:
            self.error = error

    def interrupt(self, kind: type[BaseException]) -> None:
        """Raise something in it."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self.ident or 0), ctypes.py_object(kind)
        )


def test_who_waits_keeps_no_other_waiting_and_can_be_stopped(api: Callable[..., Sandbox]) -> None:
    """One's limit is spent for a minute; the others end; it is stopped, and one never began."""
    there = api("ada", "bea", "cat", "dot", "eva")
    refused = Reply(429, b"{}", {"Retry-After": "60"})
    there.intercept = lambda params: refused if params["tenantId"] in {"ada", "dot"} else None
    ended: list[str] = []
    thread = Thread(
        target=sync_tenants,
        args=(named(there),),
        kwargs={"at_once": 2, "done": lambda one: ended.append(one.tenant_id)},
    )
    thread.start()
    wait_until(lambda: len(ended) == 2 and any(p["tenantId"] == "dot" for p in there.requests))
    thread.interrupt(KeyboardInterrupt)
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(thread.error, TenantsInterrupted)
    found = {one.tenant_id: one.status for one in thread.error.summary.outcomes}
    assert found == {
        "ada": "interrupted",
        "bea": "complete",
        "cat": "complete",
        "dot": "interrupted",
        "eva": "not begun",
    }
    assert thread.error.summary.exit_status == 130
    assert stored(in_file) == told(there, "bea", "cat")
    there.intercept = None


def wait_until(true: Callable[[], object], within_s: float = 60) -> None:
    """Look again and again, for so long at the most."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_log_says_whose_line_it_is(
    api: Callable[..., Sandbox], caplog: pytest.LogCaptureFixture
) -> None:
    """Also of the threads that read."""
    there = api("ada", "bea")
    for one in there.tenants:
        one.world.add_contact("27829999999")
    broken = Reply(404, b'{"success": false, "error": "Contact not found"}')
    there.intercept = lambda params: (
        broken if params["tenantId"] == "bea" and params["action"] != "contacts" else None
    )
    with caplog.at_level(logging.INFO, "flowiq_source"):
        sync_tenants(named(there))
    lines = [record.getMessage() for record in caplog.records if record.name == "flowiq_source"]
    assert lines
    assert {line.partition(":")[0] for line in lines} == {"bea"}


MEMORY = ROOT / "tests" / "support" / "many_syncs.py"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts memory in other units")
def test_memory_is_that_of_those_that_run_at_once(api: Callable[..., Sandbox]) -> None:
    """Twenty-four tenants, two at a time, take what the first eight took."""
    there = api(*(f"tenant{n}" for n in range(24)), contacts=1)
    lean = {"MALLOC_ARENA_MAX": "2", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    done = subprocess.run(
        [sys.executable, str(MEMORY), *(one.slug for one in there.tenants)],
        env=os.environ | lean | {"PYTHONPATH": str(ROOT), "RUNTIME__DLTHUB_TELEMETRY": "false"},
        capture_output=True,
        text=True,
        check=True,
    )
    peaks_kb = json.loads(done.stdout)
    assert len(peaks_kb) == 24
    # Less than what would be left of one pipeline each.
    assert peaks_kb[-1] - peaks_kb[7] < 16 * 750, peaks_kb


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Run:
    """`flowiq sync` in a folder, with the secrets that are in the environment."""

    def run(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*FLOWIQ, "sync", *words],
            env=os.environ | {"RUNTIME__DLTHUB_TELEMETRY": "false"} | settings,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def file_of(tenants: Iterable[Tenant], more: str = "") -> None:
    """`tenants.toml` in the working folder."""
    tables = (f'[{one.id}]\nsecret = "{one.secret}"\n' for one in tenants)
    Path("tenants.toml").write_text("\n".join([*tables, more]))


def test_the_command_loads_all_tenants(api: Callable[..., Sandbox], command: Run) -> None:
    """Named by an option or a setting; a line each, or one object; 1 where one has failed."""
    there = api("ada", "bea", "cat")
    file_of(named(there))
    done = command("--all", SOURCES__FLOWIQ__TENANTS__FILE="tenants.toml")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        [name, "complete:"] for name in ("ada", "bea", "cat")
    ]
    assert lines[3].startswith("3 tenants       3 complete; 9 requests;")
    file_of(named(there), '[dot]\nsecret = "sources.flowiq.tokens.dot"\n')
    done = command("--tenants", "tenants.toml", "--at-once", "2", "--json", "--max-requests", "2")
    assert done.returncode == 1
    assert done.stderr.startswith("dot: failed: the secret sources.flowiq.tokens.dot is not set")
    said = json.loads(done.stdout)
    assert said["counts"] == {"complete": 3, "failed": 1}
    assert [one["tenant_id"] for one in said["tenants"]] == ["ada", "bea", "cat", "dot"]
    assert [one["summary"]["carried_over"] for one in said["tenants"][:3]] == [1, 1, 1]
    assert said["tenants"][3]["exit_status"] == 2
    assert stored(in_file) == told(there)


@pytest.mark.parametrize(
    ("file", "words", "said"),
    [
        (None, ["--all"], "name the tenants"),
        (None, ["--tenants", "tenants.toml"], "tenants.toml cannot be read (FileNotFoundError)"),
        ("[ada]\nsecret = \n", ["--tenants", "tenants.toml"], "is no TOML, in line 2"),
        ("# nobody\n", ["--tenants", "tenants.toml"], "tenants.toml names no tenant"),
        ("[ada]\n", ["--all", "--phone", "27"], "--phone goes with one tenant"),
        ("[ada]\n", ["--at-once", "2"], "--at-once goes with --all"),
    ],
)
def test_where_nothing_can_be_run_the_command_says_why(
    command: Run, file: str | None, words: list[str], said: str
) -> None:
    """Exit status 2."""
    if file is not None:
        Path("tenants.toml").write_text(file)
    done = command(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("fiel = 'tenants.toml'", "sources.flowiq.tenants.fiel is no setting: did you mean file?"),
        ("at_once = 0", "at_once must be 1 or more"),
        ("file = 'tenants.toml'\nquery = 'SELECT 1'", "are both set"),
    ],
)
def test_a_wrong_setting_of_the_list_is_refused(
    command: Run, folder: Path, settings: str, said: str
) -> None:
    """Exit status 2."""
    (folder / "config.toml").write_text(f"[sources.flowiq.tenants]\n{settings}\n")
    done = command("--all")
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_ctrl_c_says_who_was_done_who_was_stopped_and_who_had_not_begun(
    api: Callable[..., Sandbox], tmp_path: Path
) -> None:
    """In the one object too; the same command goes on from there."""
    there = api("ada", "bea", "cat")
    file_of(named(there))
    asked = threading.Event()

    def silent(params: dict[str, str]) -> Reply | None:
        if params["tenantId"] != "bea":
            return None
        asked.set()
        return Reply(200, b"", delay_s=30)

    there.intercept = silent
    process = subprocess.Popen(
        [*FLOWIQ, "sync", "--tenants", "tenants.toml", "--at-once", "1", "--json"],
        env=os.environ | {"RUNTIME__DLTHUB_TELEMETRY": "false"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert asked.wait(60)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    found = {one["tenant_id"]: one["status"] for one in json.loads(out)["tenants"]}
    assert found == {"ada": "complete", "bea": "interrupted", "cat": "not begun"}
    there.intercept = None
    assert sync_tenants(named(there)).complete
    assert stored(in_file) == told(there)


def test_a_query_of_the_warehouse_names_the_tenants(
    api: Callable[..., Sandbox], ask: Ask, command: Run
) -> None:
    """Before there is anything in it; null is no setting; a wrong query is exit status 2."""
    there = api("ada", "bea")
    rows = ", ".join(
        f"('{one.id}', '{one.secret}', {most})"
        for one, most in zip(named(there), ("NULL", "2"), strict=True)
    )
    query = f"SELECT * FROM (VALUES {rows}) AS t(id, secret, max_requests) WHERE id NOT LIKE 'z%'"
    done = command("--all", "--json", SOURCES__FLOWIQ__TENANTS__QUERY=query)
    assert done.returncode == 0, done.stderr
    left = [one["summary"]["carried_over"] for one in json.loads(done.stdout)["tenants"]]
    assert left == [0, 1]
    [(status,)] = ask("SELECT count(*) FROM flowiq.sync_status")
    assert status == 2
    done = command("--all", SOURCES__FLOWIQ__TENANTS__QUERY="SELECT 'ada' AS id")
    assert (done.returncode, "finds no id and secret, but id" in done.stderr) == (2, True)


def test_a_query_that_fails_says_why(api: Callable[..., Sandbox]) -> None:
    """As the destination says it."""
    api("ada")
    with pytest.raises(Exception, match="no_such_table"):
        query_tenants(tenant_pipeline(""), "SELECT id, secret FROM no_such_table")
    with pytest.raises(ConfigurationError, match="names no tenant"):
        query_tenants(tenant_pipeline(""), "SELECT 1 AS id, 2 AS secret WHERE false")


def test_nothing_is_left_of_a_tenant_but_its_lock(api: Callable[..., Sandbox]) -> None:
    """Neither in memory nor in dlt's folder: there may be ten thousand."""
    there = api("ada", "bea")
    sync_tenants(named(there))
    pipelines = Path(os.environ["DLT_DATA_DIR"], "pipelines")
    left = sorted(path.name for path in pipelines.iterdir())
    assert left == ["flowiq_pipeline_ada.sync.lock", "flowiq_pipeline_bea.sync.lock"]
    gc.collect()
    alive = [one for one in gc.get_objects() if isinstance(one, dlt.Pipeline)]
    assert not [one for one in alive if one.pipeline_name.endswith(("_ada", "_bea"))]
