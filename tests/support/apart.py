"""A sync in a process of its own, which may be killed in it."""

import os
import subprocess
import sys
import time
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
    peak_kb = 0
    while process.poll() is None:
        peak_kb = max(peak_kb, _peak_kb(process.pid))
        time.sleep(0.02)
    return process.returncode, peak_kb // 1024


def _peak_kb(pid: int) -> int:
    """What the kernel says of the process; `wait4` would say what its parent had before it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(found[0]) if found else 0
