"""A sync in a process of its own, which may be killed in it."""

import os
import subprocess
import sys
from pathlib import Path

from flowiq_source.sandbox import Sandbox
from tests.support.warehouse import Warehouse

SCRIPT = Path(__file__).with_name("killed_sync.py")


def synced_apart(warehouse: Warehouse, sandbox: Sandbox, *arguments: str) -> tuple[int, int]:
    """How a sync in a process of its own ended, and its peak memory in MB."""
    folder = str(warehouse.folder / "pipelines")
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2])}
    command = [sys.executable, str(SCRIPT), folder, str(warehouse.file), sandbox.url, *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    # It has been waited for already.
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss // 1024
