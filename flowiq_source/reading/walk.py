"""Walks over pages that shift while they are read: what is new, when to stop, what adds up.

Pure: a walk is a generator that yields what it wants to be asked (`Ask`) and is sent the page, or
thrown the error, that came. The API has page numbers and no cursor token, so a message that
arrives pushes rows onto the next page (they are seen twice) and a deletion pulls one back (it is
never seen). `totalMessages`, which comes with every page, tells.
"""

import itertools
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from flowiq_source.api.answers import Page, RawRow
from flowiq_source.errors import BadRequest, ConfigurationError, FlowiqError, Inconsistent, NotFound
from flowiq_source.reading.cursor import Cursor, lookback_start
from flowiq_source.rows.arrow import Digest, MappedPage
from flowiq_source.rows.convert import Mapped
from flowiq_source.times import BEGINNING, from_microseconds, microseconds

PASS_SIZES = (100, 97, 89, 83, 79, 73, 71, 67)
"""Rows a page of each pass over a listing, before it is called too restless.

The sizes differ so that page borders do: rows of one time whose order changes from request to
request, or equal rows, lie at a border once and not again.
"""

MAY_STOP = 2
"""So many passes may end where the lookback does; the ones after them go on to the end."""

MOST_PAGES = 10_000
"""No listing whose count is unknown has more, and none has ten times as many."""

PART_ROWS = 50_000
"""A conversation with more to read than this is read in parts, oldest first."""

READINGS = 4
"""How often a run reads a conversation in parts, before it is called too restless."""

SHRUNK_TO = 0.5
"""A conversation that shows less than this share of what was known is doubtful."""


class Ask(NamedTuple):
    """A page that a walk wants."""

    number: int
    size: int = PASS_SIZES[0]
    ascending: bool = False
    way: int = 0
    """Which of a conversation's addresses to ask by."""


class Twin(str):
    """The name of a row without id that equals one of an earlier page: met again, or another."""

    __slots__ = ()


@dataclass
class Sheet:
    """A page that a pass has read; `names` tell its rows from all others, None from none."""

    page: MappedPage
    names: list[str | None]


@dataclass
class Pass:
    """One pass over the pages of a listing."""

    seen: set[str] = field(default_factory=set)
    """The names of its rows."""
    handed: Counter[str] = field(default_factory=Counter)
    """How often it was handed a row that looks like this."""
    sheets: list[Sheet] = field(default_factory=list)
    first_total: int | None = None
    total: int | None = None
    disturbed: bool = False
    """Whether the count has changed in a way that rows pushed over a border do not explain."""
    repeated: int = 0
    """How many rows have been pushed over a border."""
    twins: int = 0
    listed: int = 0
    """How many rows were handed out, those that were seen before among them."""
    _pages: int = 0
    _border: Sequence[str] = ()

    def add(self, page: Page, keys: Sequence[str], prints: Sequence[Any] = ()) -> list[str | None]:
        """A name for every row of the next page; None for a row that was seen before.

        `prints` tell equal rows among those without ids.

        Raises:
            Inconsistent: the page says that another follows, and that cannot be.
        """
        self._pages += 1
        self.listed += len(keys)
        looks = _looks(keys, prints)
        grown = self._note_total(page.total)
        repeated = self._overlap(looks, grown)
        self.repeated += repeated
        self.disturbed = self.disturbed or grown != repeated
        names = [None] * repeated + self._enter(keys[repeated:], looks[repeated:])
        self._border = looks
        if page.more and grown <= 0 and keys and not any(names):
            raise Inconsistent(
                "the API hands out the same rows again and says that more follow: "
                "it repeats a page; run again later"
            )
        check_end(page, self._pages, len(self.seen), self.first_total)
        return names

    def read(self, page: Page, mapped: MappedPage) -> None:
        """Add a page of messages."""
        self.sheets.append(Sheet(mapped, self.add(page, mapped.keys, mapped.prints)))

    def _note_total(self, total: int | None) -> int:
        """How many rows the listing has gained since the last page."""
        before, self.total = self.total, self.total if total is None else total
        if self.first_total is None and self._pages == 1:
            self.first_total = total
        return 0 if before is None or total is None else total - before

    def _overlap(self, looks: Sequence[str], grown: int) -> int:
        """How many rows at the head of the page are the last page's tail, pushed over the border.

        Rows without ids can only be told from true equals by how many rows have arrived.
        """
        for size in range(min(grown, len(looks), len(self._border)), 0, -1):
            if list(self._border[-size:]) == list(looks[:size]):
                return size
        return 0

    def _enter(self, keys: Sequence[str], looks: Sequence[str]) -> list[str | None]:
        """What the rows of one page are called. Equals in one page are two for certain."""
        copies: Counter[str] = Counter()
        names: list[str | None] = []
        for key, look in zip(keys, looks, strict=True):
            name: str | None = look
            if isinstance(key, Digest):
                copies[look] += 1
                name = f"{look}-{copies[look]}"
            if name in self.seen:
                name = Twin(name) if isinstance(key, Digest) else None
                self.twins += name is not None
            if name is not None:
                self.handed[look] += 1
                self.seen.add(name)
            names.append(name)
        return names

    @property
    def is_certain(self) -> bool:
        """Whether the count has explained everything, and no row may be one that moved."""
        return not self.disturbed and not self.twins

    @property
    def rows(self) -> int:
        """How many rows it was handed, each once."""
        return sum(self.handed.values())

    @property
    def times(self) -> Counter[int | None]:
        """How often it was handed a row of each time."""
        return Counter(
            at
            for sheet in self.sheets
            for at, name in zip(sheet.page.times, sheet.names, strict=True)
            if name is not None
        )

    def count_after(self, time: datetime) -> int:
        """How many of its rows are newer than a time."""
        bound = microseconds(time)
        return sum(
            at is not None and at > bound and name is not None
            for sheet in self.sheets
            for at, name in zip(sheet.page.times, sheet.names, strict=True)
        )


def _looks(keys: Sequence[str], prints: Sequence[Any]) -> list[str]:
    """What tells rows apart by sight: the id, or else all that is not going to change."""
    if not prints:
        return list(keys)
    pairs = zip(keys, prints, strict=True)
    return [f"{key}/{look}" if isinstance(key, Digest) else key for key, look in pairs]


def check_end(page: Page, number: int, rows: int, total: int | None) -> None:
    """Refuse a listing without an end; `rows` are those of its pages so far.

    Raises:
        Inconsistent: more follow, and there are twice as many as the API's own count already.
    """
    most = MOST_PAGES if total is None else 10 * MOST_PAGES
    if page.more and (number >= most or (total is not None and rows > 2 * total + 1000)):
        raise Inconsistent(
            f"the API counts {total} and says after {rows} rows on {number} pages that more "
            "follow: its list has no end; run again later"
        )


def _is_same_listing(last: Pass, one: Pass) -> bool:
    """Whether two passes may be counted together.

    Rows of one time may come in any order, but the times stay. Else a row that is gone would make
    up for one of equals that lie at a border.
    """
    may_have_moved = last.twins or one.twins
    return last.first_total == one.first_total and not (may_have_moved and last.times != one.times)


@dataclass
class Passes:
    """What several passes over one listing show together.

    `surplus` is by how many the API's count was too high before.
    """

    surplus: int = 0
    sheets: list[Sheet] = field(default_factory=list)
    """Of the passes that are counted together."""
    rows: int = 0
    """How many rows the listing has, when it is believed."""
    twins: bool = False
    """Whether rows that may have moved are rows of their own."""
    _seen: set[str] = field(default_factory=set)
    _last: Pass | None = None

    def believe(self, one: Pass) -> bool:
        """Whether the listing is known now: it adds up, alone or together, or twice the same."""
        last, self._last = self._last, one
        if one.disturbed or (last and not _is_same_listing(last, one)):
            self._seen, self.sheets = set(), []
        self._seen |= one.seen
        if last and last.handed == one.handed:
            self.rows, self.sheets, self.twins = one.rows, one.sheets, True
            return True
        if one.disturbed:
            self._seen = set()
            return False
        self.sheets = [*one.sheets, *self.sheets]
        if one.is_certain and self._is_right(one, len(one.seen)):
            self.rows, self.sheets = len(one.seen), one.sheets
            return True
        self.rows = len(self._seen)
        return one.first_total is not None and self._is_right(one, self.rows)

    def _is_right(self, one: Pass, rows: int) -> bool:
        return one.first_total is None or one.first_total in (rows, rows + self.surplus)


def with_ids(
    sheets: Sequence[Sheet], *, twins: bool, ascending: bool = False
) -> Iterator[MappedPage]:
    """The pages with the final ids of their rows, each row once.

    Rows without ids that have a key in common are numbered, the newest first.
    """
    seen: set[str] = set()
    copies: Counter[str] = Counter()
    step = -1 if ascending else 1
    for sheet in sheets[::step]:
        ids: list[str | None] = [None] * len(sheet.names)
        for at in range(len(ids))[::step]:
            name, key = sheet.names[at], sheet.page.keys[at]
            if name is None or (not twins if isinstance(name, Twin) else name in seen):
                continue
            if not isinstance(name, Twin):
                seen.add(name)
            copies[key] += 1
            ids[at] = key if copies[key] == 1 else f"{key}-{copies[key]}"
        yield sheet.page.keep(ids)


@dataclass
class Result:
    """What one run read of one conversation."""

    status: str = "failed"
    """`complete`, `failed`, `missing` or `doubtful`, as the column of `conversations`."""
    error: str | None = None
    pages: list[MappedPage] = field(default_factory=list)
    message_count: int | None = None
    surplus: int = 0
    synced_at: datetime = BEGINNING
    rescanned_at: datetime | None = None
    cursor: Cursor | None = None
    """Where the next sync starts; None where nothing is to be kept."""
    discarded: int = 0
    """Pages of passes that did not add up."""
    vanished: bool = False
    """What was doubtful is confirmed; whether it is believed depends on the other conversations."""
    doubt: Cursor | None = None
    """The cursor where it is not believed."""
    unfinished: bool = False
    """Whether this is one part of a long conversation, and `cursor` says how to go on."""

    @property
    def rows(self) -> int:
        """How many messages it has."""
        return sum(len(page.keys) for page in self.pages)

    @property
    def mapped(self) -> Iterator[Mapped]:
        """Its rows that are no columns."""
        return (mapped for page in self.pages for mapped in page.mapped.values())

    @property
    def times(self) -> Iterator[int]:
        """The times that are known of its messages, epoch microseconds."""
        return (time for page in self.pages for time in page.times if time is not None)

    @property
    def last_message_at(self) -> datetime | None:
        """The newest time on any row."""
        newest = max(self.times, default=None)
        return None if newest is None else from_microseconds(newest)

    def count_after(self, time: datetime | None) -> int:
        """How many messages are newer than a time; None is before all of them."""
        if time is None:
            return sum(1 for _ in self.times)
        bound = microseconds(time)
        return sum(at > bound for at in self.times)


@dataclass(frozen=True)
class Task:
    """How one conversation is to be read; all times UTC."""

    map_page: Callable[[Sequence[RawRow], datetime, int], MappedPage]
    now: Callable[[], datetime]
    run: int
    """The number of the run."""
    started_at: datetime
    """When the run began."""
    lookback: timedelta
    previous: Cursor = field(default_factory=Cursor)
    whole: bool = False
    """Read to the beginning, whatever is known."""
    backfill_from: datetime | None = None
    """Read back to there; nothing is concluded of the whole."""
    ways: int = 1
    """How many addresses the conversation has."""
    expects_messages: bool = False
    """Whether the contact list, or what was read before, says that there are messages."""
    part_rows: int = PART_ROWS
    """How many rows a reading holds at most, about; a longer one comes in parts."""
    readings: list[int] = field(default_factory=list)
    """What the readings in parts have come to that were begun in this run and had to be repeated:
    rows, or -1 where something has moved. All tasks of one conversation share it."""

    @property
    def cursor(self) -> Cursor | None:
        """What may be relied on: where nothing is known, the reading goes to the beginning."""
        doubted = self.previous.missing or self.previous.doubtful or not self.previous.is_read
        return None if self.whole or self.backfill_from or doubted else self.previous

    @property
    def since(self) -> datetime | None:
        """How far back to read; None is to the beginning."""
        if self.backfill_from:
            return self.backfill_from
        return lookback_start(self.cursor, self.lookback) if self.cursor else None

    @property
    def begin(self) -> int:
        """The page to begin with; above 1 where a reading in parts goes on."""
        return 1 if self.whole else self.previous.next_page or 1

    @property
    def scan(self) -> int:
        """The number of this reading."""
        return self.previous.used + (self.begin == 1)


Walk = Generator[Ask, Page, Result]


def read_conversation(task: Task) -> Walk:
    """Everything that a run has to know of one conversation; errors are in the result.

    Raises:
        ConfigurationError: no conversation can be read.
    """
    result = Result(synced_at=task.now())
    try:
        yield from _read(task, result)
    except ConfigurationError:
        raise
    except NotFound as error:
        _note_missing(task, result, str(error))
    except Exception as error:  # noqa: BLE001 - whatever one holds, the others are read
        result.status, result.error = "failed", reason(error)
    if result.status == "failed" and result.pages and not task.backfill_from:
        # What came is kept, and its number is used up; what was known still counts.
        result.cursor = task.previous._replace(used=max(task.scan, task.previous.used))
    return result


def reason(error: BaseException) -> str:
    """What an error says; of one that nobody foresaw only where, because its text may quote."""
    if isinstance(error, FlowiqError):
        return str(error)
    trace = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(trace[-1].filename).name}:{trace[-1].lineno}" if trace else ""
    return f"{type(error).__name__}{where}: this connector has a bug; the rest is read"


def _read(task: Task, result: Result) -> Generator[Ask, Page, None]:
    if task.begin > 1:
        first, way = yield from _first_page(task, Ask(task.begin, ascending=True))
        yield from _part(task, result, first, way)
        return
    passes, fingerprint, way = Passes(task.previous.surplus), "", 0
    for n, size in enumerate(PASS_SIZES):
        first, way = yield from _first_page(task, Ask(1, size, way=way))
        if n == 0:
            fingerprint = first.fingerprint
            if task.cursor and _is_unchanged(task.cursor, first):
                _note_unchanged(task, result, first)
                return
        one = Pass()
        ended = yield from _pass(task, result, one, first, Ask(1, size, way=way), n < MAY_STOP)
        if ended is None:
            yield from _parts(task, result, fingerprint, way)
            return
        if not ended and one.is_certain:
            _conclude(task, result, (one.first_total or 0) - task.previous.surplus, fingerprint)
            return
        if ended and passes.believe(one):
            result.pages = list(with_ids(passes.sheets, twins=passes.twins))
            result.surplus = (one.first_total or passes.rows) - passes.rows
            result.rescanned_at = result.synced_at
            _conclude(task, result, passes.rows, fingerprint)
            return
        result.discarded += len(one.sheets)
    result.error = (
        f"the API counts {result.message_count} messages and handed out "
        f"{len(one.seen)}, {len(PASS_SIZES)} times: it was changing, or its count is wrong"
    )


def _first_page(task: Task, ask: Ask) -> Generator[Ask, Page, tuple[Page, int]]:
    """A page to begin with, by another address where one finds nothing that must be there."""
    for way in range(ask.way, task.ways):
        is_last = way == task.ways - 1
        try:
            page = yield ask._replace(way=way)
        except (NotFound, BadRequest):
            if is_last:
                raise
            continue
        if page.rows or is_last or not task.expects_messages:
            break
    return page, way


def _pass(  # noqa: PLR0913, PLR0917 - one pass of several, with what they share
    task: Task,
    result: Result,
    one: Pass,
    page: Page,
    ask: Ask,
    may_stop: bool,  # noqa: FBT001
) -> Generator[Ask, Page, bool | None]:
    """Read from page 1 as far as needed; whether that was to the end, None if it is too long."""
    may_stop = may_stop and task.since is not None
    result.synced_at = task.now()
    try:
        for number in itertools.count(1):
            if number > 1:
                page = yield ask._replace(number=number)
            mapped = task.map_page(page.rows, result.synced_at, task.scan)
            one.read(page, mapped)
            result.message_count = one.first_total
            if not (page.more and page.rows):
                return True
            if may_stop and _reaches(task, mapped):
                if _explained(task.cursor, one):
                    return False
                may_stop = False
            if _is_long(task, one, may_stop=may_stop):
                return None
    finally:
        result.pages = list(with_ids(one.sheets, twins=True))
    return True


def _is_long(task: Task, one: Pass, *, may_stop: bool) -> bool:
    """Whether what is still to be read is too much to be held in memory."""
    if task.backfill_from:
        return False
    total = one.first_total or 0
    known = task.cursor.known if task.cursor and may_stop else 0
    is_whole = not _has_shrunk(task.previous, total) or one.first_total is None
    return max(total - known, one.rows) > task.part_rows and is_whole


def _is_unchanged(cursor: Cursor, page: Page) -> bool:
    """Whether the first page is what it was when the cursor was made.

    Without a count it would say nothing of the pages behind it.
    """
    same = bool(page.fingerprint) and page.fingerprint == cursor.first_page
    return page.total is not None and same


def _note_unchanged(task: Task, result: Result, page: Page) -> None:
    """Nothing is new: no row is written, and what was read to its end before still counts."""
    result.status, result.message_count = "complete", page.total
    result.surplus = task.previous.surplus
    result.cursor = task.previous._replace(run=task.run, synced_at=task.started_at)


def _reaches(task: Task, mapped: MappedPage) -> bool:
    """Whether everything behind the page is older than `since`.

    A backfill has no count that would tell, so all of the page must be. Elsewhere its last two
    rows: one alone may be a late message that stands where it arrived.
    """
    if task.since is None:
        return False
    bound = microseconds(task.since)
    known = [time for time in mapped.times if time is not None]
    last = known if task.backfill_from else known[-2:]
    return bool(last) and max(last) < bound


def _explained(cursor: Cursor | None, one: Pass) -> bool:
    """Whether the API's count is what was known plus what is new.

    If it is not, a message arrived late with an old time, or one is gone: read on to the end.
    """
    if cursor is None or cursor.newest is None:
        return True
    if one.first_total is None:
        return False
    return one.first_total - cursor.surplus - one.count_after(cursor.newest) == cursor.known


def _conclude(task: Task, result: Result, rows: int, fingerprint: str) -> None:
    """What a reading that adds up means, and where the next one starts."""
    result.status = "complete"
    if task.backfill_from:
        return
    ended, previous = result.rescanned_at is not None, task.previous
    if not ended:
        result.surplus = previous.surplus
    elif _has_shrunk(previous, rows):
        _note_doubt(task, result, f"the API shows {rows} of {previous.known} messages")
        if not result.vanished:
            return
        result.status, result.error = "complete", None
    newest = result.last_message_at or (previous.newest if task.begin > 1 else None)
    # A message dated in the future must not hide the ones that arrive before that date.
    newest = min(newest, task.started_at) if newest else None
    result.cursor = Cursor(
        newest=newest,
        known=rows - result.count_after(newest),
        surplus=result.surplus,
        scan=task.scan if ended else previous.scan,
        used=task.scan,
        run=task.run,
        synced_at=task.started_at,
        rescanned_at=result.rescanned_at or previous.rescanned_at,
        first_page=fingerprint,
    )


def _has_shrunk(previous: Cursor, rows: int) -> bool:
    whole = previous.is_read and not previous.missing and not previous.next_page
    return whole and rows < previous.known * SHRUNK_TO


def _note_doubt(task: Task, result: Result, error: str) -> None:
    """Nothing, or far less than was known: gone only if a later run sees the same."""
    result.status, result.error = "doubtful", error
    result.vanished = task.previous.doubtful and task.previous.run != task.run
    result.doubt = doubted(task.previous, task.run, task.started_at, used=task.scan)
    result.cursor = result.doubt


def doubted(previous: Cursor, run: int, at: datetime, **changes: Any) -> Cursor:
    """The cursor of a conversation that may be gone."""
    return previous._replace(run=run, synced_at=at, doubtful=True, first_page="", **changes)


def gone(previous: Cursor, run: int, at: datetime, **changes: Any) -> Cursor:
    """The cursor of a conversation that the API has no longer; all of its messages are gone."""
    scan = previous.used + 1
    state: dict[str, Any] = {
        "scan": scan,
        "used": scan,
        "run": run,
        "synced_at": at,
        "rescanned_at": at,
    }
    state |= {"missing": True, "doubtful": False, "first_page": "", "next_page": 0}
    return previous._replace(**state | changes)


def _note_missing(task: Task, result: Result, error: str) -> None:
    """The API has no such conversation."""
    result.pages, result.synced_at = [], task.now()
    if task.backfill_from:
        result.status, result.error = "missing", error
        return
    if task.previous.known and not task.previous.missing:
        _note_doubt(task, result, error)
        if not result.vanished:
            return
    result.status, result.error = "missing", error
    result.rescanned_at = result.synced_at
    result.cursor = gone(task.previous, task.run, task.started_at)


def _parts(task: Task, result: Result, fingerprint: str, way: int) -> Generator[Ask, Page, None]:
    """The first part of a conversation that is too long to be held in memory."""
    result.discarded += len(result.pages)
    previous = task.previous._replace(first_page=fingerprint, next_page=0, known=0, newest=None)
    first = yield Ask(1, ascending=True, way=way)
    yield from _part(replace(task, previous=previous), result, first, way)


def _part(task: Task, result: Result, page: Page, way: int) -> Generator[Ask, Page, None]:
    """One part of a long conversation, oldest first: there, what arrives shifts no page."""
    one, previous = Pass(), task.previous
    known = previous.known if task.begin > 1 else 0
    if task.begin > 1:
        # What the count was when the part before ended.
        one.total = known + previous.surplus
    result.synced_at = task.now()
    for number in itertools.count(task.begin):
        if number > task.begin:
            page = yield Ask(number, ascending=True, way=way)
        if one.total is not None and page.total is not None and page.total < one.total:
            # A deletion has pulled a row back over a border that was passed.
            _begin_again(task, result, -1)
            return
        one.read(page, task.map_page(page.rows, result.synced_at, task.scan))
        check_end(page, number, known + one.rows, one.total)
        more = page.more and bool(page.rows)
        kept = _uncut(one.sheets) if more else one.sheets
        if not more or (kept and one.rows >= task.part_rows):
            break
    result.pages = list(with_ids(kept, twins=True, ascending=True))
    result.message_count = one.total
    _note_part(task, result, task.begin + len(kept) if more else 0)


def _uncut(sheets: Sequence[Sheet]) -> Sequence[Sheet]:
    """The pages up to a border that parts no equals: those are numbered together."""
    end = len(sheets)
    keys = sheets[-1].page.keys
    if keys and isinstance(keys[-1], Digest):
        end -= 1
        while end and sheets[end - 1].page.times[-1:] == sheets[end].page.times[:1]:
            end -= 1
    return sheets[:end]


def _note_part(task: Task, result: Result, next_page: int) -> None:
    """Where a reading in parts goes on, or what it comes to."""
    begun, total = task.begin > 1, result.message_count
    rows = result.rows + (task.previous.known if begun else 0)
    newest = result.last_message_at or (task.previous.newest if begun else None)
    surplus = 0 if total is None else total - rows
    if not next_page and surplus and rows not in task.readings[-1:]:
        _begin_again(task, result, rows)
        return
    result.surplus = surplus
    result.status, result.unfinished = "complete", next_page > 0
    if next_page:
        result.cursor = task.previous._replace(
            newest=newest, known=rows, surplus=surplus, used=task.scan, next_page=next_page
        )
        return
    result.rescanned_at = result.synced_at
    _conclude(task, result, rows, task.previous.first_page)


def _begin_again(task: Task, result: Result, rows: int) -> None:
    """Have the next part be the first one again, of another reading.

    Raises:
        Inconsistent: that has not helped.
    """
    task.readings.append(rows)
    if len(task.readings) >= READINGS:
        raise Inconsistent(
            f"the API counts {result.message_count} messages and handed out {rows}, "
            f"{READINGS} times: it was changing, or its count is wrong"
        )
    result.discarded += -(-result.rows // PASS_SIZES[0])
    result.status, result.unfinished = "complete", True
    result.cursor = task.previous._replace(
        newest=None, known=0, surplus=0, used=task.scan, next_page=0, first_page=""
    )
