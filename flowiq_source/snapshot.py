"""A copy of the DuckDB file that may stay open while syncs run: DuckDB lets one process write."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dlt

from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.lock import sole_sync
from flowiq_source.loading.patience import patiently
from flowiq_source.loading.refusals import without_row_texts
from flowiq_source.loading.rewriting import copied_duckdb, duckdb_file, snapshot_of
from flowiq_source.source import FlowiqSource


@dataclass(frozen=True)
class Snapshot:
    """What was made."""

    file: str
    bytes: int
    seconds: float

    @property
    def exit_status(self) -> int:
        """0: it is there."""
        return 0

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.file}: {self.bytes / 1e6:,.1f} MB in {self.seconds:.1f} s"


def snapshot(
    pipeline: dlt.Pipeline, source: FlowiqSource, to: str | Path | None = None
) -> Snapshot:
    """Copy the pipeline's DuckDB file, as it is between two syncs, and put the copy in place.

    Who has the snapshot before open goes on reading that; who opens it now gets the new one. What
    was deleted is not in it.

    Args:
        pipeline: The pipeline that loads the file.
        source: The source that it loads.
        to: The copy; without it `NAME.snapshot.duckdb` beside the file.

    Raises:
        Busy: another process syncs with this pipeline.
        ConfigurationError: the destination is no DuckDB file, or there is none yet.
        DestinationError: somebody else writes to the file, or it cannot be copied.
    """
    began = time.monotonic()
    file = _file(pipeline, source)
    copy = Path(to) if to else snapshot_of(file)
    if copy.exists() and copy.samefile(file):
        raise ConfigurationError(f"snapshot: {copy} is the file itself; name another one")

    def put_in_place() -> None:
        part = copy.with_name(f"{copy.name}.part")
        with copied_duckdb(file, part):
            part.replace(copy)

    with sole_sync(pipeline):
        without_row_texts(pipeline, lambda: patiently(put_in_place))
    return Snapshot(str(copy), copy.stat().st_size, time.monotonic() - began)


def _file(pipeline: dlt.Pipeline, source: FlowiqSource) -> Path:
    kind = pipeline.destination.destination_type.rpartition(".")[2]
    if kind != "duckdb":
        raise ConfigurationError(
            f"snapshot copies a DuckDB file, and the destination is {kind}, which is read and "
            "written at the same time as it is"
        )
    file = duckdb_file(pipeline, source.schema)
    if file is None:
        raise ConfigurationError("snapshot: the destination is an open connection, and no file")
    if not file.exists():
        raise ConfigurationError(f"snapshot: there is no file {file} yet: sync first")
    return file.resolve()
