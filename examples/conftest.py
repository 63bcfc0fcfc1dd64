"""Two organisations at a sandbox, and a third whose token is wrong."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flowiq_source.sandbox import Sandbox, Tenant, World
from tests.support.history import expected, loaded
from tests.support.warehouse import Warehouse

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"


@dataclass
class Accounts:
    """What the orchestrator loads, and what it must come to."""

    sandbox: Sandbox
    folder: Path
    """Where the DuckDB files are."""
    environment: dict[str, str]

    def a_day_passes(self) -> None:
        """At every tenant."""
        for tenant in (self.sandbox, *self.sandbox.tenants):
            tenant.world.advance(timedelta(days=1))

    def at_the_api(self, tenant: str) -> Counter[tuple[Any, ...]]:
        """Every message that a tenant has."""
        found = {t.slug: t for t in self.sandbox.tenants}.get(tenant, self.sandbox)
        return expected(found)  # type: ignore[arg-type] # its world is all that is asked

    def loaded(self, tenant: str) -> Counter[tuple[Any, ...]]:
        """Every message that the tenant's warehouse has."""
        return loaded(Warehouse(self.folder, f"flowiq_{tenant}"))

    def query(self, tenant: str, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query of the tenant's warehouse."""
        return Warehouse(self.folder, f"flowiq_{tenant}").query(sql)


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Accounts]:
    """`acme` and `north`, which can be loaded, and `broken`, which cannot."""
    others = [Tenant("north", World(3, 2))]
    with Sandbox(
        World(3), tenant="acme", token="fiq_acme", tenants=others, limited=False
    ) as sandbox:
        environment = {
            "SOURCES__FLOWIQ__BASE_URL": sandbox.url,
            "SOURCES__FLOWIQ__REQUESTS_PER_MINUTE": "1000000",
            "DLT_DATA_DIR": str(tmp_path / "dlt"),
            "FLOWIQ_TOKEN_ACME": "fiq_acme",
            "FLOWIQ_TOKEN_NORTH": "fiq_north",
            "FLOWIQ_TOKEN_BROKEN": "fiq_wrong",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        yield Accounts(sandbox, tmp_path, environment)
