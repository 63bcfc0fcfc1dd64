"""Messages in a database of their own, the models over them at a set time, and the same by hand."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from itertools import groupby, takewhile
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import duckdb
import pytest

from flowiq_source.models.calendar import Spans, calendar
from flowiq_source.models.definitions import NAMES, rendered
from tests.support.destinations import SERVER

TENANT = "acme"
UTC = ZoneInfo("UTC")
OFFICE: Spans = [[(8 * 60, 17 * 60)]] * 5 + [[], []]
PARTIES = {"user": "customer", "bot": "bot", "human": "agent", "system": "system"}


class Said(NamedTuple):
    """A message."""

    at: datetime | None
    who: str
    """`user`, `bot`, `human` or `system`."""
    contact: str = "c"
    id: str = ""
    status: str | None = "read"
    assignee: str | None = None
    suffix: str = "-whatsapp"

    @property
    def sender(self) -> str:
        """The API's word."""
        return self.who if self.who == "system" else f"{self.who}{self.suffix}"

    @property
    def party(self) -> str:
        """Ours."""
        return PARTIES[self.who]


@dataclass(frozen=True)
class Business:
    """Where the clock hangs, and when it is open."""

    zone: ZoneInfo = UTC
    hours: Spans = tuple(OFFICE)
    holidays: frozenset[date] = frozenset()

    def is_open(self, at: datetime) -> bool:
        """By looking at the clock on the wall."""
        local = at.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        for back in (0, 1):
            day = local.date() - timedelta(days=back)
            if day not in self.holidays and any(
                opens <= minute + back * 1440 < closes
                for opens, closes in self.hours[day.weekday()]
            ):
                return True
        return False

    def seconds(self, begin: datetime, end: datetime) -> int:
        """Business seconds between two full minutes, minute by minute."""
        minutes = int((end - begin).total_seconds() // 60)
        return sum(60 for n in range(minutes) if self.is_open(begin + timedelta(minutes=n)))


TABLES = {
    "current_messages": "tenant_id VARCHAR, contact_id VARCHAR, id VARCHAR, sender VARCHAR, "
    "timestamp TIMESTAMP WITH TIME ZONE, status VARCHAR, media_type VARCHAR, assignee VARCHAR",
    "contacts": "tenant_id VARCHAR, id VARCHAR, bot_status VARCHAR",
    "business_calendar": "tenant_id VARCHAR, utc_day BIGINT, begins_s BIGINT, ends_s BIGINT, "
    "local_date DATE, local_weekday BIGINT, local_begins_s BIGINT, utc_offset_s BIGINT, "
    "is_open BOOLEAN, open_s_before BIGINT",
}


class Modelled:
    """The models over some messages; `execute` sends SQL, and returns rows where there are any."""

    def __init__(self, execute: Callable[..., Any], dialect: str = "duckdb") -> None:
        self._execute, self._dialect = execute, dialect
        for name, columns in TABLES.items():
            execute(f"CREATE TABLE {name} ({columns})")

    def say(
        self,
        messages: Sequence[Said],
        now: datetime,
        business: Business | None = None,
        paused: Sequence[str] = (),
    ) -> None:
        """Hold these messages alone, and look at them at this time."""
        for table in TABLES:
            self._execute(f"DELETE FROM {table}")
        for n, one in enumerate(messages):
            self._insert(
                "current_messages",
                *(TENANT, one.contact, one.id or f"m{n:05}", one.sender, one.at, one.status),
                *(None, one.assignee),
            )
        for contact in {one.contact for one in messages}:
            bot_status = "paused" if contact in paused else "active"
            self._insert("contacts", TENANT, contact, bot_status)
        days = [one.at.astimezone(timezone.utc).date() for one in messages if one.at] or [
            now.date()
        ]
        self._keep(business or Business(), min(days), max(*days, now.date()) + timedelta(days=2))
        literal = f"TIMESTAMPTZ '{now.isoformat()}'"
        for name in reversed(NAMES):
            self._execute(f"DROP VIEW IF EXISTS {name}")
        for name in NAMES:
            self._execute(f"CREATE VIEW {name} AS {rendered(name, self._dialect, now=literal)}")

    def _keep(self, business: Business, first: date, last: date) -> None:
        days = first - timedelta(days=1), last
        pieces = calendar(business.zone, business.hours, business.holidays, *days)
        rows = ", ".join(
            "("
            + ", ".join(
                [f"'{TENANT}'", *(f"'{v}'" if isinstance(v, date) else str(v) for v in one)]
            )
            + ")"
            for one in pieces
        )
        self._execute(f"INSERT INTO business_calendar VALUES {rows}")

    def _insert(self, table: str, *values: Any) -> None:
        mark = "?" if self._dialect == "duckdb" else "%s"
        self._execute(f"INSERT INTO {table} VALUES ({', '.join([mark] * len(values))})", values)

    def rows(self, columns: str, model: str) -> list[tuple[Any, ...]]:
        """Those columns of a model, in the order of its rows."""
        order = ", ".join(str(n + 1) for n in range(len(columns.split(","))))
        found = self._execute(f"SELECT {columns} FROM {model} ORDER BY {order}")
        return [tuple(map(_plain, row)) for row in found]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(timezone.utc)
    return float(value) if type(value).__name__ == "Decimal" else value


def in_memory() -> Modelled:
    """In DuckDB."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")

    def execute(sql: str, values: Sequence[Any] = ()) -> Any:
        done = connection.execute(sql, values) if values else connection.execute(sql)
        return done.fetchall() if sql.startswith("SELECT") else None

    return Modelled(execute)


@contextmanager
def in_postgres() -> Iterator[Modelled]:
    """In a schema of a PostgreSQL that is dropped afterwards."""
    psycopg2: Any = pytest.importorskip("psycopg2")
    schema = f"models_{uuid.uuid4().hex}"
    connection = psycopg2.connect(SERVER)
    connection.autocommit = True
    with closing(connection), connection.cursor() as cursor:

        def execute(sql: str, values: Sequence[Any] | None = None) -> Any:
            cursor.execute(sql, values)
            return cursor.fetchall() if sql.startswith("SELECT") else None

        execute(f"CREATE SCHEMA {schema}")
        execute(f"SET search_path = {schema}")
        execute("SET TIME ZONE 'UTC'")
        yield Modelled(execute, "postgres")
        execute(f"DROP SCHEMA {schema} CASCADE")


def _ordered(messages: Sequence[Said]) -> Iterator[tuple[str, list[Said]]]:
    named = [one._replace(id=one.id or f"m{n:05}") for n, one in enumerate(messages)]
    for contact in sorted({one.contact for one in named}):
        mine = [one for one in named if one.contact == contact and one.at and one.who != "system"]
        yield contact, sorted(mine, key=lambda one: (one.at, one.id))


def _span(begin: datetime, end: datetime | None, business: Business) -> tuple[Any, Any]:
    if end is None:
        return None, None
    return (end - begin).total_seconds(), business.seconds(begin, end)


def waits_of(messages: Sequence[Said], now: datetime, business: Business) -> list[Any]:
    """The rows of `fct_waits`, as its definition says it, message by message."""
    found: dict[tuple[str, datetime], tuple[Any, ...]] = {}
    for contact, mine in _ordered(messages):
        since: datetime | None = None
        for one in mine:
            assert one.at
            if one.party == "customer":
                since = since or one.at
            elif since:
                found[contact, since] = one.at, one.party, *_span(since, one.at, business), None
                since = None
        if since:
            found[contact, since] = None, None, None, None, (now - since).total_seconds()
    return sorted((*key, *row) for key, row in found.items())


def agent_waits_of(
    messages: Sequence[Said], now: datetime, business: Business, paused: Sequence[str]
) -> list[Any]:
    """The rows of `fct_agent_waits`, from all that was said since the last agent."""
    found: dict[tuple[str, datetime], tuple[Any, ...]] = {}
    for contact, mine in _ordered(messages):
        since: list[Said] = []
        for one in mine:
            if one.party != "agent":
                since.append(one)
                continue
            if begin := _begin(since):
                spans = _span(begin, one.at, business)
                found[contact, begin] = one.at, _has_bot(since), *spans, None
            since = []
        waits = since and (since[-1].party == "customer" or contact in paused)
        if waits and (begin := _begin(since)):
            age = (now - begin).total_seconds()
            found[contact, begin] = None, _has_bot(since), None, None, age
    return sorted((*key, *row) for key, row in found.items())


def turns_of(messages: Sequence[Said]) -> list[Any]:
    """The rows of `fct_turns`: message after message of one party on end."""
    found = []
    for contact, mine in _ordered(messages):
        turns = [list(turn) for _, turn in groupby(mine, key=lambda one: one.party)]
        for n, turn in enumerate(turns):
            following = turns[n + 1][0] if n + 1 < len(turns) else None
            who_next = (following.party, following.at) if following else (None, None)
            who = turn[0].party, turn[0].at, turn[-1].at, len(turn), turn[0].assignee
            found.append((contact, n + 1, *who, *who_next))
    return found


def backlog_of(messages: Sequence[Said], now: datetime) -> list[Any]:
    """The rows of `fct_backlog`: what the customer has said since anybody answered."""
    found = []
    for contact, mine in _ordered(messages):
        last = list(takewhile(lambda one: one.party == "customer", reversed(mine)))
        if last and last[0].at and last[-1].at:
            closes = last[0].at + timedelta(days=1)
            left = max(0, (closes - now).total_seconds())
            age = (now - last[-1].at).total_seconds()
            found.append((contact, last[-1].at, last[0].at, len(last), age, closes, left))
    return found


def team_of(messages: Sequence[Said], now: datetime, business: Business) -> list[Any]:
    """The rows of `fct_agent_daily`, from every message of an agent and every wait they ended."""
    written = [
        (one.at.astimezone(business.zone).date(), one.assignee or "unassigned", contact)
        for contact, mine in _ordered(messages)
        for one in mine
        if one.at and one.party == "agent"
    ]
    waits: dict[tuple[date, str], list[tuple[float, int]]] = {}
    for contact, _, answered_at, _, *spans, _ in agent_waits_of(messages, now, business, []):
        if answered_at:
            answer = next(
                one
                for one in dict(_ordered(messages))[contact]
                if one.party == "agent" and one.at == answered_at
            )
            day = answered_at.astimezone(business.zone).date()
            waits.setdefault((day, answer.assignee or "unassigned"), []).append((*spans,))
    return [
        (
            *key,
            sum(one[:2] == key for one in written),
            len({contact for *whose, contact in written if tuple(whose) == key}),
            len(waits.get(key, ())),
            *(
                _percentile([span[which] for span in waits.get(key, ())], share)
                for which in (0, 1)
                for share in (0.5, 0.9, 0.95)
            ),
        )
        for key in sorted({one[:2] for one in written})
    ]


def _percentile(values: Sequence[float], share: float) -> float | None:
    """Between the two values whose places are nearest, as far as the place that is asked for."""
    if not values:
        return None
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    ranked = sorted(values)
    return ranked[low] + (place - low) * (ranked[high] - ranked[low])


def _has_bot(since: Sequence[Said]) -> bool:
    return any(one.party == "bot" for one in since)


def _begin(since: Sequence[Said]) -> datetime | None:
    """When the wait for a human began; None if nobody waits."""
    if not any(one.party == "customer" for one in since):
        return None
    if not _has_bot(since):
        return since[0].at
    last = max(n for n, one in enumerate(since) if one.party == "bot")
    after = [one for one in since[last + 1 :] if one.party == "customer"]
    return after[0].at if after else since[last].at


def windows_of(messages: Sequence[Said], now: datetime) -> list[Any]:
    """The rows of `fct_windows`, window by window."""
    found = []
    day = timedelta(days=1)
    for contact, mine in _ordered(messages):
        windows: list[list[Said]] = []
        closes = datetime.min.replace(tzinfo=timezone.utc)
        for one in mine:
            assert one.at
            if one.party == "customer" and one.at >= closes:
                windows.append([])
            if windows and (one.party == "customer" or one.at < closes):
                windows[-1].append(one)
            if one.party == "customer":
                closes = one.at + day
        for n, window in enumerate(windows):
            following = windows[n + 1][0].at if n + 1 < len(windows) else None
            found.append((contact, *_window(window, following, now)))
    return sorted(found)


def _window(window: Sequence[Said], following: datetime | None, now: datetime) -> tuple[Any, ...]:
    count = {party: sum(one.party == party for one in window) for party in PARTIES.values()}
    opened = window[0].at
    closes = max(o.at for o in window if o.at and o.party == "customer") + timedelta(days=1)

    def came_back(days: int) -> bool | None:
        bound = closes + timedelta(days=days)
        if following and following <= bound:
            return True
        return False if now >= bound else None

    if now < closes:
        outcome = "open"
    elif count["agent"]:
        outcome = "handed_over" if count["bot"] else "agent_only"
    elif not count["bot"]:
        outcome = "unanswered"
    else:
        outcome = {True: "returned", False: "contained", None: "open"}[came_back(1)]
    parties = (count[party] for party in ("customer", "bot", "agent"))
    return opened, closes, *parties, outcome, came_back(7)
