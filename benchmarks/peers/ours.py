"""This project's own source, through `sync` and with the project's settings, into DuckDB.

    python ours.py URL FILE [REQUESTS_PER_MINUTE]

Without the last, the rate is not limited. dlt's own files go beside FILE, so that a second run with
the same FILE goes on from the first.
"""

import gc
import os
import sys
from pathlib import Path

import dlt

from flowiq_source import Summary, flowiq_source, sync

PROJECT = Path(__file__).resolve().parents[2]


def main(url: str, file: Path, per_minute: float) -> Summary:
    """What came of loading the account behind the URL into a DuckDB file."""
    pipeline = dlt.pipeline(
        "ours",
        pipelines_dir=str(file.parent / "pipelines"),
        destination=dlt.destinations.duckdb(str(file)),
        dataset_name="flowiq",
    )
    source = flowiq_source(
        bearer_token="fiq_benchmark",
        tenant_id="benchmark",
        base_url=url,
        requests_per_minute=per_minute,
        backend="pyarrow",
    )
    return sync(pipeline, source)


if __name__ == "__main__":
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    target = Path(sys.argv[2]).resolve()
    os.environ["DLT_DATA_DIR"] = str(target.parent / "dlt")
    # dlt finds the project's settings, .dlt/config.toml, in the working directory.
    os.chdir(PROJECT)
    # As the pipeline script does: nothing that is imported need be looked through again.
    gc.freeze()
    print(main(sys.argv[1], target, float(sys.argv[3]) if sys.argv[3:] else 1e6))
