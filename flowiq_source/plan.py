"""What a run would cost, before it starts; finding out costs one request."""

from dataclasses import dataclass
from datetime import timedelta

import dlt
from dlt.common.configuration import with_config

from flowiq_source.api.client import FlowiqClient, Meter
from flowiq_source.api.in_flight import result_of
from flowiq_source.loading.lock import sole_sync
from flowiq_source.loading.state import TenantState
from flowiq_source.reading.reader import Conversation, Reader
from flowiq_source.reading.schedule import Rules, make_schedule
from flowiq_source.rows.convert import contact_row
from flowiq_source.settings import PRODUCTION_URL, REQUESTS_PER_MINUTE, Settings, pages_of
from flowiq_source.source import LOOKBACK_DAYS


@dataclass(frozen=True)
class Plan:
    """The requests that an incremental sync or a full refresh would cost, as far as is known."""

    contacts: int
    new: int
    """Conversations that were never read; each costs one request, more if it is long."""
    quiet: int
    """Conversations that need no request, unless the contact list says otherwise."""
    conversation_requests: int
    per_minute: float
    max_requests: int | None = None

    @property
    def contact_requests(self) -> int:
        """Requests for the list of contacts."""
        return pages_of(self.contacts)

    @property
    def requests(self) -> int:
        """All of them, as far as the run's limit allows."""
        needed = self.contact_requests + self.conversation_requests
        return needed if self.max_requests is None else min(needed, self.max_requests)

    @property
    def minutes(self) -> float:
        """How long that takes at the rate limit."""
        return self.requests / self.per_minute

    def __str__(self) -> str:
        pace = f"{self.minutes:.1f} minutes at {self.per_minute:g} a minute"
        asked = self.conversation_requests
        lines = [
            f"contacts        {self.contacts}: {self.contact_requests} requests",
            f"conversations   {self.new} new, {self.quiet} quiet: {asked} requests",
            f"a run           {self.requests} requests, {pace}",
        ]
        if self.new:
            lines.append("                and one for every further 100 messages of the new ones")
        return "\n".join(lines)


@with_config(sections=("sources", "flowiq"))
def plan(
    pipeline: dlt.Pipeline,
    bearer_token: str = dlt.secrets.value,
    tenant_id: str | None = None,
    base_url: str = PRODUCTION_URL,
    *,
    lookback_days: float = LOOKBACK_DAYS,
    full_refresh: bool = False,
    rescan_share: float = 0.0,
    requests_per_minute: float = REQUESTS_PER_MINUTE,
    rate_limit_share: float = 1.0,
    max_requests: int | None = None,
) -> Plan:
    """What a sync of the pipeline with these settings would cost.

    The arguments are those of `flowiq_source`. One request asks how many contacts there are; what
    is known of their conversations is in the destination.

    Raises:
        Busy: another process syncs with this pipeline.
        FlowiqError: the API cannot be asked.
    """
    settings = Settings(bearer_token, tenant_id, base_url, requests_per_minute, rate_limit_share)
    reader = Reader(FlowiqClient(settings), timedelta(days=lookback_days))
    page = result_of(reader.client.contacts(1, Meter()))
    contacts = [contact_row(raw, reader.tenant_id, reader.now()).row for raw in page.rows]
    told = any(row["last_message_at"] for row in contacts)
    state = _state(pipeline, reader.tenant_id)
    cursors = {contact_id: state.cursor(contact_id) for contact_id in state.contact_ids()}
    schedule = make_schedule(
        # As the contact list will show them if nothing has happened.
        [
            Conversation(contact_id, None, {}, cursor.newest if cursor and told else None)
            for contact_id, cursor in cursors.items()
        ],
        cursors.get,
        Rules(reader.now(), reader.lookback, full_refresh, rescan_share),
    )
    total = len(contacts) if page.total is None else page.total
    new = max(0, total - len(cursors))
    return Plan(
        contacts=total,
        new=new,
        quiet=len(schedule.quiet),
        conversation_requests=new + sum(due.expected for due in schedule.due),
        per_minute=requests_per_minute * rate_limit_share,
        max_requests=max_requests,
    )


def _state(pipeline: dlt.Pipeline, tenant_id: str) -> TenantState:
    """What the destination knows of the tenant's conversations."""
    with sole_sync(pipeline):
        pipeline.sync_destination()
    resources = pipeline.state.get("sources", {}).get("flowiq", {}).get("resources", {})
    return TenantState.of(resources.get("messages", {}), tenant_id)
