"""Destinations that a test loads for itself: those whose server or package is there."""

import importlib
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dlt
import duckdb as engine
import pytest

from flowiq_source.times import as_utc

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

MARIADB = os.environ.get("FLOWIQ_TEST_MARIADB")
"""The URL of a MariaDB whose user may make databases."""


@contextmanager
def sqlite(folder: Path) -> Iterator[Callable[[], dlt.Pipeline]]:
    """A file in the folder, through sqlalchemy."""
    url = f"sqlite:///{folder / 'values.sqlite'}"
    yield partial(_pipeline, folder, dlt.destinations.sqlalchemy(url), "flowiq")


@contextmanager
def mariadb(folder: Path) -> Iterator[Callable[[], dlt.Pipeline]]:
    """A database that is dropped afterwards, through sqlalchemy."""
    name = f"flowiq_{uuid.uuid4().hex}"
    pipeline = partial(_pipeline, folder, dlt.destinations.sqlalchemy(MARIADB or ""), name)
    yield pipeline
    with pipeline().sql_client() as client:
        for suffix in ("", "_staging"):
            client.execute_sql(f"DROP DATABASE IF EXISTS `{name}{suffix}`")


@contextmanager
def ducklake(folder: Path) -> Iterator[Callable[[], dlt.Pipeline]]:
    """A catalog in a DuckDB file, Parquet files beside it."""
    from dlt.destinations.impl.ducklake.configuration import DuckLakeCredentials  # noqa: PLC0415

    install("ducklake")
    lake = DuckLakeCredentials(
        "lake", catalog=f"duckdb:///{folder / 'catalog.duckdb'}", storage=str(folder / "lake")
    )
    yield partial(_pipeline, folder, dlt.destinations.ducklake(lake), "flowiq")


def install(extension: str) -> None:
    """Give DuckDB an extension out of its package, instead of a download."""
    package = importlib.import_module(f"duckdb_extension_{extension}")
    folder = Path(str(package.__file__)).parent
    [file] = folder.glob(f"extensions/*/{extension}.duckdb_extension")
    with closing(engine.connect()) as connection:
        connection.execute(f"INSTALL '{file}'")


@contextmanager
def files(folder: Path) -> Iterator[Callable[[], dlt.Pipeline]]:
    """Files in the folder."""
    kept = dlt.destinations.filesystem(str(folder / "files"))
    yield partial(_pipeline, folder, kept, "flowiq")


def needs(*packages: str) -> Any:
    """Skips where a package is missing."""
    missing = [package for package in packages if find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"no {missing}: run make destinations")


DATABASES = [
    *DESTINATIONS,
    pytest.param(sqlite, id="sqlite", marks=needs("sqlalchemy")),
    pytest.param(
        mariadb,
        id="mariadb",
        marks=[
            needs("sqlalchemy", "pymysql"),
            pytest.mark.skipif(
                not MARIADB, reason="no MariaDB: run tests/with_mariadb.sh make destinations"
            ),
        ],
    ),
    pytest.param(ducklake, id="ducklake", marks=needs("duckdb_extension_ducklake")),
]
"""Those that answer SQL."""


def shown(pipeline: dlt.Pipeline) -> Counter[tuple[Any, ...]]:
    """What a database says that the API has, as `tests.support.history.expected` has it."""
    with pipeline.sql_client() as client:
        reactions: dict[str, list[tuple[str, str]]] = {}
        table = client.make_qualified_table_name("messages__reactions")
        sql = f"SELECT _dlt_parent_id, emoji, sender FROM {table} ORDER BY _dlt_list_idx"
        for parent, emoji, sender in client.execute_sql(sql) or ():
            reactions.setdefault(parent, []).append((emoji, sender))
        view = client.make_qualified_table_name("current_messages")
        columns = "_dlt_id, whatsapp_id, timestamp, sender, content, status, voice_transcription"
        rows = client.execute_sql(f"SELECT {columns} FROM {view}") or ()
        return Counter(
            (number, as_utc(at), *rest, tuple(reactions.get(key, ())))
            for key, number, at, *rest in rows
        )
