"""A pipeline into a DuckDB file of its own, and questions to that file."""

import threading
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import Any

import dlt
import duckdb

from flowiq_source import FlowiqSource, Summary, flowiq_source, sync
from flowiq_source.api.client import FlowiqClient
from flowiq_source.api.limiter import RateLimiter
from flowiq_source.sandbox import Sandbox
from flowiq_source.settings import Settings
from flowiq_source.times import utc_now

UNLIMITED = 1e6
"""Requests per minute where the limit is not what a test is about."""


Rows = list[tuple[Any, ...]]


class Clock:
    """A time that passes when somebody sleeps; `waits` says how long they did, in seconds."""

    def __init__(self) -> None:
        self.time_s = 1_800_000_000.0
        self.waits: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Seconds."""
        return self.time_s

    def sleep(self, seconds: float) -> None:
        """Pass."""
        self.waits.append(seconds)
        with self._lock:
            self.time_s += seconds


def impatient(sandbox: Sandbox, clock: Clock, per_minute: float = UNLIMITED) -> dict[str, Any]:
    """The arguments of a client of the sandbox whose waits pass on the clock alone."""
    return {
        "settings": Settings(
            bearer_token=sandbox.token, tenant_id=sandbox.tenant, base_url=sandbox.url
        ),
        "sleep": clock.sleep,
        "limiter": RateLimiter(per_minute, clock=clock),
    }


class Warehouse:
    """A pipeline and the DuckDB file that it loads."""

    def __init__(self, folder: Path, name: str = "warehouse") -> None:
        self.folder, self.name = folder, name
        self.file = folder / f"{name}.duckdb"

    @property
    def pipeline(self) -> dlt.Pipeline:
        """The pipeline as a new process would open it."""
        return dlt.pipeline(
            self.name,
            pipelines_dir=str(self.folder / "pipelines"),
            destination=dlt.destinations.duckdb(str(self.file)),
            dataset_name="flowiq",
        )

    def source(self, sandbox: Sandbox, **settings: Any) -> FlowiqSource:
        """The public source, configured for the sandbox."""
        account: dict[str, Any] = {
            "bearer_token": sandbox.token,
            "tenant_id": sandbox.tenant,
            "base_url": sandbox.url,
            "requests_per_minute": UNLIMITED,
        }
        return flowiq_source(**account | settings)

    def sync(self, sandbox: Sandbox, *, package: int = 1000, **settings: Any) -> Summary:
        """One sync of packages of so many conversations; `sandbox.requests` holds what it asked."""
        sandbox.requests.clear()
        source = self.source(sandbox, **settings)
        return sync(self.pipeline, source, package_conversations=package)

    def run(self, sandbox: Sandbox, **settings: Any) -> None:
        """One plain run, as of any dlt source."""
        sandbox.requests.clear()
        self.pipeline.run(self.source(sandbox, **settings))

    def sync_with(
        self,
        sandbox: Sandbox,
        *,
        now: Callable[[], datetime] = utc_now,
        clock: Clock | None = None,
        per_minute: float = UNLIMITED,
        **settings: Any,
    ) -> Summary:
        """One sync at this time of day whose waits pass on the clock alone."""
        sandbox.requests.clear()
        source = self.source(sandbox, **settings)
        impatience = impatient(sandbox, clock or Clock(), per_minute)
        source.feed.now = now
        source.feed.connect = lambda settings, sleep, **more: FlowiqClient(
            **impatience | {"settings": settings}, **more
        )
        return sync(self.pipeline, source)

    def query(self, sql: str) -> Rows:
        """The rows of a query."""
        with duckdb.connect(str(self.file)) as connection:
            return connection.execute(sql).fetchall()

    def records(self, sql: str) -> list[dict[str, Any]]:
        """The same by the names of their columns."""
        with duckdb.connect(str(self.file)) as connection:
            cursor = connection.execute(sql)
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def table(self, name: str, without: Collection[str] = ()) -> list[dict[str, Any]]:
        """All rows of a table, sorted."""
        rows = self.records(f"SELECT * FROM flowiq.{name} ORDER BY ALL")
        kept = [{k: v for k, v in row.items() if k not in without} for row in rows]
        return sorted(kept, key=repr)

    def one(self, sql: str) -> Any:
        """The one value of a query."""
        [[value]] = self.query(sql)
        return value
