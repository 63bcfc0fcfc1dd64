"""How many of the messages that are read again have changed: what is stored is asked for them.

Pages are read again for the sake of edits, reactions and delivery, and written whole; how much of
that was news, only the destination can tell. It costs a query per batch of messages.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from flowiq_source.loading.destination import Committed
from flowiq_source.loading.tables import TableNames
from flowiq_source.rows.columns import OUR_COLUMNS
from flowiq_source.rows.convert import Row

FREE_TO_ASK = ("duckdb", "postgres")
"""Destinations that nobody pays for by the query."""

_AT_ONCE = 500
"""Conversations in one query."""

_OURS = {*OUR_COLUMNS, "id", "timestamp", "reactions"}

Key = tuple[str, str]
"""Contact and message."""


def count_changes(
    committed: Committed, names: TableNames, rows: Iterable[Row], since: Mapping[str, datetime]
) -> tuple[int, int]:
    """How many of the rows are stored, and how many of those with something else in them.

    `since` says of each contact with rows from when on they are.
    """
    stored = _stored(committed, names, since)
    again = [(row, stored[key]) for row in rows if (key := _key(row)) in stored]
    return len(again), sum(_look(row) != look for row, look in again)


def _key(row: Mapping[str, Any]) -> Key:
    return row["contact_id"], row["id"]


def _look(row: Mapping[str, Any], reactions: Collection[tuple[Any, ...]] = ()) -> Any:
    """All of a message that may change, alike before and after it was stored."""
    texts = {
        name: value
        for name, value in row.items()
        if isinstance(value, str) and name not in _OURS and not name.startswith("_dlt")
    }
    own = [(one.get("emoji"), one.get("sender")) for one in row.get("reactions") or ()]
    return texts, Counter([*own, *reactions])


def _stored(
    committed: Committed, names: TableNames, since: Mapping[str, datetime]
) -> dict[Key, Any]:
    stored: dict[Key, Any] = {}
    contacts = sorted(since)
    for at in range(0, len(contacts), _AT_ONCE):
        asked = [(contact, since[contact]) for contact in contacts[at : at + _AT_ONCE]]
        stored |= _asked(committed, names, asked)
    return stored


def _asked(
    committed: Committed, names: TableNames, asked: Collection[tuple[str, datetime]]
) -> dict[Key, Any]:
    values = ", ".join(["(%s, %s)"] * len(asked))
    of_them = (
        f"FROM {committed.name(names.messages)} m JOIN (VALUES {values}) AS w (contact_id, since) "
        "ON m.contact_id = w.contact_id AND (m.timestamp >= w.since OR m.timestamp IS NULL)"
    )
    where = "WHERE m.tenant_id = %s"
    bound = [value for pair in asked for value in pair]
    reactions: dict[str, list[tuple[Any, ...]]] = {}
    [children] = names.children
    for parent, *reaction in committed.rows(
        f"SELECT r._dlt_parent_id, r.emoji, r.sender {of_them} "
        f"JOIN {committed.name(children)} r ON r._dlt_parent_id = m._dlt_id {where}",
        *bound,
        committed.tenant_id,
    ):
        reactions.setdefault(parent, []).append(tuple(reaction))
    rows = committed.records(f"SELECT m.* {of_them} {where}", *bound, committed.tenant_id)
    return {_key(row): _look(row, reactions.get(row["_dlt_id"], ())) for row in rows}
