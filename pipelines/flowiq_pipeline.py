"""One incremental sync of the configured FlowIQ tenant into the configured destination.

Exit status: 0 everything was read; 1 a conversation or a step failed, run again; 2 a setting or
the credentials are wrong; 130 it was interrupted.
"""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

import dlt
from dlt.common.configuration.exceptions import (
    ConfigFieldMissingException,
    ConfigValueCannotBeCoercedException,
)
from dlt.common.destination.exceptions import UnknownDestinationModule
from dlt.common.exceptions import MissingDependencyException
from dlt.pipeline.exceptions import PipelineStepFailed

from flowiq_source import FlowiqError, flowiq_source, plan, sync

INTERRUPTED = 130
"""The exit status of a program that was ended by Ctrl-C."""

Main = Callable[[argparse.Namespace], int]


def reporting(main: Main) -> Main:
    """Turn what `main` raises into one line and an exit status."""

    def wrapped(options: argparse.Namespace) -> int:
        try:
            return main(options)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last line of defence
            if options.debug:
                traceback.print_exc()
            status = _report(error)
        if status == INTERRUPTED:
            # Python would wait for threads whose work nobody wants any more.
            sys.stdout.flush()
            os._exit(status)
        return status

    return wrapped


@reporting
def main(options: argparse.Namespace) -> int:
    """Sync and print the summary, or say what a sync would cost."""
    if options.plan:
        print(plan(open_pipeline(), **_given(options)))
        return 0
    summary = sync(open_pipeline(), flowiq_source(**_given(options)), **_sync_settings())
    print(summary)
    return 0 if summary.complete else 1


def open_pipeline() -> dlt.Pipeline:
    """The pipeline of the configured tenant, with the destination and dataset of dlt's config.

    Each tenant has a pipeline and a staging dataset of its own, so that two may load into one
    dataset at the same time.
    """
    tenant = re.sub(r"\W", "_", dlt.config.get("sources.flowiq.tenant_id", str) or "").lower()
    suffix = f"_{tenant}" if tenant else ""
    layout = "destination.staging_dataset_name_layout"
    dlt.config[layout] = dlt.config.get(layout) or f"%s_staging{suffix}"
    # Not flowiq.duckdb: DuckDB wants file and dataset to have different names.
    file = "destination.duckdb.credentials"
    dlt.secrets[file] = dlt.secrets.get(file) or "flowiq_pipeline.duckdb"
    return dlt.pipeline(
        pipeline_name=f"flowiq_pipeline{suffix}",
        destination=dlt.config.get("destination_type", str) or "duckdb",
        dataset_name=dlt.config.get("dataset_name", str) or "flowiq",
    )


def _sync_settings() -> dict[str, Any]:
    """The settings of `sync` that are in dlt's config."""
    types: dict[str, type] = {
        "package_conversations": int,
        "package_minutes": float,
        "delete_gone": bool,
    }
    found: dict[str, Any] = {
        name: dlt.config.get(f"sources.flowiq.{name}", kind) for name, kind in types.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--full-refresh", action="store_true", help="read every conversation to its beginning"
    )
    parser.add_argument("--start-date", help="backfill messages from this ISO 8601 time on, UTC")
    parser.add_argument("--end-date", help="and before this one; without it, until now")
    parser.add_argument(
        "--plan", action="store_true", help="say what a run would cost, for 1 request"
    )
    parser.add_argument("--debug", action="store_true", help="print the traceback of a failure")
    options = parser.parse_args()
    if options.plan and (options.start_date or options.end_date):
        parser.error("--plan knows no backfill: how far back its pages go is not known before")
    return options


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The source's settings that are on the command line; dlt's config has the others."""
    names = ("full_refresh", "start_date", "end_date")
    return {name: value for name in names if (value := getattr(options, name))}


def _report(error: BaseException) -> int:
    """Say in one line what happened; the exit status."""
    status, text = _diagnosis(error)
    print(f"flowiq: {text}", file=sys.stderr)
    return status


def _diagnosis(error: BaseException) -> tuple[int, str]:
    causes = _causes(error)
    for cause in causes:
        match cause:
            case KeyboardInterrupt():
                return INTERRUPTED, "interrupted: what was committed is kept, the next run goes on"
            case FlowiqError():
                return cause.exit_status, str(cause)
            case ConfigFieldMissingException() if "bearer_token" in cause.fields:
                return 2, (
                    "bearer_token is not set: put it into .dlt/secrets.toml (see "
                    ".dlt/secrets.toml.example) or into SOURCES__FLOWIQ__BEARER_TOKEN"
                )
            case ConfigFieldMissingException():
                return 2, (
                    f"{', '.join(cause.fields)} of the destination is not set: put it into "
                    ".dlt/secrets.toml or into DESTINATION__<TYPE>__CREDENTIALS"
                )
            case ConfigValueCannotBeCoercedException():
                return 2, f"the value of {cause.field_name} has the wrong type: see the README"
            case MissingDependencyException():
                return 2, " ".join(str(cause).split())
            case UnknownDestinationModule():
                return 2, f"dlt knows no destination {cause.ref}: check destination_type"
    # Another message might quote a row or a connection string: only its kind is said.
    step = f"the {error.step} step" if isinstance(error, PipelineStepFailed) else "the run"
    return 1, (
        f"{step} failed with {type(causes[-1]).__name__}: is the destination reachable, its "
        "credentials right, its file not open elsewhere? --debug shows where it failed"
    )


def _causes(error: BaseException | None) -> list[BaseException]:
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


if __name__ == "__main__":
    sys.exit(main(_options()))
