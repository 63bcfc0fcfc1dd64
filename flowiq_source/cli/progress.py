"""What a running command shows: dlt's collector, on a terminal, as lines or as JSON events."""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from dlt.common import logger as dlt_logger
from dlt.common.runtime.collector_base import Collector
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowiq_source.loading.refusals import without_row_text

DISPLAYS = ("auto", "live", "lines", "json", "none")
"""`auto` is `live` on a terminal, and `lines` elsewhere."""

EVERY_S = 30.0
"""How often a line is printed where there is no terminal."""

EVENTS_S = 1.0
"""How often a JSON event is printed at most."""

_DOING = {"Extract": "reading", "Normalize": "preparing", "Load": "loading", "Verify": "comparing"}


class _Console(Console):
    """Standard error, whose reader may have gone: that is no reason to end."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Progress(Collector):
    """Counts what the steps of a pipeline tell; `showing` shows it.

    The counters of a step begin anew with each load package, as dlt has it; `Conversations` and
    `Requests` are told for the whole run.
    """

    def __init__(self, display: str = "auto", tenant: str = "") -> None:
        self.tenant = tenant
        self.console = _Console(stderr=True, highlight=False)
        live = self.console.is_terminal and not self.console.is_dumb_terminal
        self.display = ("live" if live else "lines") if display == "auto" else display
        self.doing = "starting"
        self.packages = 0
        self.loads = False
        """Whether the command loads, so that something is kept of it when it is interrupted."""
        self._counts: Counter[str] = Counter()
        self._totals: dict[str, int | None] = {}
        self._messages: dict[str, str] = {}
        self._read = self._committed = 0
        self._told_at = 0.0
        self._live: Live | None = None
        self._lock = threading.Lock()
        self._of = 0
        self._tenants: dict[str, Progress] = {}
        self._ended: Counter[str] = Counter()

    def __deepcopy__(self, memo: Any) -> "Progress":
        """Itself: dlt copies a pipeline's collector when it drops the working folder."""
        return self

    def update(  # noqa: PLR0913, PLR0917 - dlt's interface
        self,
        name: str,
        inc: int = 1,
        total: int | None = None,
        inc_total: int | None = None,
        message: str | None = None,
        label: str | None = None,
    ) -> None:
        """Take over what a step tells."""
        key = f"{name} {label}" if label else name
        self._counts[key] += inc
        if total is not None:
            self._totals[key] = total
        elif inc_total:
            self._totals[key] = (self._totals.get(key) or 0) + inc_total
        if message is not None:
            self._messages[name] = message
        if self.display == "json" and time.monotonic() - self._told_at >= EVENTS_S:
            self._told_at = time.monotonic()
            self._tell("progress", self._state())

    def _start(self, step: str) -> None:
        self.doing = _DOING.get(step.partition(" ")[0], step)
        self._counts.clear()
        if self._read and self.doing == "reading":
            # Those of the packages before; dlt tells of this one's when they are read.
            self._counts["messages"] = 0
        self._totals.clear()
        self._messages.clear()
        if self._live and not self._live.is_started:
            self._live.start()
        if self.display == "json":
            self._tell("start", {"step": self.doing})

    def _stop(self) -> None:
        self._read += self._counts["messages"] if self.doing == "reading" else 0

    def on_end_trace_step(self, trace: Any, step: Any, *more: Any) -> None:  # noqa: ARG002 - dlt's
        """Count a load package that was committed."""
        if step.step == "load" and step.step_exception is None:
            self.packages += 1
            self._committed = self._read

    def of(self, tenant: str) -> "Progress":
        """What one of several tenants shows, as a line of this one."""
        one = Progress("json" if self.display == "json" else "none", tenant)
        with self._lock:
            self._tenants[tenant] = one
        return one

    def begin(self, tenants: int) -> None:
        """Show so many tenants from now on, instead of the steps of one."""
        self._of = tenants
        if self._live:
            self._live.start()

    def ended(self, tenant: str, status: str) -> None:
        """Count a tenant that has come to its end."""
        with self._lock:
            self._tenants.pop(tenant, None)
            self._ended[status] += 1

    def _head(self) -> str:
        ended = ", ".join(f"{count:,} {status}" for status, count in self._ended.items())
        return f"{self._ended.total():,} of {self._of:,} tenants" + (f": {ended}" if ended else "")

    def _running(self) -> dict[str, "Progress"]:
        with self._lock:
            return dict(self._tenants)

    @property
    def kept(self) -> str:
        """What is committed, for the one who has interrupted the run."""
        if not self.packages:
            return "nothing was committed yet"
        return f"{_count(self.packages, 'package')} with {self._committed:,} messages stay"

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show what happens, and what the package logs, until the end of the block."""
        logger, handler = logging.getLogger("flowiq_source"), _Handler(self)
        of_dlt = logging.getLogger("dlt")
        before = logger.level, logger.propagate
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING if self.display == "none" else logging.INFO)
        logger.propagate = False
        over = threading.Event()
        # A thread, because dlt is silent while it loads.
        lines = threading.Thread(target=self._print_lines, args=(over,), daemon=True)
        try:
            if self.display == "json":
                of_dlt.addFilter(self._told)
            if self.display == "live":
                # It begins with dlt's first step: a command may ask something before.
                self._live = Live(get_renderable=self._drawn, console=self.console, transient=True)
            if self.display == "lines":
                lines.start()
            yield
        finally:
            over.set()
            if lines.ident:
                lines.join()
            if self._live:
                self._live.stop()
            of_dlt.removeFilter(self._told)
            logger.removeHandler(handler)
            logger.setLevel(before[0])
            logger.propagate = before[1]

    def say(self, level: int, text: str) -> None:
        """Show a line of the log."""
        if self.display == "json":
            self._tell("log", {"level": logging.getLevelName(level).lower(), "message": text})
        else:
            self.console.print(Text(text), soft_wrap=True)

    def _told(self, record: logging.LogRecord) -> bool:
        """What dlt logs as an event, so that there is nothing else between them."""
        if without_row_text(record):
            self.say(record.levelno, record.getMessage())
        return False

    def failed(self, status: int, text: str, trace: str) -> None:
        """Say why the command ends, with `trace` before it if there is any."""
        if self.display == "json":
            where = {"trace": trace} if trace else {}
            self._tell("error", {"message": text, "exit_status": status, **where})
        else:
            with suppress(OSError):
                click.echo(f"{trace}flowiq: {text}", err=True)

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"step": self.doing, "packages": self.packages}
        for name in list(self._counts):
            done, total = self._count_of(name), self._totals.get(name)
            state[name.lower().replace(" ", "_")] = {"done": done, "total": total}
        if message := self._messages.get("Requests"):
            state["note"] = message
        return state

    def _tell(self, event: str, more: dict[str, Any]) -> None:
        whose = {"tenant_id": self.tenant} if self.tenant else {}
        said = {"event": event, "at": time.time(), **whose, **more}
        line = json.dumps(said, ensure_ascii=False)
        # Whoever has read it may have gone, which is no reason to end.
        with suppress(OSError):
            self.console.file.write(line + "\n")
            self.console.file.flush()

    def _print_lines(self, over: threading.Event) -> None:
        while not over.wait(EVERY_S):
            for line in self.lines():
                self.say(logging.INFO, f"flowiq: {line}")

    def lines(self) -> list[str]:
        """All of it: a line, or one for all tenants and one for each that runs."""
        if not self._of:
            return [self.line()]
        running = self._running().items()
        return [self._head(), *(f"{tenant} is {one.line()}" for tenant, one in running)]

    def line(self) -> str:
        """All of one tenant in one line."""
        parts = [_of(self._count_of(name), self._totals.get(name), name) for name in self._shown()]
        notes = list(self._messages.values())
        done = [f"{_count(self.packages, 'package')} committed"] if self.packages else []
        return f"{self.doing}: " + ", ".join([*parts, *notes, *done] or ["…"])

    def _shown(self) -> list[str]:
        """The counters that a person wants to see, in their order."""
        wanted = ["Conversations", "messages", "Requests"]
        if self.doing not in {"reading", "comparing"}:
            wanted = ["Files", "Items", "Jobs"]
        return [name for name in wanted if name in self._counts]

    def _count_of(self, name: str) -> int:
        # dlt counts rows anew with each package, and not only while it reads.
        is_read = name == "messages" and self.doing == "reading"
        return self._counts[name] + (self._read if is_read else 0)

    def _drawn(self) -> RenderableType:
        """The lines of the terminal; a narrow one cuts them."""
        if self._of:
            texts = (Text(one, overflow="ellipsis", no_wrap=True) for one in self.lines())
            return Group(*texts)
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, ratio=1)
        for name in self._shown():
            count, total = self._count_of(name), self._totals.get(name)
            bar = ProgressBar(total, min(count, total), width=20) if total else Text("")
            grid.add_row(bar, Text(_of(count, total, name), overflow="ellipsis"))
        head = f"flowiq is {self.doing}"
        if self.packages:
            head += f"; {_count(self.packages, 'package')} committed"
        notes = [Text(note, overflow="ellipsis", no_wrap=True) for note in self._messages.values()]
        return Group(Text(head, overflow="ellipsis", no_wrap=True), grid, *notes)


def _of(count: int, total: int | None, name: str) -> str:
    of = f" of {total:,}" if total else ""
    return f"{count:,}{of} {name.lower()}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class _Handler(logging.Handler):
    """Shows what the package logs; as JSON, where dlt's `log_format` says so."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.say(record.levelno, self._formatted(record))

    def _formatted(self, record: logging.LogRecord) -> str:
        of_dlt = dlt_logger.LOGGER.handlers if dlt_logger.LOGGER else []
        formats = [one.formatter for one in of_dlt if "Json" in type(one.formatter).__name__]
        if formats and formats[0] and self._progress.display != "json":
            return formats[0].format(record)
        return record.getMessage()
