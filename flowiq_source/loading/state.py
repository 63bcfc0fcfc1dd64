"""What dlt's state keeps of a tenant from one load package to the next.

It lies in the resource state of `messages` and is committed with the rows it speaks of:

    {"tenants": {"acme": {"cursors": {"<contact id>": "1767225600000000,250,1767225600000,…"},
                          "open_run": {"started_at": 1767225600000, "full_refresh": false}}}}

The state of 100,000 conversations is written with every package, so it is short: the time of the
newest message is epoch microseconds, the times of our own doings are epoch milliseconds. A cursor
is one text, because dlt looks at every value of the state several times a package.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flowiq_source.reading.walk import Cursor
from flowiq_source.rows.arrow import from_microseconds, microseconds


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
        # One from before cursors were texts is as good as none.
        if not isinstance(entry, str):
            return None
        newest, known, rescanned_at, synced_at, missing, first_page = entry.split(",")
        return Cursor(
            from_microseconds(int(newest)) if newest else None,
            int(known),
            _from_milliseconds(int(rescanned_at)),
            _from_milliseconds(int(synced_at)),
            missing == "1",
            first_page,
        )

    def keep_cursor(self, contact_id: str, cursor: Cursor) -> None:
        """Remember where the conversation's next sync starts."""
        parts = (
            "" if cursor.newest is None else microseconds(cursor.newest),
            cursor.known,
            _milliseconds(cursor.rescanned_at),
            _milliseconds(cursor.synced_at),
            int(cursor.missing),
            cursor.first_page,
        )
        self.raw.setdefault("cursors", {})[contact_id] = ",".join(map(str, parts))

    def forget_cursor(self, contact_id: str) -> None:
        """Have the conversation read to its beginning by the next sync."""
        self.raw.get("cursors", {}).pop(contact_id, None)

    @property
    def open_run(self) -> OpenRun | None:
        """The run that was interrupted between two of its packages, if one was."""
        entry = self.raw.get("open_run")
        return (
            OpenRun(_from_milliseconds(entry["started_at"]), entry["full_refresh"])
            if entry
            else None
        )

    def keep_open_run(self, run: OpenRun | None) -> None:
        """Remember that the run goes on; None that it has come to its end."""
        self.raw.pop("open_run", None)
        if run:
            self.raw["open_run"] = {
                "started_at": _milliseconds(run.started_at),
                "full_refresh": run.full_refresh,
            }


def to_the_millisecond(time: datetime) -> datetime:
    """The time as the state keeps it."""
    return _from_milliseconds(_milliseconds(time))


def _milliseconds(time: datetime) -> int:
    return microseconds(time) // 1000


def _from_milliseconds(time: int) -> datetime:
    return from_microseconds(time * 1000)
