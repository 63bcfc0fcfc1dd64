"""The models as dlt's own tools see them."""

from flowiq_source.models import create_models
from flowiq_source.sandbox import Contact, Sandbox
from tests.support.history import write
from tests.support.warehouse import Warehouse


def test_dlt_knows_the_models_beside_the_tables(
    sandbox: Sandbox, alice: Contact, warehouse: Warehouse
) -> None:
    """By name and column, in a schema of their own, whatever is loaded afterwards."""
    write(sandbox, alice, 3)
    for load in (warehouse.sync, warehouse.sync, warehouse.run):
        load(sandbox)
        pipeline = warehouse.pipeline
        create_models(pipeline, warehouse.source(sandbox))
        models = pipeline.dataset(schema="flowiq_models")
        assert {"fct_waits", "fct_backlog", "current_messages"} <= set(models.tables)
        [wait] = models["fct_waits"].select("answered_by", "messages").fetchall()
        assert wait == (None, 3)
        assert models("SELECT party, channel FROM fct_messages LIMIT 1").columns == [
            "party",
            "channel",
        ]
        assert "fct_waits" not in pipeline.default_schema.tables
    kind = "SELECT table_type FROM information_schema.tables WHERE table_name = 'fct_waits'"
    assert warehouse.one(kind) == "VIEW"
