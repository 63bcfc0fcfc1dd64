"""Which conversations a run reads, how far, in which order, and for how many requests. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flowiq_source.api.client import Meter
from flowiq_source.reading.conversation import Conversation, Due
from flowiq_source.reading.cursor import Cursor, is_settled
from flowiq_source.settings import pages_of
from flowiq_source.times import BEGINNING

RETRY_MISSING_AFTER = timedelta(days=7)
"""How often a conversation that the API answers with 404 is asked for again."""

CursorOf = Callable[[str], Cursor]
"""What is known of a contact's conversation."""


@dataclass(frozen=True)
class Rules:
    """What decides over a run; `rescan_share` as for `flowiq_source`, times UTC."""

    run: int
    """Its number: a conversation whose cursor has it was read by this run before it broke off."""
    started_at: datetime
    lookback: timedelta
    full_refresh: bool = False
    rescan_share: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """What a run reads, the most useful first; `quiet` are the cursors of what it need not ask."""

    due: list[Due]
    quiet: list[Cursor] = field(default_factory=list)
    stale: int = 0
    """How many cursors are from the future: some clock was wrong, and they prove nothing."""


def make_schedule(
    conversations: Sequence[Conversation], cursor_of: CursorOf, rules: Rules
) -> Schedule:
    """What an incremental run reads of these conversations."""
    known = [Due(c, cursor_of(c.contact_id), rules.full_refresh) for c in conversations]
    due = [one for one in known if _is_due(one, rules)]
    turns = _turns(due, rules)
    asked, quiet = [], []
    for one in due:
        whole = one.whole or one.conversation.contact_id in turns
        if not whole and _is_quiet(one, rules):
            quiet.append(one.cursor)
        else:
            asked.append(one._replace(whole=whole))
    stale = sum(_is_stale(one.cursor, rules) for one in due)
    return Schedule(list(_most_useful_first(asked, rules)), quiet, stale)


def _is_due(due: Due, rules: Rules) -> bool:
    """Not what an interrupted run had read, nor what is missing and was asked for lately."""
    cursor = due.cursor
    if cursor.missing and not rules.full_refresh and not _is_stale(cursor, rules):
        came_back = cursor.unlisted or due.conversation.is_active_after(cursor)
        return came_back or rules.started_at - cursor.synced_at >= RETRY_MISSING_AFTER
    return cursor.run != rules.run or bool(cursor.next_page)


def _is_stale(cursor: Cursor, rules: Rules) -> bool:
    return max(cursor.synced_at, cursor.rescanned_at) > rules.started_at


def _is_quiet(due: Due, rules: Rules) -> bool:
    return not _is_stale(due.cursor, rules) and is_settled(
        due.cursor, due.conversation.last_message_at, rules.lookback
    )


def _turns(due: Sequence[Due], rules: Rules) -> set[str]:
    """Whose turn it is to be read to the beginning: longest ago first, within the share."""
    left = rules.rescan_share * len(due)
    turns: set[str] = set()
    for _, more_pages, contact_id in sorted(_rescan_costs(due, rules)) if left else ():
        # The first may overdraw the share, or the longest would never have their turn.
        if left <= 0 or (turns and more_pages > left):
            break
        turns.add(contact_id)
        left -= more_pages
    return turns


def _rescan_costs(due: Sequence[Due], rules: Rules) -> Iterator[tuple[datetime, int, str]]:
    """When each was last read to its beginning, and the requests that it would cost on top."""
    for one in due:
        if one.cursor.is_read:
            usual = 0 if _is_quiet(one, rules) else 1
            more_pages = pages_of(one.cursor.known) - usual
            if more_pages:
                stale = _is_stale(one.cursor, rules)
                last_time = BEGINNING if stale else one.cursor.rescanned_at
                yield last_time, more_pages, one.conversation.contact_id


def _most_useful_first(due: Sequence[Due], rules: Rules) -> Iterator[Due]:
    """The useful ones and, for at least half of the requests, the ones longest unread by us.

    So however a run is cut short, n conversations of c requests each have all been read after
    2·n·c / r runs of r requests, and nobody waits longer because others are busy.
    """

    def unread_by_us(one: Due) -> datetime:
        return BEGINNING if _is_stale(one.cursor, rules) else one.cursor.synced_at

    def use(one: Due) -> tuple[bool, timedelta, datetime]:
        """Unread by the business first, then the recently active, then longest unread by us."""
        active_at = one.conversation.last_message_at or one.cursor.newest or BEGINNING
        return not one.conversation.unread, BEGINNING - active_at, unread_by_us(one)

    keys: tuple[Callable[[Due], Any], ...] = (unread_by_us, use)
    orders = [iter(sorted(due, key=key)) for key in keys]
    spent = [0, 0]
    taken: set[str] = set()
    while len(taken) < len(due):
        which = 0 if spent[0] <= spent[1] else 1
        one = next(one for one in orders[which] if one.conversation.contact_id not in taken)
        taken.add(one.conversation.contact_id)
        spent[which] += one.expected
        yield one


@dataclass
class Budget:
    """How many requests a run may spend, and until when it may begin conversations.

    A conversation that was begun is read to where it has to be, so a run may spend more than
    `max_requests` by what those turn out to be longer than expected.
    """

    max_requests: int | None = None
    deadline_s: float | None = None
    """On the clock of `begin`'s `now_s`."""
    _open: list[Meter] = field(default_factory=list)
    _closed: int = 0

    def begin(self, expected: int, now_s: float) -> Meter | None:
        """A meter for one more thing to read; None when the budget does not hold so much."""
        if self.deadline_s is not None and now_s >= self.deadline_s:
            return None
        if self.max_requests is not None and self._committed + expected > self.max_requests:
            return None
        meter = Meter(expected=expected)
        if self.max_requests is not None:
            self._open.append(meter)
        return meter

    def spend(self, requests: int) -> None:
        """Count requests that were spent without a meter of the budget's."""
        self._closed += requests

    @property
    def _committed(self) -> int:
        self._closed += sum(meter.requests for meter in self._open if meter.closed)
        self._open = [meter for meter in self._open if not meter.closed]
        return self._closed + sum(max(meter.requests, meter.expected) for meter in self._open)
