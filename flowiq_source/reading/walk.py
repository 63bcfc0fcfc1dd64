"""The walk over the pages of one conversation: what to ask for, when to stop, what it comes to.

Pure: a generator that yields what it wants to be asked (`Ask`) and is sent the page, or thrown the
error, that came. How pages are counted together is in `passes.py`.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple

from flowiq_source.api.answers import Page, RawRow
from flowiq_source.errors import BadRequest, ConfigurationError, Inconsistent, NotFound
from flowiq_source.reading.conversation import ConversationResult, Task
from flowiq_source.reading.cursor import Cursor, shorter
from flowiq_source.reading.faults import reason
from flowiq_source.reading.passes import PASS_SIZES, Pass, Passes, looks_of, uncut, with_ids
from flowiq_source.rows.arrow import MappedPage, without_id
from flowiq_source.rows.convert import Origin
from flowiq_source.times import microseconds

MAY_STOP = 2
"""So many passes may end where the lookback does; the ones after them go on to the end."""

READINGS = 4
"""How often a run reads a conversation in parts, before it is called too restless."""

SHRUNK_TO = 0.5
"""A conversation that shows less than this share of what was known is doubtful,"""

SHRUNK_BY = 10
"""and one that shows so many fewer than nine tenths of it."""


_EMPTY = "it is empty; run again later"


class Ask(NamedTuple):
    """A page that a walk wants."""

    number: int
    size: int = PASS_SIZES[0]
    ascending: bool = False
    way: int = 0
    """Which of a conversation's addresses to ask by."""


MapPage = Callable[[Sequence[RawRow], Origin], MappedPage]
Walk = Generator[Ask | ConversationResult, Any, None]
Steps = Generator[Ask, Page, None]
End = Literal["the end", "known from here", "too much", "other ids", ""]
"""Why no further page is read; empty if one is."""


def read_conversation(task: Task, map_page: MapPage, now: Callable[[], datetime]) -> Walk:
    """What a run learns of one conversation: a result for each part of it, the last one last.

    Errors are in the results.

    Raises:
        ConfigurationError: no conversation can be read.
    """
    yield from _Reading(task, map_page, now).parts()


class _Reading:
    """The reading of a conversation, part by part; `result` is that of the part it is at."""

    result: ConversationResult

    def __init__(self, task: Task, map_page: MapPage, now: Callable[[], datetime]) -> None:
        self.task = task._replace(previous=task.previous._replace(failed=False))
        self._before = self.task.previous
        """What was known before any part of this reading."""
        self._ids_repeat = self._before.ids_repeat
        goes_on = self.task.begin > 1 or self.task.trusted is not None
        self._has_ids = goes_on and self._before.has_ids
        self._lacks_ids = goes_on and self._before.lacks_ids
        self._map, self._now = map_page, now
        self._way, self._fingerprint = 0, task.previous.first_page
        self._border: list[str] = []
        """What the rows of the page before the next part look like."""
        self._attempts: list[int] = []
        """What readings came to that had to be begun again: rows, -1 if something has moved."""

    def parts(self) -> Walk:
        """The result of each part."""
        while True:
            self.result = ConversationResult(self.task, self._now())
            yield from self._read()
            yield self.result
            if not self.result.unfinished:
                return
            previous = self.result.cursor or self.task.previous
            self.task = self.task._replace(previous=previous, whole=False)

    def _read(self) -> Steps:
        """Ask for pages until the result is known."""
        task = self.task
        try:
            yield from self._passes() if task.begin == 1 else self._part()
        except ConfigurationError:
            raise
        except NotFound as error:
            self.result.task = self._since_before()
            self.result = self.result.missing(str(error))
        except Exception as error:  # noqa: BLE001 - whatever one holds, the others are read
            self.result.status, self.result.error = "failed", reason(error)
        if self.result.status == "failed" and not task.rules.backfill_from:
            # What came is kept, and its number is used up; what was known still counts.
            used = max(task.scan if self.result.pages else 0, task.previous.used)
            previous = self._since_before().previous if self._attempts else task.previous
            self.result.cursor = previous._replace(used=used, run=task.rules.run, failed=True)

    def _passes(self) -> Steps:
        """Read from the newest message on, as far back and as often as needed."""
        result, surplus = self.result, self.task.previous.surplus
        passes = Passes(surplus)
        for n, size in enumerate(PASS_SIZES):
            ask = Ask(1, size)
            page = yield from self._first(ask)
            if n == 0:
                self._fingerprint = page.fingerprint
                if self._is_unchanged(page):
                    # No row is written, and what was read to its end before still counts.
                    result.status, result.message_count = "complete", page.total
                    result.cursor = self.task.move()
                    return
            one = Pass(size=size)
            may_stop = n < MAY_STOP and self.task.since is not None
            try:
                why_stop = partial(self._why_stop, one, may_stop)
                end = yield from self._pages(one, page, ask, why_stop)
            finally:
                # Where a row may be one that was met before, a failure leaves it to the next run.
                result.pages = list(with_ids(one.sheets, twins=False))
                result.message_count = one.first_total
            if end in {"too much", "other ids"}:
                result.discarded += len(result.pages)
                result.pages = []
                yield from self._part() if end == "too much" else self._anew(one)
                return
            if end == "known from here" and one.is_certain:
                self._conclude((one.first_total or 0) - surplus, surplus)
                return
            if end == "the end" and passes.believe(one):
                result.pages = list(with_ids(passes.sheets, twins=passes.twins))
                self._conclude_whole(passes.rows, one.first_total)
                return
            result.discarded += len(one.sheets)
        result.error = _restless(one.first_total, len(one.seen), len(PASS_SIZES))

    def _has_other_ids(self, one: Pass) -> bool:
        """Whether rows have ids where none had, or have none where all had: they would be doubled.

        Of a conversation that is read to its beginning, the old ones are gone then.
        """
        known = self.task.trusted
        if known is None or not (known.has_ids or known.lacks_ids):
            return False
        return (one.has_ids > known.has_ids) or (one.lacks_ids > known.lacks_ids)

    def _anew(self, one: Pass) -> Steps:
        """Read all of it again, with ids that are computed where the API's stand for two rows."""
        self._ids_repeat |= one.ids_repeat
        self._has_ids = self._lacks_ids = False
        self.task = self.result.task = self.task._replace(whole=True)
        yield from self._passes()

    def _first(self, ask: Ask) -> Generator[Ask, Page, Page]:
        """A page to begin with, by another address where one finds nothing that must be there."""
        last = max(1, len(self.task.conversation.ways)) - 1
        while True:
            ask = ask._replace(way=self._way)
            try:
                page = yield ask
            except (NotFound, BadRequest):
                if self._way == last:
                    raise
            else:
                if page.rows or self._way == last or not self.task.expects_messages:
                    return page
            self._way += 1

    def _pages(
        self, one: Pass, page: Page, ask: Ask, why_stop: Callable[[], End]
    ) -> Generator[Ask, Page, End]:
        """Read a pass from a page on; why it ended."""
        ask = ask._replace(way=self._way)
        while True:
            one.add(page, self._mapped(page))
            if one.ids_repeat or (not ask.ascending and self._has_other_ids(one)):
                return "other ids"
            if ask.ascending and one.count_fell:
                one.count_fell = not (yield from self._has_stayed(one, ask))
            self._has_ids |= one.has_ids
            self._lacks_ids |= one.lacks_ids
            if one.repeats and page.more and not one.is_over:
                yield from self._check_end(one, ask, "it repeats a page; run again later")
                return "the end"
            if not page.rows or one.is_over or not (page.more or one.is_cut):
                return "the end"
            if end := why_stop():
                return end
            ask = ask._replace(number=ask.number + 1)
            page = yield from self._next(one, ask, is_promised=page.more and page.is_said)

    def _goes_on(self, one: Pass, ask: Ask) -> Generator[Ask, Page, Page]:
        """The page with which another part begins; see `_next`."""
        what = _EMPTY
        try:
            page = yield from self._first(ask)
        except (NotFound, BadRequest) as error:
            page, what = Page([], None, more=False), str(error)
        if not page.rows and page.total is None:
            yield from self._check_end(one, ask._replace(way=self._way), what)
        return page

    def _mapped(self, page: Page) -> MappedPage:
        rows = [without_id(row) for row in page.rows] if self._ids_repeat else page.rows
        return self._map(rows, self.task.origin(self.result.synced_at))

    def _looks_back(self, ask: Ask) -> Generator[Ask, Page, bool]:
        """Whether there is still the page before this one, which another run has read."""
        try:
            page = yield ask._replace(number=ask.number - 1, way=self._way)
        except (NotFound, BadRequest):
            return False
        self._border = looks_of(self._mapped(page))
        return bool(self._border)

    def _has_stayed(self, one: Pass, ask: Ask) -> Generator[Ask, Page, bool]:
        """Whether the page before this one is what it was: then no row has moved back over it.

        What the count has lost is behind, or was never there.
        """
        before = looks_of(one.sheets[-2].rows) if len(one.sheets) > 1 else self._border
        if not before:
            return False
        page = yield ask._replace(number=ask.number - 1)
        return looks_of(self._mapped(page)) == before

    def _next(self, one: Pass, ask: Ask, *, is_promised: bool) -> Generator[Ask, Page, Page]:
        """Another page of a conversation; one without rows is the end of it.

        Where pages are not counted, a refusal is how an API may say that there are no more.

        Raises:
            Inconsistent: it is not.
        """
        what = _EMPTY
        try:
            page = yield ask
        except (NotFound, BadRequest) as error:
            # There are rows, so there is such a conversation.
            page, what = Page([], None, more=False), str(error)
        else:
            is_promised = False
        is_short = one.pages_before or one.rows < self.task.previous.known
        if not page.rows and page.total is None and (is_promised or is_short):
            yield from self._check_end(one, ask, what)
        return page

    def _check_end(self, one: Pass, ask: Ask, what: str) -> Steps:
        """See that there is no row behind those that were read: pages of another size end there.

        Raises:
            Inconsistent: there is, or it cannot be seen.
        """
        if place := one.last_rows():
            number, size = place
            try:
                page = yield ask._replace(number=number, size=size)
            except (NotFound, BadRequest):
                page = Page([], None, more=True)
            if one.ends_with(page, size):
                return
        rows = one.rows_before + one.listed
        raise Inconsistent(
            f"the API has no page {ask.number} after {rows} messages, and there is more: {what}"
        )

    def _is_unchanged(self, page: Page) -> bool:
        """Whether the first page is what it was when the cursor was made.

        Without a count it would say nothing of the pages behind it.
        """
        same = bool(page.fingerprint) and page.fingerprint == self.task.previous.first_page
        return bool(self.task.trusted) and page.total is not None and same

    def _why_stop(self, one: Pass, may_stop: bool) -> End:  # noqa: FBT001
        """Whether what is behind is known, or is too much to be held in memory."""
        task, total = self.task, one.first_total
        reaches = may_stop and self._reaches(one)
        if reaches and self._explains(one):
            return "known from here"
        behind = task.trusted if may_stop and not reaches else None
        known = behind.known + behind.surplus if behind else 0
        rows = max((total or 0) - known, one.rows)
        is_much = rows > task.rules.part_rows and not task.rules.backfill_from
        return "too much" if is_much and not self._has_shrunk(total) else ""

    def _reaches(self, one: Pass) -> bool:
        """Whether everything behind the last page is older than `since`.

        A backfill has no count that would tell, so all of the page must be, and the newest come
        first. Elsewhere its last two rows: one alone may be a late message that stands where it
        arrived.
        """
        since, backfill = self.task.since, self.task.rules.backfill_from
        known = [time for time in one.sheets[-1].rows.times if time is not None]
        last = known if backfill else known[-2:]
        if backfill and known[:1] < known[-1:]:
            return False
        return since is not None and bool(last) and max(last) < microseconds(since)

    def _explains(self, one: Pass) -> bool:
        """Whether the API's count is what was known plus what is new.

        If it is not, a message arrived late with an old time, or one is gone: read on to the end.
        So where the newest known has another id: others have as well, and would be there twice.
        """
        cursor = self.task.trusted
        if cursor is None or cursor.newest is None:
            return True
        if one.first_total is None or not self._shows(one, cursor.last_id):
            return False
        return one.first_total - cursor.surplus - one.count_after(cursor.newest) == cursor.known

    @staticmethod
    def _shows(one: Pass, last_id: str) -> bool:
        keys = (key for sheet in one.sheets for key in sheet.rows.keys)
        return not last_id or last_id in map(shorter, keys)

    def _has_shrunk(self, rows: int | None) -> bool:
        previous, known = self._before, self._before.known
        least = max(known * SHRUNK_TO, known * 0.9 - SHRUNK_BY)
        return rows is not None and not previous.missing and rows < least

    def _conclude_whole(self, rows: int, total: int | None) -> None:
        """What a reading to the end means."""
        self.result.rescanned_at = self.result.synced_at
        self._conclude(rows, (rows if total is None else total) - rows)
        self.result.task = self._since_before()
        if not self.task.rules.backfill_from and self._has_shrunk(rows):
            known = self._before.known
            self.result = self.result.doubted(f"the API shows {rows} of {known} messages")

    def _since_before(self) -> Task:
        """The task as if all of its parts were one: held against what was known before them."""
        before = self._before
        if self._attempts:
            # The numbers of parts that were read before are used up.
            before = before._replace(next_page=0)
        used = self.task.scan - (not before.next_page)
        return self.task._replace(previous=before._replace(used=used))

    def _conclude(self, rows: int, surplus: int) -> None:
        """What a reading that adds up means, and where the next one starts."""
        task, result, previous = self.task, self.result, self.task.previous
        result.status = "complete"
        if task.rules.backfill_from:
            return
        is_whole = result.rescanned_at is not None
        newest = max(self._newest_of_parts(), default=None)
        # A message dated in the future must not hide the ones that arrive before that date.
        newest = min(newest, task.rules.started_at) if newest else None
        result.cursor = Cursor(
            newest=newest,
            known=rows - result.count_after(newest),
            surplus=surplus,
            scan=task.scan if is_whole else previous.scan,
            used=task.scan,
            run=task.rules.run,
            synced_at=task.rules.started_at,
            rescanned_at=result.rescanned_at or previous.rescanned_at,
            first_page=self._fingerprint,
            ids_repeat=self._ids_repeat,
            has_ids=self._has_ids,
            lacks_ids=self._lacks_ids,
            number=task.conversation.number,
            last_id=self._last_id(newest),
        )

    def _part(self) -> Steps:
        """Read one part of a long conversation, oldest first: there, what arrives shifts no page.

        It is cut where a page ends, and no equals are parted.
        """
        task, result, previous = self.task, self.result, self.task.previous
        begun = task.begin > 1
        known = previous.known if begun else 0
        one = Pass(pages_before=task.begin - 1, rows_before=known, border=self._border)
        ask = Ask(task.begin, ascending=True)
        try:
            page = yield from (self._goes_on(one, ask) if begun else self._first(ask))
            if begun and page.total is not None:
                # What the count was when the part before ended.
                one.total = known + previous.surplus
            end = yield from self._pages(one, page, ask, partial(self._why_cut, one))
        except Inconsistent:
            if self._border or not begun:
                raise
            if (yield from self._looks_back(ask)):
                yield from self._part()
            else:
                self._begin_again(one, -1)
            return
        rows, total = known + one.rows, one.total
        surplus = 0 if total is None else total - rows
        if end == "other ids":
            self._ids_repeat = True
            self._begin_again(one, -1)
            return
        # A deletion has pulled a row back over a border that was passed.
        if one.count_fell or (end == "the end" and surplus and rows not in self._attempts[-1:]):
            self._begin_again(one, -1 if one.count_fell else rows)
            return
        kept = one.sheets if end == "the end" else uncut(one.sheets)
        result.pages = list(with_ids(kept, ascending=True))
        result.message_count = total
        if end == "the end":
            self._conclude_whole(rows, total)
            return
        self._border = looks_of(kept[-1].rows)
        rows = known + result.rows
        result.status, result.unfinished = "complete", True
        newest = max(self._newest_of_parts(), default=None)
        result.cursor = previous._replace(
            newest=newest,
            last_id=self._last_id(newest),
            known=rows,
            surplus=0 if total is None else total - rows,
            used=task.scan,
            first_page=self._fingerprint,
            ids_repeat=self._ids_repeat,
            has_ids=self._has_ids,
            lacks_ids=self._lacks_ids,
            next_page=task.begin + len(kept),
        )

    def _last_id(self, newest: datetime | None) -> str:
        """Shorter for the id of the message of that time, in this part or those before it."""
        at, pages = newest and microseconds(newest), self.result.pages
        pairs = (pair for page in pages for pair in zip(page.keys, page.times, strict=True))
        ids = [key for key, time in pairs if time == at]
        before = self.task.previous
        goes_on = self.task.begin > 1 and newest == before.newest
        return shorter(min(ids)) if ids and at else before.last_id * goes_on

    def _newest_of_parts(self) -> Iterator[datetime]:
        """The newest time of this part and of those before it, which may be the newer ones.

        They are where the API does not know `ascending`.
        """
        before = self.task.previous.newest if self.task.begin > 1 else None
        return (time for time in (self.result.last_message_at, before) if time)

    def _why_cut(self, one: Pass) -> End:
        is_full = one.rows >= self.task.rules.part_rows and bool(uncut(one.sheets))
        return "too much" if one.count_fell or is_full else ""

    def _begin_again(self, one: Pass, rows: int) -> None:
        """Have the next part be the first one again, of another reading.

        Raises:
            Inconsistent: that has not helped.
        """
        self._attempts.append(rows)
        self._border = []
        if len(self._attempts) >= READINGS:
            raise Inconsistent(_restless(one.total, one.rows_before + one.rows, READINGS))
        self.result.discarded += len(one.sheets)
        self.result.status, self.result.unfinished = "complete", True
        self.result.cursor = self.task.previous._replace(
            newest=None,
            known=0,
            surplus=0,
            used=self.task.scan,
            next_page=0,
            first_page="",
            ids_repeat=self._ids_repeat,
        )


def _restless(total: int | None, rows: int, times: int) -> str:
    return (
        f"the API counts {total} messages and handed out {rows}, {times} times: "
        "it was changing, or its count is wrong"
    )
