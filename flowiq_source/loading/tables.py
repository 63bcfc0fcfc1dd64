"""The tables as dlt declares them: keys, columns and types, all there from the first load on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict

import dlt
import pyarrow as pa
from dlt.common.normalizers.utils import generate_dlt_ids
from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema, TTableSchemaColumns, TWriteDisposition
from dlt.common.schema.utils import dlt_id_column, dlt_load_id_column
from dlt.extract import DltSource

from flowiq_source.errors import ConfigurationError
from flowiq_source.rows.columns import (
    CONTACT,
    MESSAGE,
    OUR_COLUMNS,
    REACTION,
    UNDOCUMENTED,
    Column,
    arrow_schema,
)
from flowiq_source.rows.convert import Row


class Table(TypedDict, total=False):
    """What `dlt.resource` is told about a table."""

    table_format: Any
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
    "surplus": "bigint",
    "scan": "bigint",
    "last_message_at": "timestamp",
    "synced_at": "timestamp",
    "rescanned_at": "timestamp",
    "requests": "bigint",
    "error": "text",
}

CONTACTS = Table(
    primary_key=["tenant_id", "id"],
    write_disposition="merge",
    columns=_columns(["tenant_id", "id"], CONTACT, synced_at="timestamp", **{UNDOCUMENTED: "text"}),
    nested_hints={"tags": _child(value="text")},
)

CONTACT_IDENTITIES = Table(
    primary_key=["tenant_id", "contact_id", "kind", "value"],
    write_disposition="merge",
    columns=_columns(
        ["tenant_id", "contact_id", "kind", "value"],
        first_seen_at="timestamp",
        last_seen_at="timestamp",
    ),
)

MESSAGES = Table(
    primary_key=["tenant_id", "contact_id", "id"],
    write_disposition="merge",
    columns=_columns(
        ["tenant_id", "contact_id", "id"], MESSAGE, **OUR_COLUMNS, **{UNDOCUMENTED: "text"}
    )
    | _OF_DLT,
    nested_hints={
        "reactions": _child(
            **{name: column.data_type for name, column in REACTION.items()},
            **{UNDOCUMENTED: "text"},
        )
    },
)

CONVERSATIONS = Table(
    primary_key=["tenant_id", "contact_id"],
    write_disposition="merge",
    columns=_columns(["tenant_id", "contact_id"], None, **_CONVERSATION) | _OF_DLT,
)

REJECTED_ROWS = Table(
    primary_key=["tenant_id", "table_name", "record_id", "column_name", "reason", "raw"],
    write_disposition="merge",
    columns=_columns(
        ["tenant_id", "table_name", "record_id", "column_name", "reason", "raw"],
        first_seen_at="timestamp",
        seen_at="timestamp",
    ),
)

SYNCS = Table(
    primary_key=["tenant_id", "started_at"],
    write_disposition="merge",
    columns={
        "tenant_id": _column("tenant_id", "text", nullable=False),
        "started_at": _column("started_at", "timestamp", nullable=False),
    }
    | _columns(
        [],
        None,
        ended_at="timestamp",
        kind="text",
        complete="bool",
        requests="bigint",
        conversations="bigint",
        quiet="bigint",
        failed="bigint",
        doubtful="bigint",
        carried_over="bigint",
    ),
)

_KEYS = dict.fromkeys(CONVERSATIONS["primary_key"], "text")
_CONVERSATION_SCHEMA = arrow_schema(_KEYS | _CONVERSATION)


def in_format(table: Table, table_format: str | None) -> Table:
    """The table as Delta or Iceberg have it, with its lists as JSON.

    dlt merges those by keys and deletes no row: a reaction that was taken back would stay in a
    child table for ever.
    """
    if table_format is None:
        return table
    lists = {name: _column(name, "json") for name in table.get("nested_hints", {})}
    columns = table["columns"] | lists
    return table | {"table_format": table_format, "nested_hints": {}, "columns": columns}


@dataclass(frozen=True)
class TableNames:
    """What the tables are called in the destination, whatever a user has renamed."""

    contacts: str = "contacts"
    contact_identities: str = "contact_identities"
    messages: str = "messages"
    conversations: str = "conversations"
    rejected_rows: str = "rejected_rows"
    syncs: str = "syncs"

    @classmethod
    def of(cls, source: DltSource) -> "TableNames":
        """The names that the resources of a source load into."""
        return cls(*(table_of(source, field.name) for field in fields(cls)))

    @property
    def children(self) -> tuple[str, ...]:
        """The declared child tables of `messages`."""
        return (f"{self.messages}__reactions",)


def check_strategies(source: DltSource) -> None:
    """Refuse what would take rows for gone because a load does not bring them again.

    Raises:
        ConfigurationError: a resource has the merge strategy scd2, and no merge key.
    """
    for resource in source.selected_resources.values():
        if "scd2" in str(resource.write_disposition):
            columns = resource.compute_table_schema()["columns"]
            if not any(column.get("merge_key") for column in columns.values()):
                keys = [name for name, column in columns.items() if column.get("primary_key")]
                raise ConfigurationError(
                    f"{resource.name} has the merge strategy scd2 without a merge_key, and dlt "
                    "would retire every row that a load does not bring again: give it one by "
                    f"apply_hints(merge_key={keys})"
                )


def table_of(source: DltSource, name: str) -> str:
    """The table that a resource loads into; of a resource that is run by itself, the others'."""
    resource = source.resources.get(name)
    table = name if resource is None else str(resource.table_name)
    return source.schema.naming.normalize_table_identifier(table)


def undocumented_columns(schema: Schema, names: TableNames) -> dict[str, list[str]]:
    """The columns that fields got which nobody documented, as far as dlt's schema has them."""
    documented = {
        "contacts": (names.contacts, CONTACT),
        "messages": (names.messages, MESSAGE),
        "reactions": (names.children[0], REACTION),
    }
    return {
        table: [
            column
            for column in schema.tables.get(name, {}).get("columns", {})
            if not column.startswith("_dlt")
            and column not in {*columns, *OUR_COLUMNS, UNDOCUMENTED}
        ]
        for table, (name, columns) in documented.items()
    }


def message_columns(table: pa.Table, table_name: str, load_id: str) -> Iterator[Any]:
    """Messages that are columns, as dlt loads them without looking at them."""
    if table:
        # dlt would give the child tables all columns of the Arrow table: so here it hears of none.
        hints = dlt.mark.make_hints(table_name=table_name, nested_hints={})
        yield dlt.mark.with_hints(_of_dlt(table, load_id), hints, create_table_variant=True)


def conversation_columns(rows: Sequence[Row], load_id: str) -> Iterator[Any]:
    """Rows of `conversations` as columns; there is nothing in them that we do not know."""
    yield _of_dlt(pa.Table.from_pylist(rows, _CONVERSATION_SCHEMA), load_id)


def _of_dlt(table: pa.Table, load_id: str) -> pa.Table:
    """The table with the columns that dlt gives to rows."""
    ids = pa.array(generate_dlt_ids(len(table)), pa.string())
    loads = pa.repeat(pa.scalar(load_id), len(table))
    for name, column in (("_dlt_load_id", loads), ("_dlt_id", ids)):
        table = table.append_column(pa.field(name, pa.string(), nullable=False), column)
    return table
