"""Which conversations a run reads, how far, in which order, and for how many requests. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flowiq_source.api.client import Meter
from flowiq_source.reading.conversation import Conversation, Rules, Task
from flowiq_source.reading.cursor import Cursor
from flowiq_source.settings import pages_of
from flowiq_source.times import BEGINNING

RETRY_MISSING_AFTER = timedelta(days=7)
"""How often a conversation that the API answers with 404 is asked for again."""


WHOLE_SECOND = timedelta(seconds=1)
"""By so much two times of one message may differ: one of them has no fractions."""

MAY_BE_BEHIND = 0.05
"""Of so many conversations the contact list may not know the newest message."""


@dataclass(frozen=True)
class Schedule:
    """What a run reads, the most useful first; `quiet` are the cursors of what it need not ask."""

    due: list[Task]
    quiet: list[Cursor] = field(default_factory=list)
    stale: int = 0
    """How many cursors are from the future: some clock was wrong, and they prove nothing."""


def make_schedule(
    conversations: Sequence[Conversation], cursor_of: Callable[[str], Cursor], rules: Rules
) -> Schedule:
    """What an incremental run reads of these conversations, each with what is known of it."""
    whole = rules.full_refresh
    tasks = (Task(c, cursor_of(c.contact_id), rules, whole) for c in conversations)
    due = [task for task in tasks if _is_due(task)]
    is_told = _tells_of_the_last(due)
    turns = _turns(due, rules.rescan_share)
    asked, quiet = [], []
    for task in due:
        if task.conversation.contact_id in turns:
            asked.append(task._replace(whole=True))
        elif is_told and not task.whole and is_quiet(task):
            quiet.append(task.previous)
        else:
            asked.append(task)
    return Schedule(list(_most_useful_first(asked)), quiet, sum(map(_is_stale, due)))


def _is_due(task: Task) -> bool:
    """Not what an interrupted run had read, nor what is missing and was asked for lately."""
    cursor, rules = task.previous, task.rules
    if cursor.missing and not rules.full_refresh and not _is_stale(task):
        conversation = task.conversation
        is_active = conversation.is_active_after(cursor)
        came_back = cursor.unlisted or (is_active and conversation.activity != cursor.first_page)
        return came_back or rules.started_at - cursor.synced_at >= RETRY_MISSING_AFTER
    return cursor.run != rules.run or cursor.failed or bool(cursor.next_page)


def _is_stale(task: Task) -> bool:
    return max(task.previous.synced_at, task.previous.rescanned_at) > task.rules.started_at


def is_quiet(task: Task) -> bool:
    """Whether the time of the last message tells that a sync would find nothing.

    The conversation was read since, and not before the last message had left the lookback.
    """
    cursor, last_message_at = task.previous, task.conversation.last_message_at
    if last_message_at is None or cursor.newest is None or cursor.missing or cursor.doubtful:
        return False
    is_old = cursor.synced_at - last_message_at >= task.rules.lookback
    is_newest = last_message_at <= cursor.newest and not _is_behind(task)
    return is_newest and is_old and not _is_stale(task)


def _is_behind(task: Task) -> bool:
    """Whether the contact list speaks of an older message than the newest that was read."""
    newest, last_message_at = task.previous.newest, task.conversation.last_message_at
    return bool(newest and last_message_at and newest - last_message_at >= WHOLE_SECOND)


def _tells_of_the_last(due: Sequence[Task]) -> bool:
    """Whether the contact list's times are those of the last messages, as far as can be seen.

    They may be of what customers write alone, or never move. One here and there is behind because
    the newest message was deleted.
    """
    told = [task for task in due if task.previous.newest and task.conversation.last_message_at]
    return sum(map(_is_behind, told)) <= max(1, len(told) * MAY_BE_BEHIND)


def _turns(due: Sequence[Task], share: float) -> set[str]:
    """Whose turn it is to be read to the beginning: longest ago first, within the share."""
    left = share * len(due)
    turns: set[str] = set()
    for _, more_pages, contact_id in sorted(_rescan_costs(due)) if left else ():
        # The first may overdraw the share, or the longest would never have their turn.
        if left <= 0 or (turns and more_pages > left):
            break
        turns.add(contact_id)
        left -= more_pages
    return turns


def _rescan_costs(due: Sequence[Task]) -> Iterator[tuple[datetime, int, str]]:
    """When each was last read to its beginning, and the requests that it would cost on top."""
    for task in due:
        more_pages = pages_of(task.previous.known) - (not is_quiet(task))
        if task.previous.is_read and more_pages:
            last_time = BEGINNING if _is_stale(task) else task.previous.rescanned_at
            yield last_time, more_pages, task.conversation.contact_id


def _most_useful_first(due: Sequence[Task]) -> Iterator[Task]:
    """The useful ones and, for at least half of the requests, the ones longest unread by us.

    So however a run is cut short, n conversations of c requests each have all been read after
    2·n·c / r runs of r requests, and nobody waits longer because others are busy.
    """
    keys: tuple[Callable[[Task], Any], ...] = (_read_at, _use)
    orders = [iter(sorted(due, key=key)) for key in keys]
    spent = [0, 0]
    taken: set[str] = set()
    while len(taken) < len(due):
        which = 0 if spent[0] <= spent[1] else 1
        one = next(one for one in orders[which] if one.conversation.contact_id not in taken)
        taken.add(one.conversation.contact_id)
        spent[which] += one.expected
        yield one


def _read_at(task: Task) -> tuple[int, datetime]:
    """Which run asked for it, because one that fails again and again was read long ago."""
    return task.previous.run, BEGINNING if _is_stale(task) else task.previous.synced_at


def _use(task: Task) -> tuple[bool, timedelta, tuple[int, datetime]]:
    """Unread by the business first, then the recently active, then longest unread by us."""
    active_at = task.conversation.last_message_at or task.previous.newest or BEGINNING
    return not task.conversation.unread, BEGINNING - active_at, _read_at(task)


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
