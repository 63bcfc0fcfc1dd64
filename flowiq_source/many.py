"""Many tenants in one process, some at a time; what becomes of one stops no other."""

import ctypes
import gc
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import dlt
from dlt.common.runtime import signals

from flowiq_source.errors import Busy, ConfigurationError
from flowiq_source.failures import INTERRUPTED, diagnosis, trace
from flowiq_source.loading.lock import sole_sync
from flowiq_source.loading.undocumented import (
    delete_at_once,
    forget_resolved_settings,
    import_plugins,
)
from flowiq_source.source import FlowiqSource
from flowiq_source.sync import Summary, sync
from flowiq_source.tenants import Tenant, current_tenant, working_for

logger = logging.getLogger("flowiq_source")

AT_ONCE = 4
"""How many tenants run at a time: memory grows with it, and a processor is busy with two."""

_POLL_S = 0.2
_SWEPT_EACH = 8


@dataclass(frozen=True)
class Outcome:
    """What became of one tenant: a summary, or an error."""

    tenant_id: str
    summary: Summary | None = None
    error: str = ""
    exit_status: int = 0

    @property
    def status(self) -> str:
        """In a word or two."""
        if self.exit_status == NOT_BEGUN:
            return "not begun"
        if self.exit_status == INTERRUPTED:
            return "interrupted"
        if self.summary is None:
            return "failed"
        return "complete" if self.summary.complete else "incomplete"

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it; the exit status is that of `flowiq sync` for this tenant."""
        said: dict[str, Any] = {"tenant_id": self.tenant_id, "status": self.status}
        if self.exit_status != NOT_BEGUN:
            said["exit_status"] = self.exit_status
        if self.error:
            said["error"] = self.error
        return said | ({"summary": self.summary.as_dict()} if self.summary else {})

    @property
    def text(self) -> str:
        """In a line."""
        said = self.error or (_in_brief(self.summary) if self.summary else "")
        return self.status + (f": {said}" if said else "")

    def __str__(self) -> str:
        return f"{self.tenant_id:<15} {self.text}"


NOT_BEGUN = -1
"""Stands where a tenant was not begun, and so has no exit status."""


def _in_brief(summary: Summary) -> str:
    loaded = summary.newer if summary.newer is not None else summary.rows.get("messages", 0)
    left = {
        name: count
        for name in ("failed", "vanished", "unlisted", "doubtful", "carried_over")
        if (count := getattr(summary, name))
    }
    wanting = "".join(f", {count:,} {name.replace('_', ' ')}" for name, count in left.items())
    return (
        f"{loaded:,} new messages, {summary.requests:,} requests{wanting}; {summary.seconds:.1f} s"
    )


@dataclass
class TenantsSummary:
    """What became of each tenant, in the order in which they were named."""

    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether everything of every tenant was read."""
        return all(one.status == "complete" for one in self.outcomes)

    @property
    def exit_status(self) -> int:
        """0 where all are complete, 130 where it was interrupted, else 1."""
        if any(one.exit_status in {INTERRUPTED, NOT_BEGUN} for one in self.outcomes):
            return INTERRUPTED
        return 0 if self.complete else 1

    def counts(self) -> dict[str, int]:
        """How many tenants have which status."""
        return dict(Counter(one.status for one in self.outcomes))

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it, for a log, an orchestrator or the next task."""
        return {
            "complete": self.complete,
            "seconds": self.seconds,
            "requests": self._requests(),
            "counts": self.counts(),
            "tenants": [one.as_dict() for one in self.outcomes],
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {status}" for status, count in self.counts().items())
        number = f"{len(self.outcomes):,} tenant{'' if len(self.outcomes) == 1 else 's'}"
        last = f"{number:<15} {counts}; {self._requests():,} requests; {self.seconds:.1f} s"
        return "\n".join([*map(str, self.outcomes), last])

    def _requests(self) -> int:
        return sum(one.summary.requests for one in self.outcomes if one.summary)


class TenantsInterrupted(KeyboardInterrupt):
    """It was interrupted; `summary` says who was done, who was stopped, who had not begun."""

    def __init__(self, summary: TenantsSummary) -> None:
        super().__init__("interrupted")
        self.summary = summary


def sync_tenants(
    tenants: Iterable[Tenant],
    *,
    at_once: int = AT_ONCE,
    pipeline_of: Callable[[Tenant], dlt.Pipeline] = Tenant.pipeline,
    source_of: Callable[[Tenant], FlowiqSource] = Tenant.source,
    done: Callable[[Outcome], object] = lambda _: None,
) -> TenantsSummary:
    """Load everything that is new of many tenants, `at_once` at a time, in the order given.

    Each has its own pipeline, rate limiter, bounds and state, and whatever is wrong with one, its
    secret, a setting, the API or an error that nobody foresaw, is its own failure. Memory is that
    of `at_once` syncs, however many tenants there are. Where the destination is a file, they read
    side by side and load in turn.

    Args:
        tenants: Who they are; `read_tenants` has them of a file, `query_tenants` of a query.
        at_once: How many run at a time.
        pipeline_of: What makes a tenant's pipeline, in the thread that runs it.
        source_of: What makes its source.
        done: Called with what became of each, as soon as it is known, in that thread.

    Raises:
        ConfigurationError: there is nothing that could be run.
        TenantsInterrupted: a KeyboardInterrupt, after those that ran were stopped as `sync` is.
    """
    everybody = list(tenants)
    if at_once < 1 or not everybody:
        raise ConfigurationError("at_once must be 1 or more" if everybody else "there is no tenant")
    twice = {one for one, count in Counter(one.id for one in everybody).items() if count > 1}

    def run(tenant: Tenant) -> Outcome:
        with working_for(tenant.id):
            if tenant.id in twice:
                outcome = Outcome(tenant.id, None, "it stands twice in the list of tenants", 2)
            else:
                outcome = _outcome(tenant, pipeline_of, source_of)
            done(outcome)
        return outcome

    import_plugins()
    begun, crew = time.monotonic(), _Crew(everybody, run)
    is_main = threading.current_thread() is threading.main_thread()
    # Those who run look at what comes of a signal; elsewhere dlt would say that it does nothing.
    with signals.intercepted_signals() if is_main else nullcontext():
        try:
            crew.work(at_once)
        except KeyboardInterrupt as error:
            summary = TenantsSummary(crew.outcomes, time.monotonic() - begun)
            raise TenantsInterrupted(summary) from error
    return TenantsSummary(crew.outcomes, time.monotonic() - begun)


def _outcome(
    tenant: Tenant,
    pipeline_of: Callable[[Tenant], dlt.Pipeline],
    source_of: Callable[[Tenant], FlowiqSource],
) -> Outcome:
    try:
        source, pipeline = source_of(tenant), pipeline_of(tenant)
        source.feed.needs_folder = False
        try:
            summary = sync(pipeline, source)
        finally:
            _tidy(pipeline)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the others go on
        status, text = diagnosis(error)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s", trace(error))
        return Outcome(tenant.id, None, text, status)
    finally:
        forget_resolved_settings()
    return Outcome(tenant.id, summary, "", summary.exit_status)


def _tidy(pipeline: dlt.Pipeline) -> None:
    """Let go of a pipeline, and of its folder, which the next sync would forget first."""
    # dlt would keep it as long as there is this thread.
    pipeline.deactivate()
    with suppress(Busy, OSError), sole_sync(pipeline):
        delete_at_once(Path(pipeline.working_dir))


class _Crew:
    """The threads that run the tenants, and what became of each so far."""

    def __init__(self, tenants: Sequence[Tenant], run: Callable[[Tenant], Outcome]) -> None:
        self._tenants, self._run = tenants, run
        self.outcomes = [Outcome(one.id, None, "", NOT_BEGUN) for one in tenants]
        self._lock = threading.Lock()
        self._threads: set[int] = set()
        self._is_stopped = False
        self._ended = 0

    def work(self, at_once: int) -> None:
        """Run all of them.

        Raises:
            BaseException: what ends it from outside, after those that ran have stopped.
        """
        waiting, running = iter(range(len(self._tenants))), dict[Future[Outcome | None], int]()
        with ThreadPoolExecutor(at_once, thread_name_prefix="flowiq-tenant") as threads:
            try:
                while True:
                    signals.raise_if_signalled()
                    for number in islice(waiting, at_once - len(running)):
                        running[threads.submit(self._work, number)] = number
                    if not running:
                        return
                    self._take(running, _POLL_S)
            except BaseException:
                self._stop()
                while running:
                    self._take(running, None)
                raise

    def _take(self, running: dict[Future[Outcome | None], int], wait_s: float | None) -> None:
        """Take over what has ended."""
        for one in wait(running, wait_s, FIRST_COMPLETED).done:
            number = running.pop(one)
            self._ended += 1
            if self._ended % _SWEPT_EACH == 0:
                # Python would let what hangs together in circles grow to a quarter of everything.
                gc.collect()
            if error := one.exception():
                # It came when the tenant was done, and before its thread said so.
                status, text = diagnosis(error)
                self.outcomes[number] = Outcome(self._tenants[number].id, None, text, status)
            elif outcome := one.result():
                self.outcomes[number] = outcome

    def _work(self, number: int) -> Outcome | None:
        """What became of one; None if it was not begun."""
        thread = threading.get_ident()
        with self._lock:
            if self._is_stopped or signals.was_signal_received():
                return None
            self._threads.add(thread)
        try:
            return self._run(self._tenants[number])
        finally:
            with self._lock:
                self._threads.discard(thread)

    def _stop(self) -> None:
        """Interrupt those who run, unless a signal does."""
        with self._lock:
            self._is_stopped = True
            for thread in () if signals.was_signal_received() else self._threads:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)
                )


class _WithTenant(logging.Filter):
    """Has each line of the log begin with the tenant that it is about."""

    def filter(self, record: logging.LogRecord) -> bool:
        if (tenant := current_tenant.get()) and not hasattr(record, "tenant"):
            record.tenant, record.msg = tenant, f"{tenant.replace('%', '%%')}: {record.msg}"
        return True


logger.addFilter(_WithTenant())
