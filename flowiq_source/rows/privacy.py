"""Personal data in rows: what is kept, hashed or left out before a row goes anywhere. Pure.

    as the API sends it -> a mapped row -> `Policy` -> dlt

Ids are computed, and conversations asked for, by what the API sends; what leaves for dlt has been
through the policy, so nothing of the rest is ever written to a disk.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import pyarrow as pa

from flowiq_source.rows.columns import OUR_COLUMNS
from flowiq_source.rows.convert import Mapped, Row
from flowiq_source.rows.identities import identity
from flowiq_source.rows.values import MAX_KEY

Action = Callable[[Any], Any]
"""A value that is not null becomes what is kept of it."""

REMEMBERED = 100_000
"""Hashes that are kept in memory: numbers come again with every message."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HASH = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile("[0-9]{5,15}")
_ROLE = re.compile(r"[a-z]+([-_][a-z]+)*")
STAYS = {*OUR_COLUMNS, "id", "timestamp", "status", "reactions"}
"""What is left of a message that somebody who is forgotten sent in another's conversation."""


class Hasher:
    """Keyed hashes: equal values have equal ones, in every column, table and run.

    HMAC-SHA-256, the first 128 bits in hexadecimal. Without the key nobody can try all numbers.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode("utf-8", "replace")
        self.exact = lru_cache(REMEMBERED)(self._exact)
        # No text of a row has a NUL, so this is the hash of none.
        self.key_id = self._exact("\0key")

    def __call__(self, text: str) -> str:
        """The hash of a text in its normal form; of no text, that."""
        return self.exact(normal(text)) if text else text

    def _exact(self, text: str) -> str:
        """The hash of a text, character by character."""
        return hmac.digest(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hex()[:32]


def normal(text: str) -> str:
    """The digits of a number, however it is written; any other text without spaces around it."""
    who = identity(text) if len(text) <= MAX_KEY else None
    return who.value if who and who.kind == "phone" else text.strip()


def is_hash(text: str) -> bool:
    """Whether a text looks like what `Hasher` gives."""
    return bool(_HASH.fullmatch(text))


def drop(value: Any) -> Any:
    """Nothing of a value; no elements of a list."""
    return [] if isinstance(value, list) else None


def each(action: Action) -> Action:
    """The action for the elements of a list."""
    return lambda values: [kept for one in values if (kept := action(one)) is not None]


_NUMBERS = {"whatsapp_id", "phone_number", "value"}
"""The columns that hold numbers, in any table."""


@dataclass(frozen=True)
class Policy:
    """What is kept of a row of a table; without anything set, all of it."""

    actions: Mapping[str, Mapping[str, Action]] = field(default_factory=dict)
    """By table and column; a column without one is kept."""
    columns: Mapping[str, Collection[str]] | None = None
    """By table, the only columns that are kept; None where undocumented ones are kept as well."""
    hasher: Hasher | None = None
    hashes: bool = False
    """Whether anything is hashed, so that another key would tear joins apart."""
    pseudonymise: bool = False
    forgotten: frozenset[str] = frozenset()
    """Hashes of the ids and numbers of people who do not come back."""

    def without(self, forgotten: Collection[str]) -> "Policy":
        """The policy that leaves these people out as well."""
        return replace(self, forgotten=frozenset(forgotten))

    @property
    def keeps_all(self) -> bool:
        """Whether rows leave as they are."""
        return not (self.actions or self.forgotten or self.columns is not None)

    def contact(self, mapped: Mapped) -> Mapped:
        """The contact with the id that the tables know it by, and whether it is forgotten."""
        row_id, hasher = mapped.row["id"], self.hasher
        if mapped.number_id and self._hides_numbers:
            # What is made of it stays in the state.
            mapped.number_id = hasher.exact(mapped.number_id) if hasher else ""
        if hasher is None:
            return mapped
        who = {row_id, *(known.value for known in mapped.identities)}
        if any({text, hasher.exact(text)} & self.forgotten for text in who):
            mapped.forgotten, mapped.addressable = True, False
        if self.pseudonymise and _is_personal(mapped):
            # As it is: of two ids that are written otherwise, one would swallow the other.
            mapped.row = mapped.row | {"id": hasher.exact(row_id)}
        return mapped

    @property
    def _hides_numbers(self) -> bool:
        hides = any(_NUMBERS & actions.keys() for actions in self.actions.values())
        return hides or self.pseudonymise

    def rows(self, table: str, rows: Sequence[Row]) -> list[Row]:
        """What is kept of the rows of a table."""
        if self.keeps_all:
            return list(rows)
        return [self._row(table, row) for row in rows]

    def arrow(self, table: Any) -> Any:
        """The same for an Arrow table of messages."""
        if self.forgotten and any(map(self._is_forgotten, table["sender"].unique().to_pylist())):
            rows = [self._without_forgotten(row) for row in table.to_pylist()]
            table = pa.Table.from_pylist(rows, table.schema)
        for name, action in self.actions.get("messages", {}).items():
            at = table.schema.get_field_index(name)
            if at >= 0:
                column = table.schema.field(at)
                values = [None if v is None else action(v) for v in table.column(at).to_pylist()]
                table = table.set_column(at, column, pa.array(values, column.type))
        return table

    def _row(self, table: str, row: Row) -> Row:
        documented = self.columns and self.columns.get(table)
        kept = {name: v for name, v in row.items() if not documented or name in documented}
        if table == "messages":
            kept = self._without_forgotten(kept)
            reactions = kept.get("reactions") or ()
            kept["reactions"] = [self._row("messages__reactions", one) for one in reactions]
        if table == "rejected_rows":
            kept = self._rejected(kept)
        for name, action in self.actions.get(table, {}).items():
            if kept.get(name) is not None:
                kept[name] = action(kept[name])
        return kept

    def _is_forgotten(self, text: str | None) -> bool:
        return bool(text and self.hasher and self.hasher(text) in self.forgotten)

    def _without_forgotten(self, row: Row) -> Row:
        """A message without what those who are forgotten did in it.

        The row stays, because the API goes on counting it.
        """
        if not self.forgotten:
            return row
        if self._is_forgotten(row.get("sender")):
            row = {name: value if name in STAYS else None for name, value in row.items()}
        reactions = row.get("reactions") or ()
        left = [one for one in reactions if not self._is_forgotten(one.get("sender"))]
        return row | {"reactions": left} if "reactions" in row else row

    def _rejected(self, row: Row) -> Row:
        """A value that did not fit; it may be that of a column which is hashed or left out."""
        table, raw = row["table_name"], row["raw"]
        message_id = self.actions.get(table, {}).get("id")
        if message_id:
            row["record_id"] = message_id(row["record_id"])
        actions = self._actions_on(table, row["column_name"])
        if self.pseudonymise or any(action is not drop for action in actions):
            row["raw"] = self.hasher(raw) if self.hasher else ""
        elif actions or any(map(self._is_forgotten, _NUMBER.findall(raw))):
            # It is part of the key, which cannot be null.
            row["raw"] = ""
        return row

    def _actions_on(self, table: str, path: str) -> Collection[Action]:
        """What happens to a column of this path, such as `tags` or `reactions[0].sender`."""
        actions = self.actions.get(table, {})
        name = re.split(r"[.\[]", path)[0]
        if name == "*":
            return list(actions.values())
        nested = self.actions.get(f"{table}__{name}", {})
        return [*nested.values(), *([actions[name]] if name in actions else [])]


def _is_personal(mapped: Mapped) -> bool:
    """Whether a contact's id says who it is: a number, another id of WhatsApp, or made of names."""
    if not mapped.own_id:
        return True
    who = identity(mapped.own_id)
    return who is not None and (who.kind != "other" or who in mapped.identities)


def pseudonymous_id(hasher: Hasher) -> Action:
    """What a message's id becomes: WhatsApp's own hold the number, and computed ones are guessable.

    Source: `wamid.` is followed by the number and more in Base64.
    """
    return lambda text: text if _UUID.fullmatch(text) else hasher.exact(text)


def pseudonymous_sender(hasher: Hasher) -> Action:
    """What a message's sender becomes: a role such as `user-whatsapp` stays."""
    return lambda text: text if _ROLE.fullmatch(text) else hasher(text)
