"""dlt's incremental on `messages`: visible, bounding a run, and filtering nothing else."""

import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from types import ModuleType
from typing import Any

import dlt
import pendulum
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from flowiq_source import sync
from flowiq_source.sandbox import Contact, Sandbox
from tests.support.history import DAY, JANUARY, cursors, expected, loaded, write
from tests.support.warehouse import Warehouse

Load = Callable[[dlt.Pipeline, Any], Any]
Bounds = tuple[Any, Any]


def run(pipeline: dlt.Pipeline, data: Any) -> None:
    """As a dlt user runs any source."""
    pipeline.run(data)


WAYS = pytest.mark.parametrize("load", [run, sync], ids=["run", "sync"])
CET = timezone(timedelta(hours=1))

BOUNDS: dict[str, Bounds] = {
    "days as texts": ("2026-01-03", "2026-01-05"),
    "times as texts": ("2026-01-03T00:00:00Z", "2026-01-05T01:00:00+01:00"),
    "dates": (date(2026, 1, 3), date(2026, 1, 5)),
    "times without a zone": (datetime(2026, 1, 3), datetime(2026, 1, 5)),
    "times of another zone": (
        datetime(2026, 1, 3, 1, tzinfo=CET),
        datetime(2026, 1, 5, 1, tzinfo=CET),
    ),
    "pendulum's dates": (pendulum.date(2026, 1, 3), pendulum.date(2026, 1, 5)),
    "pendulum's times": (pendulum.datetime(2026, 1, 3), pendulum.datetime(2026, 1, 5)),
    "two kinds": (date(2026, 1, 3), "2026-01-05T00:00:00Z"),
}


@pytest.fixture
def days(sandbox: Sandbox, alice: Contact) -> list[Contact]:
    """Two conversations with a message a day, and a reaction in between."""
    bob = sandbox.world.add_contact("27820000002")
    for contact in (alice, bob):
        for n in range(10):
            sandbox.world.add_message(contact, JANUARY + n * DAY, content=f"day {n}")
        contact.messages[3].reactions = [{"emoji": "👍", "sender": "1"}]
    sandbox.world.now = JANUARY + 400 * DAY
    return [alice, bob]


def contents(warehouse: Warehouse) -> list[tuple[str, int]]:
    """What was loaded, and how often."""
    return [
        (str(content), int(count))
        for content, count in warehouse.query(
            "SELECT content, count(*) FROM flowiq.messages GROUP BY 1 ORDER BY 1"
        )
    ]


OF_THE_RANGE = [("day 2", 2), ("day 3", 2)]


@WAYS
@pytest.mark.parametrize("bounds", BOUNDS)
def test_bounds_of_any_kind_are_a_backfill(
    warehouse: Warehouse,
    sandbox: Sandbox,
    days: list[Contact],
    load: Load,
    bounds: str,
) -> None:
    """Half-open, of rows and of tables; the cursors stay where they are."""
    source = warehouse.source(sandbox, backend="rows" if load is run else "pyarrow")
    initial, end = BOUNDS[bounds]
    source.messages.apply_hints(
        incremental=dlt.sources.incremental("timestamp", initial_value=initial, end_value=end)
    )
    load(warehouse.pipeline, source)
    assert contents(warehouse) == OF_THE_RANGE
    assert "cursors" not in str(warehouse.pipeline.state)


@WAYS
@pytest.mark.parametrize("bounds", ["days as texts", "dates", "pendulum's times"])
def test_start_and_end_date_are_the_same_range(
    warehouse: Warehouse, sandbox: Sandbox, days: list[Contact], load: Load, bounds: str
) -> None:
    """As settings, of any kind."""
    start, end = BOUNDS[bounds]
    load(warehouse.pipeline, warehouse.source(sandbox, start_date=start, end_date=end))
    assert contents(warehouse) == OF_THE_RANGE


@WAYS
def test_an_end_alone_reads_from_the_beginning(
    warehouse: Warehouse, sandbox: Sandbox, days: list[Contact], load: Load
) -> None:
    """Without an initial value there is no lower bound."""
    source = warehouse.source(sandbox)
    source.messages.apply_hints(
        incremental=dlt.sources.incremental("timestamp", end_value="2026-01-02")
    )
    load(warehouse.pipeline, source)
    assert contents(warehouse) == [("day 0", 2)]


def test_the_incremental_is_visible(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """With the lookback as its lag, in seconds, and no value that could filter."""
    hint: Any = warehouse.source(sandbox, lookback_days=3).messages.incremental
    shown = getattr(hint, "incremental", None) or hint
    assert isinstance(shown, dlt.sources.incremental)
    assert (shown.cursor_path, shown.lag, shown.end_value) == ("timestamp", 3 * 86400, None)


@WAYS
def test_its_cursor_never_filters_a_conversation(
    warehouse: Warehouse, sandbox: Sandbox, days: list[Contact], load: Load
) -> None:
    """One with an old history that comes after the newest has been loaded arrives whole."""
    load(warehouse.pipeline, warehouse.source(sandbox, lookback_days=0))
    late = sandbox.world.add_contact("27820000003")
    write(sandbox, late, 3, every=DAY)
    for message in late.messages:
        message.at -= 300 * DAY
    load(warehouse.pipeline, warehouse.source(sandbox, lookback_days=0))
    assert loaded(warehouse) == expected(sandbox)


def airflow(start: Any, end: Any) -> ModuleType:
    """Airflow as far as dlt looks at it: the interval of the task that runs."""
    module = ModuleType("airflow.operators.python")
    context = {"data_interval_start": start, "data_interval_end": end}
    module.get_current_context = lambda: context  # type: ignore[attr-defined]
    return module


@pytest.fixture
def scheduled(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, Any], None]:
    """Sets the interval of a task of Airflow, whose every time is pendulum's."""

    def schedule(start: Any, end: Any) -> None:
        for name in ("airflow", "airflow.operators"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, "airflow.operators.python", airflow(start, end))
        monkeypatch.setenv("DLT_ALLOW_EXTERNAL_SCHEDULERS", "true")

    return schedule


@WAYS
def test_airflows_interval_bounds_a_run(
    warehouse: Warehouse,
    sandbox: Sandbox,
    days: list[Contact],
    load: Load,
    scheduled: Callable[[Any, Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it is allowed to, one task after another; elsewhere the sync is an ordinary one."""
    source = warehouse.source(sandbox)
    for day in (2, 3):
        scheduled(pendulum.datetime(2026, 1, day + 1), pendulum.datetime(2026, 1, day + 2))
        load(warehouse.pipeline, source)
    assert contents(warehouse) == OF_THE_RANGE
    monkeypatch.delenv("DLT_ALLOW_EXTERNAL_SCHEDULERS")
    load(warehouse.pipeline, source)
    assert loaded(warehouse) == expected(sandbox)
    assert len(cursors(warehouse)) == 2


@WAYS
def test_dates_that_are_set_are_not_those_of_the_scheduler(
    warehouse: Warehouse,
    sandbox: Sandbox,
    days: list[Contact],
    load: Load,
    scheduled: Callable[[Any, Any], None],
) -> None:
    """Nor are they clipped to its interval."""
    scheduled(pendulum.datetime(2026, 1, 1), pendulum.datetime(2026, 1, 4))
    load(
        warehouse.pipeline,
        warehouse.source(sandbox, start_date="2026-01-03", end_date="2026-01-05"),
    )
    assert contents(warehouse) == OF_THE_RANGE


@WAYS
def test_an_empty_interval_is_refused_by_name(
    warehouse: Warehouse,
    sandbox: Sandbox,
    days: list[Contact],
    load: Load,
    scheduled: Callable[[Any, Any], None],
) -> None:
    """As Airflow 3's `@daily` has it; before anything of a conversation is asked for."""
    now = pendulum.datetime(2026, 1, 3)
    scheduled(now, now)
    with pytest.raises(PipelineStepFailed, match=r"is empty.*CronDataIntervalTimetable"):
        load(warehouse.pipeline, warehouse.source(sandbox))
    assert sandbox.requests == []
