"""dlt's own REST source, declared as its documentation shows, into DuckDB.

    python rest_api.py URL FILE [--cursor]

Every run reads all and merges it by id. With `--cursor` messages are incremental on `timestamp`,
one cursor for all conversations: dlt takes it up anew with every page of contacts, and filters out
what is older than the newest message read so far. Everything that is not declared here has dlt's
default. dlt's own files go beside FILE.
"""

import os
import sys
from pathlib import Path

import dlt
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import Endpoint, RESTAPIConfig


def main(url: str, file: Path, *, cursor: bool) -> None:
    """Load the account behind the URL into a DuckDB file."""
    pipeline = dlt.pipeline(
        "rest_api",
        pipelines_dir=str(file.parent / "pipelines"),
        destination=dlt.destinations.duckdb(str(file)),
        dataset_name="rest_api",
    )
    print(pipeline.run(rest_api_source(config(url, cursor=cursor))))


def config(url: str, *, cursor: bool) -> RESTAPIConfig:
    """Contacts, and for each of them its messages."""
    messages: Endpoint = {
        "path": "conversations",
        "params": {"action": "conversation-messages", "contactId": "{resources.contacts.id}"},
        "data_selector": "messages",
    }
    if cursor:
        messages["incremental"] = {
            "cursor_path": "timestamp",
            "initial_value": "2020-01-01T00:00:00Z",
        }
    contacts: Endpoint = {
        "path": "conversations",
        "params": {"action": "contacts"},
        "data_selector": "contacts",
    }
    return {
        "client": {
            "base_url": url,
            "auth": {"type": "bearer", "token": "fiq_benchmark"},
            "paginator": {
                "type": "page_number",
                "base_page": 1,
                "total_path": None,
                "has_more_path": "pagination.hasNextPage",
            },
        },
        "resource_defaults": {
            "primary_key": "id",
            "write_disposition": "merge",
            "endpoint": {"params": {"tenantId": "benchmark", "limit": 100}},
        },
        "resources": [
            {"name": "contacts", "endpoint": contacts},
            {"name": "messages", "endpoint": messages, "include_from_parent": ["id"]},
        ],
    }


if __name__ == "__main__":
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    target = Path(sys.argv[2]).resolve()
    os.environ["DLT_DATA_DIR"] = str(target.parent / "dlt")
    # Away from any project's settings.
    os.chdir(target.parent)
    main(sys.argv[1], target, cursor="--cursor" in sys.argv)
