"""A page of messages, ready for its table: as rows, or as Arrow columns where they can be. Pure.

A message becomes columns if it is written in one dialect, its values are what is documented, and
it has no reactions, because those are for a child table. Every other one is a row of its own.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import attrgetter
from types import SimpleNamespace
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

_API_SCHEMA = arrow_schema({name: column.data_type for name, column in MESSAGE.items()})
_SCHEMA = pa.unify_schemas([_API_SCHEMA, arrow_schema(OUR_COLUMNS)])

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

    `keys`, `times` and `prints` have one entry per row. By their positions, `flat` holds the rows
    that become columns, and `mapped` all others.
    """

    keys: list[str]
    times: list[int | None]
    """Epoch microseconds; None where unknown."""
    prints: list[int]
    """Equal, in one process, for rows that are equal in sender, content and media, and in time
    where that is all that tells them apart."""
    flat: dict[int, Documented]
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
            flat={n: self.flat[at] for n, at in enumerate(kept) if at in self.flat},
            mapped=mapped,
            origin=self.origin,
        )


def map_page(raws: Sequence[Any], origin: Origin, extras: Extras, *, columnar: bool) -> MappedPage:
    """A page of messages; `raws` as `read_rows` gives them.

    If it is `columnar`, rows become columns where they can; they are the same rows otherwise.
    """
    page = MappedPage([], [], [], {}, {}, origin)
    for at, (raw, documented_time) in enumerate(_timed(raws)):
        row, time, mapped = raw, documented_time, None
        if not (columnar and _is_flat(raw)):
            mapped = _mapped(raw, time, origin, extras)
            row, time = SimpleNamespace(**mapped.row), mapped.row["timestamp"]
        key = _key(row, time, origin)
        page.keys.append(key)
        page.times.append(time)
        page.prints.append(_print(row, time if isinstance(key, Digest) else None))
        if mapped is None:
            page.flat[at] = raw
        else:
            mapped.row["id"] = str(key)
            page.mapped[at] = _complete(mapped, origin)
    return page


def _is_flat(raw: Any) -> bool:
    return isinstance(raw, Documented) and not getattr(raw, "reactions", None)


def _mapped(raw: Any, time: int | None, origin: Origin, extras: Extras) -> Mapped:
    """The row of one message, with its time in epoch microseconds."""
    if isinstance(raw, Documented):
        return Mapped(msgspec.structs.asdict(raw) | {"timestamp": time})
    mapped = message_row(raw, origin, extras)
    at = mapped.row["timestamp"]
    mapped.row["timestamp"] = None if at is None else microseconds(at)
    return mapped


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


def _print(row: Any, time: int | None) -> int:
    """What a row looks like to somebody who reads the conversation; its id is no part of it."""
    url = lasting_url(row.media_url) if row.media_url else ""
    return hash((row.sender, time, row.content, row.media_type, url))


def without_id(raw: Any) -> Any:
    """The row as if it had no id, which is kept under another name."""
    fields = msgspec.to_builtins(raw) if isinstance(raw, Documented) else raw
    if not isinstance(fields, dict):
        return raw
    rest = {name: value for name, value in fields.items() if name != "id"}
    return rest | {"repeated_id": fields.get("id")}


def _key(row: Any, time: int | None, origin: Origin) -> str:
    """The row's own id, or else a digest."""
    row_id: str | None = row.id
    if row_id and not row_id.isspace():
        return row_id
    return Digest(message_digest(row, time, origin))


def _complete(mapped: Mapped, origin: Origin) -> Mapped:
    """The row as dlt gets it, and every step that a user adds: with all columns, null or not."""
    row = mapped.row | vars(origin)
    row["timestamp"] = None if row["timestamp"] is None else from_microseconds(row["timestamp"])
    row["reactions"] = [msgspec.to_builtins(reaction) for reaction in row["reactions"] or ()]
    mapped.row = row
    return mapped


def message_table(pages: Sequence[MappedPage]) -> pa.Table:
    """The rows of pages that are columns, the connector's columns among them."""
    arrays = [
        pa.array(chain.from_iterable(_column(page, field.name) for page in pages), field.type)
        for field in _SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def _column(page: MappedPage, name: str) -> Iterable[Any]:
    """The values of a column, of the rows of a page that are columns."""
    if name == "id":
        return (str(page.keys[at]) for at in page.flat)
    if name == "timestamp":
        return (page.times[at] for at in page.flat)
    if name in OUR_COLUMNS:
        return repeat(getattr(page.origin, name), len(page.flat))
    return map(attrgetter(name), page.flat.values())
