"""One run of a pipeline over the source, and what came of it."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import dlt
from dlt.common.pipeline import ExtractInfo
from dlt.extract import DltSource


@dataclass
class Summary:
    """What one run did.

    `rows` counts what was written, per table, new or read again; `newer` the messages among them
    that are newer than what the sync before read of their conversation.
    """

    rows: dict[str, int] = field(default_factory=dict)
    newer: int = 0
    read: int = 0
    missing: int = 0
    failed: int = 0
    unlisted: int = 0
    unknown_numbers: list[int] = field(default_factory=list)
    replaced_characters: int = 0
    requests: int = 0
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether everything was read; what the API answers with 404 is not there to be read."""
        return not self.failed and not self.unlisted

    def __str__(self) -> str:
        lines = [
            f"new messages    {self.newer}",
            "rows written    " + (_listed(self.rows) or "none") + " (new or refreshed)",
            f"conversations   {self.read} read, {self.missing} missing, {self.failed} failed",
            f"requests        {self.requests}",
            f"seconds         {self.seconds:.1f}",
        ]
        if self.failed:
            lines.append("                the failed ones are read again next time: see error in")
            lines.append("                conversations where status = 'failed'")
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
    return ", ".join(f"{table} {count:,}" for table, count in sorted(rows.items()) if count)


def sync(pipeline: dlt.Pipeline, source: DltSource) -> Summary:
    """Load everything that is new into the pipeline's destination.

    What an earlier run left unfinished is finished first. Unlike `pipeline.run`, this creates
    every documented table and column, children included, even when no row has one yet.

    Raises:
        PipelineStepFailed: a step failed; its cause is a FlowiqError if the API was the reason.
    """
    started = time.monotonic()
    _finish_pending(pipeline)
    info = pipeline.extract(source, loader_file_format=_file_format(pipeline))
    rows = pipeline.normalize().row_counts
    # Before the load, because dlt itself creates a child table with its first row.
    pipeline.sync_schema()
    pipeline.load(raise_on_failed_jobs=True)
    summary = _summary(info)
    summary.rows = {table: n for table, n in rows.items() if not table.startswith("_dlt")}
    summary.seconds = time.monotonic() - started
    return summary


def _finish_pending(pipeline: dlt.Pipeline) -> None:
    """Restore the state from the destination, then load what an earlier run left behind."""
    pipeline.run()
    while pipeline.has_pending_data:
        pipeline.run()


def _file_format(pipeline: dlt.Pipeline) -> Any:
    """Parquet where the destination takes it: dlt's default for DuckDB is seven times slower."""
    formats = pipeline.destination.capabilities().supported_loader_file_formats or []
    return "parquet" if "parquet" in formats else None


def _summary(info: ExtractInfo) -> Summary:
    totals: Counter[str] = Counter()
    summary = Summary()
    for metrics in info.metrics.values():
        for step in metrics:
            for resource in step["resource_metrics"].values():
                custom = dict(resource.custom_metrics)
                summary.unknown_numbers += custom.pop("unknown_numbers", [])
                totals.update({k: v for k, v in custom.items() if isinstance(v, int)})
    summary.read, summary.missing = totals["complete"], totals["missing"]
    summary.failed, summary.unlisted = totals["failed"], totals["unlisted"]
    summary.requests, summary.newer = totals["requests"], totals["newer"]
    summary.replaced_characters = totals["replaced"]
    return summary
