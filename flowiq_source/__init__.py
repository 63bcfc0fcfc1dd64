"""FlowIQ's WhatsApp contacts and messages as a dlt source.

    import dlt
    from flowiq_source import flowiq_source, sync

    print(sync(dlt.pipeline("flowiq_pipeline", destination="duckdb", dataset_name="flowiq"),
               flowiq_source()))

The way of a message, each step in its room: `source.py` and `sync.py` (what a user calls),
`loading/` (rows -> dlt -> destination), `reading/` (which pages, what is new), `rows/` (page ->
rows), `api/` (HTTP answer -> page).
"""

from importlib.metadata import version

from flowiq_source.errors import DestinationError, FlowiqError
from flowiq_source.failures import diagnosis
from flowiq_source.forget import Forgotten, forget
from flowiq_source.many import Outcome, TenantsInterrupted, TenantsSummary, sync_tenants
from flowiq_source.models import Models, ModelSettings, create_models
from flowiq_source.plan import Plan, plan
from flowiq_source.roll import query_tenants, read_tenants
from flowiq_source.snapshot import Snapshot, snapshot
from flowiq_source.source import FlowiqSource, flowiq_source
from flowiq_source.status import Status, status
from flowiq_source.sync import Summary, sync
from flowiq_source.tenants import Tenant, tenant_pipeline, tenant_suffix
from flowiq_source.verify import Verification, verify

__all__ = [
    "DestinationError",
    "FlowiqError",
    "FlowiqSource",
    "Forgotten",
    "ModelSettings",
    "Models",
    "Outcome",
    "Plan",
    "Snapshot",
    "Status",
    "Summary",
    "Tenant",
    "TenantsInterrupted",
    "TenantsSummary",
    "Verification",
    "create_models",
    "diagnosis",
    "flowiq_source",
    "forget",
    "plan",
    "query_tenants",
    "read_tenants",
    "snapshot",
    "status",
    "sync",
    "sync_tenants",
    "tenant_pipeline",
    "tenant_suffix",
    "verify",
]

__version__ = version("flowiq-source")
