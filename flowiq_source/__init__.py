"""FlowIQ's WhatsApp contacts and messages as a dlt source.

    import dlt
    from flowiq_source import flowiq_source, sync

    print(sync(dlt.pipeline("flowiq_pipeline", destination="duckdb", dataset_name="flowiq"),
               flowiq_source()))

Read on in `client.py` and `answers.py` (HTTP), `rows.py` and `columns.py` (dialects and types),
`walk.py` (pages that shift), `reader.py` and `schedule.py` (what a run asks), `resources.py` (the
source, its tables) and `sync.py`.
"""

from flowiq_source.errors import FlowiqError
from flowiq_source.plan import Plan, plan
from flowiq_source.source import flowiq_source
from flowiq_source.sync import Summary, sync
from flowiq_source.verify import Verification, verify

__all__ = [
    "FlowiqError",
    "Plan",
    "Summary",
    "Verification",
    "flowiq_source",
    "plan",
    "sync",
    "verify",
]
