"""Destinations that a test loads for itself: DuckDB always, PostgreSQL where there is one."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dlt
import pytest

Destination = Callable[[Path], AbstractContextManager[Callable[[], dlt.Pipeline]]]
"""From a folder what makes a pipeline, as a new process would."""

SERVER = os.environ.get("FLOWIQ_TEST_POSTGRES")
"""The URL of a database that may be written to."""

NEEDS_POSTGRES = pytest.mark.skipif(
    not SERVER,
    reason="no PostgreSQL: run tests/with_postgres.sh make check, or set FLOWIQ_TEST_POSTGRES "
    "to the URL of a database that may be written to",
)


def _pipeline(folder: Path, destination: Any, dataset: str) -> dlt.Pipeline:
    return dlt.pipeline(
        "values",
        pipelines_dir=str(folder / "pipelines"),
        destination=destination,
        dataset_name=dataset,
    )


@contextmanager
def duckdb(folder: Path) -> Iterator[Callable[[], dlt.Pipeline]]:
    """A file in the folder."""
    file = dlt.destinations.duckdb(str(folder / "values.duckdb"))
    yield partial(_pipeline, folder, file, "flowiq")


@contextmanager
def postgres(folder: Path) -> Iterator[Callable[[], dlt.Pipeline]]:
    """A dataset that is dropped afterwards."""
    # dlt would give another name to one with two underscores in a row.
    name = f"flowiq_{uuid.uuid4().hex}"
    pipeline = partial(_pipeline, folder, dlt.destinations.postgres(SERVER or ""), name)
    yield pipeline
    with pipeline().sql_client() as client:
        for suffix in ("", "_staging"):
            client.execute_sql(f'DROP SCHEMA IF EXISTS "{name}{suffix}" CASCADE')


DESTINATIONS = [
    pytest.param(duckdb, id="duckdb"),
    pytest.param(postgres, id="postgres", marks=NEEDS_POSTGRES),
]
