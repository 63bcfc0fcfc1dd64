"""Many tenants of one account's contacts each, in one process: everything new, then nothing new.

    python tenants.py URL FOLDER TENANTS AT_ONCE

Prints JSON: of each round what a tenant takes of the processor and of the clock, and the process's
peak memory by its end.
"""

import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


def main(tenants: int, at_once: int) -> dict[str, Any]:
    """Load all of them twice by `sync_tenants`, into one DuckDB file."""
    # With the modules that dlt imports, after the folder is its own.
    from flowiq_source import Tenant, sync_tenants  # noqa: PLC0415

    everybody = [Tenant(f"tenant {n}", "sources.flowiq.tokens.bench") for n in range(tenants)]
    found: dict[str, Any] = {"tenants": tenants, "at_once": at_once}
    for name in ("first", "idle"):
        began_s, cpu_s = time.perf_counter(), time.process_time()
        summary = sync_tenants(everybody, at_once=at_once)
        if not summary.complete:
            raise RuntimeError(str(summary))
        found[name] = {
            "cpu_seconds_each": (time.process_time() - cpu_s) / tenants,
            "seconds_each": (time.perf_counter() - began_s) / tenants,
            "requests_each": summary.as_dict()["requests"] / tenants,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[2]).resolve()
    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
        "DLT_DATA_DIR": str(folder / "dlt"),
        "DESTINATION__DUCKDB__CREDENTIALS": str(folder / "warehouse.duckdb"),
        "SOURCES__FLOWIQ__BASE_URL": sys.argv[1],
        "SOURCES__FLOWIQ__TOKENS__BENCH": "fiq_benchmark",
        "SOURCES__FLOWIQ__REQUESTS_PER_MINUTE": "1000000",
    }
    os.chdir(folder)
    gc.freeze()
    print(json.dumps(main(int(sys.argv[3]), int(sys.argv[4]))))
