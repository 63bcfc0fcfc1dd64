"""The report of a pipeline's tenant, written to a file."""

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import dlt

from flowiq_source.errors import ConfigurationError
from flowiq_source.report.gather import gather
from flowiq_source.source import FlowiqSource

DAYS = 90


@dataclass(frozen=True)
class Report:
    """A report that was written."""

    path: str
    size: int
    """Bytes."""
    first_day: str
    last_day: str
    messages: int
    differing_conversations: int

    @property
    def exit_status(self) -> int:
        """0: whatever the report says, it is written."""
        return 0

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return dict(self.__dict__)

    def __str__(self) -> str:
        return (
            f"report          {self.path} ({self.size / 1000:,.0f} kB)\n"
            f"about           {self.messages:,} messages from {self.first_day} to {self.last_day}"
        )


def write_report(  # noqa: PLR0913 - each is one of the command's options
    pipeline: dlt.Pipeline,
    source: FlowiqSource,
    output: Path,
    *,
    with_contacts: bool = False,
    days: int = DAYS,
    as_of: datetime | None = None,
) -> Report:
    """Write the report as one HTML file, in place of one that is there.

    Args:
        pipeline: The pipeline that loaded the warehouse.
        source: The source that it loaded, for its tenant and its tables.
        output: The file.
        with_contacts: Name those who wait, their numbers and their last messages, and the team.
        days: How many days back it looks.
        as_of: What is late, open or settled at this time; now, if there is none.

    Raises:
        ConfigurationError: what draws it is not installed, there is nothing to report on, or the
            file cannot be written.
    """
    figures, page = _drawing()
    numbers = gather(pipeline, source, with_contacts=with_contacts, days=days, as_of=as_of)
    html = page.render(figures.page(numbers)).encode()
    _replace(output, html)
    return Report(
        str(output),
        len(html),
        numbers.first_day.isoformat(),
        numbers.last_day.isoformat(),
        sum(row.messages for row in numbers.volume),
        len(numbers.verification.differences),
    )


def _drawing() -> Any:
    """What draws the report, of which not every installation has the packages."""
    try:
        from flowiq_source.report import figures, page  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in {"altair", "vl_convert"}:
            raise
        raise ConfigurationError(
            f"the report is drawn with {error.name}, which is not installed: "
            "pip install 'flowiq-source[report]'"
        ) from None
    return figures, page


def _replace(output: Path, content: bytes) -> None:
    """Write the file whole or not at all, for this user alone."""
    draft = output.with_name(f"{output.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        draft.replace(output)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise ConfigurationError(f"--output {output}: {error.strerror}") from None
