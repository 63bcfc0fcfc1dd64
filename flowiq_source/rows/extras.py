"""Fields that nobody documented: which become a column, under which name, and how many may."""

import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from flowiq_source.rows.columns import OUR_COLUMNS, TABLES, UNDOCUMENTED

BOUND = 100
"""Undocumented columns that a table may have; warehouses allow from 1,000 columns on."""


class ExtraColumns:
    """The undocumented columns of one table, over rows, pages, threads and runs."""

    def __init__(self, known: Iterable[str] = (), bound: int = BOUND) -> None:
        self._names, self._bound = set(known), bound
        self._lock = threading.Lock()

    def admit(self, name: str) -> bool:
        """Whether the table has this column, or has it from now on."""
        with self._lock:
            if name not in self._names and len(self._names) < self._bound:
                self._names.add(name)
            return name in self._names


Extras = Mapping[str, ExtraColumns]
"""The undocumented columns of `contacts`, `messages` and `reactions`."""


def extra_columns(known: Mapping[str, Iterable[str]] | None = None, bound: int = BOUND) -> Extras:
    """One `ExtraColumns` for every table, with the columns that it is known to have."""
    return {table: ExtraColumns((known or {}).get(table, ()), bound) for table in TABLES}


def split(
    fields: dict[str, Any], table: str, extras: Extras
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields by the names of their columns; by their own keys those that get none."""
    names = {key: column_name(key) for key in fields}
    columns: dict[str, Any] = {}
    others: dict[str, Any] = {}
    # Of two keys that meet in one name, the one that is the name keeps it, in every row.
    for key in sorted(fields, key=lambda key: (names[key] != key, key)):
        name = _out_of_the_way(names[key], table)
        if name and name not in columns and extras[table].admit(name):
            columns[name] = fields[key]
        else:
            others[key] = fields[key]
    return columns, others


_KEY = re.compile(r"[A-Za-z0-9_.\- ]{1,48}")
_MAX_NAME = 63
"""Bytes of a name in PostgreSQL; others allow more."""


def column_name(key: str) -> str:
    """The snake_case name of an undocumented field, which dlt leaves as it is.

    Empty where the key is no name: numbers, ids and people's words would fill the schema of a
    table with personal data and with columns without end.
    """
    if not _KEY.fullmatch(key) or _looks_like_data(key):
        return ""
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", key)
    name = re.sub(r"([A-Z])([A-Z][a-z])", r"\1_\2", name)
    name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return "" if name[:1].isdigit() else name


def _looks_like_data(key: str) -> bool:
    """A number, in one piece or several, or an id of hexadecimal digits."""
    runs = re.findall("[0-9]+", key)
    bare = re.sub("[^A-Za-z0-9]", "", key)
    is_hex = re.fullmatch("[0-9a-fA-F]{8,}", bare) and (bool(runs) or len(bare) >= 16)
    return len(runs) > 2 or any(len(run) > 3 for run in runs) or bool(is_hex)


# Columns that databases have of their own: PostgreSQL, Redshift, DuckDB and DuckLake.
_SYSTEM = {"oid", "ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "insertxid", "deletexid"}
_SYSTEM |= {"rowid", "row_id", "snapshot_id", "filename", "file_row_number", "file_index"}


def _out_of_the_way(name: str, table: str) -> str:
    """The name, with a prefix where it is a column of ours; empty if it is too long."""
    plain = re.sub("^(api_)+", "", name)
    if plain in {*TABLES[table], *OUR_COLUMNS, UNDOCUMENTED, *_SYSTEM}:
        name = f"api_{name}"
    return name if len(name) <= _MAX_NAME else ""
