"""The models in a real dataset: made once, kept up to date, and never in anybody's way."""

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
from tests.support.destinations import DESTINATIONS

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
    assert create_models(pipeline, source).views == list(NAMES)
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
    with pytest.raises(FlowiqError, match="flowiq sync makes it"):
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
    with pytest.raises(FlowiqError, match=r"timezone is no setting: did you mean time_zone\?"):
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
