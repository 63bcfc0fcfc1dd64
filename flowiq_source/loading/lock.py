"""One sync at a time for a pipeline's working folder."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from pathlib import Path

import dlt
import filelock

from flowiq_source.errors import Busy


def sole_sync(pipeline: dlt.Pipeline) -> AbstractContextManager[None]:
    """Hold the lock of a pipeline, as `sole` does."""
    return sole(Path(pipeline.pipelines_dir), pipeline.pipeline_name)


@contextmanager
def sole(folder: Path, pipeline_name: str) -> Iterator[None]:
    """Hold the lock of a pipeline in `folder`; the system lets go of it when the process ends.

    Raises:
        Busy: another process holds it; the text says which and since when.
    """
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / f"{pipeline_name}.sync.json"
    lock = filelock.FileLock(owner.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        busy = Busy(f"syncing pipeline {pipeline_name}: {_described(owner)}")
    else:
        with lock:
            owner.write_text(json.dumps(_me()))
            try:
                yield
            finally:
                owner.unlink(missing_ok=True)
        return
    raise busy


def _me() -> dict[str, str | int]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _described(owner: Path) -> str:
    try:
        holder = json.loads(owner.read_text())
        since = datetime.fromisoformat(holder["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another sync has just begun; run again when it has ended"
    minutes = (datetime.now(timezone.utc) - since).total_seconds() / 60
    return (
        f"process {holder['process']} on {holder['host']} has been doing that since "
        f"{since:%Y-%m-%d %H:%M:%S} UTC ({minutes:.0f} minutes); run again when it has ended"
    )
