"""What the API still has, what it has no longer, and how syncs stand, in the destination's SQL.

A message is gone when the last complete reading of its conversation, whose number is
`conversations.scan`, did not show it: the last reading that did has a lower number in `scan`.
"""

import logging
from collections.abc import Iterable
from contextlib import nullcontext

import dlt
from dlt.common.schema import Schema
from dlt.destinations.exceptions import DatabaseException, DatabaseUndefinedRelation

from flowiq_source.loading.destination import Client, sql_of
from flowiq_source.loading.tables import TableNames
from flowiq_source.loading.undocumented import LOCK_TIMEOUT_S, column_names, dialect_of

logger = logging.getLogger("flowiq_source")

CURRENT = "current_messages"
STATUS = "sync_status"

STATUS_COLUMNS = [
    *("tenant_id", "last_sync_at", "last_complete_sync_at", "requests", "conversations"),
    *("failed", "doubtful", "missing", "behind", "oldest_unread_at"),
]


def create_views(pipeline: dlt.Pipeline, schema: Schema, names: TableNames) -> None:
    """Create `current_messages`, what the API still has, and `sync_status`, how each tenant stands.

    Only where one is missing, or its columns have changed: on PostgreSQL a view that is replaced
    waits for everyone who reads it. None is ever dropped, because others may depend on it. In a
    destination without SQL there are none.
    """
    with sql_of(pipeline, schema) as client:
        if client is None:
            return
        there = {
            table: columns
            for table in (names.messages, names.conversations, names.contacts, names.syncs)
            if (columns := _columns(client, table)) is not None
        }
        wanted = {CURRENT: there.get(names.messages, []), STATUS: STATUS_COLUMNS}
        for name, select in view_selects(client, names).items():
            if set(_made_of(names)[name]) <= there.keys():
                _create(client, name, wanted[name], select)


def _made_of(names: TableNames) -> dict[str, list[str]]:
    """The tables that each view needs."""
    return {
        CURRENT: [names.messages, names.conversations],
        STATUS: [names.conversations, names.contacts, names.syncs],
    }


def view_selects(client: Client, names: TableNames) -> dict[str, str]:
    """What each view shows, in SQL that every warehouse knows."""
    return {CURRENT: _current_messages(client, names), STATUS: _sync_status(client, names)}


def _create(client: Client, name: str, wanted: list[str], select: str) -> None:
    # Snowflake writes them in capitals.
    if [one.lower() for one in _columns(client, name) or ()] == [one.lower() for one in wanted]:
        return
    view = client.make_qualified_table_name(name)
    try:
        statements = view_statements(view, select, dialect_of(client))
        # BigQuery makes no view in a transaction.
        with client.begin_transaction() if len(statements) > 1 else nullcontext():
            for statement in statements:
                client.execute_sql(statement)
        logger.debug("the view %s is made", name)
    except DatabaseException as error:
        logger.warning(
            "the view %s stays as it is, because the destination refuses a newer one (%s): the "
            "next sync tries again; if it never can, drop the view and what depends on it",
            name,
            type(error).__name__,
        )


def view_statements(view: str, select: str, dialect: str) -> list[str]:
    """What makes a view, or puts another in its place, in the SQL of a dialect."""
    if dialect == "postgres":
        # Who reads the view is not kept waiting for long.
        return [
            f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'",
            f"CREATE OR REPLACE VIEW {view} AS {select}",
        ]
    if dialect == "sqlite":
        # It replaces none; but views that depend on this one look for it by name.
        return [f"DROP VIEW IF EXISTS {view}", f"CREATE VIEW {view} AS {select}"]
    return [f"CREATE OR REPLACE VIEW {view} AS {select}"]


def _current_messages(client: Client, names: TableNames) -> str:
    return f"SELECT m.* FROM {with_conversations(client, names)} WHERE {CURRENT_ROW}"  # noqa: S608


def _sync_status(client: Client, names: TableNames) -> str:
    """One row per tenant: its last sync, and what is not as it should be."""
    contacts, conversations, syncs = map(
        client.make_qualified_table_name, (names.contacts, names.conversations, names.syncs)
    )
    counts = ", ".join(
        f"count(CASE WHEN status = '{one}' THEN 1 END) AS {one}"
        for one in ("failed", "doubtful", "missing")
    )
    return f"""
        SELECT s.tenant_id, s.last_sync_at, s.last_complete_sync_at, l.requests,
               coalesce(v.conversations, 0) AS conversations, coalesce(v.failed, 0) AS failed,
               coalesce(v.doubtful, 0) AS doubtful, coalesce(v.missing, 0) AS missing,
               coalesce(b.behind, 0) AS behind, b.oldest_unread_at
        FROM (SELECT tenant_id, max(started_at) AS last_sync_at,
                     max(CASE WHEN complete AND kind IN ('incremental', 'full') THEN ended_at END)
                         AS last_complete_sync_at
              FROM {syncs} GROUP BY tenant_id) s
        JOIN {syncs} l ON l.tenant_id = s.tenant_id AND l.started_at = s.last_sync_at
        LEFT JOIN (SELECT tenant_id, count(*) AS conversations, {counts}
                   FROM {conversations} GROUP BY tenant_id) v ON v.tenant_id = s.tenant_id
        LEFT JOIN (SELECT c.tenant_id, count(*) AS behind,
                          min(c.last_message_at) AS oldest_unread_at
                   FROM {contacts} c LEFT JOIN {conversations} r
                     ON r.tenant_id = c.tenant_id AND r.contact_id = c.id
                   WHERE r.contact_id IS NULL OR c.last_message_at > r.last_message_at
                   GROUP BY c.tenant_id) b ON b.tenant_id = s.tenant_id"""  # noqa: S608


def _columns(client: Client, relation: str) -> list[str] | None:
    """The columns of a table or view; None if there is none that can be read."""
    name = client.make_qualified_table_name(relation)
    try:
        with client.execute_query(f"SELECT * FROM {name} WHERE 1 = 0") as cursor:  # noqa: S608
            return column_names(cursor)
    except (DatabaseUndefinedRelation, DatabaseException):
        return None


def delete_gone_messages(pipeline: dlt.Pipeline, schema: Schema, names: TableNames) -> None:
    """Delete what the API has no longer, child rows first."""
    with sql_of(pipeline, schema) as client:
        if client is None:
            logger.warning("delete_gone: this destination answers no SQL, nothing is deleted")
            return
        if _columns(client, names.conversations) is None:
            logger.warning("delete_gone: no conversations are loaded, nothing is known to be gone")
            return
        with client.begin_transaction():
            for statement in deletions(client, names, schema.tables):
                client.execute_sql(statement)


def deletions(client: Client, names: TableNames, tables: Iterable[str]) -> list[str]:
    """What deletes the messages that are gone, and before them their rows in child tables."""
    messages = client.make_qualified_table_name(names.messages)
    key = client.escape_column_name("_dlt_id")
    root = client.escape_column_name("_dlt_root_id")
    # MySQL deletes from no table that it selects from, unless that is a table of its own.
    which = (
        f"SELECT k.{key} FROM (SELECT m.{key} FROM {with_conversations(client, names)} "  # noqa: S608
        f"WHERE NOT ({CURRENT_ROW})) k"
    )
    children = [name for name in tables if name.startswith(f"{names.messages}__")]
    return [
        *(
            f"DELETE FROM {client.make_qualified_table_name(child)} WHERE {root} IN ({which})"  # noqa: S608
            for child in children
        ),
        f"DELETE FROM {messages} WHERE {key} IN ({which})",  # noqa: S608
    ]


CURRENT_ROW = "(c.scan IS NULL OR coalesce(m.scan, 0) >= c.scan)"
"""Whether the API still has the message `m` of the conversation `c`."""


def with_conversations(client: Client, names: TableNames) -> str:
    """Messages `m`, each with its conversation `c`.

    A join, because not every warehouse can look for a conversation inside of a condition.
    """
    messages, conversations = map(
        client.make_qualified_table_name, (names.messages, names.conversations)
    )
    return (
        f"{messages} m LEFT JOIN {conversations} c "
        "ON c.tenant_id = m.tenant_id AND c.contact_id = m.contact_id"
    )
