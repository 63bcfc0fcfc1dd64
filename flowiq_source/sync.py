"""One run of a pipeline over the source, and what came of it."""

import dataclasses
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import dlt
import pyarrow as pa
from dlt.common.runtime import signals
from dlt.common.schema import Schema
from dlt.extract import DltSource
from dlt.pipeline.exceptions import PipelineStepFailed

from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.destination import held_open, mend_tables, try_to_write
from flowiq_source.loading.feed import Bounds
from flowiq_source.loading.files import are_appended, check_abilities
from flowiq_source.loading.idle import Seen, Stored, may_be_idle, seen_by, stored_of, write_seen
from flowiq_source.loading.lease import Check, lease, staging
from flowiq_source.loading.lock import sole_sync
from flowiq_source.loading.mysql import widen_text
from flowiq_source.loading.old_states import delete_old_states
from flowiq_source.loading.patience import patiently
from flowiq_source.loading.refusals import without_row_texts
from flowiq_source.loading.storage_version import make_file
from flowiq_source.loading.tables import TableNames
from flowiq_source.loading.turns import turn_at
from flowiq_source.loading.undocumented import (
    bring_schema_up_to_date,
    client_of,
    dialect_of,
    forget_failure,
    forget_working_folder,
    resolved_once,
)
from flowiq_source.loading.views import create_views, delete_gone_messages
from flowiq_source.models.create import keep_models
from flowiq_source.models.settings import ModelSettings, model_settings
from flowiq_source.source import FlowiqSource

logger = logging.getLogger("flowiq_source")

PACKAGE_MESSAGES = 100_000
"""What a package may hold: memory grows with it."""


@dataclass
class Summary:
    """What one run did.

    `rows` counts what was written, per table, new or changed; `newer` the messages that are
    newer than what the sync before read of their conversation, None after a backfill. `known` of
    the messages written were stored before, and `changed` of those otherwise: None where they are
    not compared, because the destination is neither DuckDB nor PostgreSQL, or has no table of
    reactions, or the messages go through steps of the user's. `quiet`
    conversations needed no request, `doubtful` ones are asked again before anything of them counts
    as gone, and those that the run's limits left are `carried_over`. `requests` are all that were
    spent, `planned` what was expected once the contacts were listed; reading everything again
    would have cost `saved` more; `wasted` were repeated. Where rows were `appended`, because the
    destination is files that cannot be merged, of each key the newest counts.
    """

    rows: dict[str, int] = field(default_factory=dict)
    newer: int | None = None
    known: int | None = None
    changed: int | None = None
    read: int = 0
    quiet: int = 0
    missing: int = 0
    doubtful: int = 0
    failed: int = 0
    vanished: int = 0
    stale: int = 0
    unlisted: int = 0
    forgotten: int = 0
    unknown_numbers: list[int] = field(default_factory=list)
    appended: bool = False
    replaced_characters: int = 0
    overflowed_fields: int = 0
    carried_over: int = 0
    requests: int = 0
    planned: int = 0
    saved: int = 0
    wasted: int = 0
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether everything was read; what the API answers with 404 is not there to be read."""
        return not (self.failed or self.unlisted or self.vanished)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it, for a log, an orchestrator or the next task."""
        return dataclasses.asdict(self) | {"complete": self.complete}

    @property
    def exit_status(self) -> int:
        """0 where everything was read, else 1."""
        return 0 if self.complete else 1

    def __str__(self) -> str:
        lines = [
            ("new", self._new()),
            *([changed] if (changed := self._changed()) else []),
            ("conversations", self._conversations()),
            ("rows written", _listed(self.rows) or "none"),
            ("cost", self._cost()),
            *(
                [("files", "rows are only appended: of each key the newest counts")]
                if self.appended
                else []
            ),
            *(self._attention() or [("attention", "none needed")]),
        ]
        return "\n".join(f"{topic:<16}{text}" for topic, text in lines)

    def _new(self) -> str:
        written, known = self.rows.get("messages", 0), self.known
        if self.newer is None:
            if known is None:
                return f"{written:,} messages of the range, known ones among them"
            return f"{max(0, written - known):,} messages of the range"
        late = 0 if known is None else written - known - self.newer
        older = f", and {late:,} older ones that were not here" if late > 0 else ""
        return f"{self.newer:,} messages{older}"

    def _changed(self) -> tuple[str, str] | None:
        if self.known is not None:
            again = f"{self.changed:,} of {self.known:,} known messages that were read again"
            return ("changed", again) if self.known else None
        known = self.rows.get("messages", 0) - (self.newer or 0)
        if self.newer is None or known <= 0:
            return None
        return "read again", f"{known:,} known messages, changed or not"

    def _conversations(self) -> str:
        kinds = {"read": self.read, "without news": self.quiet, "not at the API": self.missing}
        return ", ".join(f"{n:,} {kind}" for kind, n in kinds.items() if n or kind == "read")

    def _cost(self) -> str:
        repeated = f", {self.wasted:,} of them repeated" if self.wasted else ""
        whole = self.requests - self.wasted + self.saved
        saved = f"; reading everything would have cost {whole:,}" if self.saved else ""
        return f"{self.requests:,} requests{repeated}{saved}; {self.seconds:.1f} s"

    def _attention(self) -> "list[tuple[str, str]]":
        """What needs a look, and what to do."""
        notes = {
            "failed": "conversations are read again by the next sync; why: SELECT error FROM "
            "conversations WHERE status = 'failed'",
            "vanished": "conversations vanished at once, which looks like a fault: nothing counts "
            "as gone; if it is true, run once with force",
            "doubtful": "conversations answered nothing, or far less than was known: asked again "
            "next time before anything counts as gone",
            "carried_over": "conversations are left to the next run",
            "stale": "cursors were from the future: a clock was wrong; they were read again",
            "unlisted": "contacts that the API counts were not listed: the next run lists again",
            "forgotten": "contacts of the list are passed over, because they are forgotten",
            "replaced_characters": "characters that no warehouse can hold became U+FFFD",
            "overflowed_fields": "undocumented fields went to the column `undocumented`",
        }
        found = [
            (name, f"{value:,} {notes[name]}") for name in notes if (value := getattr(self, name))
        ]
        found += [
            ("phone_numbers", f"number {position} of the list has no contact")
            for position in self.unknown_numbers
        ]
        return [(name.partition("_")[0], text) for name, text in found]


def _listed(rows: dict[str, int]) -> str:
    return ", ".join(f"{table} {count:,}" for table, count in sorted(rows.items()))


def sync(
    pipeline: dlt.Pipeline,
    source: DltSource,
    *,
    package_conversations: int | None = None,
    package_minutes: float | None = None,
    delete_gone: bool | None = None,
) -> Summary:
    """Load everything that is new into the pipeline's destination.

    What is committed in the destination is the truth: a run begins by forgetting the pipeline's
    local folder, and takes state and schema from the destination. What a killed run had not
    committed is read again, at most one load package.

    Beyond `pipeline.run`, this loads in packages that commit rows and cursors together, makes
    every documented table and column before it has a row, keeps the views `current_messages` and
    `sync_status` and the models, lets one sync run at a time, and deletes the states of dlt that a
    newer one has replaced. The arguments are settings of the source, for this run.

    Raises:
        Busy: another process syncs with this pipeline.
        ConfigurationError: the source cannot be synced so.
        DestinationError: the destination refuses or is away; no row's text is in it.
        PipelineStepFailed: a step failed; its cause is a FlowiqError if the API was the reason.
        KeyboardInterrupt: SIGINT came, or SIGTERM while dlt or the caller handles it; what was
            committed is kept.
    """
    started = time.monotonic()
    summary = Summary()
    flowiq, models = _checked(pipeline, source), model_settings()
    settings = flowiq.feed.settings
    flowiq.feed.bounds = Bounds(
        _given(package_conversations, settings.package_conversations),
        _given(package_minutes, settings.package_minutes),
        PACKAGE_MESSAGES,
    )
    gone = _given(delete_gone, settings.delete_gone)
    check_abilities(pipeline, settings, delete_gone=gone)
    summary.appended = are_appended(pipeline, settings)
    try:
        without_row_texts(
            pipeline,
            lambda: _sync(pipeline, flowiq, summary, models, delete_gone=gone),
            # dlt keeps what the destination has said there, a row perhaps.
            refused=lambda: forget_failure(pipeline),
        )
    except PipelineStepFailed as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            # dlt wraps it, and so it does with the signal that it has a load wait for.
            raise KeyboardInterrupt from error
        raise
    finally:
        flowiq.feed.end()
    summary.seconds = time.monotonic() - started
    return summary


def _sync(
    pipeline: dlt.Pipeline,
    source: FlowiqSource,
    summary: Summary,
    models: ModelSettings,
    *,
    delete_gone: bool,
) -> None:
    names = TableNames.of(source)
    version = source.feed.settings.duckdb_storage_version
    tenant = source.feed.settings.tenant_key
    with (
        sole_sync(pipeline),
        resolved_once(pipeline),
        lease(pipeline, source.schema, tenant) as check,
    ):
        with turn_at(pipeline, source.schema):
            patiently(lambda: make_file(pipeline, source.schema, version))
            stored = patiently(lambda: begin(pipeline, source))
        seen = None if stored is None else _look_ahead(pipeline, source, stored)
        if seen is None:
            _load_all(pipeline, source, names, summary, check)
        _add_counts(summary, source.feed)

        def finish() -> None:
            with held_open(pipeline, source.schema):
                check()
                if stored is not None and seen is not None:
                    schema = stored.schema
                    summary.rows = write_seen(pipeline, source, seen)
                    create_views(pipeline, schema, names)
                else:
                    schema = pipeline.schemas[source.schema.name]
                    delete_old_states(pipeline)
                if delete_gone:
                    _delete_gone(pipeline, schema, names, summary)
                if models.create:
                    keep_models(pipeline, source, models)

        with turn_at(pipeline, source.schema):
            patiently(finish)


def _look_ahead(pipeline: dlt.Pipeline, source: FlowiqSource, stored: Stored) -> Seen | None:
    """What a run sees, if nothing of it is new; else it is to be gone on with in a load."""
    feed = source.feed
    ahead = feed.look_ahead(pipeline, source, stored.schema, stored.known, stored.policy)
    try:
        with pipeline.collector(f"Extract {source.name}"):
            seen = seen_by(ahead, stored)
    except Exception as error:
        # As dlt does it where a load begins so.
        raise PipelineStepFailed(pipeline, "extract", "", error) from error
    signals.raise_if_signalled()
    if seen is not None:
        seen["syncs"] = [feed.sync_row(ahead.run) | {"_dlt_load_id": stored.load_id}]
        # All that was read again were pages that have not changed.
        ahead.run.counts.update(known=0, changed=0)
    elif not feed.needs_folder:
        with turn_at(pipeline, source.schema):
            patiently(lambda: _restore(pipeline))
    return seen


def _given(argument: Any, setting: Any) -> Any:
    return setting if argument is None else argument


def _checked(pipeline: dlt.Pipeline, source: DltSource) -> FlowiqSource:
    if not isinstance(source, FlowiqSource):
        raise ConfigurationError("sync takes the source that flowiq_source() makes")
    if pipeline.refresh:
        raise ConfigurationError(
            f"the pipeline has refresh={pipeline.refresh}, and sync loads in packages, each of "
            "which would drop what the one before loaded: use pipeline.run, or full_refresh"
        )
    for resource in source.selected_resources.values():
        if "replace" in str(resource.write_disposition):
            raise ConfigurationError(
                f"{resource.name} has write_disposition replace, and sync loads in packages, of "
                "which the last would replace the others: use pipeline.run, or full_refresh"
            )
    return source


def begin(pipeline: dlt.Pipeline, source: FlowiqSource) -> Stored | None:
    """Take state and schema from the destination, and bring its tables up to date.

    So a destination that is away, or refuses, is found before a request is spent. What is stored
    is handed out if the sync may find nothing new.
    """
    schema, feed = source.schema, source.feed
    widen_text(pipeline)
    with held_open(pipeline, schema):
        may_be = may_be_idle(pipeline, source, feed.settings)
        stored = stored_of(pipeline, source, feed) if may_be else None
        if stored is None or feed.needs_folder:
            _restore(pipeline)
        if stored is not None:
            mend_tables(pipeline, stored.schema)
        elif schema.name in pipeline.schema_names:
            mend_tables(pipeline, pipeline.schemas[schema.name])
        else:
            with client_of(pipeline, schema) as client:
                client.initialize_storage()
        try_to_write(pipeline, schema)
    return stored


def _restore(pipeline: dlt.Pipeline) -> None:
    """Have the working folder as the destination says."""
    forget_working_folder(pipeline)
    pipeline.sync_destination()


def _load_all(
    pipeline: dlt.Pipeline,
    source: FlowiqSource,
    names: TableNames,
    summary: Summary,
    check: Check,
) -> None:
    tables, remaining = "", True
    while remaining:
        tables = _load_package(pipeline, source, names, summary, tables, check)
        run = source.feed.run
        remaining = run is not None and run.left > 0


def _load_package(  # noqa: PLR0913, PLR0917 - what a package needs
    pipeline: dlt.Pipeline,
    source: FlowiqSource,
    names: TableNames,
    summary: Summary,
    tables: str,
    check: Check,
) -> str:
    """The version of the tables after one load package; `tables` is the one before."""
    schema = source.schema.name
    pipeline.extract(source, loader_file_format="parquet" if _is_duckdb(pipeline) else None)
    # Arrow keeps what the pages have used; the load needs the memory.
    pa.default_memory_pool().release_unused()
    signals.raise_if_signalled()
    written = pipeline.normalize().row_counts
    signals.raise_if_signalled()
    wanted = pipeline.schemas[schema].version_hash
    # SQLite has one writer; others would wait, and be tried again a few times only.
    workers = 1 if dialect_of(client_of(pipeline, source.schema)) == "sqlite" else 20

    def load() -> None:
        with held_open(pipeline, source.schema):
            check()
            if wanted != tables:
                # Before the load, because dlt itself creates a child table with its first row.
                bring_schema_up_to_date(pipeline, pipeline.schemas[schema])
            pipeline.load(workers=workers, raise_on_failed_jobs=True)
            if wanted != tables:
                create_views(pipeline, source.schema, names)

    # Through all attempts: what they have in the staging dataset is in the way of another tenant's.
    with turn_at(pipeline, source.schema), staging(pipeline, source.schema):
        patiently(load)
    for table, count in written.items():
        if count and not table.startswith("_dlt") and table != names.syncs:
            summary.rows[table] = summary.rows.get(table, 0) + count
    signals.raise_if_signalled()
    return wanted


def _add_counts(summary: Summary, feed: Any) -> None:
    if feed.run is None:
        return
    counts = feed.run.counts
    for name in (
        *("quiet", "missing", "doubtful", "failed", "vanished", "stale", "unlisted"),
        *("carried_over", "requests", "planned", "saved", "wasted"),
    ):
        setattr(summary, name, counts[name])
    summary.read = counts["complete"]
    summary.newer = counts.get("newer")
    summary.known, summary.changed = counts.get("known"), counts.get("changed")
    summary.forgotten = feed.run.roster.forgotten
    summary.unknown_numbers = feed.run.roster.unknown_numbers
    summary.replaced_characters = counts["replaced"]
    summary.overflowed_fields = counts["overflowed"]


def _delete_gone(
    pipeline: dlt.Pipeline, schema: Schema, names: TableNames, summary: Summary
) -> None:
    if summary.vanished:
        logger.error("delete_gone: nothing is deleted, because too much has vanished at once")
        return
    delete_gone_messages(pipeline, schema, names)


def _is_duckdb(pipeline: dlt.Pipeline) -> bool:
    """Whether DuckDB loads the files; dlt's default format there is seven times slower."""
    return pipeline.destination.destination_type.endswith(("duckdb", "ducklake"))
