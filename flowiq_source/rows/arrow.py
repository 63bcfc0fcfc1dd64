"""A page of messages, ready for its table: as rows, or as Arrow columns where they can be. Pure.

A message becomes columns if it is written in one dialect, its values are what is documented, and
it has no reactions, because those are for a child table. Every other one is a row of its own.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import msgspec
import pyarrow as pa

from flowiq_source.rows.columns import (
    MESSAGE,
    MESSAGE_STRUCTS,
    OUR_COLUMNS,
    TYPES,
    Documented,
    arrow_schema,
)
from flowiq_source.rows.convert import (
    Mapped,
    Origin,
    Row,
    lasting_url,
    message_digest,
    message_row,
)
from flowiq_source.rows.extras import Extras
from flowiq_source.times import EARLIEST, LATEST, from_microseconds, microseconds, parse_timestamp

_SCHEMA = arrow_schema({name: column.data_type for name, column in MESSAGE.items()})
_STRUCT = pa.struct(_SCHEMA)
_NO_ROWS = pa.RecordBatch.from_pylist([], _SCHEMA)

_ROW_DECODERS = [msgspec.json.Decoder(struct) for struct in MESSAGE_STRUCTS]
_PAGE_DECODERS = [msgspec.json.Decoder(list[struct]) for struct in MESSAGE_STRUCTS]  # type: ignore[valid-type]


def read_rows(text: bytes) -> Any:
    """The rows of a page: `Documented` where they are as documented, else as the JSON has them.

    Raises:
        ValueError: the text is no JSON.
        RecursionError: it is nested too deeply to be read.
    """
    rows = _documented(text, _PAGE_DECODERS)
    if rows is not None:
        return rows
    raws = json.loads(text)
    return [_one_row(raw) for raw in raws] if isinstance(raws, list) else raws


def _one_row(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    try:
        # An undocumented field without a value says nothing.
        text = json.dumps({name: value for name, value in raw.items() if value is not None})
    except RecursionError:
        return raw
    row = _documented(text.encode(), _ROW_DECODERS)
    return raw if row is None else row


def _documented(text: bytes, dialects: Sequence[Any]) -> Any:
    """What the first dialect makes of the text that takes it; None if none does.

    None takes a NUL or half an emoji: no warehouse can hold them.
    """
    for dialect in dialects if rb"\u0000" not in text else ():
        try:
            return dialect.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return None


class Digest(str):
    """A key that equal rows share; any other is a row's own id."""

    __slots__ = ()


@dataclass
class MappedPage:
    """The rows of one page, ready for their table.

    `keys`, `times` and `prints` have one entry per row. `mapped` holds the rows that are no
    columns by their position, `flat` all others in their order.
    """

    keys: list[str]
    times: list[int | None]
    """Epoch microseconds; None where unknown."""
    prints: list[int]
    """Equal, in one process, for rows that are equal in sender, content and media, and in time
    where that is all that tells them apart."""
    flat: Any
    mapped: dict[int, Mapped]
    origin: Origin

    @property
    def rows(self) -> list[Row]:
        """The rows that are no columns."""
        return [mapped.row for mapped in self.mapped.values()]

    def keep(self, ids: Sequence[str | None]) -> "MappedPage":
        """The page with these ids, and without the rows whose id is None."""
        if ids == self.keys:
            return self
        kept = [at for at, row_id in enumerate(ids) if row_id is not None]
        mapped = {n: self.mapped[at] for n, at in enumerate(kept) if at in self.mapped}
        for n, row in mapped.items():
            row.row["id"] = ids[kept[n]]
        return MappedPage(
            keys=[row_id for row_id in ids if row_id is not None],
            times=[self.times[at] for at in kept],
            prints=[self.prints[at] for at in kept],
            flat=_with_ids(self.flat, [ids[at] for at in range(len(ids)) if at not in self.mapped]),
            mapped=mapped,
            origin=self.origin,
        )


def _with_ids(flat: Any, ids: Sequence[str | None]) -> Any:
    kept = [n for n, row_id in enumerate(ids) if row_id is not None]
    column = pa.array([ids[n] for n in kept], pa.string())
    at = _SCHEMA.get_field_index("id")
    return flat.take(pa.array(kept, pa.int64())).set_column(at, _SCHEMA.field(at), column)


def map_page(raws: Sequence[Any], origin: Origin, extras: Extras, *, columnar: bool) -> MappedPage:
    """A page of messages; `raws` as `read_rows` gives them.

    If it is `columnar`, rows become columns where they can; they are the same rows otherwise.
    """
    page = MappedPage([], [], [], _NO_ROWS, {}, origin)
    flat: list[Row] = []
    for at, (raw, documented_time) in enumerate(_timed(raws)):
        mapped = None
        if isinstance(raw, Documented):
            row, time = msgspec.structs.asdict(raw), documented_time
        else:
            mapped = message_row(raw, origin, extras)
            row, at_time = mapped.row, mapped.row["timestamp"]
            time = None if at_time is None else microseconds(at_time)
        row["timestamp"] = time
        key = _key(row, origin)
        page.keys.append(key)
        page.times.append(time)
        page.prints.append(_print(row, time if isinstance(key, Digest) else None))
        row["id"] = str(key)
        if columnar and mapped is None and not row["reactions"]:
            flat.append(row)
        else:
            page.mapped[at] = _complete(mapped or Mapped(row), origin)
    if flat:
        page.flat = pa.RecordBatch.from_struct_array(pa.array(flat, _STRUCT))
    return page


_NO_TIME: Any = object()


def _timed(raws: Sequence[Any]) -> Iterator[tuple[Any, int | None]]:
    """The rows, and the times of those that are as documented; the others as JSON has them."""
    texts = [getattr(raw, "timestamp", None) for raw in raws]
    try:
        array = pa.array(texts, pa.string()).cast(TYPES["timestamp"]).view(pa.int64())
        times = [t if t is None or EARLIEST <= t <= LATEST else _NO_TIME for t in array.to_pylist()]
    except ValueError:  # pyarrow's
        times = [_time(text) for text in texts]
    for raw, time in zip(raws, times, strict=True):
        yield (msgspec.to_builtins(raw), None) if time is _NO_TIME else (raw, time)


def _time(text: str | None) -> Any:
    try:
        return None if text is None else microseconds(parse_timestamp(text))
    except ValueError:
        return _NO_TIME


def _print(row: Row, time: int | None) -> int:
    """What a row looks like to somebody who reads the conversation; its id is no part of it."""
    url = lasting_url(row["media_url"])
    return hash((row["sender"], time, row["content"], row["media_type"], url))


def without_id(raw: Any) -> Any:
    """The row as if it had no id, which is kept under another name."""
    fields = msgspec.to_builtins(raw) if isinstance(raw, Documented) else raw
    if not isinstance(fields, dict):
        return raw
    rest = {name: value for name, value in fields.items() if name != "id"}
    return rest | {"repeated_id": fields.get("id")}


def _key(row: Row, origin: Origin) -> str:
    """The row's own id, or else a digest."""
    row_id: str | None = row["id"]
    if row_id and not row_id.isspace():
        return row_id
    return Digest(message_digest(row, origin))


def _complete(mapped: Mapped, origin: Origin) -> Mapped:
    """The row as dlt gets it, and every step that a user adds: with all columns, null or not."""
    row = mapped.row | vars(origin)
    row["timestamp"] = None if row["timestamp"] is None else from_microseconds(row["timestamp"])
    row["reactions"] = [msgspec.to_builtins(reaction) for reaction in row["reactions"] or ()]
    mapped.row = row
    return mapped


def message_table(pages: Sequence[MappedPage]) -> pa.Table:
    """The rows of pages that are columns, the connector's columns among them."""
    table = pa.Table.from_batches([page.flat for page in pages], _SCHEMA)
    for field in arrow_schema(OUR_COLUMNS):
        values = (repeat(getattr(page.origin, field.name), page.flat.num_rows) for page in pages)
        column = pa.array(chain.from_iterable(values), field.type)
        table = table.append_column(field, column)
    return table.combine_chunks()
