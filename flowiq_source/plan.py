"""What a run would cost, before it starts; finding out costs one request."""

import time
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import dlt

from flowiq_source.api.client import Meter
from flowiq_source.committed import committed_state, forgetting
from flowiq_source.loading.known import known_of
from flowiq_source.loading.lock import sole_sync
from flowiq_source.reading.conversation import Conversation, Rules
from flowiq_source.reading.schedule import make_schedule
from flowiq_source.rows.privacy import Policy
from flowiq_source.settings import PAGE_SIZE, Settings, pages_of
from flowiq_source.source import FlowiqSource


@dataclass(frozen=True)
class Plan:
    """The requests that an incremental sync or a full refresh would cost, as far as is known."""

    contacts: int
    new: int
    """Conversations that were never read; each costs one request, more if it is long."""
    quiet: int
    """Conversations that need no request, unless the contact list says otherwise."""
    contact_requests: int
    conversation_requests: int
    per_minute: float
    max_requests: int | None = None
    exit_status: ClassVar[int] = 0

    @property
    def requests(self) -> int:
        """All of them, as far as the run's limit allows."""
        needed = self.contact_requests + self.conversation_requests
        return needed if self.max_requests is None else min(needed, self.max_requests)

    @property
    def minutes(self) -> float:
        """How long that takes at the rate limit."""
        return self.requests / self.per_minute

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self) | {"requests": self.requests, "minutes": self.minutes}

    def __str__(self) -> str:
        pace = f"{self.minutes:.1f} minutes at {self.per_minute:g} a minute"
        asked = self.conversation_requests
        lines = [
            f"contacts        {self.contacts:,}: {_requests(self.contact_requests)}",
            f"conversations   {self.new:,} new, {self.quiet:,} quiet: {_requests(asked)}",
            f"a run           {_requests(self.requests)}, {pace}",
        ]
        if self.new:
            lines.append("                and one for every further 100 messages of the new ones")
        return "\n".join(lines)


def _requests(number: int) -> str:
    return f"{number:,} request{'' if number == 1 else 's'}"


def plan(pipeline: dlt.Pipeline, source: FlowiqSource) -> Plan:
    """What a sync of the pipeline with this source would cost.

    One request asks how many contacts there are; what is known of their conversations is in the
    destination.

    Raises:
        Busy: another process syncs with this pipeline.
        DestinationError: the destination refuses or is away.
        FlowiqError: the API cannot be asked.
    """
    settings, now = source.feed.settings, source.feed.now()
    with sole_sync(pipeline):
        state = committed_state(pipeline, source)
        policy = forgetting(pipeline, source, state)
    known = known_of(state, settings, now)
    total, told, forgotten = _contacts(settings, source, policy)
    if settings.phone_numbers is not None:
        numbers = len(settings.phone_numbers)
        contact_requests = min(numbers, pages_of(total))
        return _plan(settings, total, numbers, 0, contact_requests, numbers)
    cursors = {contact: cursor for contact, cursor in known.cursors.items() if cursor.is_read}
    schedule = make_schedule(
        # As the contact list will show them if nothing has happened.
        [
            Conversation(contact_id, None, (), cursor.newest if told else None)
            for contact_id, cursor in cursors.items()
            # One that the list lost is not asked for before it is listed again.
            if not cursor.unlisted
        ],
        known.cursor,
        Rules(known.number, now, settings.lookback, settings.full_refresh, settings.rescan_share),
    )
    new = max(0, total - forgotten - len(cursors))
    asked = new + sum(due.expected for due in schedule.due)
    return _plan(settings, total, new, len(schedule.quiet), pages_of(total), asked)


def _plan(  # noqa: PLR0913, PLR0917 - the fields that both ways of listing fill
    settings: Settings, contacts: int, new: int, quiet: int, contact_requests: int, asked: int
) -> Plan:
    return Plan(
        contacts=contacts,
        new=new,
        quiet=quiet,
        contact_requests=contact_requests,
        conversation_requests=asked,
        per_minute=settings.requests_per_minute * settings.rate_limit_share,
        max_requests=settings.max_requests,
    )


def _contacts(settings: Settings, source: FlowiqSource, policy: Policy) -> tuple[int, bool, int]:
    """How many there are, whether the list tells when each last wrote, how many are passed over.

    Those who are forgotten are found among the hundred that one request shows.
    """
    client = source.feed.connect(settings, sleep=time.sleep)
    page = client.contacts(1, Meter(), size=PAGE_SIZE)
    mapped = list(map(source.feed.contact_mapper(policy), page.rows))
    total = len(mapped) if page.total is None else page.total
    told = any(one.row.get("last_message_at") for one in mapped)
    return total, told, sum(one.forgotten for one in mapped)
