"""The models in the SQL of each destination that they are written for."""

import pytest
import sqlglot
from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope

from flowiq_source.errors import ConfigurationError
from flowiq_source.models.definitions import DIALECTS, NAMES, NOTHING, Model, models, rendered

TABLES = {*NAMES, "current_messages", "contacts", "business_calendar"}
REAL = tuple((name, f"there.{name}") for name in sorted(TABLES))


def read_by(sql: str, dialect: str) -> list[exp.Table]:
    """The tables of a SELECT that it has not made itself."""
    parsed = sqlglot.parse_one(sql, dialect=dialect)
    own = {cte.alias_or_name for cte in parsed.find_all(exp.CTE)}
    return [table for table in parsed.find_all(exp.Table) if table.name not in own]


def test_there_are_the_promised_dialects() -> None:
    """DuckDB and PostgreSQL, where they run in tests, and five more."""
    wanted = {"duckdb", "postgres", "bigquery", "snowflake", "redshift", "databricks", "clickhouse"}
    assert set(DIALECTS) == wanted


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_valid_sql_of_every_dialect(
    name: str, dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It reads the tables where they are, and nothing is left of functions that are ours alone."""
    sql = rendered(name, dialect, REAL)
    # sqlglot warns of what it cannot say in a dialect.
    assert caplog.text == ""
    [parsed] = sqlglot.parse(sql, dialect=dialect)
    assert isinstance(parsed, exp.Select)
    for ours in ("epoch_seconds", "local_clock", "NULLS "):
        assert ours not in sql
    for scope in traverse_scope(parsed):
        for table in scope.tables:
            assert table.name not in TABLES or table.db == "there"


@pytest.mark.parametrize("one", models(), ids=NAMES)
def test_a_head_says_what_its_select_gives(one: Model) -> None:
    """Grain, key and every column in its order; the key begins with the tenant."""
    select = sqlglot.parse_one(one.sql, dialect="duckdb")
    assert isinstance(select, exp.Select)
    assert [column.alias_or_name for column in select.selects] == list(one.columns)
    assert one.key[0] == "tenant_id"
    assert set(one.key) <= set(one.columns)
    assert one.grain.startswith("one row per ")


def test_a_model_reads_what_was_made_before_it() -> None:
    """And messages by `current_messages` alone."""
    for place, one in enumerate(models()):
        parsed = sqlglot.parse_one(one.sql, dialect="duckdb")
        own = {cte.alias_or_name for cte in parsed.find_all(exp.CTE)}
        read = {table.name for table in parsed.find_all(exp.Table)} - own
        assert read <= {*NAMES[:place], "current_messages", "contacts", "business_calendar"}


def test_joins_and_windows_are_within_a_conversation() -> None:
    """Each names the tenant; each order ends with what is unique in it."""
    for one in models():
        parsed = sqlglot.parse_one(one.sql, dialect="duckdb")
        for join in parsed.find_all(exp.Join):
            assert "tenant_id" in join.args["on"].sql()
        for window in parsed.find_all(exp.Window):
            by = [column.name for column in window.args["partition_by"]]
            assert by[0] == "tenant_id"
            assert "contact_id" in by or one.name == "fct_agent_daily"


def test_an_unknown_dialect_is_refused_by_name() -> None:
    """Rather than sent SQL that nobody has looked at."""
    with pytest.raises(ConfigurationError, match="speaks tsql"):
        rendered("fct_messages", "tsql")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tables_are_read_where_they_are(dialect: str) -> None:
    """In every dialect, also where there are no contacts."""
    for name in NAMES:
        for tables in (REAL, tuple((n, NOTHING if n == "contacts" else t) for n, t in REAL)):
            read = read_by(rendered(name, dialect, tables), dialect)
            assert read
            assert {table.db for table in read} == {"there"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_beyond_a_last_row_is_null(dialect: str) -> None:
    """ClickHouse has an empty text or 0 there, unless the type has nulls."""
    for name in NAMES:
        sql = rendered(name, dialect)
        shifted = sqlglot.parse_one(sql, dialect=dialect).find_all(exp.Lag, exp.Lead)
        assert all(dialect != "clickhouse" or "toNullable" in one.sql(dialect) for one in shifted)


def test_the_time_that_is_now_can_be_given() -> None:
    """So that a report is of one moment."""
    for name in ("fct_waits", "fct_windows", "fct_delivery_daily", "fct_backlog"):
        sql = rendered(name, "postgres", now="TIMESTAMPTZ '2026-01-01'")
        assert "CURRENT_TIMESTAMP" not in sql
        assert "2026-01-01" in sql
