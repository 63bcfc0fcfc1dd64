"""Columns of MySQL and MariaDB, which dlt's own would be too narrow for.

`TEXT` ends at 64 KB, and dlt's state, which holds a cursor for each conversation, at none. As the
server has it by default, text may not hold an emoji, and ids that differ in case may be one.
"""

from typing import Any

import dlt

_TEXT = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}


def widen_text(pipeline: dlt.Pipeline) -> None:
    """Have dlt make its text columns in MySQL and MariaDB so that they hold any text as it is."""
    if not pipeline.destination.destination_type.endswith("sqlalchemy"):
        return
    from dlt.destinations.impl.sqlalchemy import dialect, type_mapper  # noqa: PLC0415
    from sqlalchemy.dialects.mysql import LONGTEXT, VARCHAR  # noqa: PLC0415

    class WideText(type_mapper.MysqlVariantTypeMapper):
        def db_type_from_text_type(self, column: Any, table: Any) -> Any:
            length = getattr(super().db_type_from_text_type(column, table), "length", None)
            return VARCHAR(length, **_TEXT) if length else LONGTEXT(**_TEXT)

    class Mysql(dialect.MysqlDialectCapabilities):
        def type_mapper_class(self) -> Any:
            return WideText

    for name in ("mysql", "mariadb"):
        dialect.register_dialect_capabilities(name, Mysql)
