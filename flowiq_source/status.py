"""What the warehouse holds and how it stands; the destination alone is asked."""

from dataclasses import asdict, dataclass
from typing import Any

import dlt

from flowiq_source.committed import answering
from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.destination import Committed, Rows
from flowiq_source.loading.refusals import without_row_texts
from flowiq_source.loading.tables import TableNames
from flowiq_source.source import FlowiqSource
from flowiq_source.times import as_utc


@dataclass(frozen=True)
class Status:
    """One tenant's part of the warehouse; times UTC."""

    tables: dict[str, int]
    """Rows of each table; child tables with those of all tenants."""
    newest_message_at: Any = None
    last_sync_at: Any = None
    """When a conversation was last asked for."""
    conversations: dict[str, int] | None = None
    """How many are `complete`, `failed`, `missing`, `doubtful`."""
    behind: int = 0
    """Conversations whose contacts show a later message than was read."""
    rejected: int = 0

    @property
    def exit_status(self) -> int:
        """1 where a conversation has failed."""
        return int(bool((self.conversations or {}).get("failed")))

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.tables:
            return "nothing was loaded yet: flowiq sync"
        of = self.conversations or {}
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in of.items()) or "none"
        lines = [
            *(f"{table:<24}{rows:>12,}" for table, rows in self.tables.items()),
            "",
            f"newest message   {_time(self.newest_message_at)}",
            f"last sync        {_time(self.last_sync_at)}",
            f"conversations    {kinds}, {self.behind:,} behind",
            f"rejected values  {self.rejected:,}" + (": see rejected_rows" * bool(self.rejected)),
        ]
        if of.get("failed"):
            lines.append("failed           read again by the next sync; why: SELECT error FROM")
            lines.append("                 conversations WHERE status = 'failed'")
        return "\n".join(lines)


def _time(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if value else "never"


def status(pipeline: dlt.Pipeline, source: FlowiqSource) -> Status:
    """Rows, times and conditions of the source's tenant in the pipeline's dataset.

    Raises:
        ConfigurationError: the destination answers no SQL.
        DestinationError: the destination refuses or is away.
    """
    return without_row_texts(pipeline, lambda: _asked(pipeline, source))


def _asked(pipeline: dlt.Pipeline, source: FlowiqSource) -> Status:
    names, tenant = TableNames.of(source), source.feed.settings.tenant_key
    with answering(pipeline, source) as client:
        if client is None:
            raise ConfigurationError("status asks by SQL, and this destination answers none")
        return _status(Committed(client, tenant), names)


def _status(committed: Committed, names: TableNames) -> Status:
    def of_tenant(what: str, table: str, more: str = "") -> Rows:
        where = f"FROM {committed.name(table)} t WHERE t.tenant_id = %s {more}"
        return committed.rows(f"SELECT {what} {where}", committed.tenant_id)

    own = [names.contacts, names.contact_identities, names.messages]
    own += [names.conversations, names.rejected_rows]
    counts = {table: of_tenant("count(*)", table) for table in own}
    for child in [*names.children, f"{names.contacts}__tags"]:
        counts[child] = committed.rows(f"SELECT count(*) FROM {committed.name(child)}")  # noqa: S608
    tables = {table: int(found[0][0]) for table, found in counts.items() if found}
    # A word of Redshift's own.
    at = committed.client.escape_column_name("timestamp")
    [[newest]] = of_tenant(f"max(t.{at})", names.messages) or [(None,)]
    [[synced]] = of_tenant("max(t.synced_at)", names.conversations) or [(None,)]
    by_status = of_tenant("t.status, count(*)", names.conversations, "GROUP BY t.status")
    behind = committed.rows(
        f"SELECT count(*) FROM {committed.name(names.contacts)} c "  # noqa: S608
        f"LEFT JOIN {committed.name(names.conversations)} v "
        "ON v.tenant_id = c.tenant_id AND v.contact_id = c.id WHERE c.tenant_id = %s "
        "AND (v.contact_id IS NULL OR c.last_message_at > v.last_message_at)",
        committed.tenant_id,
    )
    return Status(
        tables,
        newest and as_utc(newest),
        synced and as_utc(synced),
        {kind: int(count) for kind, count in sorted(by_status)},
        int(behind[0][0]) if behind else 0,
        tables.get(names.rejected_rows, 0),
    )
