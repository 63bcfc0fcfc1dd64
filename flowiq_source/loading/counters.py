"""What dlt's progress collector is told of a run: on a terminal, in a log, in `flowiq sync`."""

import time
from collections.abc import Callable
from typing import Any

from flowiq_source.reading.run import Run
from flowiq_source.settings import Settings

TELLING_S = 20.0
"""After how long the pace of a run says more than what the settings allow."""


class Counters:
    """The counters `Conversations` and `Requests` of one extract; both are those of the whole run.

    dlt begins its counters anew with each load package, so the first tells all that was before.
    `api` is the client, which counts every request, those of answers that nobody has taken yet too.
    `began_s` is when the run began, by `clock`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - whom it tells, what of, and since when
        self,
        run: Run,
        api: Any,
        settings: Settings,
        collector: Any,
        began_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._api, self._collector = run, api, collector
        self._began_s, self._clock = began_s, clock
        self._per_minute = settings.requests_per_minute * settings.rate_limit_share
        self._told: dict[str, tuple[int, int]] = {}
        self._note = ""

    def tell(self) -> None:
        """Tell what has changed."""
        run = self._run
        if run.due:
            self._count("Conversations", run.due - run.left, run.due)
        planned = max(run.counts["planned"], self._api.requests)
        left = (planned - self._api.requests) / self._pace()
        note = self._api.pace() + (f", about {left:.0f} min left" if left >= 1 else "")
        self._count("Requests", self._api.requests, planned, note)

    def _pace(self) -> float:
        """Requests a minute: what is allowed, or what has come of that."""
        elapsed_s = self._clock() - self._began_s
        if elapsed_s < TELLING_S or not self._api.requests:
            return self._per_minute
        # The API may allow less than the settings say, or take its time.
        return min(self._per_minute, float(self._api.requests) / elapsed_s * 60)

    def _count(self, name: str, count: int, total: int, note: str | None = None) -> None:
        before, total_before = self._told.get(name, (0, 0))
        if name not in self._told:
            self._collector.update(name, count, total=total, message=note)
        elif (count, total) != (before, total_before) or (note and note != self._note):
            self._collector.update(
                name, count - before, inc_total=total - total_before or None, message=note
            )
        self._told[name], self._note = (count, total), note or self._note
