"""What was deleted is taken out of the database's files: a `DELETE` leaves it there to be read.

DuckDB keeps deleted rows in their blocks, and freed blocks as they were; PostgreSQL keeps dead
rows, and samples of columns among its statistics.
"""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dlt
import duckdb
from dlt.common.schema import Schema
from dlt.destinations.exceptions import DatabaseException

from flowiq_source.loading.destination import Client, sql_of
from flowiq_source.loading.undocumented import client_of

LOCK_TIMEOUT_S = 60

_ANYTHING = {
    "text": "''",
    "character varying": "''",
    "bigint": "0",
    "boolean": "false",
    "timestamp with time zone": "now()",
}
"""Some value of the types that columns which cannot be null have."""

_COUNTED = {
    "duckdb_schemas": "NOT internal",
    "duckdb_tables": "NOT internal",
    "duckdb_views": "NOT internal",
    "duckdb_indexes": "true",
    "duckdb_sequences": "true",
    "duckdb_functions": "NOT internal",
    "duckdb_types": "NOT internal",
    "duckdb_constraints": "true",
}
"""What a copy has to have as many of as the file that it is made of."""


def rewrite(pipeline: dlt.Pipeline, schema: Schema, schemas: Collection[str]) -> str:
    """Write the destination's files again without what was deleted; why not, if it cannot be."""
    try:
        if pipeline.destination.destination_type.endswith("postgres"):
            return _vacuum(pipeline, schema, schemas)
        return _rewrite_duckdb(pipeline, schema)
    except (DatabaseException, duckdb.Error, OSError, CopyDiffers) as error:
        # Its text may quote a row.
        return (
            f"{type(error).__name__}: nobody else may have the database open, and there must be "
            "room for a copy of it; forget again when that is so"
        )


class CopyDiffers(Exception):
    """The copy of a DuckDB file lacks something of it."""


def _rewrite_duckdb(pipeline: dlt.Pipeline, schema: Schema) -> str:
    file = duckdb_file(pipeline, schema)
    if file is None:
        return "the destination is an open connection: close it and copy its file yourself"
    rewrite_duckdb(file)
    return ""


def duckdb_file(pipeline: dlt.Pipeline, schema: Schema) -> Path | None:
    """The file that the pipeline loads; None if that is an open connection."""
    credentials = client_of(pipeline, schema).config.credentials
    if credentials.external_conn() is not None or credentials.database == ":memory:":
        return None
    return Path(credentials.database)


def snapshot_of(file: Path) -> Path:
    """Where a copy of a DuckDB file lies, if nobody says otherwise."""
    return file.with_suffix(f".snapshot{file.suffix}")


def rewrite_duckdb(file: Path) -> None:
    """Put a copy of the rows that there are into the file's place.

    The file stays open, so that nobody else writes, until the copy has its name; a kill leaves one
    or the other.

    Raises:
        CopyDiffers: the copy is not the same.
        duckdb.Error: somebody else has the file open, or it cannot be copied.
    """
    file = file.resolve()
    copy = file.with_name(f"{file.name}.rewritten")
    with closing(duckdb.connect(str(file))) as connection:
        connection.execute("CHECKPOINT")
    with copied_duckdb(file, copy):
        if _log_of(file).exists():
            # Somebody has written in between, and was killed: the log would be the copy's.
            raise CopyDiffers
        copy.replace(file)
    # What did not fit into memory, if a process that was killed has left it.
    shutil.rmtree(file.with_name(f"{file.name}.tmp"), ignore_errors=True)


@contextmanager
def copied_duckdb(file: Path, copy: Path) -> Iterator[None]:
    """A copy of the rows that there are, which is whole, and gone if it was not given a name.

    Meanwhile the file stays open to be read, so that nobody else writes.

    Raises:
        CopyDiffers: the copy is not the same.
        duckdb.Error: somebody else writes to the file, or it cannot be copied.
    """
    for left in (copy, _log_of(copy)):
        left.unlink(missing_ok=True)
    try:
        with closing(duckdb.connect()) as connection:
            connection.execute(f"ATTACH '{_quoted(file)}' AS old (READ_ONLY)")
            version = _storage_version(connection)
            connection.execute(f"ATTACH '{_quoted(copy)}' AS new{version}")
            connection.execute("COPY FROM DATABASE old TO new")
            _compare(connection)
            connection.execute("DETACH new")
            shutil.copymode(file, copy)
            yield
    finally:
        copy.unlink(missing_ok=True)


def _quoted(file: Path) -> str:
    return os.fspath(file).replace("'", "''")


def _log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.wal")


def _storage_version(connection: Any) -> str:
    """The option that makes the copy one for the same versions of DuckDB."""
    sql = "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'old'"
    try:
        [[version]] = connection.execute(sql).fetchall()
    except duckdb.Error:
        return ""
    return f" (STORAGE_VERSION '{str(version).split('+')[0]}')" if version else ""


def _compare(connection: Any) -> None:
    for what, which in _COUNTED.items():
        counts = [
            connection.execute(
                f"SELECT count(*) FROM {what}() WHERE database_name = '{name}' AND {which}"  # noqa: S608
            ).fetchall()
            for name in ("old", "new")
        ]
        if counts[0] != counts[1]:
            raise CopyDiffers
    sql = "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'old'"
    for names in connection.execute(sql).fetchall():
        table = ".".join('"' + name.replace('"', '""') + '"' for name in names)
        counts = [
            connection.execute(f"SELECT count(*) FROM {name}.{table}").fetchall()  # noqa: S608
            for name in ("old", "new")
        ]
        if counts[0] != counts[1]:
            raise CopyDiffers


def _vacuum(pipeline: dlt.Pipeline, schema: Schema, schemas: Collection[str]) -> str:
    with sql_of(pipeline, schema) as client:
        if client is None:
            return ""
        client.execute_sql(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
        for name in schemas:
            for table in _tables(client, name):
                _forget_samples(client, table)
                client.execute_sql(f"VACUUM (FULL, ANALYZE) {table}")
        try:
            # Samples of the columns, of which the newest are those of the tables as they are now.
            client.execute_sql("VACUUM FULL pg_statistic")
        except DatabaseException:
            return (
                "the samples of columns in pg_statistic wait for PostgreSQL's own vacuum, "
                "because the user may not vacuum them"
            )
    return ""


def _forget_samples(client: Client, table: str) -> None:
    """Have PostgreSQL sample a table that is empty now: else it keeps the samples of before."""
    if client.execute_sql(f"SELECT 1 FROM {table} LIMIT 1"):  # noqa: S608
        return
    needed = client.execute_sql(
        "SELECT quote_ident(attname), format_type(atttypid, NULL) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND attnotnull AND NOT attisdropped",
        table,
    )
    columns: dict[str, str] = {row[0]: row[1] for row in needed or ()}
    if not _ANYTHING.keys() >= set(columns.values()):
        return
    names, values = ", ".join(columns), ", ".join(_ANYTHING[kind] for kind in columns.values())
    what = f"({names}) VALUES ({values})" if columns else "DEFAULT VALUES"
    # Nobody else sees the row.
    with client.begin_transaction():
        [[row]] = client.execute_sql(f"INSERT INTO {table} {what} RETURNING ctid::text") or ()
        client.execute_sql(f"ANALYZE {table}")
        client.execute_sql(f"DELETE FROM {table} WHERE ctid = %s::tid", row)  # noqa: S608


def _tables(client: Client, schema_name: str) -> list[str]:
    sql = "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables WHERE schemaname = %s"
    return sorted(row[0] for row in client.execute_sql(sql, schema_name) or ())
