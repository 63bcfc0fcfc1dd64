"""One run of a pipeline over the source, and what came of it."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import dlt
import pyarrow as pa
import tenacity
from dlt.common.runtime import signals
from dlt.destinations.exceptions import DatabaseException
from dlt.extract import DltSource
from dlt.pipeline.helpers import retry_schema_update

from flowiq_source.loading.interrupted import drop_working_folder, repair_working_folder
from flowiq_source.loading.lock import sole_sync
from flowiq_source.loading.old_states import delete_old_states
from flowiq_source.loading.views import create_current_messages, delete_gone_messages
from flowiq_source.source import Package


@dataclass
class Summary:
    """What one run did.

    `rows` counts what was written, per table, new or changed; `newer` the messages that are
    newer than what the sync before read of their conversation, None after a backfill. `quiet`
    conversations needed no request, and those that the run's limits left are `carried_over`.
    `requests` are all that were spent, `planned` what was expected once the contacts were listed;
    reading everything again would have cost `saved` more; `wasted` were repeated.
    """

    rows: dict[str, int] = field(default_factory=dict)
    newer: int | None = None
    read: int = 0
    quiet: int = 0
    missing: int = 0
    failed: int = 0
    unlisted: int = 0
    unknown_numbers: list[int] = field(default_factory=list)
    replaced_characters: int = 0
    carried_over: int = 0
    requests: int = 0
    planned: int = 0
    saved: int = 0
    wasted: int = 0
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether everything was read; what the API answers with 404 is not there to be read."""
        return not self.failed and not self.unlisted

    @property
    def _conversations(self) -> str:
        kinds = ("read", "quiet", "missing", "failed")
        return ", ".join(f"{getattr(self, kind)} {kind}" for kind in kinds)

    @property
    def _requests(self) -> str:
        kinds = ("planned", "saved", "wasted")
        others = ", ".join(f"{getattr(self, kind)} {kind}" for kind in kinds)
        return f"{self.requests} spent, {others}"

    def add(self, package: Package, rows: dict[str, int]) -> None:
        """Count one load package in."""
        counts = package.counts
        self.read += counts["complete"]
        self.quiet += counts["quiet"]
        self.missing += counts["missing"]
        self.failed += counts["failed"]
        self.unlisted += counts["unlisted"]
        if "newer" in counts:
            self.newer = (self.newer or 0) + counts["newer"]
        self.carried_over += counts["carried_over"]
        self.requests += counts["requests"]
        self.planned += counts["planned"]
        self.saved += counts["saved"]
        self.wasted += counts["wasted"]
        self.replaced_characters += counts["replaced"]
        self.unknown_numbers += package.unknown_numbers
        for table, count in rows.items():
            if count and not table.startswith("_dlt"):
                self.rows[table] = self.rows.get(table, 0) + count

    def __str__(self) -> str:
        lines = [] if self.newer is None else [f"new messages    {self.newer}"]
        lines += [
            "rows written    " + (_listed(self.rows) or "none"),
            f"conversations   {self._conversations}",
            f"requests        {self._requests}",
            f"seconds         {self.seconds:.1f}",
        ]
        if self.failed:
            lines.append("                the failed ones are read again next time: see error in")
            lines.append("                conversations where status = 'failed'")
        if self.carried_over:
            lines.append(f"carried over    {self.carried_over} conversations to the next run")
        if self.unlisted:
            lines.append(f"contacts        {self.unlisted} that the API counts were not listed")
        lines += [
            f"phone numbers   number {position} of the list has no contact"
            for position in self.unknown_numbers
        ]
        if self.replaced_characters:
            lines.append(f"characters      {self.replaced_characters} replaced by U+FFFD")
        return "\n".join(lines)


def _listed(rows: dict[str, int]) -> str:
    return ", ".join(f"{table} {count:,}" for table, count in sorted(rows.items()))


PACKAGE_CONVERSATIONS = 1_000
PACKAGE_MINUTES = 10.0
PACKAGE_MESSAGES = 100_000
"""What a package may hold: memory grows with it."""


def sync(
    pipeline: dlt.Pipeline,
    source: DltSource,
    *,
    package_conversations: int = PACKAGE_CONVERSATIONS,
    package_minutes: float = PACKAGE_MINUTES,
    delete_gone: bool = False,
) -> Summary:
    """Load everything that is new into the pipeline's destination.

    A long run is a series of load packages that commit rows and cursors together: a run that is
    killed repeats one package. One is closed after so many conversations (or a twentieth of the
    run's, if that is more), minutes or 100,000 messages. What an earlier run left unfinished is
    finished first. Unlike `pipeline.run`, this creates every documented table and column, children
    included, even when no row has one yet.

    With `delete_gone`, messages that the API has no longer are deleted instead of only left out
    of the view `current_messages`.

    Raises:
        Busy: another process syncs with this pipeline.
        PipelineStepFailed: a step failed; its cause is a FlowiqError if the API was the reason.
        KeyboardInterrupt: SIGINT or SIGTERM came; what was committed is kept.
    """
    started = time.monotonic()
    summary = Summary()
    # dlt's handler only notes the first Ctrl-C; within one of our own it is not forgotten when a
    # step ends, and the places that wait look at it.
    with signals.intercepted_signals(), sole_sync(pipeline), _old_objects_left_alone():
        _finish_pending(pipeline)
        with ExitStack() as run:
            remaining, tables = True, ""
            while remaining:
                limits = (package_conversations, package_minutes, PACKAGE_MESSAGES)
                with Package(*limits, run) as package:
                    rows, tables = _load_package(pipeline, source, tables)
                    summary.add(package, rows)
                remaining = bool(package.counts["remaining"])
        if delete_gone:
            delete_gone_messages(pipeline)
    summary.seconds = time.monotonic() - started
    return summary


@contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """Keep the garbage collector from looking through all imported modules again and again."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _load_package(
    pipeline: dlt.Pipeline, source: DltSource, tables: str
) -> tuple[dict[str, int], str]:
    """Rows written, per table, and the version of the tables; `tables` is the one that is there."""
    pipeline.extract(source, loader_file_format="parquet" if _is_duckdb(pipeline) else None)
    # Arrow keeps what the pages have used; the load needs the memory.
    pa.default_memory_pool().release_unused()
    signals.raise_if_signalled()
    rows: dict[str, int] = pipeline.normalize().row_counts
    signals.raise_if_signalled()
    wanted = pipeline.default_schema.version_hash
    if wanted != tables:
        # Before the load, because dlt itself creates a child table with its first row.
        _sharing(pipeline.sync_schema)
    _sharing(lambda: pipeline.load(raise_on_failed_jobs=True))
    if wanted != tables:
        _sharing(lambda: create_current_messages(pipeline))
    delete_old_states(pipeline)
    signals.raise_if_signalled()
    return rows, wanted


def _sharing(step: Callable[[], object]) -> None:
    """Do a step that may meet another tenant's, who makes the same tables at the same time."""
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(5),
        wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=5),
        retry=tenacity.retry_if_exception_type(DatabaseException)
        | tenacity.retry_if_exception(retry_schema_update()),
        reraise=True,
    )
    retrying(step)


def _finish_pending(pipeline: dlt.Pipeline) -> None:
    """Load what an earlier run left behind, then take the state that the destination has.

    dlt prefers the newer of the local and the destination's state. But a destination that was
    put back from a backup, or another dataset, must not get cursors of rows that it lacks. Where
    there is no dataset, nothing is loaded: dlt itself would throw the packages away, in steps.
    """
    repair_working_folder(pipeline)
    restored = pipeline.config.restore_from_destination
    while pipeline.has_pending_data and not (restored and _is_dataset_missing(pipeline)):
        pipeline.run()
    if restored:
        drop_working_folder(pipeline)
        pipeline.sync_destination()


def _is_dataset_missing(pipeline: dlt.Pipeline) -> bool:
    with pipeline.destination_client() as client:
        return not client.is_storage_initialized()


def _is_duckdb(pipeline: dlt.Pipeline) -> bool:
    """Whether a DuckDB file is loaded; dlt's default format there is seven times slower."""
    return pipeline.destination.destination_type.endswith("duckdb")
