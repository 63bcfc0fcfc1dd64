"""The numbers of the report, asked of the models by SQL.

The queries are DuckDB's, as those of the models; sqlglot puts them into the destination's dialect.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any

import dlt
import sqlglot
from dlt.destinations.exceptions import DatabaseException
from dlt.destinations.job_client_impl import SqlJobClientBase
from sqlglot import exp

import flowiq_source
from flowiq_source.committed import reading
from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.destination import Client, Rows
from flowiq_source.loading.tables import TableNames
from flowiq_source.loading.views import CURRENT
from flowiq_source.models import ModelSettings, create_models
from flowiq_source.models.definitions import CALENDAR, NAMES, models, rendered
from flowiq_source.models.settings import model_settings
from flowiq_source.report.numbers import (
    Agent,
    Answers,
    Backlog,
    Delivery,
    Failure,
    Load,
    Numbers,
    Reaction,
    Rejected,
    Volume,
    Waiting,
    Window,
)
from flowiq_source.report.queries import PERCENTILES, QUERIES
from flowiq_source.source import FlowiqSource
from flowiq_source.status import status
from flowiq_source.times import utc_now
from flowiq_source.verify import seen_by_the_last_sync

CLOSES_SOON = timedelta(hours=4)


@dataclass(frozen=True)
class Asker:
    """Asks the queries of one tenant, of models that all have the same time.

    So it reads their SELECTs, and not the views: those are as of each question.
    """

    client: Client
    tables: dict[str, str]
    """What the destination calls what the queries name, models apart."""
    literals: dict[str, str]

    def rows(self, query: str) -> Rows:
        """The rows of a query."""
        text = self._located(QUERIES[query].format(**self.literals))
        return [tuple(row) for row in self.client.execute_sql(text) or []]

    def keep(self, *names: str) -> None:
        """Keep models in temporary tables while the connection lasts, where the destination can.

        What the others read again and again is then computed once.
        """
        tenant = self.literals["tenant"]
        for name in names:
            table = f"flowiq_report_{name}"
            query = self._located(f"SELECT t.* FROM {name} AS t WHERE t.tenant_id = {tenant}")  # noqa: S608
            try:
                self.client.execute_sql(f"DROP TABLE IF EXISTS {table}")
                self.client.execute_sql(f"CREATE TEMPORARY TABLE {table} AS {query}")
            except DatabaseException:
                return
            self.tables[name] = table

    @property
    def _dialect(self) -> str:
        return str(self.client.capabilities.sqlglot_dialect)

    def _located(self, query: str) -> str:
        """The query in the destination's SQL, with the models that it reads."""
        parsed = sqlglot.parse_one(query, dialect="duckdb")
        wanted = {table.name for table in parsed.find_all(exp.Table)}
        for table in list(parsed.find_all(exp.Table)):
            if table.name in self.tables:
                real = exp.to_table(self.tables[table.name], dialect=self._dialect)
                real.set("alias", table.args.get("alias"))
                table.replace(real)
        text = parsed.sql(dialect=self._dialect)
        models = ", ".join(self._models(wanted))
        return f"WITH {models} {text}" if models else text

    def _models(self, wanted: set[str]) -> list[str]:
        """The models that are wanted, and those that they read."""
        found: list[str] = []
        for model in reversed(models()):
            if model.name in wanted and model.name not in self.tables:
                read = sqlglot.parse_one(model.sql, dialect="duckdb").find_all(exp.Table)
                wanted = wanted | {table.name for table in read}
                real = tuple(self.tables.items())
                select = rendered(model.name, self._dialect, real, self.literals["now"])
                found.insert(0, f"{model.name} AS ({select})")
        return found


def gather(
    pipeline: dlt.Pipeline,
    source: FlowiqSource,
    *,
    with_contacts: bool = False,
    days: int,
    as_of: datetime | None = None,
) -> Numbers:
    """The numbers of the source's tenant for so many days until `as_of`, or until now.

    Raises:
        ConfigurationError: the destination answers no SQL, or nothing was loaded.
    """
    state = status(pipeline, source)
    if not state.tables:
        raise ConfigurationError(
            "nothing was loaded yet, so there is nothing to report: flowiq sync"
        )
    now, settings, names = as_of or utc_now(), model_settings(), TableNames.of(source)
    zone = settings.zone
    create_models_if_missing(pipeline, source, settings)
    last = now.astimezone(zone).date()
    first = last - timedelta(days=days - 1)
    tenant = source.feed.settings.tenant_key
    with reading(pipeline, source) as client:
        if not isinstance(client, SqlJobClientBase):
            raise ConfigurationError("the report asks by SQL, and this destination answers none")
        literals = _literals(tenant, now, first, last, zone)
        asker = Asker(client.sql_client, _tables(client.sql_client, names), literals)
        asker.keep("fct_turns")
        ask = asker.rows
        human = ask("agent_waits")
        totals, weekly = _answers(
            [*ask("waits"), *(("human", *row[1:-1]) for row in human if row[0] is None)]
        )
        windows, returned = _windows(ask("windows"))
        return Numbers(
            tenant=tenant,
            version=flowiq_source.__version__,
            as_of=now,
            first_day=first,
            last_day=last,
            zone=zone,
            zone_name=settings.time_zone,
            hours=settings.hours_text,
            status=state,
            verification=seen_by_the_last_sync(pipeline, source),
            with_contacts=with_contacts,
            volume=[Volume(_date(day), party, int(n)) for day, party, n in ask("volume")],
            load=[Load(*map(int, row)) for row in ask("load")],
            totals=totals,
            weekly=weekly,
            backlog=[Backlog(int(age), state, int(n)) for age, state, n in ask("backlog")],
            waiting=[Waiting(*row) for row in ask("waiting")] if with_contacts else [],
            windows=windows,
            returned=returned,
            delivery=_delivery(ask("delivery")),
            agents=_agents(ask("agents"), human),
            reactions=[Reaction(emoji, int(n)) for emoji, n in ask("reactions")],
            rejected=[Rejected(*row) for row in ask("rejected")],
            failures=[Failure(error, int(n)) for error, n in ask("failures")],
        )


def create_models_if_missing(
    pipeline: dlt.Pipeline, source: FlowiqSource, settings: ModelSettings
) -> None:
    """Make the views if there are none."""
    with reading(pipeline, source) as client:
        if not isinstance(client, SqlJobClientBase):
            raise ConfigurationError("the report asks by SQL, and this destination answers none")
        last = client.sql_client.make_qualified_table_name(NAMES[-1])
        try:
            with client.sql_client.execute_query(f"SELECT 1 FROM {last} WHERE 1 = 0"):  # noqa: S608
                return
        except DatabaseException:
            pass
    create_models(pipeline, source, settings)


def _tables(client: Client, names: TableNames) -> dict[str, str]:
    there = {name: name for name in (CALENDAR, CURRENT)} | {
        "contacts": names.contacts,
        "conversations": names.conversations,
        "rejected_rows": names.rejected_rows,
        "messages__reactions": names.children[0],
    }
    return {name: client.make_qualified_table_name(table) for name, table in there.items()}


def _instant(time: datetime) -> str:
    return f"TIMESTAMPTZ '{time.astimezone(timezone.utc).isoformat()}'"


def _literals(tenant: str, now: datetime, first: date, last: date, zone: tzinfo) -> dict[str, str]:
    """What the queries have in braces, as DuckDB writes it."""

    def midnight(day: date) -> datetime:
        return datetime.combine(day, datetime.min.time(), zone)

    def on(day: date) -> str:
        return f"DATE '{day.isoformat()}'"

    end, weeks = last + timedelta(days=1), []
    monday = first - timedelta(days=first.weekday())
    while monday < end:
        begins, ends = max(monday, first), min(monday + timedelta(weeks=1), end)
        weeks.append(f"({on(monday)}, {_instant(midnight(begins))}, {_instant(midnight(ends))})")
        monday += timedelta(weeks=1)
    return {
        "percentiles": PERCENTILES,
        "tenant": exp.Literal.string(tenant).sql(dialect="duckdb"),
        "now": _instant(now),
        "soon": _instant(now + CLOSES_SOON),
        "first": on(first),
        "last": on(last),
        "begin": _instant(midnight(first)),
        "end": _instant(midnight(end)),
        "weeks": f"(VALUES {', '.join(weeks)}) AS k(week, begins, ends)",
    }


def _answers(rows: Rows) -> tuple[list[Answers], list[Answers]]:
    """All waits, and week by week; those of all weeks have no week."""
    made = [
        Answers(who, week and _date(week), int(count), *map(_seconds, percentiles))
        for who, week, count, *percentiles in rows
        if count
    ]
    order = {who: place for place, who in enumerate(("bot", "agent", "human"))}
    made.sort(key=lambda one: (order[one.who], one.week or date.min))
    return [one for one in made if one.week is None], [one for one in made if one.week]


def _windows(rows: Rows) -> tuple[list[Window], int]:
    """The windows by week and outcome, and after how many of them the customer came back."""
    windows = [Window(_date(week), outcome, int(count)) for week, outcome, count, _ in rows]
    return windows, sum(int(returned) for *_, returned in rows)


def _delivery(rows: Rows) -> Delivery | None:
    counts = [int(count or 0) for count in rows[0]] if rows else []
    return Delivery(*counts) if any(counts) else None


def _agents(rows: Rows, waits: Rows) -> list[Agent]:
    percentiles = {row[0]: [*map(_seconds, row[5:])] for row in waits if row[0] is not None}
    return [
        Agent(who, int(messages), int(conversations), *percentiles.get(who, [None] * 3))
        for who, messages, conversations in rows
    ]


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _date(value: Any) -> date:
    """A day, which some destinations give as a time."""
    return value.date() if isinstance(value, datetime) else value
