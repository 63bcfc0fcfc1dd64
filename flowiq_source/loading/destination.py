"""Questions to the destination: what is committed there is the truth, nothing else.

Where a destination has no SQL of its own, as files have not, there is nothing to ask.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.schema import Schema
from dlt.common.schema.utils import get_root_table
from dlt.destinations.exceptions import DatabaseException, DatabaseUndefinedRelation
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.sql_client import SqlClientBase

from flowiq_source.loading.turns import turn_at
from flowiq_source.loading.undocumented import bring_schema_up_to_date, client_of
from flowiq_source.times import as_utc

logger = logging.getLogger("flowiq_source")

FORGOTTEN = "forgotten"
"""The table of the tombstones that `forget` sets; dlt knows nothing of it."""

CHECKPOINT_MEMORY = "64MB"
"""What DuckDB may take to bring its log into the file: without a bound, more with each part of a
long conversation."""

Client = SqlClientBase[Any]
Rows = list[tuple[Any, ...]]


@contextmanager
def sql_of(pipeline: dlt.Pipeline, schema: Schema) -> Iterator[Client | None]:
    """The SQL client of a schema's dataset; None where there is no SQL."""
    destination = client_of(pipeline, schema)
    # What dlt calls SQL on files is a DuckDB of its own.
    if not isinstance(destination, SqlJobClientBase):
        yield None
        return
    with turn_at(pipeline, schema), destination.sql_client as client:
        yield client


@contextmanager
def held_open(pipeline: dlt.Pipeline, schema: Schema) -> Iterator[None]:
    """Have a DuckDB file open for all steps of the block, so that no other comes between them.

    To open it anew takes longer than most steps do, and whoever closes it last writes it anew.
    """
    is_file = pipeline.destination.destination_type.endswith(".duckdb")
    with sql_of(pipeline, schema) if is_file else nullcontext() as client:
        yield
        if client is not None:
            _write_through(client)


def _write_through(client: Client) -> None:
    """Have DuckDB bring its log into the file with little memory; it would take what there is.

    Where that cannot be done now, the log stays beside the file.
    """
    with suppress(DatabaseException):
        [[limit]] = client.execute_sql("SELECT current_setting('memory_limit')") or [["80%"]]
        try:
            client.execute_sql(f"SET GLOBAL memory_limit = '{CHECKPOINT_MEMORY}'")
            client.execute_sql("CHECKPOINT")
        finally:
            client.execute_sql(f"SET GLOBAL memory_limit = '{limit}'")


def mend_tables(pipeline: dlt.Pipeline, schema: Schema) -> None:
    """Make what is gone of the tables of a schema that was loaded."""
    if made := bring_schema_up_to_date(pipeline, schema):
        logger.warning("made again, because the destination lacked them: %s", ", ".join(made))
    with sql_of(pipeline, schema) as client:
        if client is not None:
            _delete_orphans(client, schema)


def _delete_orphans(client: Client, schema: Schema) -> None:
    """Empty the child tables of an empty table: dlt finds their rows by their parents alone."""
    tables = schema.tables
    roots = {name: str(get_root_table(tables, name)["name"]) for name in tables}
    for root in sorted({root for name, root in roots.items() if root != name}):
        parent = client.make_qualified_table_name(root)
        # A table that never had a row may not be there.
        with suppress(DatabaseUndefinedRelation):
            if client.execute_sql(f"SELECT 1 FROM {parent} LIMIT 1"):  # noqa: S608
                continue
            for name in (name for name in tables if name != root == roots[name]):
                # BigQuery deletes nothing without a condition.
                table = client.make_qualified_table_name(name)
                client.execute_sql(f"DELETE FROM {table} WHERE 1 = 1")  # noqa: S608


def try_to_write(pipeline: dlt.Pipeline, schema: Schema) -> None:
    """Write no row, so that a destination that refuses to be written to says so.

    Raises:
        DatabaseException: it refuses.
    """
    with sql_of(pipeline, schema) as client:
        if client is None:
            return
        loads = client.make_qualified_table_name(schema.loads_table_name)
        # A dataset where there is none yet was just made, or could not be.
        with suppress(DatabaseUndefinedRelation):
            client.execute_sql(f"INSERT INTO {loads} SELECT * FROM {loads} WHERE 1 = 0")  # noqa: S608


@dataclass(frozen=True)
class Committed:
    """What a dataset holds of one tenant."""

    client: Client
    tenant_id: str

    def are_loaded(self, load_ids: Collection[str]) -> bool:
        """Whether load packages were all loaded to their end."""
        sql = "SELECT 1 FROM {_dlt_loads} WHERE load_id = %s"
        return all(self.rows(sql, load_id) for load_id in load_ids)

    def is_empty(self, table: str) -> bool:
        """Whether there is no such table, or none of the tenant's rows in it."""
        name = self.name(table)
        return not self.rows(f"SELECT 1 FROM {name} WHERE tenant_id = %s LIMIT 1", self.tenant_id)  # noqa: S608

    def has_children(self, table: str, child: str) -> bool:
        """Whether any of the tenant's rows has a row in a child table."""
        sql = (
            f"SELECT 1 FROM {self.name(table)} t JOIN {self.name(child)} c "  # noqa: S608
            "ON c._dlt_parent_id = t._dlt_id WHERE t.tenant_id = %s LIMIT 1"
        )
        return bool(self.rows(sql, self.tenant_id))

    def conversations(self, table: str) -> Rows:
        """Contact, number of the last complete reading, and status of every conversation."""
        return self.rows(
            f"SELECT contact_id, coalesce(scan, 0), status FROM {self.name(table)} "  # noqa: S608
            "WHERE tenant_id = %s",
            self.tenant_id,
        )

    def readings(self, messages: str, *, unfinished: bool) -> Rows:
        """Contact, highest number of a reading on its messages, and how many there are.

        With `unfinished`, only of rows of load packages that never came to their end: no cursor
        knows of those.
        """
        left = "AND _dlt_load_id NOT IN (SELECT load_id FROM {_dlt_loads}) " if unfinished else ""
        return self.rows(
            f"SELECT contact_id, coalesce(max(scan), 0), count(*) FROM {self.name(messages)} "  # noqa: S608
            f"WHERE tenant_id = %s {left}GROUP BY contact_id",
            self.tenant_id,
        )

    def first_seen(self, table: str, key: tuple[str, ...]) -> dict[tuple[Any, ...], Any]:
        """When each row of a table that keeps its first time was first seen, by the key given."""
        # Redshift has a word `raw` of its own.
        columns = ", ".join(map(self.client.escape_column_name, key))
        found = self.rows(
            f"SELECT {columns}, first_seen_at FROM {self.name(table)} WHERE tenant_id = %s",  # noqa: S608
            self.tenant_id,
        )
        return {row[:-1]: row[-1] and as_utc(row[-1]) for row in found}

    def has_numbers(self, table: str) -> bool:
        """Whether a table has a number that is not hashed."""
        return bool(
            self.rows(
                f"SELECT 1 FROM {self.name(table)} WHERE tenant_id = %s "  # noqa: S608
                "AND length(whatsapp_id) < 32 LIMIT 1",
                self.tenant_id,
            )
        )

    def tombstones(self) -> Rows:
        """The hashes by which forgotten people are known, and the id of the key of each."""
        return self.rows(
            f"SELECT value, key_id FROM {self.name(FORGOTTEN)} WHERE tenant_id = %s",  # noqa: S608
            self.tenant_id,
        )

    def rows(self, sql: str, *values: Any) -> Rows:
        """The rows of a query; none where a table in it does not exist."""
        loads = self.client.make_qualified_table_name("_dlt_loads")
        try:
            with self.client.execute_query(sql.replace("{_dlt_loads}", loads), *values) as cursor:
                return [tuple(row) for row in cursor.fetchall()]
        except DatabaseUndefinedRelation:
            return []

    def records(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """The same with the names of the columns."""
        try:
            with self.client.execute_query(sql, *values) as cursor:
                names = [column[0].lower() for column in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except DatabaseUndefinedRelation:
            return []

    def name(self, table: str) -> str:
        """The table's name in SQL."""
        return self.client.make_qualified_table_name(table)
