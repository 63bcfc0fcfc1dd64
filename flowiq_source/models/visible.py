"""The models as dlt knows tables: in a schema of their own, which loads nothing.

So `pipeline.dataset(schema="flowiq_models")` and dlt's dashboard have their columns. In the schema
of the tables they would be made as tables by the next load.
"""

import dlt
from dlt.common.schema import Schema
from dlt.common.schema.utils import new_table
from dlt.destinations.job_client_impl import SqlJobClientBase

from flowiq_source.loading.undocumented import client_of, keep_schema
from flowiq_source.loading.views import CURRENT
from flowiq_source.models.definitions import CALENDAR, NAMES


def show_to_dlt(pipeline: dlt.Pipeline, schema: Schema) -> None:
    """Keep the models' schema beside that of the tables, in the pipeline's working folder."""
    if pipeline.default_schema_name is None:
        # Where dlt knows no tables yet, it would take the models for all that there is.
        return
    shown = Schema(f"{schema.name}_models")
    with client_of(pipeline, schema) as client:
        if not isinstance(client, SqlJobClientBase):
            return
        for name, columns in client.get_storage_tables([CURRENT, CALENDAR, *NAMES]):
            if columns:
                shown.update_table(new_table(name, columns=list(columns.values())))
    keep_schema(pipeline, shown)
