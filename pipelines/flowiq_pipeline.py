"""One incremental sync of the configured FlowIQ tenant into the configured destination.

Exit status: 0 everything was read; 1 a conversation or a step failed, run again; 2 a setting or
the credentials are wrong; 130 it was interrupted.
"""

import argparse
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dlt
from dlt.common.configuration.exceptions import (
    ConfigFieldMissingException,
    ConfigValueCannotBeCoercedException,
)
from dlt.common.destination.exceptions import UnknownDestinationModule
from dlt.common.exceptions import MissingDependencyException
from dlt.common.pipeline import get_dlt_pipelines_dir
from dlt.common.runtime import signals
from dlt.pipeline.exceptions import PipelineStepFailed

from flowiq_source import FlowiqError, flowiq_source, plan, sync
from flowiq_source.loading.lock import sole
from flowiq_source.loading.undocumented import delete_at_once
from flowiq_source.tenants import tenant_suffix

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
        print(plan(open_pipeline(), flowiq_source(backend="pyarrow", **_given(options))))
        return 0
    source = flowiq_source(**{"backend": "pyarrow"} | _given(options))
    with signals.intercepted_signals(), _old_objects_left_alone():
        summary = sync(open_pipeline(), source)
    print(summary)
    return 0 if summary.complete else 1


def open_pipeline() -> dlt.Pipeline:
    """The pipeline of the configured tenant, with the destination and dataset of dlt's config.

    Each tenant has a pipeline and a staging dataset of its own, so that two may load into one
    dataset at the same time.
    """
    suffix = tenant_suffix(dlt.config.get("sources.flowiq.tenant_id", str) or "")
    layout = "destination.staging_dataset_name_layout"
    dlt.config[layout] = dlt.config.get(layout) or f"%s_staging{suffix}"
    # Not flowiq.duckdb: DuckDB wants file and dataset to have different names.
    file = "destination.duckdb.credentials"
    dlt.secrets[file] = dlt.secrets.get(file) or "flowiq_pipeline.duckdb"
    name = f"flowiq_pipeline{suffix}"
    try:
        return _pipeline(name)
    except Exception:  # noqa: BLE001 - dlt has many ways not to be able to read a file
        # A machine that lost its power leaves empty files; a sync begins without them anyway.
        folder = Path(get_dlt_pipelines_dir())
        with sole(folder, name):
            delete_at_once(folder / name)
        return _pipeline(name)


def _pipeline(name: str) -> dlt.Pipeline:
    return dlt.pipeline(
        pipeline_name=name,
        destination=dlt.config.get("destination_type", str) or "duckdb",
        dataset_name=dlt.config.get("dataset_name", str) or "flowiq",
    )


@contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """Keep the garbage collector from looking through all imported modules again and again."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--full-refresh", action="store_true", help="read every conversation to its beginning"
    )
    parser.add_argument("--start-date", help="backfill messages from this ISO 8601 time on, UTC")
    parser.add_argument("--end-date", help="and before this one; without it, until now")
    parser.add_argument(
        "--force",
        action="store_true",
        help="believe it when more than a tenth of the conversations vanish at once",
    )
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
    names = ("full_refresh", "start_date", "end_date", "force")
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
