"""One incremental sync of the configured FlowIQ tenant."""

import dlt
from flowiq import flowiq_source, sync

if __name__ == "__main__":
    pipeline = dlt.pipeline("flowiq_pipeline", destination="duckdb", dataset_name="flowiq_data")
    print(sync(pipeline, flowiq_source()))
