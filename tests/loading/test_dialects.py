"""The SQL that is made for warehouses which cannot be had here, read and run as theirs.

sqlglot reads it in the warehouse's dialect, and writes it in DuckDB's, where it must say the same.
"""

from contextlib import closing
from typing import Any

import dlt
import duckdb
import pytest
import sqlglot
from sqlglot import exp

from flowiq_source.loading.destination import Committed
from flowiq_source.loading.tables import TableNames
from flowiq_source.loading.views import deletions, view_selects, view_statements
from flowiq_source.verify import conversation_counts

DIALECTS = ["bigquery", "snowflake", "redshift", "databricks", "motherduck", "clickhouse"]

TABLES = """
CREATE TABLE contacts AS FROM (VALUES
    ('t', 'a', TIMESTAMP '2026-01-02'), ('t', 'b', TIMESTAMP '2026-01-02'),
    ('t', 'c', TIMESTAMP '2026-01-03')) v(tenant_id, id, last_message_at);
CREATE TABLE conversations AS FROM (VALUES
    ('t', 'a', '1', 'complete', 2, 0, 3, TIMESTAMP '2026-01-02'),
    ('t', 'b', '2', 'failed', NULL, NULL, NULL, TIMESTAMP '2026-01-01'),
    ('u', 'a', '1', 'complete', 1, 0, 1, TIMESTAMP '2026-01-01'))
    v(tenant_id, contact_id, whatsapp_id, status, message_count, surplus, scan, last_message_at);
CREATE TABLE messages AS FROM (VALUES
    ('t', 'a', '1', 3, 'x1'), ('t', 'a', '2', 2, 'x2'), ('t', 'a', '3', NULL, 'x3'),
    ('t', 'b', '4', NULL, 'x4'), ('t', 'c', '5', 1, 'x5'), ('u', 'a', '6', 1, 'x6'))
    v(tenant_id, contact_id, id, scan, _dlt_id);
CREATE TABLE messages__reactions AS FROM (VALUES ('x1', 'x1'), ('x2', 'x2'), ('x4', 'x4'))
    v(_dlt_root_id, _dlt_parent_id);
CREATE TABLE contact_identities AS FROM (VALUES
    ('t', 'a', 'phone', '27', TIMESTAMP '2026-01-01'))
    v(tenant_id, contact_id, kind, value, first_seen_at);
CREATE TABLE rejected_rows AS FROM (VALUES
    ('t', 'messages', '1', 'timestamp', 'no time', 'x', TIMESTAMP '2026-01-01'))
    v(tenant_id, table_name, record_id, column_name, reason, raw, first_seen_at);
CREATE TABLE syncs AS FROM (VALUES
    ('t', TIMESTAMP '2026-01-02', TIMESTAMP '2026-01-02', 'incremental', true, 5),
    ('t', TIMESTAMP '2026-01-03', NULL, 'incremental', NULL, 7))
    v(tenant_id, started_at, ended_at, kind, complete, requests);
CREATE TABLE _dlt_loads AS FROM (VALUES ('1')) v(load_id);
"""


class Reader:
    """A client of a warehouse that reads its dialect, and asks a DuckDB."""

    def __init__(self, destination: str, connection: Any) -> None:
        self.capabilities = getattr(dlt.destinations, destination)().capabilities()
        self.connection = connection

    @property
    def dialect(self) -> str:
        """As sqlglot has it."""
        return str(self.capabilities.sqlglot_dialect)

    def escape_column_name(self, name: str) -> str:
        """As dlt does, upper case where the warehouse has it."""
        return str(self.capabilities.escape_identifier(self.capabilities.casefold_identifier(name)))

    make_qualified_table_name = escape_column_name

    def execute_query(self, sql: str, *values: Any) -> Any:
        """What DuckDB says to it."""
        quoted = [f"'{value}'" for value in values]
        [tree] = sqlglot.parse(sql.replace("%s", "{}").format(*quoted), read=self.dialect)
        assert tree is not None
        assert not list(tree.find_all(exp.Command)), sql
        is_blunt = isinstance(tree, exp.Delete) and not tree.args.get("where")
        assert not is_blunt, "BigQuery deletes nothing without a condition"
        return closing(self.connection.cursor().execute(tree.sql("duckdb")))

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """The rows of a query."""
        with self.execute_query(sql, *values) as cursor:
            return sorted(cursor.fetchall(), key=repr)


@pytest.fixture(params=DIALECTS)
def reader(request: pytest.FixtureRequest) -> Any:
    """A warehouse with messages of two tenants, of which some are gone."""
    with closing(duckdb.connect()) as connection:
        connection.execute(TABLES)
        yield Reader(request.param, connection)


NAMES = TableNames()


def test_the_views_say_the_same_in_every_dialect(reader: Any) -> None:
    """What the API still has, and how each tenant stands; made twice."""
    for name, select in view_selects(reader, NAMES).items():
        view = reader.make_qualified_table_name(name)
        for statement in 2 * view_statements(view, select, reader.dialect):
            reader.rows(statement)
    ids = [row[0] for row in reader.rows("SELECT id FROM current_messages")]
    assert ids == ["1", "4", "5", "6"]
    counts = "SELECT tenant_id, requests, conversations, failed, behind FROM sync_status"
    assert reader.rows(counts) == [("t", 7, 2, 1, 2)]


def test_what_is_gone_is_deleted_in_every_dialect(reader: Any) -> None:
    """Child rows first."""
    for statement in deletions(reader, NAMES, ["messages", "messages__reactions"]):
        reader.rows(statement)
    assert len(reader.rows("SELECT id FROM messages")) == 4
    assert reader.rows("SELECT * FROM messages__reactions") == [("x1", "x1"), ("x4", "x4")]


def test_the_warehouse_can_be_verified_in_every_dialect(reader: Any) -> None:
    """Conversations of one tenant, with the messages that are not gone."""
    assert reader.rows(conversation_counts(reader, NAMES), "t") == [
        ("a", "1", "complete", 2, 0, 1),
        ("b", "2", "failed", None, None, 1),
    ]


def test_a_run_asks_what_it_asks_in_every_dialect(reader: Any) -> None:
    """What is committed, up to which reading, and since when."""
    committed = Committed(reader, "t")
    assert committed.are_loaded(["1"])
    assert not committed.are_loaded(["2"])
    assert not committed.is_empty("messages")
    assert committed.has_children("messages", "messages__reactions")
    assert not Committed(reader, "u").has_children("messages", "messages__reactions")
    assert sorted(committed.conversations("conversations")) == [
        ("a", 3, "complete"),
        ("b", 0, "failed"),
    ]
    readings = committed.readings("messages", unfinished=False)
    assert sorted(readings) == [("a", 3, 3), ("b", 0, 1), ("c", 1, 1)]
    for table, key in {
        "contact_identities": ("contact_id", "kind", "value"),
        "rejected_rows": ("table_name", "record_id", "column_name", "reason", "raw"),
    }.items():
        assert len(committed.first_seen(table, key)) == 1
