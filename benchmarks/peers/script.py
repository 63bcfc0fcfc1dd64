"""The script that an analyst writes in an hour: everything, every time, as it comes.

    python script.py URL FILE

One session, one loop, every message in one list, one insert at the end.
"""

import sys
from typing import Any

import duckdb
import pyarrow as pa
import requests

LIMIT = 100


def main(url: str, file: str) -> None:
    """Copy the account behind the URL into a DuckDB file."""
    session = requests.Session()
    session.headers["Authorization"] = "Bearer fiq_benchmark"
    contacts = rows(session, url, {"action": "contacts"}, "contacts")
    messages = []
    for contact in contacts:
        params = {"action": "conversation-messages", "contactId": contact["id"]}
        for message in rows(session, url, params, "messages"):
            message["contact_id"] = contact["id"]
            messages.append(message)
    store(file, contacts=contacts, messages=messages)


def rows(session: requests.Session, url: str, params: dict[str, str], key: str) -> list[Any]:
    """All rows of a listing, page by page."""
    found, page, more = [], 1, True
    while more:
        query: dict[str, str | int] = {
            "tenantId": "benchmark",
            **params,
            "limit": LIMIT,
            "page": page,
        }
        answer = session.get(f"{url}/conversations", params=query, timeout=60)
        answer.raise_for_status()
        body = answer.json()
        found += body[key]
        more = body["pagination"]["hasNextPage"]
        page += 1
    return found


def store(file: str, **tables: list[Any]) -> None:
    """One statement per table: Arrow is the fastest way from a list of dicts into DuckDB."""
    with duckdb.connect(file) as connection:
        for name, found in tables.items():
            connection.register("found", pa.Table.from_pylist(found))
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM found")


if __name__ == "__main__":
    main(*sys.argv[1:3])
