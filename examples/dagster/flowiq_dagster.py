"""FlowIQ in Dagster: copy this file into your code location, and name your tenants.

Each tenant is a partition. Its token is the environment variable `FLOWIQ_TOKEN_<TENANT>`; a
tenant whose token is missing fails its own runs and nothing else. `FLOWIQ_TENANTS=acme,north` are
static partitions; without it, partitions are dynamic, and tenants are added in Dagster:
`instance.add_dynamic_partitions("flowiq_tenants", ["acme"])`.

DuckDB files lie in `FLOWIQ_FOLDER`; `DESTINATION_TYPE=postgres` and
`DESTINATION__POSTGRES__CREDENTIALS` load all tenants into one dataset instead.

One run per tenant at a time: `dagster.yaml` beside this file has Dagster queue the second. Without
it the second run fails with who is at it, because `sync` holds a lock.
"""

import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import dagster as dg
import dlt
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from flowiq_source import diagnosis, flowiq_source, sync, tenant_suffix

TENANTS = [tenant for tenant in os.environ.get("FLOWIQ_TENANTS", "").split(",") if tenant]
FOLDER = os.environ.get("FLOWIQ_FOLDER", ".")
STALE_AFTER = timedelta(hours=6)

PARTITIONS: dg.PartitionsDefinition = (
    dg.StaticPartitionsDefinition(TENANTS)
    if TENANTS
    else dg.DynamicPartitionsDefinition(name="flowiq_tenants")
)
LINEAGE = {
    "contacts": [],
    "contact_identities": ["contacts"],
    "messages": ["contacts"],
    "conversations": ["contacts", "messages"],
    "rejected_rows": ["contacts", "messages"],
    "syncs": ["conversations"],
    "current_messages": ["messages", "conversations"],
    "sync_status": ["syncs", "contacts", "conversations"],
}
"""What each table and view is made of."""


def token_of(tenant: str) -> str:
    """The tenant's secret; put a look-up in your vault here."""
    name = f"FLOWIQ_TOKEN_{re.sub('[^A-Z0-9]', '_', tenant.upper())}"
    if name not in os.environ:
        raise dg.Failure(f"{name} is not set", allow_retries=False)
    return os.environ[name]


def pipeline_of(tenant: str) -> dlt.Pipeline:
    """The tenant's pipeline: a DuckDB file each, or one dataset for all in another destination."""
    suffix, kind = tenant_suffix(tenant), os.environ.get("DESTINATION_TYPE", "duckdb")
    file = {"credentials": f"{FOLDER}/flowiq{suffix}.duckdb"} if kind == "duckdb" else {}
    layout = f"%s_staging{suffix}"
    return dlt.pipeline(
        f"flowiq_pipeline{suffix}",
        destination=dlt.destination(kind, staging_dataset_name_layout=layout, **file),
        dataset_name="flowiq",
        progress=dlt.progress.log(30, dump_system_stats=False),
    )


@dg.multi_asset(
    specs=[
        dg.AssetSpec(["flowiq", table], deps=[["flowiq", name] for name in made_of])
        for table, made_of in LINEAGE.items()
    ],
    check_specs=[dg.AssetCheckSpec("everything_was_read", asset=["flowiq", "conversations"])],
    name="flowiq",
    group_name="flowiq",
    partitions_def=PARTITIONS,
    pool="flowiq",  # its limit, if you set one, is how many tenants load at once
    retry_policy=dg.RetryPolicy(max_retries=2, delay=60, backoff=dg.Backoff.EXPONENTIAL),
)
def flowiq(
    context: dg.AssetExecutionContext,
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Load what is new of one tenant; a retry goes on from what was committed."""
    tenant = context.partition_key
    token = token_of(tenant)
    try:
        source = flowiq_source(token, tenant, backend="pyarrow")
        summary = sync(pipeline_of(tenant), source)
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
        # Dagster would have the retry policy try again what somebody has terminated.
        raise dg.Failure("terminated: what was committed stays", allow_retries=False) from None
    except Exception as error:
        status, text = diagnosis(error)
        raise dg.Failure(text, allow_retries=status == 1) from error
    context.log.info(str(summary))
    facts = summary.as_dict()
    written = facts.pop("rows")
    for table in LINEAGE:
        metadata = {"tenant": tenant, "rows_written": written.get(table, 0)}
        metadata |= facts if table == "conversations" else {}
        yield dg.MaterializeResult(asset_key=["flowiq", table], metadata=metadata)
    yield dg.AssetCheckResult(
        passed=summary.complete,
        asset_key=["flowiq", "conversations"],
        check_name="everything_was_read",
        description=str(summary),
    )


@dg.asset_check(asset=["flowiq", "sync_status"])
def fresh(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Whether no tenant's last complete sync is too long ago, as the warehouse has it."""
    last = {tenant: last_complete_sync(tenant) for tenant in tenants_of(context.instance)}
    limit = datetime.now(timezone.utc) - STALE_AFTER
    return dg.AssetCheckResult(
        passed=all(at is not None and at > limit for at in last.values()),
        metadata={tenant: str(at) for tenant, at in last.items()},
    )


def last_complete_sync(tenant: str) -> datetime | None:
    """When everything of a tenant was last read; None if never."""
    query = "SELECT last_complete_sync_at FROM sync_status WHERE tenant_id = %s"
    try:
        with pipeline_of(tenant).sql_client() as client:
            rows = client.execute_sql(query, tenant)
    except DatabaseUndefinedRelation:
        return None
    return rows[0][0] if rows else None


def tenants_of(instance: dg.DagsterInstance) -> list[str]:
    """Those that have a partition."""
    return list(PARTITIONS.get_partition_keys(dynamic_partitions_store=instance))


flowiq_job = dg.define_asset_job(
    "flowiq_job",
    dg.AssetSelection.assets(flowiq) - dg.AssetSelection.checks(fresh),
    # There is one step: it needs no process beside that of its run.
    executor_def=dg.in_process_executor,
)
freshness_job = dg.define_asset_job("freshness_job", dg.AssetSelection.checks(fresh))


@dg.schedule(job=flowiq_job, cron_schedule="15 * * * *")
def hourly(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
    """A run for each tenant there is."""
    for tenant in tenants_of(context.instance):
        key = f"{tenant} {context.scheduled_execution_time.isoformat()}"
        yield dg.RunRequest(run_key=key, partition_key=tenant)


defs = dg.Definitions(
    assets=[flowiq],
    asset_checks=[fresh],
    jobs=[flowiq_job, freshness_job],
    schedules=[hourly, dg.ScheduleDefinition(job=freshness_job, cron_schedule="45 * * * *")],
)
