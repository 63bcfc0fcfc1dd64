"""Forgets and kills its own process at a named point; started by test_forget.py.

Arguments: pipelines folder, DuckDB file, sandbox URL, point, number.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import dlt

from flowiq_source import flowiq_source, forget
from flowiq_source.loading import rewriting
from flowiq_source.loading.erasure import Dataset

KEY = "0123456789abcdef" * 2

POINTS: dict[str, tuple[Any, str, str]] = {
    "between two deletions": (Dataset, "forget_cursors", "before"),
    "before the commit": (Dataset, "mentions", "after"),
    "when the rows are gone": (rewriting, "rewrite_duckdb", "before"),
    "when the copy is made": (rewriting, "_compare", "after"),
}


def kill_at(point: str) -> None:
    """Have the process killed there."""
    owner, name, when = POINTS[point]
    function: Callable[..., Any] = getattr(owner, name)

    def killed(*arguments: Any, **more: Any) -> None:
        if when == "after":
            function(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, killed)


if __name__ == "__main__":
    folder, file, url, point, number = sys.argv[1:]
    pipeline = dlt.pipeline(
        "warehouse",
        pipelines_dir=folder,
        destination=dlt.destinations.duckdb(file),
        dataset_name="flowiq",
    )
    kill_at(point)
    forget(pipeline, flowiq_source("fiq_sandbox", "sandbox", url, hash_key=KEY), phone=number)
