"""Tables that lie in files: a DuckDB in memory answers questions to them, and copies nothing big.

Parquet files are only appended to; of the rows with one key the newest counts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import dlt
import duckdb
import pyarrow as pa
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.schema.utils import get_columns_names_with_prop
from dlt.extract import DltSource

from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.destination import Client, sql_of
from flowiq_source.loading.undocumented import client_of
from flowiq_source.settings import Settings

if TYPE_CHECKING:
    from dlt.destinations.impl.filesystem.filesystem import FilesystemClient

_ASKED = (
    *("tenant_id", "contact_id", "id", "scan", "timestamp", "last_message_at", "status"),
    *("message_count", "surplus", "synced_at", "first_seen_at", "whatsapp_id"),
    *("kind", "value", "table_name", "record_id", "column_name", "reason", "raw"),
    *("_dlt_load_id", "_dlt_id", "_dlt_parent_id"),
)
"""The columns that questions are about: no text of a message is read for them."""


def are_files(pipeline: dlt.Pipeline) -> bool:
    """Whether the pipeline's destination is a folder of files."""
    return pipeline.destination.destination_type.endswith("filesystem")


def are_appended(pipeline: dlt.Pipeline, settings: Settings) -> bool:
    """Whether that are files to which rows are only appended."""
    return are_files(pipeline) and settings.table_format is None


def write_as(source: DltSource, file_format: str) -> None:
    """Have dlt write one format, where it would write JSON lines of rows and Parquet of Arrow."""
    for resource in source.resources.values():
        resource.apply_hints(file_format=file_format)  # type: ignore[arg-type] # "" is none


def check_abilities(pipeline: dlt.Pipeline, settings: Settings, *, delete_gone: bool) -> None:
    """Find out before anything is spent what the destination cannot do.

    Raises:
        ConfigurationError: it does not know the format, or deletes nothing.
    """
    name, wanted = pipeline.destination.destination_name, settings.table_format
    if wanted and wanted not in (pipeline.destination.capabilities().supported_table_formats or ()):
        raise ConfigurationError(
            f'sources.flowiq.table_format is "{wanted}", and {name} does not load that: leave '
            "it out, or load files (destination_type filesystem)"
        )
    if delete_gone and are_files(pipeline):
        raise ConfigurationError(
            f"delete_gone deletes by SQL, and {name} answers none: leave it out; what is gone has "
            "a lower scan than its conversation (docs/destinations.md)"
        )


@contextmanager
def answers_of(pipeline: dlt.Pipeline, source: DltSource) -> Iterator[Client | None]:
    """SQL on a source's dataset, by the destination or on its files; None where there is none."""
    if not are_files(pipeline):
        with sql_of(pipeline, source.schema) as client:
            yield client
        return
    # It is not computed yet when a run begins.
    with client_of(pipeline, source.discover_schema()) as client, sql_on(client) as answers:
        yield answers


@contextmanager
def sql_on(client: "FilesystemClient") -> Iterator[Client]:
    """SQL on the tables of a folder, with the newest row of each key."""
    memory: Any = dlt.destinations.duckdb(duckdb.connect())
    config = memory.spec()._bind_dataset_name(client.dataset_name)  # noqa: SLF001 - dlt's own way
    with memory.client(client.schema, config).sql_client as sql:
        sql.create_dataset()
        loads = pa.table({"load_id": pa.array(_loaded(client), pa.string())})
        _view(sql, client.schema.loads_table_name, loads)
        # Parents first.
        for name in sorted(client.schema.data_table_names(), key=len):
            # A table that has had no row is not there.
            with suppress(DestinationUndefinedEntity):
                _show(sql, client, name)
        yield sql


def _show(sql: Any, client: "FilesystemClient", name: str) -> None:
    table = client.schema.tables[name]
    if table.get("table_format") == "delta":
        delta = client.load_open_table("delta", name)
        _view(sql, name, delta.to_pyarrow_table(columns=_asked(delta.schema().fields)))
    elif table.get("table_format") == "iceberg":
        iceberg = client.load_open_table("iceberg", name)
        _view(sql, name, iceberg.scan(selected_fields=_asked(iceberg.schema().fields)).to_arrow())
    elif parent := table.get("parent"):
        rows = sql.make_qualified_table_name(parent)
        which = f"WHERE _dlt_parent_id IN (SELECT _dlt_id FROM {rows})"  # noqa: S608
        _view(sql, name, _parquet(client, name), which)
    else:
        keys = ", ".join(get_columns_names_with_prop(table, "primary_key"))
        newest = f"row_number() OVER (PARTITION BY {keys} ORDER BY _dlt_load_id DESC) = 1"
        loads = sql.make_qualified_table_name(client.schema.loads_table_name)
        # Those of a load that broke off stay, because nothing can be deleted.
        whole = f"_dlt_load_id IN (SELECT load_id FROM {loads})"  # noqa: S608
        _view(sql, name, _parquet(client, name), f"WHERE {whole} QUALIFY {newest}")


def _asked(fields: Sequence[Any]) -> list[str]:
    return [field.name for field in fields if field.name in _ASKED]


def _view(sql: Any, name: str, rows: Any, which: str = "") -> None:
    sql.native_connection.register(f"{name}_in_files", rows)
    view = sql.make_qualified_table_name(name)
    sql.execute_sql(f'CREATE VIEW {view} AS SELECT * FROM "{name}_in_files" {which}')  # noqa: S608


def _parquet(client: "FilesystemClient", name: str) -> Any:
    """The Parquet files of a table, which may have got columns in between."""
    from pyarrow import dataset  # noqa: PLC0415 - a tenth of a second, and most have no files

    files = client.list_table_files(name)
    if not files:
        raise DestinationUndefinedEntity(name)
    if not all(file.endswith(".parquet") for file in files):
        raise ConfigurationError(
            f"among the files of {name} some are no Parquet: they were written by something else"
        )
    parts = [dataset.dataset(file, filesystem=client.fs_client) for file in files]
    schema = pa.unify_schemas([part.schema for part in parts], promote_options="permissive")
    return dataset.dataset([part.replace_schema(schema) for part in parts], schema)


def _loaded(client: "FilesystemClient") -> list[str]:
    """The load packages that were loaded to their end; dlt keeps a file for each."""
    try:
        files = client.list_table_files(client.schema.loads_table_name)
    except DestinationUndefinedEntity:
        return []
    return [PurePosixPath(file).stem.rpartition("__")[2] for file in files]
