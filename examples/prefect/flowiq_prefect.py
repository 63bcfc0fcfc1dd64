"""FlowIQ in Prefect 3: copy this file, and name your tenants.

`python flowiq_prefect.py acme north` serves the flow with a schedule; the tenants are its
parameter. A tenant's token is the Secret block `flowiq-token-<tenant>`, or the environment
variable `FLOWIQ_TOKEN_<TENANT>`. DuckDB files lie in `FLOWIQ_FOLDER`; `DESTINATION_TYPE=postgres`
and `DESTINATION__POSTGRES__CREDENTIALS` load all tenants into one dataset instead.

Two runs never load one tenant at the same time: `sync` holds a lock, and the task that finds it
held is tried again. A run that is cancelled ends within seconds.
"""

import ctypes
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dlt
from prefect import flow, get_run_logger, task
from prefect.blocks.system import Secret
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner

from flowiq_source import diagnosis, flowiq_source, sync, tenant_suffix

FOLDER = os.environ.get("FLOWIQ_FOLDER", ".")


class WrongSetting(Exception):
    """Trying again will not help."""


class NotLoaded(Exception):
    """Trying again goes on from what was committed."""


def token_of(tenant: str) -> str:
    """The tenant's secret."""
    variable = f"FLOWIQ_TOKEN_{re.sub('[^A-Z0-9]', '_', tenant.upper())}"
    if token := os.environ.get(variable):
        return token
    block = "flowiq-token-" + re.sub("[^a-z0-9]", "-", tenant.lower())
    try:
        return str(Secret.load(block).get())
    except ValueError:
        raise WrongSetting(f"neither {variable} nor the Secret block {block} is set") from None


def pipeline_of(tenant: str) -> dlt.Pipeline:
    """The tenant's pipeline: a DuckDB file each, or one dataset for all in another destination."""
    suffix, kind = tenant_suffix(tenant), os.environ.get("DESTINATION_TYPE", "duckdb")
    file = {"credentials": f"{FOLDER}/flowiq{suffix}.duckdb"} if kind == "duckdb" else {}
    layout = f"%s_staging{suffix}"
    return dlt.pipeline(
        f"flowiq_pipeline{suffix}",
        destination=dlt.destination(kind, staging_dataset_name_layout=layout, **file),
        dataset_name="flowiq",
        progress=dlt.progress.log(30, get_run_logger(), dump_system_stats=False),
    )


_loading: set[int] = set()
"""The threads that load a tenant."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let `stop_all` end what this thread does."""
    thread = threading.get_ident()
    _loading.add(thread)
    try:
        yield
    finally:
        _loading.discard(thread)


def stop_all() -> None:
    """Interrupt the threads: Prefect would wait for them, and be killed after half a minute."""
    for thread in list(_loading):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)
        )


def may_be_tried_again(_: Any, __: Any, state: Any) -> bool:
    """Whether it was not a setting that is wrong."""
    return not isinstance(state.result(raise_on_failure=False), WrongSetting)


@task(
    task_run_name="load {tenant}",
    retries=2,
    retry_delay_seconds=60,
    retry_condition_fn=may_be_tried_again,
)
def load(tenant: str) -> dict[str, Any]:
    """Load what is new of one tenant."""
    try:
        source = flowiq_source(token_of(tenant), tenant, backend="pyarrow")
        with stoppable():
            summary = sync(pipeline_of(tenant), source)
    except WrongSetting:
        raise
    except Exception as error:
        status, text = diagnosis(error)
        raise (WrongSetting if status == 2 else NotLoaded)(text) from error
    get_run_logger().info("%s\n%s", tenant, summary)
    if not summary.complete:
        raise NotLoaded(str(summary))
    return {"tenant": tenant} | summary.as_dict()


@flow(name="flowiq", task_runner=ThreadPoolTaskRunner(max_workers=8))
def flowiq(tenants: list[str]) -> list[dict[str, Any]]:
    """Load all tenants side by side; one that fails stops no other, and fails the run."""
    loads = load.map(tenants)
    try:
        wait(loads)
    except BaseException:
        stop_all()
        raise
    failed = [tenant for tenant, run in zip(tenants, loads, strict=True) if run.state.is_failed()]
    if failed:
        raise NotLoaded(f"not loaded: {', '.join(failed)}")
    return [run.result() for run in loads]


if __name__ == "__main__":
    flowiq.serve("flowiq", parameters={"tenants": sys.argv[1:]}, cron="15 * * * *")
