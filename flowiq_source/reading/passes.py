"""Passes over a listing whose pages shift while they are read: which rows it has. Pure.

The API has page numbers and no cursor token, so a row that arrives pushes others onto the next
page (they are seen twice) and a deletion pulls one back (it is never seen). The count, which comes
with every page, tells.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from flowiq_source.api.answers import Page, is_round
from flowiq_source.errors import Inconsistent
from flowiq_source.rows.arrow import Digest, MappedPage
from flowiq_source.times import microseconds

PASS_SIZES = (100, 97, 89, 83, 79, 73, 71, 67)
"""Rows a page of each pass over a listing, before it is called too restless.

The sizes differ so that page borders do: rows of one time whose order changes from request to
request, or equal rows, lie at a border once and not again.
"""

MOST_PAGES = 10_000
"""No listing whose count is unknown has more, and none has ten times as many."""


class Rows(Protocol):
    """The rows of a page, as far as a pass looks at them; see `MappedPage`."""

    keys: list[str]
    times: list[int | None]
    prints: list[int]


class Sheet(NamedTuple):
    """A page that a pass has read; the names of its rows, None of one that was met before."""

    rows: Any
    names: list[str | None]


@dataclass
class Pass:
    """One pass over the pages of a listing; before a part of one, others have been read."""

    total: int | None = None
    size: int = PASS_SIZES[0]
    """How many rows a page it asks for."""
    pages_before: int = 0
    rows_before: int = 0
    first_total: int | None = None
    sheets: list[Sheet] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    """The names of its rows."""
    handed: Counter[str] = field(default_factory=Counter)
    """How often it was handed a row that looks like this."""
    times: list[int | None] = field(default_factory=list)
    """Of the rows that have a name."""
    count_fell: bool = False
    disturbed: bool = False
    """Whether the count has changed in a way that rows pushed over a border do not explain."""
    twins: int = 0
    ids_repeat: bool = False
    """Whether one id stood for two messages: they differ in their times and in what they say."""
    repeats: bool = False
    """Whether its last page had nothing but rows that it had been handed before."""
    is_over: bool = False
    """Whether it repeats what it has shown because there is no more."""
    has_ids: bool = False
    """Whether any of its rows had an id of the API's,"""
    lacks_ids: bool = False
    """and whether any had none."""
    border: list[str] = field(default_factory=list)
    """What the rows of the last page look like."""
    _shown: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    """The time and the looks of what had an id when it was first met."""

    def add(self, page: Page, rows: Rows) -> None:
        """Read the next page; what repeats is left out.

        Raises:
            Inconsistent: it says that another follows, and there can be none.
        """
        looks = looks_of(rows)
        grown = self._grown(page.total)
        repeated = self._repeated(looks, grown)
        self.count_fell |= grown < 0
        self.disturbed |= grown != repeated
        if self._is_last_page(looks, rows.times, grown):
            repeated = len(looks)
        self._compare_ids(rows)
        names = [None] * repeated + self._names(rows.keys[repeated:], looks[repeated:])
        self.times += [at for at, name in zip(rows.times, names, strict=True) if name is not None]
        self.border = looks
        self.repeats = grown <= 0 and bool(names) and not any(names)
        self.is_over = self.repeats and self._has_all(len(names))
        if self.repeats:
            return
        self.sheets.append(Sheet(rows, names))
        if page.more:
            self._check_end()

    def _grown(self, total: int | None) -> int:
        """How many rows the listing has gained since the last page."""
        if not self.sheets:
            self.first_total = total
        before, self.total = self.total, self.total if total is None else total
        return 0 if before is None or total is None else total - before

    def _repeated(self, looks: list[str], grown: int) -> int:
        """How many rows at the head of the page are the last page's tail, pushed over the border.

        Rows without ids can only be told from true equals by how many rows have arrived.
        """
        for size in range(min(grown, len(looks), len(self.border)), 0, -1):
            if self.border[-size:] == looks[:size]:
                return size
        return 0

    def _is_last_page(self, looks: list[str], times: list[int | None], grown: int) -> bool:
        """Whether it is the last page once more.

        Rows without ids may be equal in truth, if they are of one time and there are so many.
        """
        may_be_equal = self.total is not None and self.rows_before + self.rows < self.total
        is_same = bool(looks) and looks == self.border and grown <= 0
        return is_same and not (may_be_equal and len(set(times)) == 1)

    def _has_all(self, handed: int) -> bool:
        """Whether there is nothing behind what an API repeats, which goes by no page number.

        It has shown as many as it counts, or more on a page than it was asked for.
        """
        return self.rows_before + self.rows == self.total or handed > self.size

    def _compare_ids(self, rows: Rows) -> None:
        """Find out whether ids tell rows apart: an edited message has its time, at least."""
        for key, at, look in zip(rows.keys, rows.times, rows.prints, strict=True):
            if isinstance(key, Digest):
                self.lacks_ids = True
            else:
                self.has_ids = True
                known_at, known_look = self._shown.setdefault(key, (at, look))
                self.ids_repeat |= known_at != at and known_look != look

    def _names(self, keys: Sequence[str], looks: Sequence[str]) -> list[str | None]:
        """What the rows of one page are called. Equals in one page are two for certain.

        A row without id that equals one of an earlier page may be that one, met again: its twin.
        """
        copies: Counter[str] = Counter()
        names: list[str | None] = []
        for key, look in zip(keys, looks, strict=True):
            name = look
            if isinstance(key, Digest):
                copies[look] += 1
                name = f"{look}-{copies[look]}"
                self.twins += name in self.seen
            elif name in self.seen:
                names.append(None)
                continue
            self.handed[look] += 1
            self.seen.add(name)
            names.append(name)
        return names

    def _check_end(self) -> None:
        total, pages = self.total, self.pages_before + len(self.sheets)
        rows = self.rows_before + self.rows
        most = MOST_PAGES if total is None else 10 * MOST_PAGES
        if pages >= most or (total is not None and rows > 2 * total + 1000):
            raise Inconsistent(
                f"the API counts {total} and says after {rows} rows on {pages} pages that more "
                "follow: its list has no end; run again later"
            )

    def last_rows(self) -> tuple[int, int] | None:
        """The number of a page of another size that is not full and ends with the last row.

        With its size; None where there is no such size.
        """
        rows = self.rows_before + self.listed
        largest = len(self.sheets[0].names) if self.sheets else self.size
        sizes = (size for size in range(largest - 1, 1, -1) if rows % size)
        size = next(sizes, 0)
        return (rows // size + 1, size) if size else None

    def ends_with(self, page: Page, size: int) -> bool:
        """Whether that page says that there is no row behind the last one."""
        return len(page.rows) == (self.rows_before + self.listed) % size

    @property
    def is_cut(self) -> bool:
        """Whether the last page is full, and the count says that another follows."""
        sizes = [len(sheet.names) for sheet in self.sheets]
        return is_cut(sizes, None if self.total is None else self.total - self.rows_before)

    @property
    def is_certain(self) -> bool:
        """Whether the count has explained everything, and no row may be one that moved."""
        return not self.disturbed and not self.twins

    @property
    def rows(self) -> int:
        """How many rows it was handed, each once."""
        return len(self.times)

    @property
    def listed(self) -> int:
        """How many rows it was handed, those that it had seen before among them."""
        return sum(len(sheet.names) for sheet in self.sheets)

    def count_after(self, time: datetime) -> int:
        """How many of its rows are newer than a time."""
        bound = microseconds(time)
        return sum(at is not None and at > bound for at in self.times)


def is_cut(sizes: Sequence[int], total: int | None) -> bool:
    """Whether pages of so many rows cannot be all, though the last one said so.

    A server that hands out fewer rows than it was asked for may reckon its pages otherwise.
    """
    is_full = bool(sizes) and sizes[-1] == sizes[0] and is_round(sizes[0])
    return is_full and total is not None and sum(sizes) < total


def looks_of(rows: Rows) -> list[str]:
    """What tells rows apart by sight: the id, or else all that is not going to change."""
    pairs = zip(rows.keys, rows.prints, strict=True)
    return [f"{key}/{look}" if isinstance(key, Digest) else key for key, look in pairs]


@dataclass
class Passes:
    """What several passes over one listing show together.

    `surplus` is by how many the API's count was too high before.
    """

    surplus: int = 0
    sheets: list[Sheet] = field(default_factory=list)
    """Of the passes that are counted together, the last one first."""
    rows: int = 0
    """How many rows the listing has, when it is believed."""
    twins: bool = False
    """Whether rows that may have moved are rows of their own."""
    _seen: set[str] = field(default_factory=set)
    _last: Pass | None = None

    def believe(self, one: Pass) -> bool:
        """Whether the listing is known now: it adds up, alone or together, or twice the same."""
        last, self._last = self._last, one
        if last and last.handed == one.handed:
            self.rows, self.sheets, self.twins = one.rows, one.sheets, True
            return True
        if one.disturbed or (last and not _is_same_listing(last, one)):
            self._seen, self.sheets = set(), []
        if one.disturbed:
            return False
        if one.is_certain and self._is_right(one, one.rows):
            self.rows, self.sheets = one.rows, one.sheets
            return True
        self._seen |= one.seen
        self.rows, self.sheets = len(self._seen), [*one.sheets, *self.sheets]
        return one.first_total is not None and self._is_right(one, self.rows)

    def _is_right(self, one: Pass, rows: int) -> bool:
        return one.first_total is None or one.first_total in (rows, rows + self.surplus)


def _is_same_listing(last: Pass, one: Pass) -> bool:
    """Whether two passes may be counted together.

    Rows of one time may come in any order, but the times stay. Else a row that is gone would make
    up for one of equals that lie at a border.
    """
    may_have_moved = last.twins or one.twins
    moved = may_have_moved and Counter(last.times) != Counter(one.times)
    return last.first_total == one.first_total and not moved


def with_ids(
    sheets: Sequence[Sheet], *, twins: bool = True, ascending: bool = False
) -> Iterator[MappedPage]:
    """The pages with the final ids of their rows, each row once.

    Rows without ids that have a key in common are numbered, the newest first.
    """
    seen: set[str] = set()
    copies: Counter[str] = Counter()
    step = -1 if ascending else 1
    for page, names in sheets[::step]:
        ids: list[str | None] = [None] * len(names)
        for at in range(len(ids))[::step]:
            name, key = names[at], page.keys[at]
            if name is None or (name in seen and not twins):
                continue
            seen.add(name)
            copies[key] += 1
            ids[at] = key if copies[key] == 1 else f"{key}-{copies[key]}"
        yield page.keep(ids)


def uncut(sheets: Sequence[Sheet]) -> Sequence[Sheet]:
    """The pages up to a border that parts no equals: those are numbered together."""
    end = len(sheets)
    keys = sheets[-1].rows.keys
    if keys and isinstance(keys[-1], Digest):
        end -= 1
        while end and sheets[end - 1].rows.times[-1:] == sheets[end].rows.times[:1]:
            end -= 1
    return sheets[:end]
