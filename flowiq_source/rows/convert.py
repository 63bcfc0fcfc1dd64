"""Rows of the tables from rows of the API: three dialects in, one set of columns out.

Pure: no HTTP, no dlt, no clock. A value that does not fit its column is null in the row and an
entry of `rejected`; a field that nobody documented keeps its value as text, under its own name
or in the column `undocumented`.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flowiq_source.rows.columns import CONTACT, TABLES, UNDOCUMENTED, Column
from flowiq_source.rows.extras import Extras, split
from flowiq_source.rows.identities import Identity, address, identities
from flowiq_source.rows.values import Misfit, as_short_text, as_text, json_text, kind_of, storable

Row = dict[str, Any]

MAX_RAW = 10_000
"""Characters of a rejected value that are kept."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Whose message it is and when it was read; the columns that the connector adds."""

    tenant_id: str
    contact_id: str
    whatsapp_id: str | None
    synced_at: datetime
    scan: int
    """Complete readings of the conversation, this one included if it is one."""


@dataclass
class Mapped:
    """One row for a table and what happened on the way.

    `rejected` holds what did not fit. `replaced` counts the NULs and lone surrogates that no
    warehouse can hold and that became U+FFFD, `overflowed` the undocumented fields that got no
    column of their own. Of a contact, `identities` are whom its numbers and ids stand for, `own_id`
    is the API's id of it and `number_id` what its id would be without one, it is `addressable` if
    the API can be asked for its conversation, and `forgotten` if it was erased and is not to come
    back.
    """

    row: Row
    rejected: list[Row] = field(default_factory=list)
    replaced: int = 0
    overflowed: int = 0
    identities: list[Identity] = field(default_factory=list)
    own_id: str = ""
    number_id: str = ""
    addressable: bool = True
    forgotten: bool = False

    def reject(self, column: str, value: object, reason: str) -> None:
        """Note that `value` is left out of `column`."""
        raw = self.text(json_text(value))
        if len(raw) > MAX_RAW:
            raw = f"{raw[:MAX_RAW]}… (the first {MAX_RAW} of {len(raw)} characters)"
        self.rejected.append({"column_name": column, "reason": reason, "raw": raw})

    def text(self, value: str) -> str:
        """`value` without the characters that no warehouse can hold."""
        stored = storable(value)
        if stored is not value:
            self.replaced += sum(a != b for a, b in zip(value, stored, strict=True))
        return stored


# It would make one contact of many.
_NO_ID = re.compile(r"(?i:null|none|nil|undefined|nan|n/?a|unknown|[0-]+|\[object object\])")


def contact_row(raw: Any, tenant_id: str, synced_at: datetime, extras: Extras) -> Mapped:
    """The `contacts` row of one listed contact.

    Where the API gives no id, it is the number, else another id of WhatsApp, else a digest.
    """
    mapped = _mapped(raw, "contacts", extras)
    row = mapped.row
    row |= {"tenant_id": tenant_id, "synced_at": synced_at}
    mapped.identities = identities(_shown(raw) if isinstance(raw, dict) else ())
    if row["id"] and _NO_ID.fullmatch(row["id"]) and mapped.identities:
        mapped.reject("id", raw["id"], "a word for nothing, where an id is documented")
        row["id"] = None
    mapped.own_id = row["id"] or ""
    mapped.addressable = bool(row["id"] or mapped.identities)
    if not mapped.addressable:
        mapped.reject("id", None, "neither an id nor a number: the conversation cannot be read")
    mapped.number_id = address(mapped.identities)
    row["id"] = row["id"] or mapped.number_id or _contact_digest(row, raw)
    return mapped


def _shown(raw: Row) -> Iterable[str]:
    """The texts that a contact shows where numbers are documented."""
    for column in ("whatsapp_id", "phone_number"):
        for name in (column, *CONTACT[column].aliases):
            try:
                yield storable(as_short_text(raw.get(name)))
            except Misfit:
                continue


def _contact_digest(row: Row, raw: Any) -> str:
    """A key from what seldom changes in a contact, from all that there is if that is nothing."""
    lasting = [str(row[name]) for name in ("created_at", "full_name", "email") if row[name]]
    return _digest([row["tenant_id"], lasting or json_text(raw)])


def message_row(raw: Any, origin: Origin, extras: Extras) -> Mapped:
    """The `messages` row of one message; its `id` is None where the API gives none."""
    mapped = _mapped(raw, "messages", extras)
    mapped.row |= vars(origin)
    return mapped


def message_digest(row: Row, origin: Origin) -> str:
    """A key from what cannot be edited in a message, the same in every run and dialect.

    It is the contact, the time (`timestamp` in epoch microseconds) and the sender; without a time
    it is whatever there is. Messages that are equal in this have equal digests.
    """
    parts = [origin.tenant_id, origin.contact_id, row["timestamp"], row["sender"]]
    if row["timestamp"] is None:
        parts += [row["content"], row["media_type"], lasting_url(row["media_url"])]
    return _digest(parts)


def lasting_url(url: str | None) -> str:
    """A URL without its query, because that is where signatures and expiry dates live."""
    return (url or "").partition("?")[0]


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def rejected_rows(mapped: Mapped, table_name: str, seen_at: datetime) -> Iterable[Row]:
    """The `rejected_rows` rows of one mapped row, whose id must be final.

    All but the times is their key: the same misfit gives the same row in every run.
    """
    where = {"tenant_id": mapped.row["tenant_id"], "table_name": table_name}
    where |= {"record_id": mapped.row.get("id") or ""}
    for rejected in mapped.rejected:
        yield where | rejected | {"first_seen_at": seen_at, "seen_at": seen_at}


def _mapped(raw: Any, table: str, extras: Extras) -> Mapped:
    mapped = Mapped({})
    if not isinstance(raw, dict):
        mapped.reject("*", raw, f"{kind_of(raw)} where an object is documented")
        raw = {}
    mapped.row = _columns(mapped, raw, table, extras)
    return mapped


def _columns(mapped: Mapped, raw: Row, table: str, extras: Extras, path: str = "") -> Row:
    # Null says nothing, under a documented name or another.
    rest = {key: value for key, value in raw.items() if value is not None}
    row: Row = {}
    for name, column in TABLES[table].items():
        value = _take(rest, (name, *column.aliases))
        row[name] = column.empty
        try:
            if value is not None:
                row[name] = _converted(mapped, column, value, extras, path + name)
        except Misfit as misfit:
            mapped.reject(path + name, value, str(misfit))
    return row | _undocumented(mapped, rest, table, extras)


def _take(rest: Row, names: Iterable[str]) -> Any:
    """The first value under one of the names; what says nothing new is taken out with it."""
    taken = None
    for name in names:
        value = rest.get(name)
        if taken is None:
            taken = value
        # As JSON, because to Python 1 is True.
        if value is not None and (value is taken or json_text(value) == json_text(taken)):
            del rest[name]
    return taken


def _converted(mapped: Mapped, column: Column, value: Any, extras: Extras, path: str) -> Any:
    if column.data_type == "list":
        return _elements(mapped, column, value, extras, path)
    converted = column.convert(value)
    return mapped.text(converted) if isinstance(converted, str) else converted


def _elements(mapped: Mapped, column: Column, value: Any, extras: Extras, path: str) -> list[Any]:
    """The elements that fit; each other one is rejected by itself."""
    if not isinstance(value, list):
        raise Misfit(f"{kind_of(value)} where a list is documented")
    kept: list[Any] = []
    for index, element in enumerate(value):
        place = f"{path}[{index}]"
        try:
            if column.items:
                kept.append(_columns(mapped, _object(element), column.items, extras, f"{place}."))
            else:
                kept.append(mapped.text(as_text(element)))
        except Misfit as misfit:
            mapped.reject(place, element, str(misfit))
    return kept


def _object(element: Any) -> Row:
    """A reaction; an emoji alone is one too."""
    if isinstance(element, str):
        return {"emoji": element}
    if not isinstance(element, dict):
        raise Misfit(f"{kind_of(element)} where an object is documented")
    return element


def _undocumented(mapped: Mapped, fields: Row, table: str, extras: Extras) -> Row:
    """The columns of fields that nobody documented: all text, so that no value can misfit."""
    columns, others = split(fields, table, extras)
    if others:
        mapped.overflowed += len(others)
        columns[UNDOCUMENTED] = others
    return {name: mapped.text(_plain(value)) for name, value in columns.items()}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)
