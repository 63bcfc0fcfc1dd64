"""Measure this source beside its peers, and write down what came out.

    python benchmarks/bench.py [--only NAME ...] [--rounds N] [--quick]

Results go to results.json and two charts beside it, each scenario under its own name, so that one
measured alone leaves the others as they were. `--quick` tries everything with small sizes and
writes nothing.
"""

import argparse
import json
import os
import platform
import signal
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from processes import HERE
from report import report
from scenarios import SCENARIOS, Json, Size

RESULTS = HERE / "results.json"
SMALLER = " Here a fiftieth of it."


def main() -> None:
    """Run the chosen scenarios; print, store and draw what came out."""
    options = _options()
    # Ended from outside, it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in options.only or SCENARIOS:
        scenario = SCENARIOS[name]
        print(f"{name}: {scenario.__doc__}{SMALLER if options.quick else ''}", flush=True)
        found = scenario(Size(1 if options.quick else options.rounds, options.quick, _stored()))
        print(report(found), flush=True)
        if not options.quick:
            _store(name, found)
    if not options.quick:
        _draw()


def _draw() -> None:
    # Not before: a child's peak memory is never less than that of who started it.
    from charts import draw  # noqa: PLC0415

    draw(_stored(), HERE)


def _store(name: str, found: Json) -> None:
    """Write one scenario's results, leaving the others as they are."""
    measured_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    entry = {"measured_at": measured_at, "environment": _environment(), **found}
    RESULTS.write_text(json.dumps(_stored() | {name: entry}, indent=1) + "\n")


def _stored() -> Json:
    stored: Json = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return stored


def _environment() -> Json:
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("dlt", "duckdb", "pyarrow")},
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing is written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
