"""What dlt's state keeps of a tenant from one load package to the next.

It lies in the resource state of `messages` and is committed with the rows it speaks of:

    {"tenants": {"acme": {"cursors": {"<contact id>": [1767225600000000, 250, …]},
                          "open_run": {"started_at": 1767225600000000, "full_refresh": false}}}}

Times are epoch microseconds: the state of 100,000 conversations is written with every change.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from flowiq_source.walk import Cursor

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class OpenRun:
    """A run of several load packages that has not come to its end."""

    started_at: datetime
    full_refresh: bool


@dataclass
class TenantState:
    """One tenant's part of the resource state; `raw` is empty and nobody's until it is kept."""

    raw: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, resource_state: dict[str, Any], tenant_id: str) -> "TenantState":
        """The tenant's part, to read; nothing is added to the state."""
        return cls(resource_state.get("tenants", {}).get(tenant_id, {}))

    @classmethod
    def kept(cls, resource_state: dict[str, Any], tenant_id: str) -> "TenantState":
        """The tenant's part, to write."""
        return cls(resource_state.setdefault("tenants", {}).setdefault(tenant_id, {}))

    def contact_ids(self) -> list[str]:
        """Every contact whose conversation has a cursor."""
        return list(self.raw.get("cursors", {}))

    def cursor(self, contact_id: str) -> Cursor | None:
        """Where the conversation's next sync starts; None if it was never read to the end."""
        entry = self.raw.get("cursors", {}).get(contact_id)
        if entry is None:
            return None
        # Cursors that were kept before there were fingerprints have five parts.
        newest, known, rescanned_at, synced_at, missing, *first_page = entry
        return Cursor(
            None if newest is None else _time(newest),
            known,
            _time(rescanned_at),
            _time(synced_at),
            bool(missing),
            *first_page,
        )

    def keep_cursor(self, contact_id: str, cursor: Cursor) -> None:
        """Remember where the conversation's next sync starts."""
        newest = None if cursor.newest is None else _microseconds(cursor.newest)
        self.raw.setdefault("cursors", {})[contact_id] = [
            newest,
            cursor.known,
            _microseconds(cursor.rescanned_at),
            _microseconds(cursor.synced_at),
            int(cursor.missing),
            cursor.first_page,
        ]

    def forget_cursor(self, contact_id: str) -> None:
        """Have the conversation read to its beginning by the next sync."""
        self.raw.get("cursors", {}).pop(contact_id, None)

    @property
    def open_run(self) -> OpenRun | None:
        """The run that was interrupted between two of its packages, if one was."""
        entry = self.raw.get("open_run")
        return OpenRun(_time(entry["started_at"]), entry["full_refresh"]) if entry else None

    def keep_open_run(self, run: OpenRun | None) -> None:
        """Remember that the run goes on; None that it has come to its end."""
        self.raw.pop("open_run", None)
        if run:
            self.raw["open_run"] = {
                "started_at": _microseconds(run.started_at),
                "full_refresh": run.full_refresh,
            }


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _time(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND
