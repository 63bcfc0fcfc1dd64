"""Pages of messages as Arrow columns where they can be; the same rows as `rows.py` makes. Pure.

A page becomes columns if it is written in one dialect and its documented values are text or null,
with times in ISO 8601. Its rows with reactions or undocumented fields are mapped one by one all
the same; a page that does not fit is mapped row by row as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import pyarrow as pa

from flowiq_source.rows import MESSAGE, OUR_COLUMNS, Mapped, Row, message_digest, message_row

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)

_TYPES: dict[str, pa.DataType] = {"text": pa.string(), "timestamp": pa.timestamp("us", tz="UTC")}

_FLAT = {name: column for name, column in MESSAGE.items() if column.data_type in _TYPES}

_KEYS = ("tenant_id", "id")

SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in _KEYS]
    + [
        pa.field(name, _TYPES[data_type])
        for name, data_type in ({n: c.data_type for n, c in _FLAT.items()} | OUR_COLUMNS).items()
        if name not in _KEYS
    ]
)
"""The columns of a `messages` row without reactions, in the order of the table."""

_DOCUMENTED = {alias for name, column in MESSAGE.items() for alias in (name, *column.aliases)}


class Key(NamedTuple):
    """What tells a row from others: its own id, or else a digest that equal rows share."""

    text: str
    own: bool


class Origin(NamedTuple):
    """Whose message it is and when it was read; the columns that the connector adds."""

    tenant_id: str
    contact_id: str
    whatsapp_id: str | None
    synced_at: datetime


@dataclass
class MappedPage:
    """The rows of one page, ready for their table.

    `flat` holds the rows at the positions `flat_at` of the page as columns, `mapped` those at
    `mapped_at`. `keys` and `times` (epoch microseconds, None where unknown) have one entry per row
    of the page.
    """

    keys: list[Key]
    times: list[int | None]
    flat: pa.RecordBatch | None
    flat_at: Sequence[int]
    mapped: list[Mapped]
    mapped_at: Sequence[int]

    def keep(self, ids: Sequence[str | None]) -> "MappedPage":
        """The page with these ids, and without the rows whose id is None."""
        if all(key.own and key.text == row_id for key, row_id in zip(self.keys, ids, strict=True)):
            return self
        flat, flat_at = self.flat, self.flat_at
        if flat is not None:
            flat_at = [at for at in flat_at if ids[at] is not None]
            flat = _with_ids(flat, self.flat_at, ids)
        mapped_at = [at for at in self.mapped_at if ids[at] is not None]
        mapped = [m for at, m in zip(self.mapped_at, self.mapped, strict=True) if ids[at]]
        for at, kept in zip(mapped_at, mapped, strict=True):
            kept.row["id"] = ids[at]
        times = [time for time, row_id in zip(self.times, ids, strict=True) if row_id is not None]
        keys = [key for key, row_id in zip(self.keys, ids, strict=True) if row_id is not None]
        return MappedPage(keys, times, flat, flat_at, mapped, mapped_at)


def microseconds(time: datetime) -> int:
    """Epoch microseconds of a UTC time."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(time: int) -> datetime:
    """The UTC time of epoch microseconds."""
    return _EPOCH + time * _MICROSECOND


_EARLIEST = microseconds(datetime.min.replace(tzinfo=timezone.utc))
_LATEST = microseconds(datetime.max.replace(tzinfo=timezone.utc))


def map_page(raws: Sequence[Any], origin: Origin) -> MappedPage:
    """A page of messages, as columns where it can be."""
    return _as_columns(raws, origin) or map_rows(raws, origin)


def map_rows(raws: Sequence[Any], origin: Origin) -> MappedPage:
    """A page of messages, row by row."""
    mapped = [message_row(raw, *origin) for raw in raws]
    keys = [_key(m.row) for m in mapped]
    times = [_time(m.row) for m in mapped]
    return MappedPage(keys, times, None, [], mapped, range(len(mapped)))


def _key(row: Row) -> Key:
    return Key(row["id"], own=True) if row["id"] else Key(message_digest(row), own=False)


def _time(row: Row) -> int | None:
    return None if row["timestamp"] is None else microseconds(row["timestamp"])


def _as_columns(raws: Sequence[Any], origin: Origin) -> MappedPage | None:
    """None if the page does not fit."""
    if not all(type(raw) is dict for raw in raws):
        return None
    fields = set[str]().union(*raws)
    names = _names(fields)
    flat_at = _flat_positions(raws, fields - _DOCUMENTED)
    if names is None or not flat_at:
        return None
    flat_raws = raws if len(flat_at) == len(raws) else [raws[at] for at in flat_at]
    try:
        values = pa.array(flat_raws, pa.struct([(name, pa.string()) for name in names.values()]))
        flat = _batch(values, names, origin)
    except (ValueError, TypeError):  # what pyarrow raises for values of another type
        return None
    if _has_nul(values):
        return None
    return _assembled(raws, origin, names, flat, flat_at)


def _names(fields: set[str]) -> dict[str, str] | None:
    """What the page calls each column that it has; None if it calls one by two names."""
    names = {}
    for name, column in _FLAT.items():
        found = fields.intersection((name, *column.aliases))
        if len(found) > 1:
            return None
        if found:
            names[name] = found.pop()
    return names


def _flat_positions(raws: Sequence[Row], undocumented: set[str]) -> Sequence[int]:
    """Where the rows are that have neither reactions nor an undocumented value."""
    flat = [at for at, raw in enumerate(raws) if raw.get("reactions") in (None, [])]
    for field in undocumented:
        flat = [at for at in flat if raws[at].get(field) is None]
    return flat


def _batch(values: pa.StructArray, names: dict[str, str], origin: Origin) -> pa.RecordBatch:
    size = len(values)
    ours = dict(zip(OUR_COLUMNS, origin, strict=True))
    return pa.RecordBatch.from_arrays(
        [
            _typed(values.field(names[field.name]), field.type)
            if field.name in names
            else pa.repeat(pa.scalar(ours.get(field.name), field.type), size)
            for field in SCHEMA
        ],
        schema=SCHEMA,
    )


def _typed(texts: pa.StringArray, data_type: pa.DataType) -> pa.Array:
    return texts if texts.type == data_type else texts.cast(data_type)


def _has_nul(values: pa.StructArray) -> bool:
    """Whether a text holds the character that no warehouse can hold."""
    texts = (values.field(at).buffers()[2] for at in range(values.type.num_fields))
    return any(text is not None and b"\0" in text.to_pybytes() for text in texts)


def _assembled(
    raws: Sequence[Row],
    origin: Origin,
    names: dict[str, str],
    flat: pa.RecordBatch,
    flat_at: Sequence[int],
) -> MappedPage | None:
    times = flat.column("timestamp").cast(pa.int64()).to_pylist()
    ids = flat.column("id").to_pylist()
    known = [time for time in times if time is not None]
    if "" in ids or (known and not _EARLIEST <= min(known) <= max(known) <= _LATEST):
        return None
    keys = [
        Key(row_id or _digest(raws[at], names, time, origin), row_id is not None)
        for at, row_id, time in zip(flat_at, ids, times, strict=True)
    ]
    page = MappedPage(keys, times, flat, flat_at, [], [])
    return page if len(flat_at) == len(raws) else _with_others(page, raws, origin)


def _digest(raw: Row, names: dict[str, str], time: int | None, origin: Origin) -> str:
    row = {name: raw.get(names[name]) if name in names else None for name in _FLAT}
    row["timestamp"] = None if time is None else from_microseconds(time)
    return message_digest(row | origin._asdict())


def _with_others(page: MappedPage, raws: Sequence[Row], origin: Origin) -> MappedPage:
    """The page with the rows that are not flat in their places."""
    flat_at = set(page.flat_at)
    others_at = [at for at in range(len(raws)) if at not in flat_at]
    others = map_rows([raws[at] for at in others_at], origin)
    places = [*page.flat_at, *others_at]
    keys, times = [*page.keys, *others.keys], [*page.times, *others.times]
    order = sorted(range(len(raws)), key=places.__getitem__)
    return MappedPage(
        [keys[at] for at in order],
        [times[at] for at in order],
        page.flat,
        page.flat_at,
        others.mapped,
        others_at,
    )


def _with_ids(
    flat: pa.RecordBatch, flat_at: Sequence[int], ids: Sequence[str | None]
) -> pa.RecordBatch:
    column = pa.array([ids[at] for at in flat_at], pa.string())
    at_id = SCHEMA.get_field_index("id")
    columns = [column if at == at_id else flat.column(at) for at in range(flat.num_columns)]
    flat = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    return flat if column.null_count == 0 else flat.filter(column.is_valid())
