"""The version that a new DuckDB file is written for: an older DuckDB cannot open a newer file.

DuckDB 2.0 writes files that 1.5, which Python 3.10, Node and many BI tools have, does not read.
The version is fixed when a file is made, and whoever writes to it later keeps it.
"""

from contextlib import closing
from pathlib import Path

import dlt
import duckdb
from dlt.common.schema import Schema

from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.undocumented import client_of

EMPTY_BYTES = 20_000
"""A file without a table is smaller."""


def make_file(pipeline: dlt.Pipeline, schema: Schema, version: str) -> None:
    """Make the destination's DuckDB file, where there is none or nothing in it.

    Raises:
        ConfigurationError: DuckDB knows no such version.
    """
    if not pipeline.destination.destination_type.endswith(".duckdb"):
        return
    credentials = client_of(pipeline, schema).config.credentials
    file = Path(credentials.database)
    if credentials.external_conn() is not None or credentials.database == ":memory:":
        return
    if file.exists() and not _is_empty(file):
        return
    file.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        duckdb.connect(str(file), config={"storage_compatibility_version": version}).close()
    except duckdb.InvalidInputException:
        raise ConfigurationError(
            f"sources.flowiq.duckdb_storage_version is no version that DuckDB {duckdb.__version__} "
            'knows: it is written like "v1.2.0", or "latest"'
        ) from None


def _is_empty(file: Path) -> bool:
    """Whether a command that only looked has made it."""
    if file.stat().st_size > EMPTY_BYTES or file.with_name(f"{file.name}.wal").exists():
        return False
    try:
        with closing(duckdb.connect(str(file))) as connection:
            sql = (
                "SELECT count(*) FROM duckdb_schemas() WHERE NOT internal AND schema_name != 'main'"
            )
            sql += " UNION ALL SELECT count(*) FROM duckdb_tables() UNION ALL "
            sql += "SELECT count(*) FROM duckdb_views() WHERE NOT internal"
            return not any(count for (count,) in connection.execute(sql).fetchall())
    except duckdb.Error:
        # It is no DuckDB file, or somebody has it open: the sync will say so.
        return False
