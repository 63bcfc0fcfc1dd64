"""The models in a dataset: made where they are missing or were defined otherwise."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import dlt
import sqlglot
from dlt.destinations.exceptions import DatabaseException, DatabaseUndefinedRelation

from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.destination import Client, Rows, sql_of
from flowiq_source.loading.patience import patiently
from flowiq_source.loading.refusals import destination_error
from flowiq_source.loading.tables import TableNames
from flowiq_source.loading.undocumented import LOCK_TIMEOUT_S
from flowiq_source.loading.views import CURRENT, create_views
from flowiq_source.models.calendar import Piece, calendar
from flowiq_source.models.definitions import CALENDAR, NAMES, NOTHING, rendered
from flowiq_source.models.settings import ModelSettings, model_settings
from flowiq_source.models.visible import show_to_dlt
from flowiq_source.source import FlowiqSource
from flowiq_source.times import utc_now

logger = logging.getLogger("flowiq_source")

VERSIONS = "model_versions"
"""The table that says what the models in a dataset were made of; '' is every tenant's."""

FIRST_DAY = date(2009, 1, 1)
"""WhatsApp is no older: no calendar begins before that."""

_ROWS_AT_ONCE = 500
_TYPES = {
    VERSIONS: {"tenant_id": "VARCHAR", "name": "VARCHAR", "version": "VARCHAR"},
    CALENDAR: {
        "tenant_id": "VARCHAR",
        "utc_day": "BIGINT",
        "begins_s": "BIGINT",
        "ends_s": "BIGINT",
        "local_date": "DATE",
        "local_weekday": "BIGINT",
        "local_begins_s": "BIGINT",
        "utc_offset_s": "BIGINT",
        "is_open": "BOOLEAN",
        "open_s_before": "BIGINT",
    },
}


@dataclass(frozen=True)
class Models:
    """What was done."""

    views: list[str]
    """Those that were made anew."""
    calendar_days: int
    """Days of the tenant's business calendar, if that was made anew."""
    kept: str = ""
    """Why views stay as they are, if the destination refuses newer ones."""

    @property
    def exit_status(self) -> int:
        """1 where the destination refused."""
        return int(bool(self.kept))

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        days = f"made for {self.calendar_days:,} days" if self.calendar_days else "up to date"
        views = ", ".join(self.views) or f"up to date: {', '.join(NAMES)}"
        lines = [f"views           {views}", f"calendar        {days}"]
        return "\n".join([*lines, *([f"kept            {self.kept}"] if self.kept else [])])


def create_models(
    pipeline: dlt.Pipeline,
    source: FlowiqSource,
    settings: ModelSettings | None = None,
    *,
    anew: bool = False,
) -> Models:
    """Make the models as views in the pipeline's dataset, and the tenant's business calendar.

    Only what is missing or was made by another definition; with `anew`, everything. On PostgreSQL
    a view that is replaced waits for everyone who reads it, a second at most: then it stays.

    Raises:
        ConfigurationError: nothing was synced yet, the destination answers no SQL, or none that
            the models are written for.
    """
    settings = settings or model_settings()
    names, tenant = TableNames.of(source), source.feed.settings.tenant_key
    if source.schema.name in pipeline.schema_names:
        # A plain run of the pipeline makes none.
        create_views(pipeline, source.schema, names)
    with sql_of(pipeline, source.schema) as client:
        if client is None:
            raise ConfigurationError(
                "the models are SQL views, and this destination answers no SQL"
            )
        dataset = _Dataset(client, names, tenant)
        if not dataset.is_synced:
            raise ConfigurationError(
                "there are no messages and conversations, which the models read: "
                "flowiq sync loads them"
            )
        made = dataset.make(settings, utc_now(), anew=anew)
    show_to_dlt(pipeline, source.schema)
    return made


def keep_models(pipeline: dlt.Pipeline, source: FlowiqSource, settings: ModelSettings) -> None:
    """Keep the models up to date after a sync, where there is SQL and something to read.

    What was loaded stays loaded if they cannot be made: that is a warning.
    """

    def keep() -> None:
        with sql_of(pipeline, source.schema) as client:
            if client is None:
                return
            names, tenant = TableNames.of(source), source.feed.settings.tenant_key
            dataset = _Dataset(client, names, tenant)
            if not dataset.is_synced:
                return
            dataset.make(settings, utc_now(), anew=False)
        if source.feed.needs_folder:
            show_to_dlt(pipeline, source.schema)

    try:
        patiently(keep)
    except ConfigurationError as error:
        logger.warning(
            "models: not made: %s (sources.flowiq.models.create = false has syncs not try)", error
        )
    except Exception as error:  # noqa: BLE001 - whatever the destination has against them
        kind = pipeline.destination.destination_name
        said = destination_error(error, kind) or type(error).__name__
        logger.warning("models: not made, the next sync tries again: %s", said)


class _Dataset:
    def __init__(self, client: Client, names: TableNames, tenant_id: str) -> None:
        self.client, self.names, self.tenant_id = client, names, tenant_id
        self.dialect = str(client.capabilities.sqlglot_dialect)

    @property
    def is_synced(self) -> bool:
        """Whether there is what the models read."""
        return self._are_there(CURRENT)

    def make(self, settings: ModelSettings, now: datetime, *, anew: bool) -> Models:
        wanted = self._selects()
        known = self._versions()
        made, kept = [], ""
        version = _digest(wanted)
        days = self._make_calendar(settings, now, known)
        if anew or known.get(("", "views")) != version or not self._has_views():
            kept = self._make_views(wanted)
            made = [] if kept else list(wanted)
        if made:
            self._note("", "views", version)
        return Models(made, days, kept)

    def _selects(self) -> dict[str, str]:
        """The models, by name, over the tables that are there."""
        real = {one: self._name(one) for one in (*NAMES, CALENDAR, CURRENT)}
        # Who selects messages and conversations alone has no contacts.
        has_contacts = self._are_there(self.names.contacts)
        real["contacts"] = self._name(self.names.contacts) if has_contacts else NOTHING
        return {name: rendered(name, self.dialect, tuple(real.items())) for name in NAMES}

    def _name(self, table: str) -> str:
        return self.client.make_qualified_table_name(table)

    def _are_there(self, *relations: str) -> bool:
        looks = (f"SELECT 1 AS one FROM {self._name(one)} WHERE 1 = 0" for one in relations)  # noqa: S608
        try:
            with self.client.execute_query(" UNION ALL ".join(looks)):
                return True
        except (DatabaseUndefinedRelation, DatabaseException):
            return False

    def _has_views(self) -> bool:
        """Whether every model is there; DuckDB takes long to look into one, and has their names."""
        sql = "SELECT view_name FROM duckdb_views() WHERE schema_name = %s"
        names = self._rows(sql, self.client.dataset_name) if self.dialect == "duckdb" else []
        return {name for (name,) in names} >= set(NAMES) or self._are_there(*NAMES)

    def _versions(self) -> dict[tuple[str, str], str]:
        self._make_table(VERSIONS)
        sql = f"SELECT tenant_id, name, version FROM {self._name(VERSIONS)}"  # noqa: S608
        return {(tenant, name): version for tenant, name, version in self._rows(sql)}

    def _rows(self, sql: str, *values: Any) -> Rows:
        return [tuple(row) for row in self.client.execute_sql(sql, *values) or ()]

    def _make_table(self, name: str) -> None:
        columns = ", ".join(f"{column} {kind}" for column, kind in _TYPES[name].items())
        made = sqlglot.transpile(
            f"CREATE TABLE IF NOT EXISTS t ({columns})", "duckdb", self.dialect
        )
        self.client.execute_sql(made[0].replace(" t ", f" {self._name(name)} ", 1))

    def _note(self, tenant_id: str, name: str, version: str) -> None:
        table = self._name(VERSIONS)
        with self.client.begin_transaction():
            self.client.execute_sql(
                f"DELETE FROM {table} WHERE tenant_id = %s AND name = %s",  # noqa: S608
                tenant_id,
                name,
            )
            sql = f"INSERT INTO {table} (tenant_id, name, version) VALUES (%s, %s, %s)"  # noqa: S608
            self.client.execute_sql(sql, tenant_id, name, version)

    def _make_calendar(
        self, settings: ModelSettings, now: datetime, known: Mapping[tuple[str, str], str]
    ) -> int:
        """The days of the calendar that was made; 0 where the one that is there is right."""
        oldest = f"SELECT min(m.timestamp) FROM {self._name(self.names.messages)} m "  # noqa: S608
        [[first]] = self._rows(f"{oldest}WHERE m.tenant_id = %s", self.tenant_id)
        year = min(max(getattr(first, "year", now.year), FIRST_DAY.year), now.year)
        begins, ends = date(year, 1, 1), date(now.year + 2, 1, 1)
        made_of = settings.time_zone, settings.spans, sorted(settings.days_off), begins, ends
        version = _digest(made_of)
        if known.get((self.tenant_id, CALENDAR)) == version and self._has_calendar():
            return 0
        self._make_table(CALENDAR)
        pieces = list(calendar(settings.zone, settings.spans, settings.days_off, begins, ends))
        table = self._name(CALENDAR)
        with self.client.begin_transaction():
            self.client.execute_sql(f"DELETE FROM {table} WHERE tenant_id = %s", self.tenant_id)  # noqa: S608
            if self.dialect == "duckdb":
                # A fifth of the time that literals take.
                columns = [list(column) for column in zip(*pieces, strict=True)]
                sql = f"INSERT INTO {table} SELECT %s{', unnest(%s)' * len(columns)}"
                self.client.execute_sql(sql, self.tenant_id, *columns)
            else:
                for some in _batches(pieces):
                    self._insert(table, some)
        self._note(self.tenant_id, CALENDAR, version)
        return (ends - begins).days

    def _has_calendar(self) -> bool:
        sql = f"SELECT 1 FROM {self._name(CALENDAR)} WHERE tenant_id = %s LIMIT 1"  # noqa: S608
        with suppress(DatabaseUndefinedRelation):
            return bool(self._rows(sql, self.tenant_id))
        return False

    def _insert(self, table: str, pieces: Sequence[Piece]) -> None:
        def literal(value: Any) -> str:
            return f"DATE '{value}'" if isinstance(value, date) else str(value).upper()

        rows = ", ".join(f"(%s, {', '.join(map(literal, piece))})" for piece in pieces)
        sql = f"INSERT INTO {table} ({', '.join(_TYPES[CALENDAR])}) VALUES {rows}"  # noqa: S608
        self.client.execute_sql(sql, *[self.tenant_id] * len(pieces))

    def _make_views(self, wanted: Mapping[str, str]) -> str:
        """Why they stay as they are; empty if they were made."""
        with suppress(DatabaseException):
            # So what others have made of ours stays, if no column of ours is another.
            self._create(wanted, "CREATE OR REPLACE VIEW")
            return ""
        try:
            self._create(wanted, "CREATE VIEW", drop=True)
        except DatabaseException as error:
            why = (
                f"the destination refuses newer views ({type(error).__name__}): if somebody reads "
                "them, the next sync tries again; if other views depend on them, drop those"
            )
            logger.warning("models: %s", why)
            return why
        return ""

    def _create(self, wanted: Mapping[str, str], how: str, *, drop: bool = False) -> None:
        with self.client.begin_transaction():
            if self.dialect == "postgres":
                self.client.execute_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")
            # Each is read by those after it.
            for name in reversed(list(wanted)) if drop else ():
                self.client.execute_sql(f"DROP VIEW IF EXISTS {self._name(name)}")
            for name, select in wanted.items():
                self.client.execute_sql(f"{how} {self._name(name)} AS {select}")


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _batches(pieces: Sequence[Piece]) -> Iterator[Sequence[Piece]]:
    for at in range(0, len(pieces), _ROWS_AT_ONCE):
        yield pieces[at : at + _ROWS_AT_ONCE]
