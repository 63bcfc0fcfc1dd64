"""Rows of the tables from rows of the API: three dialects in, one set of columns out.

Pure: no HTTP, no dlt, no clock. A value that does not fit its column is null in the row and an
entry of `rejected`; a field that nobody documented keeps its value under its own name.

Source: FlowIQ quick start ("seed"), API reference and product overview, which name the same
things differently: a column below is known by its own name and by its aliases.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pendulum

Row = dict[str, Any]

MAX_DEPTH = 20
"""Undocumented fields nested deeper than this are kept as JSON text; dlt's own limit is 254."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Misfit(ValueError):
    """A value does not fit the type of its column; the text says why, without the value."""


@dataclass
class Mapped:
    """One row for a table and what happened on the way.

    `rejected` holds rows for `rejected_rows`. `replaced` counts the NULs and lone surrogates that
    no warehouse can hold and that became U+FFFD. A contact is `addressable` if the API can be
    asked for its conversation.
    """

    row: Row
    rejected: list[Row] = field(default_factory=list)
    replaced: int = 0
    addressable: bool = True

    def reject(self, column: str, value: object, reason: str) -> None:
        """Note that `value` is left out of `column`."""
        raw = self.text(_json(value))
        self.rejected.append({"column_name": column, "reason": reason, "raw": raw})

    def text(self, value: str) -> str:
        """`value` without the characters that no warehouse can hold."""
        storable = _storable(value)
        if storable is not value:
            self.replaced += sum(a != b for a, b in zip(value, storable, strict=True))
        return storable


def _storable(value: str) -> str:
    if "\0" in value:
        value = value.replace("\0", REPLACEMENT)
    try:
        value.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", REPLACEMENT, value)
    return value


Convert = Callable[[Mapped, str, Any], Any]
"""A mapped row, a column's name and a value that is not null: the value that the column holds."""


def _text(mapped: Mapped, column: str, value: Any) -> str:
    if isinstance(value, str):
        return mapped.text(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    raise Misfit(f"{_kind(value)} where text is documented")


def _text_or_json(mapped: Mapped, column: str, value: Any) -> str:
    """Structured messages are documented as JSON inside a text; an object says the same."""
    if isinstance(value, dict | list):
        return mapped.text(_json(value))
    return _text(mapped, column, value)


def _digits(mapped: Mapped, column: str, value: Any) -> str | None:
    text = _text(mapped, column, value)
    digits = only_digits(text)
    if not digits and text.strip():
        raise Misfit("no digits where a phone number is documented")
    return digits or None


def only_digits(text: str) -> str:
    """A phone number as the API compares it: 27123456789 for +27 12 345 6789."""
    return re.sub("[^0-9]", "", text)


def _key(mapped: Mapped, column: str, value: Any) -> str | None:
    return _text(mapped, column, value) or None


_WORDS = {"true": True, "false": False, "1": True, "0": False}


def _bool(mapped: Mapped, column: str, value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int):
        word = str(value).strip().lower()
        if not word:
            return None
        if word in _WORDS:
            return _WORDS[word]
    raise Misfit(f"{_kind(value)} where true or false is documented")


def _bot_status(mapped: Mapped, column: str, value: Any) -> str:
    if isinstance(value, bool):
        return "active" if value else "paused"
    return _text(mapped, column, value)


def _bigint(mapped: Mapped, column: str, value: Any) -> int | None:
    if isinstance(value, str) and not value.strip():
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if -(2**63) <= value < 2**63:
            return value
        raise Misfit("a number beyond 64 bits")
    raise Misfit(f"{_kind(value)} where a whole number is documented")


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# Seconds until the year 5138; larger numbers can only be milli-, micro- or nanoseconds.
_EPOCH_UNITS = ((1e11, 1_000_000), (1e14, 1_000), (1e17, 1))
# What the API documents; pendulum reads it too, fifty times slower.
_USUAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.([0-9]{3}){1,2})?Z")
# Digits of seconds, milli-, micro- and nanoseconds; 14 would be a compact date.
_EPOCH_TEXT = re.compile("[0-9]{9,10}|[0-9]{12,13}|[0-9]{16}|[0-9]{19}")


def parse_timestamp(value: object) -> datetime:
    """A UTC time from ISO 8601 text or from epoch seconds, milli-, micro- or nanoseconds.

    Text without a zone is UTC; finer fractions than microseconds are cut off.

    Raises:
        Misfit: it is neither, or outside the years 1 to 9999 in UTC.
    """
    if isinstance(value, str):
        value = value.strip()
        value = int(value) if _EPOCH_TEXT.fullmatch(value) else value
    try:
        if isinstance(value, str) and _USUAL.fullmatch(value):
            return datetime.fromisoformat(f"{value[:-1]}+00:00")
        # pendulum takes a time without a date for one of today.
        if isinstance(value, str) and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            parsed = pendulum.parse(value, tz="UTC")
            if isinstance(parsed, datetime):
                return datetime.fromisoformat(parsed.isoformat()).astimezone(timezone.utc)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _from_epoch(value)
    except (ValueError, OverflowError, TypeError):  # pendulum raises all three
        pass
    raise Misfit(f"{_kind(value)} that is no time between the years 1 and 9999")


def _from_epoch(value: float) -> datetime:
    for limit, per_unit in _EPOCH_UNITS:
        if abs(value) < limit:
            return _EPOCH + timedelta(microseconds=round(value * per_unit))
    return _EPOCH + timedelta(microseconds=int(value) // 1000)


def _timestamp(mapped: Mapped, column: str, value: Any) -> datetime | None:
    if isinstance(value, str) and not value.strip():
        return None
    return parse_timestamp(value)


def _tags(mapped: Mapped, column: str, value: Any) -> list[str]:
    return _elements(mapped, column, value, _text)


def _reactions(mapped: Mapped, column: str, value: Any) -> list[Row]:
    return _elements(mapped, column, value, _reaction)


def _elements(mapped: Mapped, column: str, value: Any, convert: Convert) -> list[Any]:
    if not isinstance(value, list):
        raise Misfit(f"{_kind(value)} where a list is documented")
    kept = []
    for index, element in enumerate(value):
        try:
            kept.append(convert(mapped, f"{column}[{index}]", element))
        except Misfit as misfit:
            mapped.reject(f"{column}[{index}]", element, str(misfit))
    return kept


def _reaction(mapped: Mapped, column: str, value: Any) -> Row:
    if isinstance(value, str):
        value = {"emoji": value}
    if not isinstance(value, dict):
        raise Misfit(f"{_kind(value)} where an object is documented")
    return _columns(mapped, value, REACTION, prefix=f"{column}.")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "text", dict: "an object", list: "a list"}
    return kinds.get(type(value), "a number")


@dataclass(frozen=True)
class Column:
    """A documented column: its type in the warehouse, its names in the dialects, its converter."""

    data_type: str
    convert: Convert
    aliases: tuple[str, ...] = ()

    @property
    def empty(self) -> list[Any] | None:
        """What a row holds without a value: no elements, or null."""
        return [] if self.data_type == "list" else None


_TEXT = Column("text", _text)

MESSAGE: dict[str, Column] = {
    "id": Column("text", _key),
    "timestamp": Column("timestamp", _timestamp, ("created_at",)),
    "sender": Column("text", _text, ("sender_type",)),
    "status": Column("text", _text, ("message_status",)),
    "content": Column("text", _text_or_json, ("message",)),
    "media_type": Column("text", _text, ("mediaType",)),
    "media_url": Column("text", _text, ("mediaUrl",)),
    "assignee": Column("text", _text),
    "voice_transcription": Column(
        "text", _text, ("voiceTranscription", "voice_note_transcription")
    ),
    "reactions": Column("list", _reactions),
}

CONTACT: dict[str, Column] = {
    "id": Column("text", _key),
    "whatsapp_id": Column("text", _digits, ("whatsapp_number",)),
    "phone_number": _TEXT,
    "full_name": Column("text", _text, ("contact_name",)),
    "email": _TEXT,
    "created_at": Column("timestamp", _timestamp),
    "has_unread_messages": Column("bool", _bool),
    "archived": Column("bool", _bool),
    "unread_count": Column("bigint", _bigint),
    "bot_status": Column("text", _bot_status),
    "last_message": Column("text", _text_or_json),
    "last_message_at": Column("timestamp", _timestamp, ("last_message_time",)),
    "profile_picture_url": _TEXT,
    "tags": Column("list", _tags),
}

REACTION: dict[str, Column] = {"emoji": _TEXT, "sender": _TEXT}

OUR_COLUMNS = {
    "tenant_id": "text",
    "contact_id": "text",
    "whatsapp_id": "text",
    "synced_at": "timestamp",
}
"""Columns that the connector adds to messages, and their types.

A field of the API with such a name gets another.
"""


def contact_row(raw: Any, tenant_id: str, synced_at: datetime) -> Mapped:
    """The `contacts` row of one listed contact.

    Where the API gives no id, it is the number, and a digest where there is no number either.
    """
    mapped = _mapped(raw, CONTACT)
    row = mapped.row
    row |= {"tenant_id": tenant_id, "synced_at": synced_at}
    mapped.addressable = bool(row["id"] or contact_number(row))
    if not mapped.addressable:
        mapped.reject("id", None, "neither an id nor a number: the conversation cannot be read")
    row["id"] = row["id"] or contact_number(row) or _digest([tenant_id, raw])
    return mapped


def contact_number(row: Row) -> str:
    """The digits by which a contact's conversation can be asked for; empty if there are none."""
    return row["whatsapp_id"] or only_digits(row["phone_number"] or "")


def message_row(
    raw: Any, tenant_id: str, contact_id: str, whatsapp_id: str | None, synced_at: datetime
) -> Mapped:
    """The `messages` row of one message; its `id` is None where the API gives none."""
    mapped = _mapped(raw, MESSAGE)
    mapped.row |= {
        "tenant_id": tenant_id,
        "contact_id": contact_id,
        "whatsapp_id": whatsapp_id,
        "synced_at": synced_at,
    }
    return mapped


def message_digest(row: Row) -> str:
    """A key from what never changes in a message, the same in every run and dialect.

    The query of a media URL is left out, because that is where signatures and expiry dates live.
    Equal messages have equal digests.
    """
    return _digest(
        [
            row["tenant_id"],
            row["whatsapp_id"] or row["contact_id"],
            row["timestamp"],
            row["sender"],
            row["content"],
            row["media_type"],
            (row["media_url"] or "").partition("?")[0],
        ]
    )


def rejected_rows(
    mapped: Mapped, tenant_id: str, table_name: str, seen_at: datetime
) -> Iterable[Row]:
    """The `rejected_rows` rows of one mapped row, whose id must be final."""
    row_id = mapped.row["id"]
    for rejected in mapped.rejected:
        yield rejected | {
            "tenant_id": tenant_id,
            "table_name": table_name,
            "row_id": row_id,
            "seen_at": seen_at,
        }


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return '"nested too deeply to be written"'


def _digest(parts: list[Any]) -> str:
    text = json.dumps(parts, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _mapped(raw: Any, columns: dict[str, Column]) -> Mapped:
    mapped = Mapped({})
    if not isinstance(raw, dict):
        mapped.reject("*", raw, f"{_kind(raw)} where an object is documented")
        raw = {}
    mapped.row = _columns(mapped, raw, columns)
    return mapped


def _columns(mapped: Mapped, raw: Row, columns: dict[str, Column], prefix: str = "") -> Row:
    rest = dict(raw)
    row: Row = {}
    for name, column in columns.items():
        value = _take(rest, (name, *column.aliases))
        row[name] = column.empty
        try:
            if value is not None:
                row[name] = column.convert(mapped, prefix + name, value)
        except Misfit as misfit:
            mapped.reject(prefix + name, value, str(misfit))
    return row | _undocumented(mapped, rest, {*columns, *OUR_COLUMNS})


def _take(rest: Row, names: tuple[str, ...]) -> Any:
    """The first value under one of the names; what says nothing new is taken out with it."""
    taken = None
    for name in names:
        value = rest.get(name)
        if taken is None:
            taken = value
        # By repr, because to Python 1 is True, and NaN is not itself.
        if value is None or value is taken or repr(value) == repr(taken):
            rest.pop(name, None)
    return taken


def _undocumented(mapped: Mapped, fields: Row, taken: set[str], depth: int = 0) -> Row:
    kept: Row = {}
    names = {key: column_name(key) for key in fields}
    # Of two keys that meet in one name, the one that is the name keeps it, in every row.
    for key in sorted(fields, key=lambda key: names[key] != key):
        value, name = _plain(mapped, fields[key], depth), names[key]
        if _overflows(value):
            value, name = str(value), f"{name}_text"
        while name in taken or name in kept:
            name = f"api_{name.lstrip('_')}"
        kept[name] = value
    return kept


def _overflows(value: object) -> bool:
    """Whether dlt would take a value for a number that no column of numbers holds.

    It does so with text too, where an earlier row made a column of numbers: the load would fail,
    and every later one with it. So such values get a column of their own, as text.
    """
    if isinstance(value, str):
        if not re.fullmatch(
            r"\s*[+-]?([0-9._]+([eE][+-]?[0-9]+)?|nan|inf|infinity)\s*", value, re.IGNORECASE
        ):
            return False
        value = _number(value)
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _plain(mapped: Mapped, value: Any, depth: int = 0) -> Any:
    """A JSON value that every warehouse can hold."""
    if isinstance(value, str):
        return mapped.text(value)
    if isinstance(value, dict | list) and depth == MAX_DEPTH:
        return mapped.text(_json(value))
    if isinstance(value, dict):
        return _undocumented(mapped, value, set(), depth + 1)
    if isinstance(value, list):
        elements = [_plain(mapped, element, depth + 1) for element in value]
        return [{"value_text": str(e)} if _overflows(e) else e for e in elements]
    return value


def column_name(key: str) -> str:
    """The snake_case name of an undocumented field.

    dlt would do the same, but two keys that meet in one name would silently overwrite each other.
    """
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", key)
    name = re.sub(r"([A-Z])([A-Z][a-z])", r"\1_\2", name)
    name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not name:
        return f"field_{_digest([key])[:8]}"
    return f"_{name}" if name[0].isdigit() else name
