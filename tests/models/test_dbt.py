"""The dbt package is the models: written from the same SELECTs, and it finds the same rows."""

import json
import os
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pytest

from flowiq_source import flowiq_source, sync
from flowiq_source.models import create_models
from flowiq_source.models.dbt import package
from flowiq_source.models.definitions import NAMES
from flowiq_source.sandbox import Sandbox, World
from tests.support.destinations import NEEDS_POSTGRES, SERVER, postgres
from tests.support.destinations import duckdb as in_duckdb
from tests.support.script import ROOT

DBT = ROOT / ".venv-dbt" / "bin" / "dbt"
NEEDS_DBT = pytest.mark.skipif(not DBT.exists(), reason="no dbt: make dbt installs it")


def test_the_package_is_not_stale() -> None:
    """Else: python -m flowiq_source.models.dbt."""
    there = {name: (ROOT / "dbt" / name).read_text("utf-8") for name in package()}
    assert there == package()


def test_the_package_reads_what_the_connector_loads() -> None:
    """Every model by `ref`, every table by `source`."""
    for name in NAMES:
        text = package()[f"models/{name}.sql"]
        assert "{{ source(" in text or "{{ ref(" in text
        assert not any(f" {other} AS " in text for other in NAMES)


def build(folder: Path, target: str, dataset: str, settings: dict[str, str]) -> None:
    """Build and test everything, and ask how fresh the data is."""
    options = ["--profiles-dir", ".", "--target", target, "--target-path", str(folder)]
    options += ["--vars", json.dumps({"flowiq_schema": dataset})]
    for command in (["build"], ["source", "freshness"]):
        done = subprocess.run(
            [str(DBT), *command, *options],
            cwd=ROOT / "dbt",
            env=os.environ | settings | {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "WARN" not in done.stdout.replace("WARN=0", "")


def load(pipeline: Any) -> None:
    """Load a business, and make the models."""
    with Sandbox(World(contacts=6), limited=False) as api:
        source = flowiq_source(api.token, api.tenant, api.url, requests_per_minute=1e6)
        sync(pipeline, source)
        create_models(pipeline, source)


def differing(name: str, ours: str, theirs: str) -> str:
    """The query of rows that one of both lacks, apart from columns that depend on the time."""
    columns = {
        "fct_backlog": "waiting_since, closes_at",
        "fct_waits": "waiting_since, wait_seconds",
    }
    columns["fct_agent_waits"] = "waiting_since, wait_seconds, business_wait_seconds"
    columns["fct_delivery_daily"] = "local_date, sent, delivered"
    which = columns.get(name, "*")
    one, two = (f"(SELECT {which} FROM {schema}.{name})" for schema in (ours, theirs))
    return f"SELECT count(*) FROM (({one} EXCEPT {two}) UNION ALL ({two} EXCEPT {one})) d"


@NEEDS_DBT
def test_it_runs_in_duckdb_and_finds_the_same_rows(tmp_path: Path) -> None:
    """With its tests, unit tests and freshness."""
    with in_duckdb(tmp_path) as pipeline:
        load(pipeline())
    file = tmp_path / "values.duckdb"
    build(tmp_path / "target", "duckdb", "flowiq", {"FLOWIQ_DUCKDB": str(file)})
    with closing(duckdb.connect(str(file))) as connection:
        for name in NAMES:
            sql = differing(name, "flowiq", "flowiq_dbt")
            assert connection.execute(sql).fetchall() == [(0,)], name


@NEEDS_DBT
@NEEDS_POSTGRES
def test_it_runs_in_postgresql_and_finds_the_same_rows(tmp_path: Path) -> None:
    """With its tests, unit tests and freshness."""
    server = urlsplit(SERVER or "")
    with postgres(tmp_path) as pipeline:
        made = pipeline()
        load(made)
        settings = {
            "FLOWIQ_PG_HOST": server.hostname or "",
            "FLOWIQ_PG_PORT": str(server.port),
            "FLOWIQ_PG_USER": server.username or "",
            "FLOWIQ_PG_PASSWORD": server.password or "",
            "FLOWIQ_PG_DATABASE": server.path.strip("/"),
        }
        try:
            build(tmp_path / "target", "postgres", made.dataset_name, settings)
            with made.sql_client() as client:
                for name in NAMES:
                    sql = differing(name, made.dataset_name, "flowiq_dbt")
                    assert client.execute_sql(sql) == [(0,)], name
        finally:
            with made.sql_client() as client:
                client.execute_sql("DROP SCHEMA IF EXISTS flowiq_dbt CASCADE")
