"""Messages as columns where they can be; the same rows as `rows.py` makes of them. Pure.

A message becomes columns if it is written in one dialect, its values are what is documented, and
it has no reactions, because those are for a child table. Every other one is a row of its own.

Source: FlowIQ quick start ("seed"), API reference and product overview.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import chain, repeat
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from flowiq_source.rows.convert import (
    MESSAGE,
    OUR_COLUMNS,
    Mapped,
    Misfit,
    Row,
    message_digest,
    message_row,
    parse_timestamp,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_TIMESTAMP = pa.timestamp("us", tz="UTC")

TYPES = {"text": pa.string(), "timestamp": _TIMESTAMP, "bigint": pa.int64()}
"""The types of columns, for Arrow."""

_API_SCHEMA = pa.schema(
    [
        pa.field(name, TYPES[column.data_type], name != "id")
        for name, column in MESSAGE.items()
        if column.data_type in TYPES
    ]
)


class Reaction(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A reaction as it is documented."""

    emoji: str | None = None
    sender: str | None = None


class Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message whose values are as documented, by the names of the table's columns."""

    id: str | None = None
    timestamp: str | None = None
    sender: str | None = None
    status: str | None = None
    content: str | None = None
    media_type: str | None = None
    media_url: str | None = None
    assignee: str | None = None
    voice_transcription: str | None = None
    reactions: list[Reaction] | None = None


def _named(name: str) -> Any:
    return msgspec.field(name=name, default=None)


class SeedMessage(Message, forbid_unknown_fields=True, gc=False):
    """By the quick start's names."""

    media_type: str | None = _named("mediaType")
    media_url: str | None = _named("mediaUrl")
    voice_transcription: str | None = _named("voiceTranscription")


class ReferenceMessage(Message, forbid_unknown_fields=True, gc=False):
    """By the names of the API reference and the product overview."""

    timestamp: str | None = _named("created_at")
    sender: str | None = _named("sender_type")
    status: str | None = _named("message_status")
    content: str | None = _named("message")
    voice_transcription: str | None = _named("voice_note_transcription")


_ROW_DECODERS = [msgspec.json.Decoder(SeedMessage), msgspec.json.Decoder(ReferenceMessage)]
_PAGE_DECODERS = [
    msgspec.json.Decoder(list[SeedMessage]),
    msgspec.json.Decoder(list[ReferenceMessage]),
]

_NUL = b"\\u0000"


def read_rows(text: bytes) -> list[Any]:
    """The rows of a page: `Message` where they are as documented, else as the JSON has them.

    Raises:
        ValueError: the text is no JSON.
    """
    rows = _documented(text, _PAGE_DECODERS)
    if rows is not None:
        return rows  # type: ignore[no-any-return]
    raws = json.loads(text)
    return [_one_row(raw) for raw in raws] if isinstance(raws, list) else raws


def _one_row(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    # An undocumented field without a value says nothing.
    text = json.dumps({name: value for name, value in raw.items() if value is not None})
    row = _documented(text.encode(), _ROW_DECODERS)
    return raw if row is None else row


def _documented(text: bytes, dialects: Sequence[Any]) -> Any:
    """What the first dialect makes of the text that takes it; None if none does.

    None takes a NUL or half an emoji: no warehouse can hold them.
    """
    if _NUL in text:
        return None
    for dialect in dialects:
        try:
            return dialect.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return None


Times = Sequence[int | None]
"""Epoch microseconds; None where unknown."""


class Digest(str):
    """A key that equal rows share; any other is a row's own id."""

    __slots__ = ()


class Origin(NamedTuple):
    """Whose message it is and when it was read; the columns that the connector adds."""

    tenant_id: str
    contact_id: str
    whatsapp_id: str | None
    synced_at: datetime


@dataclass
class MappedPage:
    """The rows of one page, ready for their table.

    `keys` and `times` have one entry per row. `mapped` holds the rows that are no columns by
    their position, `flat` all others in their order.
    """

    keys: list[str]
    times: Times
    flat: pa.RecordBatch
    mapped: dict[int, Mapped]
    origin: Origin

    def keep(self, ids: Sequence[str | None]) -> "MappedPage":
        """The page with these ids, and without the rows whose id is None."""
        if ids == self.keys:
            return self
        kept = [at for at, row_id in enumerate(ids) if row_id is not None]
        mapped = {n: self.mapped[at] for n, at in enumerate(kept) if at in self.mapped}
        for n, row in mapped.items():
            row.row["id"] = ids[kept[n]]
        flat_at = [at for at in range(len(ids)) if at not in self.mapped]
        flat = _with_ids(self.flat, [ids[at] for at in flat_at])
        keys = [self.keys[at] for at in kept]
        times = [self.times[at] for at in kept]
        return MappedPage(keys, times, flat, mapped, self.origin)


def _with_ids(flat: pa.RecordBatch, ids: Sequence[str | None]) -> pa.RecordBatch:
    kept = flat.take(
        pa.array([n for n, row_id in enumerate(ids) if row_id is not None], pa.int64())
    )
    columns = [pa.array([i for i in ids if i is not None], pa.string()), *kept.columns[1:]]
    return pa.RecordBatch.from_arrays(columns, schema=_API_SCHEMA)


def microseconds(time: datetime) -> int:
    """Epoch microseconds of a UTC time."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(time: int) -> datetime:
    """The UTC time of epoch microseconds."""
    return _EPOCH + time * _MICROSECOND


_EARLIEST = microseconds(datetime.min.replace(tzinfo=timezone.utc))
_LATEST = microseconds(datetime.max.replace(tzinfo=timezone.utc))


def map_page(raws: Sequence[Any], origin: Origin) -> MappedPage:
    """A page of messages, as columns where it can be; `raws` as `read_rows` gives them."""
    rows, times = _read(raws, origin)
    keys = [_key(row, time, origin) for row, time in zip(rows, times, strict=True)]
    mapped, flat = {}, []
    for at, (row, key, time) in enumerate(zip(rows, keys, times, strict=True)):
        if isinstance(row, Mapped):
            mapped[at] = row
        elif row.reactions:
            mapped[at] = _with_reactions(row, time, origin)
        else:
            # A tuple, because a page is too small for an array at a time.
            flat.append(
                (
                    str(key),
                    time,
                    row.sender,
                    row.status,
                    row.content,
                    row.media_type,
                    row.media_url,
                    row.assignee,
                    row.voice_transcription,
                )
            )
    for at, row in mapped.items():
        row.row["id"] = str(keys[at])
    batch = pa.RecordBatch.from_struct_array(pa.array(flat, pa.struct(_API_SCHEMA)))
    return MappedPage(keys, times, batch, mapped, origin)


def _read(raws: Sequence[Any], origin: Origin) -> tuple[Sequence[Message | Mapped], Times]:
    """The rows and their times; what is not as documented is mapped."""
    times = _times(raws) if all(isinstance(raw, Message) for raw in raws) else None
    if times is not None:
        return raws, times
    read = [_read_one(raw, origin) for raw in raws]
    return [row for row, _ in read], [time for _, time in read]


def _times(messages: Sequence[Message]) -> Times | None:
    """None if a time is not written as documented."""
    try:
        texts = pa.array([message.timestamp for message in messages], pa.string())
        times: Times = texts.cast(_TIMESTAMP).view(pa.int64()).to_pylist()
    except ValueError:  # pyarrow's
        return None
    known = [time for time in times if time is not None]
    return times if not known or _EARLIEST <= min(known) <= max(known) <= _LATEST else None


def _read_one(raw: Any, origin: Origin) -> tuple[Message | Mapped, int | None]:
    if isinstance(raw, Message):
        try:
            return raw, microseconds(parse_timestamp(raw.timestamp))
        except Misfit:
            raw = msgspec.to_builtins(raw)
    mapped = message_row(raw, *origin)
    sent_at = mapped.row["timestamp"]
    return mapped, None if sent_at is None else microseconds(sent_at)


def _key(row: Message | Mapped, time: int | None, origin: Origin) -> str:
    """The row's own id, or else a digest."""
    if isinstance(row, Mapped):
        return row.row["id"] or Digest(message_digest(row.row))
    return row.id or Digest(message_digest(_values(row, time, origin)))


def _values(message: Message, time: int | None, origin: Origin) -> Row:
    row: Row = {name: getattr(message, name) for name in _API_SCHEMA.names}
    row["timestamp"] = None if time is None else from_microseconds(time)
    return row | origin._asdict()


def _with_reactions(message: Message, time: int | None, origin: Origin) -> Mapped:
    reactions = [msgspec.structs.asdict(reaction) for reaction in message.reactions or ()]
    row = _values(message, time, origin) | {"reactions": reactions}
    # What is left out is null all the same, and dlt need not look at it.
    return Mapped({name: value for name, value in row.items() if value is not None})


def message_table(pages: Sequence[MappedPage]) -> pa.Table:
    """The rows of pages that are columns, the connector's columns among them."""
    table = pa.Table.from_batches([page.flat for page in pages], _API_SCHEMA)
    for at, (name, data_type) in enumerate(OUR_COLUMNS.items()):
        values = (repeat(page.origin[at], page.flat.num_rows) for page in pages)
        column = pa.array(chain.from_iterable(values), TYPES[data_type])
        table = table.append_column(pa.field(name, column.type, name != "tenant_id"), column)
    return table.combine_chunks()
