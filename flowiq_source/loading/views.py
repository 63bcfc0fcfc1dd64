"""What the API still has and what it has no longer, in the destination's SQL.

A message is gone when the last complete reading of its conversation, whose number is
`conversations.scan`, did not show it: the last reading that did has a lower number in `scan`.
"""

import logging

import dlt
from dlt.destinations.exceptions import DatabaseException, DatabaseUndefinedRelation

from flowiq_source.loading.destination import Client, sql_of
from flowiq_source.loading.tables import TableNames

logger = logging.getLogger("flowiq_source")

VIEW = "current_messages"
LOCK_TIMEOUT_S = 2


def create_current_messages(pipeline: dlt.Pipeline, schema_name: str, names: TableNames) -> None:
    """Create the view `current_messages`: `messages` without what the API has no longer.

    Only where it is missing, or the columns of `messages` have changed: on PostgreSQL a view that
    is replaced waits for everyone who reads it. It is never dropped, because others may depend on
    it. In a destination without SQL there is none.
    """
    with sql_of(pipeline, pipeline.schemas[schema_name]) as client:
        if client is None or _columns(client, VIEW) == (wanted := _columns(client, names.messages)):
            return
        if wanted is None or _columns(client, names.conversations) is None:
            return
        view = client.make_qualified_table_name(VIEW)
        messages = client.make_qualified_table_name(names.messages)
        select = f"SELECT m.* FROM {messages} m WHERE NOT {gone(client, names)}"  # noqa: S608
        try:
            with client.begin_transaction():
                if pipeline.destination.destination_type.endswith("postgres"):
                    client.execute_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")
                client.execute_sql(f"CREATE OR REPLACE VIEW {view} AS {select}")
            logger.debug("the view %s is made", VIEW)
        except DatabaseException as error:
            logger.warning(
                "the view %s stays as it is, because the destination refuses a newer one (%s): the "
                "next sync tries again; if it never can, drop the view and what depends on it",
                VIEW,
                type(error).__name__,
            )


def _columns(client: Client, relation: str) -> list[str] | None:
    """The columns of a table or view; None if there is none that can be read."""
    name = client.make_qualified_table_name(relation)
    try:
        with client.execute_query(f"SELECT * FROM {name} WHERE 1 = 0") as cursor:  # noqa: S608
            return [column[0] for column in cursor.description or ()]
    except (DatabaseUndefinedRelation, DatabaseException):
        return None


def delete_gone_messages(pipeline: dlt.Pipeline, schema_name: str, names: TableNames) -> None:
    """Delete what the API has no longer, child rows first."""
    tables = pipeline.schemas[schema_name].tables
    with sql_of(pipeline, pipeline.schemas[schema_name]) as client:
        if client is None:
            logger.warning("delete_gone: this destination answers no SQL, nothing is deleted")
            return
        if _columns(client, names.conversations) is None:
            logger.warning("delete_gone: no conversations are loaded, nothing is known to be gone")
            return
        messages = client.make_qualified_table_name(names.messages)
        key = client.escape_column_name("_dlt_id")
        root = client.escape_column_name("_dlt_root_id")
        which = f"SELECT m.{key} FROM {messages} m WHERE {gone(client, names)}"  # noqa: S608
        children = [name for name in tables if name.startswith(f"{names.messages}__")]
        with client.begin_transaction():
            for table in children:
                child = client.make_qualified_table_name(table)
                client.execute_sql(f"DELETE FROM {child} WHERE {root} IN ({which})")  # noqa: S608
            client.execute_sql(f"DELETE FROM {messages} WHERE {key} IN ({which})")  # noqa: S608


def gone(client: Client, names: TableNames) -> str:
    """The condition on `messages m` that tells what the API has no longer."""
    conversations = client.make_qualified_table_name(names.conversations)
    tenant, contact, scan = (
        client.escape_column_name(name) for name in ("tenant_id", "contact_id", "scan")
    )
    return (
        f"EXISTS (SELECT 1 FROM {conversations} c WHERE c.{tenant} = m.{tenant} "  # noqa: S608
        f"AND c.{contact} = m.{contact} AND coalesce(m.{scan}, 0) < c.{scan})"
    )
