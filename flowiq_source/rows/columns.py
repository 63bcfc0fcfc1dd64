"""The columns of the tables: their types, their names in the dialects, how a value gets in.

Everything that knows a column is made from here: converters, structs, Arrow's and dlt's schemas.

Source: FlowIQ quick start ("seed"), API reference and product overview, which name the same
things differently.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pyarrow as pa

from flowiq_source.rows.values import (
    MAX_KEY,
    as_bigint,
    as_bool,
    as_bot_status,
    as_content,
    as_id,
    as_number,
    as_short_text,
    as_text,
    as_time,
)


@dataclass(frozen=True)
class Column:
    """A documented column: its type, its converter, and what dialects call it otherwise."""

    data_type: str = "text"
    convert: Callable[[Any], Any] = as_text
    """From a JSON value that is not null; raises Misfit. A list's is that of its elements."""
    items: str = ""
    """The table of a list's elements, if they are objects."""
    seed: str = ""
    reference: str = ""
    overview: str = ""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Its other names, each once."""
        names = (self.seed, self.reference, self.overview)
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def empty(self) -> list[Any] | None:
        """What a row holds without a value: no elements, or null."""
        return [] if self.data_type == "list" else None


# The product overview writes messages as the reference does.
MESSAGE = {
    "id": Column(convert=as_id),
    "timestamp": Column("timestamp", as_time, reference="created_at"),
    "sender": Column(reference="sender_type"),
    "status": Column(reference="message_status"),
    "content": Column(convert=as_content, reference="message"),
    "media_type": Column(seed="mediaType"),
    "media_url": Column(seed="mediaUrl"),
    "assignee": Column(),
    "voice_transcription": Column(seed="voiceTranscription", reference="voice_note_transcription"),
    "reactions": Column("list", items="reactions"),
}

# The quick start shows no contact.
CONTACT = {
    "id": Column(convert=as_id),
    "whatsapp_id": Column(convert=as_number, overview="whatsapp_number"),
    "phone_number": Column(convert=as_short_text),
    "full_name": Column(overview="contact_name"),
    "email": Column(),
    "created_at": Column("timestamp", as_time),
    "has_unread_messages": Column("bool", as_bool),
    "archived": Column("bool", as_bool),
    "unread_count": Column("bigint", as_bigint),
    "bot_status": Column(convert=as_bot_status),
    "last_message": Column(convert=as_content),
    "last_message_at": Column("timestamp", as_time, overview="last_message_time"),
    "profile_picture_url": Column(),
    "tags": Column("list"),
}

REACTION = {"emoji": Column(), "sender": Column()}

TABLES = {"messages": MESSAGE, "contacts": CONTACT, "reactions": REACTION}

OUR_COLUMNS = {
    "tenant_id": "text",
    "contact_id": "text",
    "whatsapp_id": "text",
    "synced_at": "timestamp",
    "scan": "bigint",
}
"""Columns that the connector adds to messages, and their types: the fields of `Origin`."""

UNDOCUMENTED = "undocumented"
"""The column of what is no column of its own: JSON text of an object, in every table."""

TYPES = {
    "text": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "bigint": pa.int64(),
    "bool": pa.bool_(),
}
"""The types of columns, for Arrow."""

_REQUIRED = {"tenant_id", "contact_id", "id"}


def arrow_schema(types: dict[str, str]) -> Any:
    """Arrow's schema of columns that are no lists."""
    return pa.schema(
        [
            pa.field(name, TYPES[data_type], name not in _REQUIRED)
            for name, data_type in types.items()
            if data_type in TYPES
        ]
    )


class Documented(msgspec.Struct, gc=False):
    """A row whose every value is as one dialect documents it, by the names of our columns."""


def _struct(table: str, dialect: str) -> Any:
    """The struct of the rows of a table in a dialect."""
    columns = TABLES[table].items()
    return msgspec.defstruct(
        f"{dialect}_{table}".title().replace("_", ""),
        [(name, _json_type(column) | None, None) for name, column in columns],
        bases=(Documented,),
        module=__name__,
        rename={name: getattr(column, dialect) or name for name, column in columns},
        forbid_unknown_fields=True,
        gc=False,
    )


def _json_type(column: Column) -> Any:
    """How JSON documents a text, a time or a list of objects."""
    if column.items:
        return list[_struct(column.items, "reference")]  # type: ignore[misc]
    if column.convert is as_id:
        return Annotated[str, msgspec.Meta(max_length=MAX_KEY)]
    return str


MESSAGE_STRUCTS = [_struct("messages", dialect) for dialect in ("seed", "reference")]
