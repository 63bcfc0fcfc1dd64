"""The tables as dlt declares them: keys, columns and types, all there from the first load on."""

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import dlt
import pyarrow as pa
from dlt.common.normalizers.utils import generate_dlt_ids
from dlt.common.schema.typing import TColumnSchema, TTableSchemaColumns, TWriteDisposition
from dlt.common.schema.utils import dlt_id_column, dlt_load_id_column

from flowiq_source.rows.arrow import TYPES, MappedPage, message_table
from flowiq_source.rows.convert import CONTACT, MESSAGE, OUR_COLUMNS, REACTION, Column, Row


class Table(TypedDict, total=False):
    """What `dlt.transformer` is told about a table."""

    primary_key: list[str]
    write_disposition: TWriteDisposition
    columns: TTableSchemaColumns
    nested_hints: Any


def _column(name: str, data_type: str, **hints: Any) -> TColumnSchema:
    column: dict[str, Any] = {"name": name, "data_type": data_type, "nullable": True}
    if data_type == "timestamp":
        column |= {"timezone": True, "precision": 6}
    return column | hints  # type: ignore[return-value]


def _columns(
    keys: list[str], documented: dict[str, Column] | None = None, **ours: str
) -> TTableSchemaColumns:
    types = {n: c.data_type for n, c in (documented or {}).items() if c.data_type != "list"} | ours
    columns = {key: _column(key, "text", nullable=False) for key in keys}
    return columns | {n: _column(n, t) for n, t in types.items() if n not in keys}


# dlt adds these to rows, not to Arrow tables; the order is that of its tables.
_OF_DLT: TTableSchemaColumns = {
    "_dlt_load_id": dlt_load_id_column(),
    "_dlt_id": dlt_id_column(),
}


def _child(**columns: str) -> Any:
    # dlt adds the columns with an underscore with the first row; declared, they are there before.
    return dlt.mark.make_nested_hints(
        columns=[
            *(_column(name, data_type) for name, data_type in columns.items()),
            _column("_dlt_id", "text", nullable=False, unique=True, row_key=True),
            _column("_dlt_parent_id", "text", nullable=False, parent_key=True),
            _column("_dlt_root_id", "text", nullable=False, root_key=True),
            _column("_dlt_list_idx", "bigint", nullable=False),
        ]
    )


_CONVERSATION = {
    "whatsapp_id": "text",
    "status": "text",
    "message_count": "bigint",
    "last_message_at": "timestamp",
    "synced_at": "timestamp",
    "rescanned_at": "timestamp",
    "requests": "bigint",
    "error": "text",
}

CONTACTS = Table(
    primary_key=["tenant_id", "id"],
    write_disposition="merge",
    columns=_columns(["tenant_id", "id"], CONTACT, synced_at="timestamp"),
    nested_hints={"tags": _child(value="text")},
)

MESSAGES = Table(
    primary_key=["tenant_id", "id"],
    write_disposition="merge",
    columns=_columns(["tenant_id", "id"], MESSAGE, **OUR_COLUMNS) | _OF_DLT,
    nested_hints={"reactions": _child(**{n: c.data_type for n, c in REACTION.items()})},
)

CONVERSATIONS = Table(
    primary_key=["tenant_id", "contact_id"],
    write_disposition="merge",
    columns=_columns(["tenant_id", "contact_id"], None, **_CONVERSATION) | _OF_DLT,
)

_CONVERSATION_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in CONVERSATIONS["primary_key"]]
    + [pa.field(name, TYPES[data_type]) for name, data_type in _CONVERSATION.items()]
)

REJECTED_ROWS = Table(
    write_disposition="append",
    columns=_columns(
        ["tenant_id", "table_name"],
        row_id="text",
        column_name="text",
        reason="text",
        raw="text",
        seen_at="timestamp",
    ),
)


def message_columns(pages: Sequence[MappedPage], load_id: str) -> Iterator[Any]:
    """The messages of pages that are columns, as dlt loads them without looking at them."""
    table = message_table(pages)
    if table:
        yield dlt.mark.with_hints(_of_dlt(table, load_id), _COLUMNS, create_table_variant=True)


# dlt 1.31 would give the child tables all columns of the Arrow table: so here it hears of none.
_COLUMNS = dlt.mark.make_hints(table_name="messages", nested_hints={})


def conversation_columns(rows: Sequence[Row], load_id: str) -> Iterator[Any]:
    """Rows of `conversations` as columns; there is nothing in them that we do not know."""
    if rows:
        yield _of_dlt(pa.Table.from_pylist(rows, _CONVERSATION_SCHEMA), load_id)


def _of_dlt(table: pa.Table, load_id: str) -> pa.Table:
    """The table with the columns that dlt gives to rows."""
    ids = pa.array(generate_dlt_ids(len(table)), pa.string())
    loads = pa.repeat(pa.scalar(load_id), len(table))
    for name, column in (("_dlt_load_id", loads), ("_dlt_id", ids)):
        table = table.append_column(pa.field(name, pa.string(), nullable=False), column)
    return table
