"""The file as a user copies it, in the real Dagster: two tenants, two runs, one that fails."""

import importlib.util
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from examples.conftest import Accounts
from flowiq_source.loading.lock import sole_sync

dg = pytest.importorskip(
    "dagster", reason="make orchestrators has it, in an environment of its own"
)

HERE = Path(__file__).parent
TABLES = {
    *("contacts", "contact_identities", "messages", "conversations", "rejected_rows", "syncs"),
    *("current_messages", "sync_status"),
}


def load(tenants: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The code location as Dagster loads it."""
    monkeypatch.setenv("FLOWIQ_TENANTS", tenants)
    spec = importlib.util.spec_from_file_location("copied", HERE / "flowiq_dagster.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "copied", module)
    spec.loader.exec_module(module)
    dg.Definitions.validate_loadable(module.defs)
    return module


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Any]:
    """A Dagster of its own, on files, with the settings that the example recommends."""
    home = tmp_path / "home"
    home.mkdir()
    settings = (HERE / "dagster.yaml").read_text() + "telemetry:\n  enabled: false\n"
    (home / "dagster.yaml").write_text(settings)
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


def run(copied: ModuleType, instance: Any, tenant: str) -> Any:
    """One run of the job for a tenant."""
    job = copied.defs.resolve_job_def("flowiq_job")
    return job.execute_in_process(instance=instance, partition_key=tenant, raise_on_error=False)


def tick(instance: Any) -> Any:
    """A quarter past some hour."""
    at = datetime(2026, 1, 1, 9, 15, tzinfo=timezone.utc)
    return dg.build_schedule_context(instance=instance, scheduled_execution_time=at)


def why(result: Any) -> str:
    """What Dagster says of the step that failed."""
    [failed] = result.filter_events(lambda event: event.is_step_failure)
    return str(failed.step_failure_data.user_failure_data.description)


def test_two_tenants_twice_while_a_third_fails(
    accounts: Accounts, instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedule asks for all; the warehouses equal the API after each run."""
    copied = load("acme,north,broken", monkeypatch)
    for _ in range(2):
        asked = copied.hourly(tick(instance))
        results = {r.partition_key: run(copied, instance, r.partition_key) for r in asked}
        assert {t: r.success for t, r in results.items()} == {
            "acme": True,
            "north": True,
            "broken": False,
        }
        assert "401" in why(results["broken"])
        for tenant in ("acme", "north"):
            assert accounts.loaded(tenant) == accounts.at_the_api(tenant)
            assert accounts.query(tenant, "FROM flowiq.current_messages")
        accounts.a_day_passes()


def test_an_asset_per_table_with_the_summary(
    accounts: Accounts, instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lineage is in the definitions, numbers in the materializations."""
    copied = load("acme", monkeypatch)
    graph = copied.defs.resolve_asset_graph()
    assert {key.path[-1] for key in graph.get_all_asset_keys()} == TABLES
    view = graph.get(dg.AssetKey(["flowiq", "current_messages"]))
    assert {key.path[-1] for key in view.parent_keys} == {"messages", "conversations"}
    result = run(copied, instance, "acme")
    made = {m.asset_key.path[-1]: m for m in result.asset_materializations_for_node("flowiq")}
    there = accounts.query(
        "acme",
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'flowiq'",
    )
    assert set(made) == TABLES <= {name for (name,) in there}
    [[messages]] = accounts.query("acme", "SELECT count(*) FROM flowiq.messages")
    assert made["messages"].metadata["rows_written"].value == messages
    assert made["conversations"].metadata["requests"].value == len(accounts.sandbox.requests)
    assert {m.partition for m in made.values()} == {"acme"}
    [check] = result.get_asset_check_evaluations()
    assert check.passed


@pytest.mark.usefixtures("accounts")
def test_the_freshness_check_asks_the_warehouse(
    instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails before there is a sync, passes after it, and not when that is too long ago."""
    copied = load("acme", monkeypatch)
    assert not is_fresh(copied, instance)
    assert run(copied, instance, "acme").success
    assert is_fresh(copied, instance)
    monkeypatch.setattr(copied, "STALE_AFTER", copied.timedelta(0))
    assert not is_fresh(copied, instance)


def is_fresh(copied: ModuleType, instance: Any) -> bool:
    """Whether the check passes."""
    job = copied.defs.resolve_job_def("freshness_job")
    [check] = job.execute_in_process(instance=instance).get_asset_check_evaluations()
    return bool(check.passed)


def test_tenants_may_be_added_while_it_runs(
    accounts: Accounts, instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partitions are dynamic where none are configured."""
    copied = load("", monkeypatch)
    assert list(copied.hourly(tick(instance))) == []
    instance.add_dynamic_partitions("flowiq_tenants", ["north"])
    [asked] = copied.hourly(tick(instance))
    assert run(copied, instance, asked.partition_key).success
    assert accounts.loaded("north") == accounts.at_the_api("north")


@pytest.mark.usefixtures("accounts")
def test_a_missing_token_fails_its_run_alone(
    instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code location loads without it, and the run says which variable it wants."""
    monkeypatch.delenv("FLOWIQ_TOKEN_ACME")
    copied = load("acme,north", monkeypatch)
    assert "FLOWIQ_TOKEN_ACME" in why(run(copied, instance, "acme"))
    assert run(copied, instance, "north").success


@pytest.mark.usefixtures("accounts")
def test_the_second_run_of_a_tenant_waits_or_is_refused(
    instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster's queue keeps to one per partition; without it, the lock says who is at it."""
    [limit] = instance.get_concurrency_config().run_queue_config.tag_concurrency_limits
    assert limit == {
        "key": "dagster/partition",
        "value": {"applyLimitPerUniqueValue": True},
        "limit": 1,
    }
    copied = load("acme", monkeypatch)
    with (
        sole_sync(copied.pipeline_of("acme")),
        pytest.raises(dg.Failure, match="has been doing that since"),
    ):
        list(copied.flowiq(dg.build_asset_context(partition_key="acme")))
