"""Runs one sync and kills its own process at a named point; started by test_kill.py.

Arguments: pipelines folder, DuckDB file, sandbox URL, point, how often the point is passed first.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import dlt
from dlt.common.storages import PackageStorage
from dlt.extract.extract import Extract
from dlt.load.load import Load
from dlt.normalize.normalize import Normalize
from dlt.pipeline.pipeline import Pipeline

from flowiq_source import flowiq_source, sync

REACTIONS = "messages__reactions"

# Class, method, before or after it, and a word that the call's arguments must hold.
POINTS: dict[str, tuple[type, str, str] | tuple[type, str, str, str]] = {
    "before extract": (Pipeline, "extract", "before"),
    "as an extracted package is committed": (Extract, "commit_packages", "before"),
    "before normalize": (Pipeline, "normalize", "before"),
    "in normalize": (Normalize, "spool_schema_files", "after"),
    "before the tables are made": (Pipeline, "sync_schema", "before"),
    "before load": (Pipeline, "load", "before"),
    "as a load begins": (Load, "start_new_jobs", "before"),
    "when load jobs have started": (Load, "start_new_jobs", "after"),
    "when a job's rows are committed": (
        PackageStorage,
        "save_pending_transition",
        "before",
        REACTIONS,
    ),
    "when a job is done": (PackageStorage, "complete_job", "before", "conversations"),
    "before a package is complete": (Load, "complete_package", "before"),
    "between packages": (Pipeline, "load", "after"),
}


def die_at(passes: int, owner: type, name: str, when: str, word: str = "") -> None:
    """Have the process kill itself when the method is called once too often."""
    method: Callable[..., Any] = getattr(owner, name)
    left = [passes]

    def dying(*args: Any, **kwargs: Any) -> Any:
        left[0] -= word in str(args)
        if when == "before" and left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*args, **kwargs)
        if when == "after" and left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dying)


def main() -> None:
    """Sync, and die where told."""
    folder, file, url, point, passes = sys.argv[1:]
    if point:
        die_at(int(passes), *POINTS[point])
    pipeline = dlt.pipeline(
        "warehouse",
        pipelines_dir=folder,
        destination=dlt.destinations.duckdb(file),
        dataset_name="flowiq",
    )
    source = flowiq_source(bearer_token="fiq_sandbox", tenant_id="sandbox", base_url=url)
    sync(pipeline, source, package_conversations=4)


if __name__ == "__main__":
    main()
