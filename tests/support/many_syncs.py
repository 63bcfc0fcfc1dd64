"""Syncs the tenants that it is given, two at a time; prints its peak memory in KB after each."""

import json
import sys
from pathlib import Path

from flowiq_source import Tenant, sync_tenants


def peak_kb() -> int:
    """What the kernel says."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    peaks: list[int] = []
    tenants = [Tenant(one, f"sources.flowiq.tokens.{one}") for one in sys.argv[1:]]
    summary = sync_tenants(tenants, at_once=2, done=lambda _: peaks.append(peak_kb()))
    assert summary.complete, str(summary)
    sys.stdout.write(json.dumps(peaks))
