"""The floor: what fetching the bytes and having DuckDB parse them costs, and nothing else.

    python floor.py URL FILE

No retries, no types, no keys, nothing incremental: less cannot be done.
"""

import json
import sys
from pathlib import Path
from typing import BinaryIO

import duckdb
import urllib3

HEADERS = {"Authorization": "Bearer fiq_benchmark"}

TEXTS = {
    "messages": "id content sender status timestamp mediaType mediaUrl voiceTranscription assignee",
    "contacts": "id full_name whatsapp_id phone_number email created_at bot_status",
}
OTHERS = {
    "messages": "reactions STRUCT(emoji VARCHAR, sender VARCHAR)[]",
    "contacts": "tags VARCHAR[], has_unread_messages BOOLEAN, archived BOOLEAN",
}
PARENT = {"messages": "contactId, ", "contacts": ""}


def main(url: str, file: str) -> None:
    """Copy the account behind the URL into a DuckDB file, by way of two files beside it."""
    raw = {name: Path(file).with_suffix(f".{name}.ndjson") for name in TEXTS}
    pool = urllib3.HTTPConnectionPool(*address(url), maxsize=1)
    with raw["contacts"].open("wb") as out:
        query = "/conversations?action=contacts&tenantId=benchmark&limit=100&page="
        pages = fetch(pool, query, out, b"{")
    contact_ids = [contact["id"] for page in pages for contact in json.loads(page)["contacts"]]
    with raw["messages"].open("wb") as out:
        for contact_id in contact_ids:
            query = (
                "/conversations?action=conversation-messages&tenantId=benchmark"
                f"&contactId={contact_id}&limit=100&page="
            )
            fetch(pool, query, out, b'{"contactId":"%s",' % contact_id.encode())
    store(file, raw)


def address(url: str) -> tuple[str, int]:
    """Host and port of the URL."""
    parts = urllib3.util.parse_url(url)
    return parts.host or "", parts.port or 80


def fetch(pool: urllib3.HTTPConnectionPool, query: str, out: BinaryIO, head: bytes) -> list[bytes]:
    """All pages of a listing, as they came; in the file, `head` replaces the first brace."""
    pages: list[bytes] = []
    more = True
    while more:
        answer = pool.request("GET", f"{query}{len(pages) + 1}", headers=HEADERS, timeout=60)
        pages.append(answer.data)
        out.write(head + answer.data[1:] + b"\n")
        more = b'"hasNextPage":true' in answer.data
    return pages


def store(file: str, raw: dict[str, Path]) -> None:
    """Have DuckDB parse and unnest what was stored."""
    with duckdb.connect(file) as connection:
        for name, path in raw.items():
            columns = "".join(f'"{column}" VARCHAR, ' for column in TEXTS[name].split())
            struct = f"STRUCT({columns}{OTHERS[name]})[]"
            connection.execute(
                f"CREATE TABLE {name} AS SELECT {PARENT[name]}unnest({name}, max_depth := 2) "
                f"FROM read_json('{path}', format = 'newline_delimited', "
                f"columns = {{contactId: 'VARCHAR', {name}: '{struct}'}})"
            )


if __name__ == "__main__":
    main(*sys.argv[1:3])
