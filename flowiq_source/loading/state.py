"""What dlt's state keeps of a tenant from one load package to the next.

It lies in the resource state of `messages` and is committed with the rows it speaks of:

    {"tenants": {"acme": {"cursors": {"<contact id>": "1767225600000000,250,0,1,1,7,…"},
                          "load_ids": ["1767225500.5", "1767225600.1"], "run": 7,
                          "way": "contactId", "list_surplus": 0,
                          "tables": ["conversations", "reactions"],
                          "open_run": {"started_at": 1767225600000, "full_refresh": false}}}}

The state of 100,000 conversations is written with every package, so it is short: the time of the
newest message is epoch microseconds, the times of our own doings are epoch milliseconds. A cursor
is one text, because dlt looks at every value of the state several times a package.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flowiq_source.reading.cursor import Cursor
from flowiq_source.times import from_microseconds, microseconds


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

    def cursors(self) -> dict[str, Cursor]:
        """What is known of each conversation, by contact."""
        entries = self.raw.get("cursors", {})
        return {contact: cursor for contact, text in entries.items() if (cursor := _cursor(text))}

    def keep_cursor(self, contact_id: str, cursor: Cursor) -> None:
        """Remember where the conversation's next sync starts."""
        self.raw.setdefault("cursors", {})[contact_id] = _text(cursor)

    def forget_cursor(self, contact_id: str) -> None:
        """Have the conversation read to its beginning by the next sync."""
        cursor = self.cursors().get(contact_id)
        if cursor:
            self.keep_cursor(contact_id, to_be_read_whole(cursor))

    @property
    def run(self) -> int:
        """The number of the last run."""
        return int(self.raw.get("run", 0))

    @property
    def way(self) -> str:
        """The parameter by which conversations are found, as far as is known."""
        return str(self.raw.get("way", ""))

    @property
    def load_ids(self) -> list[str]:
        """The load package that this state was committed with, and the one before."""
        return list(self.raw.get("load_ids", ()))

    @property
    def has_conversations(self) -> bool:
        """Whether rows of `conversations` were loaded."""
        return "conversations" in self.raw.get("tables", ())

    @property
    def has_reactions(self) -> bool:
        """Whether reactions were loaded."""
        return "reactions" in self.raw.get("tables", ())

    def keep_load(self, load_id: str, tables: Collection[str], *, anew: bool) -> None:
        """Remember the package, and which tables that may be empty it brought rows of.

        With `anew`, what was loaded before does not count.
        """
        before = [] if anew else [one for one in self.load_ids if one != load_id]
        filled = set() if anew else set(self.raw.get("tables", ()))
        self.raw |= {
            "load_ids": [*before[-1:], load_id],
            "tables": sorted(filled | set(tables)),
        }

    @property
    def hash_key(self) -> str:
        """The id of the key that the tenant's rows were hashed with; empty where none was."""
        return str(self.raw.get("hash_key", ""))

    @property
    def pseudonymised(self) -> bool:
        """Whether the tenant's rows hold pseudonyms."""
        return bool(self.raw.get("pseudonymised", False))

    def keep_policy(self, hash_key: str, *, pseudonymised: bool) -> None:
        """Remember how rows were hashed."""
        if hash_key:
            self.raw |= {"hash_key": hash_key, "pseudonymised": pseudonymised}

    @property
    def open_run(self) -> OpenRun | None:
        """The run that was interrupted between two of its packages, if one was."""
        entry = self.raw.get("open_run")
        return (
            OpenRun(_from_milliseconds(entry["started_at"]), entry["full_refresh"])
            if entry
            else None
        )

    @property
    def list_surplus(self) -> int:
        """By how many the API's count of contacts exceeds those that it lists."""
        return int(self.raw.get("list_surplus", 0))

    def keep_run(
        self, number: int, open_run: OpenRun | None, way: str = "", list_surplus: int = 0
    ) -> None:
        """Remember the run; `open_run` if it goes on, None at its end."""
        self.raw |= {"run": number, "way": way, "list_surplus": list_surplus}
        self.raw.pop("open_run", None)
        if open_run:
            self.raw["open_run"] = {
                "started_at": _milliseconds(open_run.started_at),
                "full_refresh": open_run.full_refresh,
            }


_FLAGS = (
    *("missing", "doubtful", "unlisted", "failed"),
    *("ids_repeat", "has_ids", "lacks_ids"),
)


def _text(cursor: Cursor) -> str:
    parts = (
        "" if cursor.newest is None else microseconds(cursor.newest),
        cursor.known,
        cursor.surplus,
        cursor.scan,
        cursor.used,
        cursor.run,
        _milliseconds(cursor.synced_at),
        _milliseconds(cursor.rescanned_at),
        sum(getattr(cursor, name) << bit for bit, name in enumerate(_FLAGS)),
        cursor.next_page,
        cursor.first_page,
        cursor.number,
        cursor.last_id,
    )
    return ",".join(map(str, parts))


def _cursor(text: Any) -> Cursor | None:
    # One of an earlier shape is as good as none.
    if not isinstance(text, str) or text.count(",") not in {10, 12}:
        return None
    newest, known, surplus, scan, used, run, synced_at, rescanned_at, *rest = text.split(",")
    # An earlier shape ends here.
    flags, next_page, page, number, last_id = (*rest, "", "")[:5]
    return Cursor(
        newest=from_microseconds(int(newest)) if newest else None,
        known=int(known),
        surplus=int(surplus),
        scan=int(scan),
        used=int(used),
        run=int(run),
        synced_at=_from_milliseconds(int(synced_at)),
        rescanned_at=_from_milliseconds(int(rescanned_at)),
        first_page=page,
        next_page=int(next_page),
        number=number,
        last_id=last_id,
        **{name: bool(int(flags) >> bit & 1) for bit, name in enumerate(_FLAGS)},
    )


def to_be_read_whole(cursor: Cursor) -> Cursor:
    """The cursor of a conversation that is read to its beginning next time.

    The numbers of its readings stay, because the next one has to be higher, and so does how many
    messages there were, because far fewer are doubtful.
    """
    return cursor._replace(
        newest=None, run=0, first_page="", next_page=0, missing=False, doubtful=False
    )


def to_the_millisecond(time: datetime) -> datetime:
    """The time as the state keeps it."""
    return _from_milliseconds(_milliseconds(time))


def _milliseconds(time: datetime) -> int:
    return microseconds(time) // 1000


def _from_milliseconds(time: int) -> datetime:
    return from_microseconds(time * 1000)
