"""The file as a user copies it, in the real Prefect: two tenants, two runs, one that fails."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.conftest import Accounts
from flowiq_source.loading.lock import sole_sync
from flowiq_source.sandbox import Reply

pytest.importorskip("prefect", reason="make orchestrators has it, in an environment of its own")
import flowiq_prefect
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

EXAMPLE = Path(__file__).with_name("flowiq_prefect.py")


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """A server of Prefect's with a database of its own."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(autouse=True)
def folder(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the warehouses are."""
    monkeypatch.setattr(flowiq_prefect, "FOLDER", str(accounts.folder))
    monkeypatch.setattr(flowiq_prefect.load, "retry_delay_seconds", 0)


def test_two_tenants_twice_while_a_third_fails(accounts: Accounts) -> None:
    """Side by side in threads; the run fails and says which tenant is missing."""
    for _ in range(2):
        state = flowiq_prefect.flowiq(["acme", "north", "broken"], return_state=True)
        assert state.is_failed()
        assert state.message.endswith("not loaded: broken")
        for tenant in ("acme", "north"):
            assert accounts.loaded(tenant) == accounts.at_the_api(tenant)
            assert accounts.query(tenant, "FROM flowiq.current_messages")
        accounts.a_day_passes()


def test_the_summaries_are_the_result(accounts: Accounts) -> None:
    """For the next task."""
    summaries = flowiq_prefect.flowiq(["acme", "north"])
    assert [summary["tenant"] for summary in summaries] == ["acme", "north"]
    assert sum(summary["requests"] for summary in summaries) == len(accounts.sandbox.requests)


def test_a_missing_token_is_not_tried_again(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is said; a tenant that another run is at is tried again."""
    monkeypatch.delenv("FLOWIQ_TOKEN_NORTH")
    tried: list[Any] = []
    monkeypatch.setattr(
        flowiq_prefect.load,
        "retry_condition_fn",
        lambda *given: tried.append(flowiq_prefect.may_be_tried_again(*given)) or tried[-1],
    )
    state = flowiq_prefect.flowiq(["north"], return_state=True)
    assert state.is_failed()
    assert tried == [False]
    tried.clear()
    with sole_sync(flowiq_prefect.dlt.pipeline("flowiq_pipeline_acme", destination="duckdb")):
        assert flowiq_prefect.flowiq(["acme"], return_state=True).is_failed()
    assert tried == [True, True]
    assert accounts.sandbox.requests == []


PROGRAM = "import flowiq_prefect; flowiq_prefect.flowiq(['acme'])"


def test_a_cancel_reaches_the_thread_that_loads(accounts: Accounts) -> None:
    """Prefect sends SIGTERM to the process of the flow, here while the API is silent.

    Its log has the progress up to then.
    """
    asked, over = threading.Event(), threading.Event()

    def is_silent(_: dict[str, str]) -> Reply | None:
        asked.set()
        over.wait(60)
        return None

    shutil.copy(EXAMPLE, accounts.folder)
    accounts.sandbox.intercept = is_silent
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.path.insert(0, '.')\n" + PROGRAM],
        env=os.environ | accounts.environment | {"PREFECT_API_URL": PREFECT_API_URL.value()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert asked.wait(120)
        process.send_signal(signal.SIGTERM)
        try:
            said, _ = process.communicate(timeout=25)
        finally:
            process.kill()
            over.set()
    assert "Task run 'load acme' - Finished in state Crashed" in said, said
    assert "Extract flowiq" in said
    accounts.sandbox.intercept = None
    assert flowiq_prefect.flowiq(["acme"])
    assert accounts.loaded("acme") == accounts.at_the_api("acme")
