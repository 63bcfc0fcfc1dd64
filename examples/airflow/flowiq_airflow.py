"""FlowIQ in Airflow 3: copy this file into your DAGs folder, and name your tenants.

The variable `flowiq_tenants` is a JSON list, `["acme", "north"]`; a tenant's token is the variable
`flowiq_token_<tenant>`, from Airflow, from the environment (`AIRFLOW_VAR_FLOWIQ_TOKEN_ACME`) or
from your secrets backend. DuckDB files lie in `FLOWIQ_FOLDER`; `DESTINATION_TYPE=postgres` and
`DESTINATION__POSTGRES__CREDENTIALS` load all tenants into one dataset instead.

A scheduled run loads what is new. A backfill loads the messages of each run's data interval:

    airflow backfill create --dag-id flowiq --from-date 2026-01-01 --to-date 2026-01-31

What follows, dbt or a report, is scheduled by the asset: `@dag(schedule=[Asset("flowiq")])`.
"""

import os
from datetime import datetime, timedelta, timezone
from typing import Any

import dlt
from airflow.sdk import (
    Asset,
    CronDataIntervalTimetable,
    Metadata,
    TriggerRule,
    Variable,
    dag,
    task,
)
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from dlt.common.runtime import signals

from flowiq_source import diagnosis, flowiq_source, sync, tenant_suffix

# dlt would ask Airflow's API for a variable of the name of every setting, a thousand times a task;
# "true" brings back what dlt keeps in the variable `dlt_secrets_toml`.
os.environ.setdefault("PROVIDERS__ENABLE_AIRFLOW_SECRETS", "false")

FOLDER = os.environ.get("FLOWIQ_FOLDER") or os.environ.get("AIRFLOW_HOME", ".")
WAREHOUSE = Asset("flowiq")


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


@dag(
    # "@daily" would have an interval without length, and so a backfill nothing to load.
    schedule=CronDataIntervalTimetable("15 2 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
)
def flowiq() -> None:
    """All tenants side by side; one that fails stops no other."""

    @task
    def tenants() -> list[str]:
        return list(Variable.get("flowiq_tenants", deserialize_json=True))

    @task(outlets=[WAREHOUSE], max_active_tis_per_dagrun=8, map_index_template="{{ tenant }}")
    def load(tenant: str, **context: Any) -> Any:
        context["tenant"] = tenant
        interval = {
            "start_date": context["data_interval_start"],
            "end_date": context["data_interval_end"],
        }
        is_backfill = context["dag_run"].run_type == "backfill"
        try:
            token = Variable.get(f"flowiq_token_{tenant}")
            source = flowiq_source(
                token, tenant, backend="pyarrow", **(interval if is_backfill else {})
            )
            # Airflow itself goes on when it is told to end, until it is killed five seconds later.
            with signals.intercepted_signals():
                summary = sync(pipeline_of(tenant), source)
        except (Exception, KeyboardInterrupt) as error:
            status, text = diagnosis(error)
            # A retry goes on from what was committed; a wrong setting stays wrong.
            is_final = status in {2, 130}
            raise (AirflowFailException if is_final else AirflowException)(text) from error
        print(summary)
        facts = {"tenant": tenant} | summary.as_dict()
        if not summary.complete:
            raise AirflowException(str(summary))
        yield Metadata(WAREHOUSE, extra=facts)
        return facts

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def report(tenants: list[str], summaries: list[dict[str, Any]]) -> int:
        loaded = {summary["tenant"]: summary for summary in summaries or []}
        for tenant, summary in loaded.items():
            print(f"{tenant}: {summary['newer']} new messages, {summary['requests']} requests")
        if missing := [tenant for tenant in tenants if tenant not in loaded]:
            raise AirflowFailException(f"not loaded: {', '.join(missing)}")
        return sum(summary["requests"] for summary in loaded.values())

    names = tenants()
    report(names, load.expand(tenant=names))


flowiq_dag = flowiq()
