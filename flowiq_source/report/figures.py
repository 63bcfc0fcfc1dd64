"""What the report says, figure by figure: numbers become sentences, charts and tables.

No SQL here, and no HTML.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape

from flowiq_source.report import charts
from flowiq_source.report.charts import Chart, Row, Series
from flowiq_source.report.definitions import DEFINITIONS
from flowiq_source.report.numbers import Answers, Numbers
from flowiq_source.report.page import Figure, Page, Table, Tile, foreign, plain
from flowiq_source.report.words import (
    WEEKDAYS,
    counted,
    day,
    duration,
    moment,
    number,
    share,
    short_moment,
    unit_for,
)

PARTIES = (
    Series("customer", "Customers", "customer"),
    Series("bot", "Bot", "bot"),
    Series("agent", "Team", "agent"),
    Series("system", "System", "system"),
)
OUTCOMES = (
    Series("contained", "Settled by the bot", "bot"),
    Series("returned", "Bot alone, customer came back", "customer"),
    Series("handed_over", "Handed over to the team", "handover"),
    Series("agent_only", "Team alone", "agent"),
    Series("unanswered", "Nobody answered", "alert"),
    Series("open", "Still open", "system"),
)
WINDOW_STATES = (
    Series("open", "Window open for more than 4 h", "customer"),
    Series("closing", "Window closes within 4 h", "agent"),
    Series("closed", "Window closed: only a template reaches them", "alert"),
)
AGES = ("under 1 hour", "1 to 4 hours", "4 to 24 hours", "1 to 7 days", "over 7 days")
STEPS = (
    Series("sent", "Sent", "customer"),
    Series("delivered", "Delivered", "customer"),
    Series("read", "Read", "customer"),
    Series("failed", "Failed", "alert"),
)
WHO = {
    "bot": "Bot, first answer",
    "agent": "Team, first answer without a bot",
    "human": "Team, each time somebody waited for it",
}
UNASSIGNED = "unassigned"
FEWEST = {"median": 5, "p90": 10}
"""Answers in a week from which on they are drawn: of fewer, a 90th percentile is the longest."""
NOTHING = "Nothing in this time."

_MOST_WAITING, _MOST_TEXT = 100, 140
_LONGEST_EMOJI = 12
"""In characters: a family with its skin tones has eleven, and a reaction may be any text."""
PLACE_HOLDERS = [chr(0xE100 + n) for n in range(8)]
"""Characters for private use, one for each of the most frequent emoji."""


def page(numbers: Numbers) -> Page:
    """The whole report."""
    sections = {
        "When are we busy?": [_volume(numbers), _load(numbers)],
        "How fast do we answer?": [_answers(numbers), *_trends(numbers)],
        "Who waits now?": [_backlog(numbers), *_waiting(numbers)],
        "What does the bot settle?": [_windows(numbers)],
        "Do our messages arrive?": [_delivery(numbers), _reactions(numbers)],
        "Who answers?": [_agents(numbers)],
        "Is it all here?": [_sync(numbers), _troubles(numbers)],
    }
    return Page(
        title="How we answer on WhatsApp",
        about=_about(numbers),
        tiles=list(_tiles(numbers)),
        sections=[
            (title, [draft.figure(numbers) for draft in drafts])
            for title, drafts in sections.items()
        ],
        foot=_foot(numbers),
    )


def _about(numbers: Numbers) -> list[str]:
    tenant = [foreign(numbers.tenant)] if numbers.tenant else []
    return [
        " · ".join([*tenant, f"{day(numbers.first_day)} to {_as_of(numbers)}"]),
        f"Times in {numbers.zone_name} · {numbers.hours}",
    ]


def _foot(numbers: Numbers) -> list[str]:
    anonymous = "No name, number or text of a message is in this file. "
    alone = "It asks nothing of any network, and needs no script."
    unknown = (
        "What FlowIQ does not say is not here: whether a matter was resolved, whether somebody was "
        "satisfied, how long it took them to read, what a message cost, and why one failed."
    )
    return [
        alone if numbers.with_contacts else anonymous + alone,
        unknown,
        f"Made by flowiq-source {numbers.version}, as of {_as_of(numbers)}.",
    ]


def _as_of(numbers: Numbers) -> str:
    return moment(numbers.as_of, numbers.zone)


def _tiles(numbers: Numbers) -> Iterator[Tile]:
    written, outcomes = _by_party(numbers), _by_outcome(numbers)
    human, bot, sent = numbers.total("human"), numbers.total("bot"), numbers.delivery
    closed = outcomes.total() - outcomes["open"]
    waiting = sum(row.conversations for row in numbers.backlog)
    yield Tile("Messages", number(written.total()), f"{number(written['customer'])} from customers")
    yield Tile(
        "Median wait for the team",
        duration(human.business_median_s if human else None),
        "in business hours",
    )
    yield Tile(
        "Median wait for the bot",
        duration(bot.median_s if bot else None),
        counted(bot.answers if bot else 0, "answer"),
    )
    yield Tile(
        "Settled by the bot",
        share(outcomes["contained"], closed),
        f"of {counted(closed, 'closed window')}",
    )
    yield Tile(
        "Waiting now",
        number(waiting),
        "conversations whose last word is the customer's",
        "bad" if waiting else "good",
    )
    yield Tile(
        "Delivered",
        share(sent.delivered, sent.sent) if sent else "–",
        f"of {counted(sent.sent if sent else 0, 'message')}",
    )


@dataclass(frozen=True)
class Draft:
    """A figure without its definition, and not yet drawn."""

    key: str
    title: str
    says: str
    table: Table
    chart: Chart | None = None
    series: Sequence[Series] = ()
    emoji: Sequence[str] = ()
    """What stands in the chart where `PLACE_HOLDERS` keep its place."""

    def figure(self, numbers: Numbers) -> Figure:
        """The figure, complete."""
        definition = DEFINITIONS[self.key]
        words = {"zone": numbers.zone_name, "hours": numbers.hours, "as_of": _as_of(numbers)}
        return Figure(
            self.key,
            self.title,
            self.says,
            definition.paragraphs(**words),
            definition.models,
            self.table,
            {size: self._with_emoji(svg) for size, svg in self._drawn().items()},
            self.series,
        )

    def _drawn(self) -> dict[str, str]:
        return charts.both(self.chart, f"{self.title}. {plain(self.says)}") if self.chart else {}

    def _with_emoji(self, svg: str) -> str:
        # The renderer would measure each part of one, and cut it in two; and it may be any text.
        for holder, emoji in zip(PLACE_HOLDERS, self.emoji, strict=False):
            svg = svg.replace(holder, escape(emoji[:_LONGEST_EMOJI]))
        return svg


def _by_party(numbers: Numbers) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in numbers.volume:
        found[row.party] += row.messages
    return found


def _by_outcome(numbers: Numbers) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in numbers.windows:
        found[row.outcome] += row.windows
    return found


def _volume(numbers: Numbers) -> Draft:
    by_day: dict[date, Counter[str]] = defaultdict(Counter)
    for row in numbers.volume:
        by_day[row.day][row.party] += row.messages
    rows = [
        {
            "at": one.isoformat(),
            "until": f"{one}T20:00:00",
            "series": series.key,
            "value": count,
            "told": f"{day(one)}, {series.label.lower()}: {count:,}",
        }
        for one in sorted(by_day)
        for series in PARTIES
        if (count := by_day[one][series.key])
    ]
    table = Table(
        ["Day", *(series.label for series in PARTIES)],
        [
            [one.isoformat(), *(number(by_day[one][series.key]) for series in PARTIES)]
            for one in sorted(by_day, reverse=True)
        ],
    )
    chart = charts.over_time(rows, PARTIES) if rows else None
    says = _volume_says(numbers, by_day)
    return Draft("volume", "Messages a day", says, table, chart, PARTIES)


def _volume_says(numbers: Numbers, by_day: dict[date, Counter[str]]) -> str:
    written, newest = _by_party(numbers), numbers.status.newest_message_at
    if not by_day and newest:
        return f"{NOTHING[:-1]}; the newest message is of {moment(newest, numbers.zone)}."
    if not by_day:
        return NOTHING
    busiest = max(by_day, key=lambda one: (by_day[one].total(), one))
    ours = written["bot"] + written["agent"]
    of_these = f", {share(written['bot'], ours)} of these from the bot" if ours else ""
    return (
        f"{counted(written['customer'], 'message')} came from customers, and {number(ours)} went "
        f"to them{of_these}. "
        f"The busiest day was {day(busiest)} with {counted(by_day[busiest].total(), 'message')}."
    )


def _load(numbers: Numbers) -> Draft:
    cells = {(row.weekday, row.hour): row.messages for row in numbers.load}
    total, says = sum(cells.values()), NOTHING
    if total:
        weekday, hour = max(cells, key=lambda cell: (cells[cell], cell))
        outside = total - sum(row.in_business_hours for row in numbers.load)
        says = (
            f"Customers write most on {WEEKDAYS[weekday - 1]}s from {hour:02} to {hour + 1:02} "
            f"o'clock. {share(outside, total)} of their messages come outside business hours."
        )
    rows = [
        {
            "weekday": name[:3],
            "hour": hour,
            "value": (count := cells.get((n, hour), 0)),
            "told": f"{name} {hour:02}–{hour + 1:02}: {count:,}",
        }
        for n, name in enumerate(WEEKDAYS, 1)
        for hour in range(24)
    ]
    names = [name[:3] for name in WEEKDAYS]
    hours = [
        [f"{hour:02}", *(number(cells.get((n, hour), 0)) for n in range(1, 8))]
        for hour in range(24)
    ]
    table = Table(["Hour", *names], hours if total else [])
    chart = charts.heat(rows, names) if total else None
    return Draft("load", "When customers write", says, table, chart)


def _answers(numbers: Numbers) -> Draft:
    human, says = numbers.total("human"), NOTHING
    if human:
        says = (
            f"Half of those who wait for the team have an answer within "
            f"{duration(human.business_median_s)} of business hours; one in ten waits "
            f"{duration(human.business_p90_s)} or longer. By the clock on the wall, nights and "
            f"weekends included, it is {duration(human.median_s)} and {duration(human.p90_s)}."
        )
    elif numbers.totals:
        says = "Nobody of the team has answered anybody in this time."
    rows = [
        [
            WHO[one.who],
            number(one.answers),
            *map(duration, (one.median_s, one.p90_s, one.business_median_s, one.business_p90_s)),
        ]
        for one in numbers.totals
    ]
    head = ["Who answers", "Answers", "Median", "90th percentile"]
    table = Table([*head, "Median, business", "90th, business"], rows, open=True)
    return Draft("answers", "Waiting times", says, table)


def _trends(numbers: Numbers) -> Iterator[Draft]:
    def business(one: Answers) -> tuple[float | None, float | None]:
        return one.business_median_s, one.business_p90_s

    def calendar(one: Answers) -> tuple[float | None, float | None]:
        return one.median_s, one.p90_s

    human = [one for one in numbers.weekly if one.who == "human"]
    bot = [one for one in numbers.weekly if one.who == "bot"]
    team = "The team week by week, "
    key = "trend-business", f"{team}in business hours", "agent"
    yield _trend(key, [(one, *business(one)) for one in human])
    key = "trend-calendar", f"{team}by the clock on the wall", "agent"
    yield _trend(key, [(one, *calendar(one)) for one in human])
    key = "trend-bot", "The bot week by week", "bot"
    yield _trend(key, [(one, *calendar(one)) for one in bot])


def _trend(
    name: tuple[str, str, str],
    weeks: Sequence[tuple[Answers, float | None, float | None]],
) -> Draft:
    key, title, colour = name
    drawn = [(one, dict(zip(("median", "p90"), of, strict=True))) for one, *of in weeks]
    for one, values in drawn:
        values.update({key: None for key, least in FEWEST.items() if one.answers < least})
    highest = max((value or 0 for _, values in drawn for value in values.values()), default=0)
    unit, size = unit_for(highest)
    series = (
        Series("median", "Median", colour),
        Series("p90", "90th percentile", colour, dashed=True),
    )
    rows: list[Row] = [
        {
            "at": f"{one.week}",
            "series": line.key,
            "value": value / size,
            "told": f"Week of {one.week}, {line.label.lower()}: {duration(value)}",
        }
        for one, values in drawn
        for line in series
        if (value := values[line.key]) is not None
    ]
    says = f"In {unit}, by the week in which the wait began." if weeks else NOTHING
    table = Table(
        ["Week of", "Answers", "Median", "90th percentile"],
        [
            [f"{one.week}", number(one.answers), duration(median), duration(high)]
            for one, median, high in reversed(weeks)
        ],
    )
    chart = charts.lines(rows, series) if len({row["at"] for row in rows}) > 1 else None
    return Draft(key, title, says, table, chart, series)


def _backlog(numbers: Numbers) -> Draft:
    cells: Counter[tuple[int, str]] = Counter()
    for row in numbers.backlog:
        cells[row.age, row.window] += row.conversations
    rows: list[Row] = [
        {
            "label": label,
            "series": state.key,
            "place": place,
            "value": cells[n, state.key],
            "told": f"{label}, {state.label.lower()}: {cells[n, state.key]:,}",
        }
        for n, label in enumerate(AGES)
        for place, state in enumerate(WINDOW_STATES)
    ]
    table = Table(
        ["Waiting for", *(state.label for state in WINDOW_STATES)],
        [
            [label, *(number(cells[n, state.key]) for state in WINDOW_STATES)]
            for n, label in enumerate(AGES)
        ],
    )
    chart = charts.bars(rows, WINDOW_STATES, labels_px=92) if cells.total() else None
    title, says = "Conversations that wait, by how long", _backlog_says(cells)
    return Draft("backlog", title, says, table, chart, WINDOW_STATES)


def _backlog_says(cells: Counter[tuple[int, str]]) -> str:
    total = cells.total()
    if not total:
        return "Nobody waits: no conversation ends with a customer's message."
    closing = sum(n for (_, state), n in cells.items() if state == "closing")
    closed = sum(n for (_, state), n in cells.items() if state == "closed")
    return (
        f"{counted(total, 'conversation')} {'waits' if total == 1 else 'wait'} for an answer. "
        f"{counted(closing, 'window')} {'closes' if closing == 1 else 'close'} within 4 hours; "
        f"{number(closed)} {'is' if closed == 1 else 'are'} closed already, so that only a paid "
        "template reaches the customer."
    )


def _waiting(numbers: Numbers) -> Iterator[Draft]:
    """Who waits by name, where that is wanted."""
    if not numbers.with_contacts:
        return
    shown = numbers.waiting[:_MOST_WAITING]
    says = f"The {number(len(shown))} who have waited longest." if shown else "Nobody waits."
    rows = [
        [
            foreign(one.name or "–"),
            foreign(one.whatsapp_id or "–"),
            foreign(_short(one.text)),
            short_moment(one.waiting_since, numbers.zone),
            short_moment(one.closes_at, numbers.zone),
        ]
        for one in shown
    ]
    head = ["Contact", "Number", "Last message", "Waiting since", "Window closes"]
    table = Table(head, rows, texts=5, open=True)
    yield Draft("waiting", "Who they are", says, table)


def _short(text: str | None) -> str:
    text = " ".join((text or "–").split())
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def _windows(numbers: Numbers) -> Draft:
    by_week: dict[date, Counter[str]] = defaultdict(Counter)
    for row in numbers.windows:
        by_week[row.week][row.outcome] += row.windows
    rows = [
        {
            "at": week.isoformat(),
            "until": f"{week + timedelta(days=6)}T12:00:00",
            "series": outcome.key,
            "value": count,
            "told": f"Week of {day(week)}, {outcome.label.lower()}: {count:,}",
        }
        for week in sorted(by_week)
        for outcome in OUTCOMES
        if (count := by_week[week][outcome.key])
    ]
    table = Table(
        ["Week of", *(outcome.label for outcome in OUTCOMES)],
        [
            [week.isoformat(), *(number(by_week[week][one.key]) for one in OUTCOMES)]
            for week in sorted(by_week, reverse=True)
        ],
    )
    chart = charts.over_time(rows, OUTCOMES) if rows else None
    title, says = "Service windows a week, by how they ended", _windows_says(numbers)
    return Draft("windows", title, says, table, chart, OUTCOMES)


def _windows_says(numbers: Numbers) -> str:
    outcomes = _by_outcome(numbers)
    closed = outcomes.total() - outcomes["open"]
    if not closed:
        return "No window has closed yet." if outcomes else NOTHING
    return (
        f"Of {counted(closed, 'closed window')}, the bot settled "
        f"{share(outcomes['contained'], closed)} for good, "
        f"{share(outcomes['handed_over'], closed)} went on to the team, and in "
        f"{share(outcomes['unanswered'], closed)} nobody answered. After "
        f"{share(numbers.returned, closed)} the customer was back within seven days."
    )


def _delivery(numbers: Numbers) -> Draft:
    found = numbers.delivery
    counts = {step.key: getattr(found, step.key) for step in STEPS} if found else {}
    all_of_them = (found.sent + found.failed) if found else 0
    says = (
        "No message of ours is old enough for its fate to be known."
        if not counts
        else (
            f"Of {counted(all_of_them, 'message')} to customers, "
            f"{share(counts['delivered'], all_of_them)} arrived, at least "
            f"{share(counts['read'], all_of_them)} were read, and "
            f"{share(counts['failed'], all_of_them)} failed."
        )
    )
    rows: list[Row] = [
        {
            "label": step.label,
            "series": step.key,
            "place": 0,
            "value": counts[step.key],
            "told": f"{step.label}: {counts[step.key]:,}",
        }
        for step in STEPS
        if counts
    ]
    table = Table(
        ["Step", "Messages", "Share"],
        [
            [step.label, number(counts[step.key]), share(counts[step.key], all_of_them)]
            for step in STEPS
            if counts
        ],
    )
    chart = charts.bars(rows, STEPS, labels_px=70) if rows else None
    return Draft("delivery", "From sent to read", says, table, chart)


def _reactions(numbers: Numbers) -> Draft:
    top, total = numbers.reactions[: len(PLACE_HOLDERS)], 0
    says = NOTHING
    if top:
        total = sum(one.reactions for one in numbers.reactions)
        says = f"{counted(total, 'reaction')}; the most frequent is {foreign(top[0].emoji)}."
    rows: list[Row] = [
        {
            "label": holder,
            "series": "all",
            "place": 0,
            "value": one.reactions,
            "told": f"{holder}: {one.reactions:,}",
        }
        for holder, one in zip(PLACE_HOLDERS, top, strict=False)
    ]
    table = Table(
        ["Emoji", "Reactions"],
        [[foreign(one.emoji), number(one.reactions)] for one in numbers.reactions],
    )
    one_series = (Series("all", "", "customer"),)
    chart = charts.bars(rows, one_series, labels_px=34) if rows else None
    emoji = [one.emoji for one in top]
    return Draft("reactions", "Reactions", says, table, chart, emoji=emoji)


def _agents(numbers: Numbers) -> Draft:
    named = [one.assignee for one in numbers.agents if one.assignee != UNASSIGNED]
    labels = {UNASSIGNED: "Unassigned"} | {
        who: foreign(who) if numbers.with_contacts else f"Member {_letter(n)}"
        for n, who in enumerate(named)
    }
    rows = [
        [
            labels[one.assignee],
            number(one.messages),
            number(one.conversations),
            *map(duration, (one.median_s, one.p90_s, one.p95_s)),
        ]
        for one in numbers.agents
    ]
    head = ["Who", "Messages", "Conversations", "Median wait", "90th percentile"]
    table = Table([*head, "95th percentile"], rows, open=True)
    says = f"{counted(len(named), 'member')} of the team wrote to customers." if rows else NOTHING
    return Draft("agents", "The team", says, table)


def _letter(n: int) -> str:
    return chr(65 + n) if n < 26 else str(n + 1)


def _sync(numbers: Numbers) -> Draft:
    status, found = numbers.status, numbers.verification
    agreed = f"{found.conversations - len(found.differences):,} of {found.conversations:,}"
    rows = [
        ["Last sync", moment(status.last_sync_at, numbers.zone)],
        ["Newest message", moment(status.newest_message_at, numbers.zone)],
        ["Conversations that agree with FlowIQ's count", agreed],
        *(
            [f"Conversations, {kind}", number(count)]
            for kind, count in (status.conversations or {}).items()
        ),
        ["Conversations whose contact shows a newer message", number(status.behind)],
    ]
    title = "Does the warehouse equal the API?"
    return Draft("sync", title, _sync_says(numbers), Table(["What", "Now"], rows, open=True))


def _sync_says(numbers: Numbers) -> str:
    found = numbers.verification
    if not found.conversations:
        return "No conversation was loaded yet."
    if not found.differences:
        return (
            f"Yes: {_in_all(found.conversations)} the warehouse holds as many messages as FlowIQ "
            "counted at the last sync."
        )
    return (
        f"Not quite: {number(len(found.differences))} of "
        f"{counted(found.conversations, 'conversation')} hold more or fewer messages than FlowIQ "
        "counted at the last sync. “flowiq verify --mark” has the next sync read them again."
    )


def _in_all(conversations: int) -> str:
    return (
        "in its one conversation"
        if conversations == 1
        else f"in all {conversations:,} conversations"
    )


def _troubles(numbers: Numbers) -> Draft:
    failed = sum(one.conversations for one in numbers.failures)
    values = sum(one.values for one in numbers.rejected)
    says = "Nothing was rejected, and no conversation failed."
    if failed or values:
        says = (
            f"{counted(failed, 'conversation')} could not be read and will be asked for again; "
            f"{counted(values, 'value')} did not fit {'its' if values == 1 else 'their'} column "
            f"and {'is' if values == 1 else 'are'} empty there."
        )
    conversations = [
        [foreign(f"Conversations: {one.error or 'unknown'}"), number(one.conversations)]
        for one in numbers.failures
    ]
    rejected = [
        [foreign(f"{one.table}.{one.column}: {one.reason}"), number(one.values)]
        for one in numbers.rejected
    ]
    table = Table(["What", "How many"], [*conversations, *rejected], open=True)
    return Draft("troubles", "What was rejected or failed", says, table)
