"""Whether a destination can be written to, found out without leaving anything there."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dlt
import duckdb
from dlt.common.schema import Schema

from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.destination import sql_of, try_to_write
from flowiq_source.loading.undocumented import client_of

_WITH_TABLES = ("duckdb", "postgres")
"""Destinations that make a table of one column as everybody knows it."""


def try_destination(pipeline: dlt.Pipeline, schema: Schema) -> str:
    """Write where a sync would write, under a name of its own; what was found there.

    Raises:
        ConfigurationError: it would not be found by its name.
        Exception: the destination's own, which refuses or is away.
    """
    client = client_of(pipeline, schema)
    _check_names(pipeline, client)
    if file := _file_to_be(pipeline, client):
        _try_folder(file)
        return "the DuckDB file is made by the first sync, and can be"
    with client:
        is_there = client.is_storage_initialized()
    if not is_there:
        _try_dataset(pipeline, schema)
        return "the dataset is made by the first sync, and can be"
    _try_table(pipeline, schema)
    try_to_write(pipeline, schema)
    return "the dataset is there and can be written to"


def _check_names(pipeline: dlt.Pipeline, client: Any) -> None:
    is_file = pipeline.destination.destination_type.endswith(".duckdb")
    if is_file and Path(str(client.config.credentials.database)).stem == pipeline.dataset_name:
        raise ConfigurationError(
            f"the DuckDB file and the dataset are both called {pipeline.dataset_name}, and DuckDB "
            "cannot tell them apart: give one of them another name"
        )


def _file_to_be(pipeline: dlt.Pipeline, client: Any) -> Path | None:
    """The DuckDB file that is not there yet."""
    if not pipeline.destination.destination_type.endswith(".duckdb"):
        return None
    credentials = client.config.credentials
    if credentials.external_conn() is not None or credentials.database == ":memory:":
        return None
    file = Path(credentials.database)
    return None if file.exists() else file


def _try_folder(file: Path) -> None:
    """Make another file where that one would be, or where its folder would."""
    above = next(folder for folder in file.absolute().parents if folder.exists())
    with (
        tempfile.TemporaryDirectory(prefix=".flowiq_check_", dir=above) as folder,
        closing(duckdb.connect(str(Path(folder) / file.name))) as connection,
    ):
        connection.execute("CREATE TABLE made (id bigint)")


def _try_dataset(pipeline: dlt.Pipeline, schema: Schema) -> None:
    with _dataset_named(pipeline, f"{pipeline.dataset_name}_check_{uuid.uuid4().hex[:8]}"):
        client = client_of(pipeline, schema)
    with client:
        client.initialize_storage()
        client.drop_storage()


@contextmanager
def _dataset_named(pipeline: dlt.Pipeline, name: str) -> Iterator[None]:
    before, pipeline.dataset_name = pipeline.dataset_name, name
    try:
        yield
    finally:
        pipeline.dataset_name = before


def _try_table(pipeline: dlt.Pipeline, schema: Schema) -> None:
    if not pipeline.destination.destination_type.endswith(_WITH_TABLES):
        return
    with sql_of(pipeline, schema) as client:
        if client is not None:
            table = client.make_qualified_table_name(f"flowiq_check_{uuid.uuid4().hex[:8]}")
            client.execute_sql(f"CREATE TABLE {table} (id bigint)")
            client.execute_sql(f"DROP TABLE {table}")
