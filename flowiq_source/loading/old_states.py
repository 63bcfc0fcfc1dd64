"""States that a newer one has replaced, deleted from the destination; dlt reads none of them.

With every load package dlt adds a row with the cursors of all conversations, and deletes none.
DuckDB writes that table again at every checkpoint, which takes more time and memory with each.
"""

import dlt
from dlt.destinations.exceptions import DatabaseException
from dlt.destinations.job_client_impl import SqlJobClientBase

from flowiq_source.api.client import logger
from flowiq_source.loading.undocumented import client_of


def delete_old_states(pipeline: dlt.Pipeline) -> None:
    """Leave only the pipeline's newest state in the destination."""
    client = client_of(pipeline, pipeline.default_schema)
    if isinstance(client, SqlJobClientBase):
        try:
            _delete_states_before_the_newest(client, pipeline.pipeline_name)
        except DatabaseException as error:
            # The package is loaded all the same; perhaps nothing can be deleted there.
            logger.warning("dlt's old states stay where they are: %s", type(error).__name__)


def _delete_states_before_the_newest(client: SqlJobClientBase, pipeline_name: str) -> None:
    schema = client.schema
    with client.sql_client as sql:
        states, loads = map(
            sql.make_qualified_table_name, (schema.state_table_name, schema.loads_table_name)
        )
        load, name, load_id, status = map(
            sql.escape_column_name, ("_dlt_load_id", "pipeline_name", "load_id", "status")
        )
        newest = (
            f"SELECT max(s.{load}) FROM {states} s JOIN {loads} l ON l.{load_id} = s.{load} "  # noqa: S608
            f"WHERE s.{name} = %s AND l.{status} = 0"
        )
        with sql.execute_query(newest, pipeline_name) as found:
            [[loaded]] = found.fetchall()
        old = f"DELETE FROM {states} WHERE {name} = %s AND {load} < %s"  # noqa: S608
        sql.execute_sql(old, pipeline_name, loaded)
