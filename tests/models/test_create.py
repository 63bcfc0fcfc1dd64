"""The models in a real dataset: made once, kept up to date, and never in anybody's way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs import PluggableRunContext

from flowiq_source import FlowiqError, FlowiqSource, flowiq_source, sync
from flowiq_source.models import create_models
from flowiq_source.models.definitions import NAMES, models
from flowiq_source.models.settings import ModelSettings, model_settings
from flowiq_source.sandbox import Sandbox, World
from tests.support.destinations import DESTINATIONS, duckdb
from tests.support.warehouse import Warehouse

pytestmark = pytest.mark.models

BERLIN = {"time_zone": "Europe/Berlin"}


@pytest.fixture(params=DESTINATIONS)
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A pipeline that has loaded a small business, and its source."""
    with Sandbox(World(contacts=4), limited=False) as api, request.param(tmp_path) as pipeline:
        source = flowiq_source(api.token, api.tenant, api.url, requests_per_minute=1e6)
        made = pipeline()
        sync(made, source)
        yield made, source


def ask(pipeline: dlt.Pipeline, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query in the dataset."""
    with pipeline.sql_client() as client:
        return [tuple(row) for row in client.execute_sql(sql) or ()]


def test_every_column_is_said_and_every_key_is_one(
    loaded: tuple[dlt.Pipeline, FlowiqSource],
) -> None:
    """As the head of its file has it; every key begins with the tenant."""
    pipeline, source = loaded
    assert create_models(pipeline, source, anew=True).views == list(NAMES)
    for model in models():
        assert model.key[0] == "tenant_id"
        with (
            pipeline.sql_client() as client,
            client.execute_query(f"SELECT * FROM {model.name}") as cursor,
        ):
            assert [column[0] for column in cursor.description or ()] == list(model.columns)
        key = ", ".join(model.key)
        [[rows, keys]] = ask(
            pipeline,
            f"SELECT (SELECT count(*) FROM {model.name}), "
            f"(SELECT count(*) FROM (SELECT DISTINCT {key} FROM {model.name}) k)",
        )
        assert rows == keys > 0


def test_what_is_there_stays_until_something_changes(
    loaded: tuple[dlt.Pipeline, FlowiqSource],
) -> None:
    """Another time zone makes another calendar, and no view anew."""
    pipeline, source = loaded
    create_models(pipeline, source)
    again = create_models(pipeline, source)
    assert (again.views, again.calendar_days) == ([], 0)
    other = create_models(pipeline, source, model_settings(**BERLIN))
    assert (other.views, other.calendar_days > 700) == ([], True)
    assert ask(pipeline, "SELECT max(utc_offset_s) FROM business_calendar") == [(7200,)]
    assert create_models(pipeline, source, anew=True).views == list(NAMES)


def test_a_view_that_was_dropped_is_made_again(loaded: tuple[dlt.Pipeline, FlowiqSource]) -> None:
    """With the next sync."""
    pipeline, source = loaded
    create_models(pipeline, source)
    with pipeline.sql_client() as client:
        client.execute_sql(f"DROP VIEW {NAMES[-1]}")
    assert create_models(pipeline, source).views == list(NAMES)


def test_a_sync_makes_them(loaded: tuple[dlt.Pipeline, FlowiqSource]) -> None:
    """So there is nothing left to do after it."""
    pipeline, source = loaded
    assert ask(pipeline, "SELECT count(*) FROM fct_messages") > [(0,)]
    made = create_models(pipeline, source)
    assert (made.views, made.calendar_days, made.kept) == ([], 0, "")


def test_views_that_others_made_of_ours_stay(
    loaded: tuple[dlt.Pipeline, FlowiqSource],
) -> None:
    """Ours are replaced, not dropped, as long as no column of theirs is another."""
    pipeline, source = loaded
    with pipeline.sql_client() as client:
        client.execute_sql("CREATE VIEW theirs AS SELECT contact_id FROM fct_backlog")
    assert create_models(pipeline, source, anew=True).views == list(NAMES)
    assert ask(pipeline, "SELECT * FROM theirs") == ask(
        pipeline, "SELECT contact_id FROM fct_backlog"
    )


def test_two_tenants_have_a_clock_each(tmp_path: Path) -> None:
    """In one dataset, where the same contact ids and message ids are two people's."""
    with (
        Sandbox(World(contacts=3), tenant="one", limited=False) as one,
        Sandbox(World(contacts=3), tenant="two", limited=False) as two,
        duckdb(tmp_path) as pipeline,
    ):
        for api, zone in ((one, "Asia/Tokyo"), (two, "Asia/Kolkata")):
            source = flowiq_source(api.token, api.tenant, api.url, requests_per_minute=1e6)
            sync(pipeline(), source)
            create_models(pipeline(), source, model_settings(time_zone=zone))
        hours = "extract(epoch FROM local_at - sent_at AT TIME ZONE 'UTC') / 3600"
        found = ask(pipeline(), f"SELECT tenant_id, max({hours}) FROM fct_messages GROUP BY 1")
        assert sorted(found) == [("one", 9), ("two", 5.5)]
        [[messages, rows]] = ask(
            pipeline(),
            "SELECT (SELECT count(*) FROM current_messages), (SELECT count(*) FROM fct_messages)",
        )
        assert messages == rows


@pytest.fixture
def account() -> Iterator[Sandbox]:
    """A small business."""
    with Sandbox(World(contacts=3), limited=False) as api:
        yield api


def test_columns_that_are_hashed_or_dropped_hinder_no_model(
    warehouse: Warehouse, account: Sandbox
) -> None:
    """What is not known is null: nobody is assigned, no bot is paused."""
    dropped = ("messages.content", "messages.media_type", "contacts.bot_status")
    columns = dict.fromkeys(dropped, "drop") | {"messages.assignee": "hash"}
    warehouse.sync(account, columns=columns, hash_key="0123456789abcdef" * 4, pseudonymise=True)
    for name in NAMES:
        assert warehouse.query(f"SELECT * FROM flowiq.{name} LIMIT 1")
    assert warehouse.one("SELECT count(media_kind) FROM flowiq.fct_messages") == 0
    assert warehouse.one("SELECT max(length(assignee)) FROM flowiq.fct_messages") == 32


def test_who_loads_no_contacts_has_models_all_the_same(
    warehouse: Warehouse, account: Sandbox
) -> None:
    """No bot is known to be paused then; with contacts they are made anew."""
    source = warehouse.source(account).with_resources("messages", "conversations")
    sync(warehouse.pipeline, source)
    assert warehouse.one("SELECT count(*) FROM flowiq.fct_agent_waits") > 0
    warehouse.sync(account)
    sql = "SELECT sql FROM duckdb_views() WHERE view_name = 'fct_agent_waits'"
    assert "contacts" in warehouse.one(sql)


def test_after_a_plain_run_they_can_be_made(warehouse: Warehouse, account: Sandbox) -> None:
    """With the view that they read."""
    warehouse.run(account)
    assert create_models(warehouse.pipeline, warehouse.source(account)).views == list(NAMES)
    assert warehouse.one("SELECT count(*) FROM flowiq.fct_messages") > 0


def test_tables_that_were_renamed_are_read_where_they_are(
    warehouse: Warehouse, account: Sandbox
) -> None:
    """The models keep their names."""
    source = warehouse.source(account)
    for name in ("messages", "contacts", "conversations"):
        source.resources[name].apply_hints(table_name=f"wa_{name}")
    sync(warehouse.pipeline, source)
    assert warehouse.one("SELECT count(*) FROM flowiq.fct_messages") == warehouse.one(
        "SELECT count(*) FROM flowiq.wa_messages"
    )


def test_a_sync_leaves_them_alone_if_told_so(
    warehouse: Warehouse, account: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a setting."""
    monkeypatch.setenv("SOURCES__FLOWIQ__MODELS__CREATE", "false")
    warehouse.sync(account)
    sql = "SELECT count(*) FROM duckdb_views() WHERE view_name LIKE 'fct%'"
    assert warehouse.one(sql) == 0


def test_a_wrong_setting_is_found_before_a_request(
    warehouse: Warehouse, account: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the end of an hour's sync."""
    monkeypatch.setenv("SOURCES__FLOWIQ__MODELS__TIME_ZONE", "Mars/Olympus")
    with pytest.raises(FlowiqError, match="time_zone is no time zone"):
        warehouse.sync(account)
    assert account.requests == []


def test_files_have_no_models(
    tmp_path: Path, account: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A sync says nothing of it; who asks for them is told why."""
    pipeline = dlt.pipeline(
        "lake",
        pipelines_dir=str(tmp_path),
        destination=dlt.destinations.filesystem((tmp_path / "lake").as_uri()),
        dataset_name="flowiq",
    )
    source = flowiq_source(account.token, account.tenant, account.url, requests_per_minute=1e6)
    assert sync(pipeline, source).complete
    assert "models" not in caplog.text
    with pytest.raises(FlowiqError, match="answers no SQL"):
        create_models(pipeline, source)


def test_every_message_that_is_there_is_in_the_models_once(
    loaded: tuple[dlt.Pipeline, FlowiqSource],
) -> None:
    """And none that is gone."""
    pipeline, source = loaded
    create_models(pipeline, source)
    assert ask(pipeline, "SELECT count(*) FROM fct_messages") == ask(
        pipeline, "SELECT count(*) FROM current_messages"
    )


def test_nothing_to_model_is_said(tmp_path: Path) -> None:
    """Before the first sync."""
    pipeline = dlt.pipeline(
        "empty",
        pipelines_dir=str(tmp_path),
        destination=dlt.destinations.duckdb(str(tmp_path / "empty.duckdb")),
        dataset_name="flowiq",
    )
    with pytest.raises(FlowiqError, match="flowiq sync loads them"):
        create_models(pipeline, flowiq_source("token"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"time_zone": "Africa/Johanesburg"}, "did you mean Africa/Johannesburg"),
        ({"time_zone": "x"}, "it is written like"),
        ({"business_hours": "always"}, "business_hours must be like"),
        ({"business_hours": {"monday-fri": "8-17"}}, "has the span '8-17'"),
        ({"business_hours": {"xyz": "08:00-17:00"}}, "has days 'xyz'"),
        ({"business_hours": {"mon": "08:00-25:00"}}, "has the span"),
        ({"holidays": "2026-12-25"}, "holidays must be a list"),
        ({"holidays": ["25.12.2026"]}, "is no date such as"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(given: dict[str, Any], says: str) -> None:
    """By name, with what is right."""
    with pytest.raises(FlowiqError, match=says):
        model_settings(**given)


def test_a_misspelt_key_is_named(folder: Path) -> None:
    """With the nearest right one."""
    (folder / "config.toml").write_text('[sources.flowiq.models]\ntimezone = "UTC"\n')
    Container()[PluggableRunContext].reload_providers()
    with pytest.raises(
        FlowiqError,
        match=r"timezone is no setting: did you mean time_zone\? \(it stands in .dlt/config.toml\)",
    ):
        model_settings()


def test_a_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of the source are."""
    monkeypatch.setenv("SOURCES__FLOWIQ__MODELS__TIMEZONE", "UTC")
    with pytest.raises(FlowiqError, match=r"did you mean time_zone\? \(it stands in SOURCES__FLOW"):
        model_settings()


def test_a_wrong_value_is_said_to_stand_where_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of the source are."""
    monkeypatch.setenv("SOURCES__FLOWIQ__MODELS__TIME_ZONE", "Mars")
    with pytest.raises(FlowiqError, match=r"\(it stands in SOURCES__FLOWIQ__MODELS__TIME_ZONE\)"):
        model_settings()


def test_settings_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table and a list are JSON there."""
    prefix = "SOURCES__FLOWIQ__MODELS__"
    monkeypatch.setenv(f"{prefix}TIME_ZONE", "Africa/Johannesburg")
    monkeypatch.setenv(f"{prefix}BUSINESS_HOURS", '{"mon-thu": "08:00-12:00, 13:00-17:00"}')
    monkeypatch.setenv(f"{prefix}HOLIDAYS", '["2026-12-25"]')
    found = model_settings()
    assert found.spans[0] == [(480, 720), (780, 1020)]
    assert [bool(day) for day in found.spans] == [True] * 4 + [False] * 3
    assert [str(day) for day in found.days_off] == ["2026-12-25"]
    assert found.hours_text == "business hours Mon–Thu 08:00-12:00, 13:00-17:00"
    assert model_settings(business_hours="24/7").hours_text == "around the clock"
    assert isinstance(found, ModelSettings)
