"""The numbers of the report as plain data; `gather.py` asks the warehouse for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo

from flowiq_source.status import Status
from flowiq_source.verify import Verification


@dataclass(frozen=True)
class Volume:
    """Messages of one party on one local day."""

    day: date
    party: str
    messages: int


@dataclass(frozen=True)
class Load:
    """Messages of customers in one hour of the week; weekday 1 is Monday."""

    weekday: int
    hour: int
    messages: int
    in_business_hours: int


@dataclass(frozen=True)
class Answers:
    """Waits that ended, by who ended them: `bot`, `agent` (no bot before), `human` (waits for one).

    `week` is its Monday, and None for all of the time.
    """

    who: str
    week: date | None
    answers: int
    median_s: float | None
    p90_s: float | None
    business_median_s: float | None
    business_p90_s: float | None


@dataclass(frozen=True)
class Backlog:
    """Conversations that wait.

    `age` is the place of the group, `window` one of `open`, `closing`, `closed`.
    """

    age: int
    window: str
    conversations: int


@dataclass(frozen=True)
class Window:
    """Service windows that opened in the week of this Monday, by outcome."""

    week: date
    outcome: str
    windows: int


@dataclass(frozen=True)
class Delivery:
    """Outbound messages whose fate is known."""

    sent: int
    delivered: int
    read: int
    failed: int


@dataclass(frozen=True)
class Agent:
    """What one member of the team wrote; waits in business hours."""

    assignee: str
    messages: int
    conversations: int
    median_s: float | None
    p90_s: float | None
    p95_s: float | None


@dataclass(frozen=True)
class Reaction:
    """How often an emoji was set."""

    emoji: str
    reactions: int


@dataclass(frozen=True)
class Rejected:
    """Values that did not fit their column."""

    table: str
    column: str
    reason: str
    values: int


@dataclass(frozen=True)
class Failure:
    """Conversations that could not be read, by the reason."""

    error: str | None
    conversations: int


@dataclass(frozen=True)
class Waiting:
    """Somebody who waits."""

    name: str | None
    whatsapp_id: str | None
    text: str | None
    waiting_since: datetime | None
    closes_at: datetime | None


@dataclass(frozen=True)
class Numbers:
    """Everything that the report says, of one tenant."""

    tenant: str
    version: str
    as_of: datetime
    first_day: date
    last_day: date
    zone: tzinfo
    zone_name: str
    hours: str
    """The business hours in words."""
    status: Status
    verification: Verification
    with_contacts: bool = False
    volume: Sequence[Volume] = ()
    load: Sequence[Load] = ()
    totals: Sequence[Answers] = ()
    weekly: Sequence[Answers] = ()
    backlog: Sequence[Backlog] = ()
    waiting: Sequence[Waiting] = ()
    windows: Sequence[Window] = ()
    returned: int = 0
    """Windows after which the customer came back within seven days."""
    delivery: Delivery | None = None
    agents: Sequence[Agent] = ()
    reactions: Sequence[Reaction] = ()
    rejected: Sequence[Rejected] = ()
    failures: Sequence[Failure] = ()

    def total(self, who: str) -> Answers | None:
        """All waits that somebody ended; None if there were none."""
        return next((one for one in self.totals if one.who == who), None)
