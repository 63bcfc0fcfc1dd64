"""What the API still has and what it has no longer, in the destination's SQL.

A message is gone when `synced_at` is older than its conversation's `rescanned_at`.
"""

from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseException
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.sql_client import SqlClientBase

Client = SqlClientBase[Any]


def create_current_messages(pipeline: dlt.Pipeline) -> None:
    """Create the view `current_messages`: `messages` without what the API has no longer.

    In a destination without SQL, and while either table is missing, there is none.
    """
    if not {"messages", "conversations"} <= set(pipeline.default_schema.tables):
        return
    # What dlt calls SQL on files is a DuckDB of its own, where the view would not last.
    destination = pipeline.destination_client()
    if not isinstance(destination, SqlJobClientBase):
        return
    with destination.sql_client as client:
        view = client.make_qualified_table_name("current_messages")
        messages = client.make_qualified_table_name("messages")
        select = f"SELECT m.* FROM {messages} m WHERE NOT {_gone(client)}"  # noqa: S608
        try:
            client.execute_sql(f"CREATE OR REPLACE VIEW {view} AS {select}")
        except DatabaseException:
            # Not every dialect replaces a view, or one whose columns have changed.
            client.execute_sql(f"DROP VIEW IF EXISTS {view}")
            client.execute_sql(f"CREATE VIEW {view} AS {select}")


def delete_gone_messages(pipeline: dlt.Pipeline) -> None:
    """Delete what the API has no longer, child rows first."""
    schema = pipeline.default_schema
    with pipeline.sql_client() as client:
        messages = client.make_qualified_table_name("messages")
        key = client.escape_column_name("_dlt_id")
        root = client.escape_column_name("_dlt_root_id")
        gone = f"SELECT m.{key} FROM {messages} m WHERE {_gone(client)}"  # noqa: S608
        for table in schema.data_table_names(seen_data_only=True):
            if schema.tables[table].get("parent") and table.startswith("messages__"):
                child = client.make_qualified_table_name(table)
                client.execute_sql(f"DELETE FROM {child} WHERE {root} IN ({gone})")  # noqa: S608
        client.execute_sql(f"DELETE FROM {messages} WHERE {key} IN ({gone})")  # noqa: S608


def _gone(client: Client) -> str:
    conversations = client.make_qualified_table_name("conversations")
    tenant, contact, synced, rescanned = (
        client.escape_column_name(name)
        for name in ("tenant_id", "contact_id", "synced_at", "rescanned_at")
    )
    return (
        f"EXISTS (SELECT 1 FROM {conversations} c WHERE c.{tenant} = m.{tenant} "  # noqa: S608
        f"AND c.{contact} = m.{contact} AND m.{synced} < c.{rescanned})"
    )
