"""Runs one sync and kills its own process at a named point; started by test_kill.py.

Arguments: pipelines folder, DuckDB file, sandbox URL, point, how often the point is passed first,
backend.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import dlt
from dlt.common.storages import FileStorage, LoadStorage, PackageStorage
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.extract.extract import Extract
from dlt.load.load import Load
from dlt.normalize.normalize import Normalize
from dlt.pipeline.pipeline import Pipeline

from flowiq_source import flowiq_source, sync
from flowiq_source.loading import idle

REACTIONS = "messages__reactions"

Owner = type | ModuleType

# The package has a function of the same name.
SYNC = sys.modules["flowiq_source.sync"]

# Owner, function, before or after it, and a word that the call's arguments must hold.
POINTS: dict[str, tuple[Owner, str, str] | tuple[Owner, str, str, str]] = {
    "before extract": (Pipeline, "extract", "before"),
    "as an extracted package is committed": (Extract, "commit_packages", "before"),
    "before normalize": (Pipeline, "normalize", "before"),
    "as the load's folders are made": (FileStorage, "create_folder", "before", "normalized"),
    "in normalize": (Normalize, "spool_schema_files", "after"),
    "when a package is both extracted and normalized": (
        LoadStorage,
        "commit_new_load_package",
        "after",
    ),
    "before the tables are made": (SqlJobClientBase, "update_stored_schema", "before"),
    "when the tables are made": (SqlJobClientBase, "update_stored_schema", "after"),
    "before load": (Pipeline, "load", "before"),
    "between dlt's two notes that a load begins": (
        FileStorage,
        "delete",
        "after",
        "schema_updates",
    ),
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
    "when a load is recorded": (LoadStorage, "complete_load_package", "before"),
    "when a package is marked as loaded": (PackageStorage, "complete_loading_package", "after"),
    "between packages": (Pipeline, "load", "after"),
    "before the old states are deleted": (SYNC, "delete_old_states", "before"),
}
BEGINNING: dict[str, tuple[Owner, str, str] | tuple[Owner, str, str, str]] = {
    "before the working folder is moved": (Path, "rename", "before", "warehouse.dropped"),
    "when the working folder is moved": (Path, "rename", "after", "warehouse.dropped"),
    "as the moved folder is deleted": (os, "rmdir", "before", "loaded"),
    "before the state is taken": (Pipeline, "sync_destination", "before"),
    "when the state is taken": (Pipeline, "sync_destination", "after"),
    "when the tables are mended": (SqlJobClientBase, "update_stored_schema", "after"),
}
"""Where a sync forgets its folder and takes what is committed; the others come after that."""
NOTHING_NEW: dict[str, tuple[Owner, str, str] | tuple[Owner, str, str, str]] = {
    "when the first times have moved": (idle, "_move", "after"),
    "before what was seen is committed": (idle, "_put", "after"),
    "when what was seen is committed": (SYNC, "write_seen", "after"),
}
"""Where a sync that finds nothing new writes what it saw."""
CHANGE = "change of a file"
CHANGES = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}


def die_at_change(passes: int) -> None:
    """Have the process kill itself before it changes one file or folder too many."""
    left = [passes]

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


def die_at(passes: int, owner: Owner, name: str, when: str, word: str = "") -> None:
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
    folder, file, url, point, passes, backend = sys.argv[1:]
    if point == CHANGE:
        die_at_change(int(passes))
    elif point:
        die_at(int(passes), *(POINTS | BEGINNING | NOTHING_NEW)[point])
    pipeline = dlt.pipeline(
        "warehouse",
        pipelines_dir=folder,
        destination=dlt.destinations.duckdb(file),
        dataset_name="flowiq",
    )
    source = flowiq_source(
        bearer_token="fiq_sandbox",
        tenant_id="sandbox",
        base_url=url,
        requests_per_minute=1e6,
        backend="pyarrow" if backend == "pyarrow" else "rows",
    )
    sync(pipeline, source, package_conversations=4)


if __name__ == "__main__":
    main()
