"""The models as they are written, and in the SQL of a destination. Pure.

What sqlglot does not know in every dialect is written as one of two functions of our own, and put
in here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import sqlglot
from sqlglot import exp

from flowiq_source.errors import ConfigurationError

NAMES = (
    *("fct_messages", "fct_turns", "fct_waits", "fct_agent_waits", "fct_windows"),
    *("fct_delivery_daily", "fct_agent_daily", "fct_hourly_load", "fct_backlog"),
)
"""The models, each after those that it reads."""

CALENDAR = "business_calendar"

NOTHING = ""
"""The name of a table of contacts that is not there."""

_NO_CONTACTS = """
    SELECT m.tenant_id, m.contact_id AS id, CAST(NULL AS VARCHAR) AS bot_status
    FROM current_messages AS m WHERE 1 = 0"""

_EPOCH = {
    "duckdb": "epoch({0})",
    "postgres": "CAST(EXTRACT(EPOCH FROM {0}) AS DOUBLE PRECISION)",
    "redshift": "(DATEDIFF(MICROSECOND, TIMESTAMP '1970-01-01', {0} AT TIME ZONE 'UTC') / 1e6)",
    "bigquery": "(UNIX_MICROS({0}) / 1000000.0)",
    "snowflake": "(DATE_PART(EPOCH_MICROSECOND, {0}) / 1000000.0)",
    "databricks": "(UNIX_MICROS({0}) / 1e6)",
    "clickhouse": "(toUnixTimestamp64Micro(toDateTime64({0}, 6)) / 1000000.0)",
}
_LOCAL = {
    "duckdb": "timezone('UTC', {0}) + to_seconds({1})",
    "postgres": "({0} AT TIME ZONE 'UTC') + {1} * INTERVAL '1 second'",
    "redshift": "DATEADD(SECOND, CAST({1} AS INTEGER), {0} AT TIME ZONE 'UTC')",
    "bigquery": "DATETIME_ADD(DATETIME({0}), INTERVAL {1} SECOND)",
    "snowflake": "DATEADD(SECOND, {1}, CAST(CONVERT_TIMEZONE('UTC', {0}) AS TIMESTAMP_NTZ))",
    # Not by a cast, which goes by the session's time zone.
    "databricks": "TIMESTAMPADD(MICROSECOND, UNIX_MICROS({0}) + {1} * 1000000, "
    "TIMESTAMP_NTZ '1970-01-01 00:00:00')",
    "clickhouse": "addSeconds(toTimeZone({0}, 'UTC'), {1})",
}
OURS = {"epoch_seconds": _EPOCH, "local_clock": _LOCAL}
"""Our own functions: what they are in each dialect."""
_NOW = {"redshift": "(GETDATE() AT TIME ZONE 'UTC')"}
"""Where what sqlglot writes has no time zone."""

DIALECTS = tuple(_EPOCH)
"""The dialects that the models are there in."""


@dataclass(frozen=True)
class Model:
    """A model, and what its head says of it."""

    name: str
    about: str
    grain: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    sql: str
    """The SELECT, in DuckDB's SQL."""


@lru_cache
def models() -> tuple[Model, ...]:
    """All of them, each after those that it reads."""
    return tuple(_model(name) for name in NAMES)


def _model(name: str) -> Model:
    text = (files("flowiq_source.models") / "sql" / f"{name}.sql").read_text("utf-8")
    lines = text.splitlines()
    end = next(n for n, line in enumerate(lines) if not line.startswith("--"))
    head = [line.removeprefix("--")[1:] for line in lines[:end]]
    facts = dict(line.split(": ", 1) for line in head if re.match(r"(Grain|Key): ", line))
    columns = dict(line.strip().split(": ", 1) for line in head if line.startswith("  "))
    key = tuple(facts["Key"].split(", "))
    return Model(name, head[0], facts["Grain"], key, columns, "\n".join(lines[end:]))


@lru_cache(maxsize=512)
def rendered(
    name: str, dialect: str, tables: tuple[tuple[str, str], ...] = (), now: str = ""
) -> str:
    """The SELECT of a model in a dialect, over the tables that are really there.

    `tables` maps what the SELECT names to names in SQL. `now` is a literal of the dialect that
    stands for the current time.

    Raises:
        ConfigurationError: the models are not there in this dialect.
    """
    if dialect not in DIALECTS:
        raise ConfigurationError(
            f"the models are written for {', '.join(DIALECTS)}, and this destination speaks "
            f"{dialect}: query the tables themselves"
        )
    [model] = (one for one in models() if one.name == name)
    parsed = sqlglot.parse_one(model.sql, dialect="duckdb")
    real, own = dict(tables), {one.alias_or_name for one in parsed.find_all(exp.CTE)}
    if real.get("contacts") == NOTHING:
        for table in [one for one in parsed.find_all(exp.Table) if one.name == "contacts"]:
            table.replace(exp.maybe_parse(_NO_CONTACTS, dialect="duckdb").subquery(table.alias))
    for table in list(parsed.find_all(exp.Table)):
        if table.name in real and table.name not in own:
            there = exp.to_table(real[table.name], dialect=dialect)
            there.set("alias", table.args.get("alias"))
            table.replace(there)
    if written := now or _NOW.get(dialect):
        for node in list(parsed.find_all(exp.CurrentTimestamp)):
            node.replace(exp.Var(this=written))
    for call in list(parsed.find_all(exp.Anonymous)):
        if call.name in OURS:
            arguments = (one.sql(dialect=dialect) for one in call.expressions)
            call.replace(exp.Var(this=OURS[call.name][dialect].format(*arguments)))
    _settle_nulls(parsed, dialect)
    return parsed.sql(dialect=dialect, comments=False)


def _settle_nulls(parsed: Any, dialect: str) -> None:
    """Have nulls be what they are in DuckDB."""
    # No key of an order is null, so each dialect may put nulls where it does anyway.
    first = sqlglot.Dialect.get_or_raise(dialect).NULL_ORDERING == "nulls_are_small"
    for ordered in parsed.find_all(exp.Ordered):
        ordered.set("nulls_first", first)
    if dialect == "clickhouse":
        # Beyond the last row it has an empty text or 0, unless the type has nulls.
        for window in parsed.find_all(exp.Lag, exp.Lead):
            window.set("this", exp.func("toNullable", window.this, dialect=dialect))
