"""The models in the SQL of each destination that they are written for."""

import pytest
import sqlglot
from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope

from flowiq_source.errors import ConfigurationError
from flowiq_source.models.definitions import DIALECTS, NAMES, Model, models, rendered

TABLES = {*NAMES, "current_messages", "contacts", "business_calendar"}
REAL = tuple((name, f"there.{name}") for name in sorted(TABLES))


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
