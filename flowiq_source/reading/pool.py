"""Several things read at a time, in threads that know nothing of dlt or of each other."""

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from functools import partial
from typing import Generic, TypeVar

IN_FLIGHT = 16
"""How many requests are under way at a time."""

QUICK_S = 0.005
"""Answers that take no longer are read by one thread: more would take the interpreter from each
other, and a request twice the time of a processor."""

_SLOW_S = 0.1
"""After how much waiting it is seen whether they still are; one long wait alone says nothing."""

_POLL_S = 0.2
"""How often a wait looks whether Ctrl-C came."""

_T = TypeVar("_T")

Put = Callable[[_T], None]
Job = Callable[[Put[_T]], None]
"""Something to do; it puts out what came of it."""


class Stop:
    """Says to everything that waits for a run that the run is over."""

    def __init__(self, check: Callable[[], object] = lambda: None) -> None:
        self._over = threading.Event()
        self._check = check

    def sleep(self, seconds: float) -> None:
        """Wait, in any thread.

        Raises:
            CancelledError: the run is over.
            BaseException: what the run's `check` raises.
        """
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._over.wait(min(left_s, _POLL_S))
            self.raise_if_over()
            self._check()

    def raise_if_over(self) -> None:
        """Go no further.

        Raises:
            CancelledError: the run is over.
        """
        if self._over.is_set():
            raise CancelledError

    def set(self) -> None:
        """The run is over."""
        self._over.set()


class Pool(Generic[_T]):
    """The results of jobs, as they come: threads read, while those who want them do other things.

    No job begins while the results that nobody has taken yet weigh `limit` or more, and none puts
    out more. What a job raises ends the pool: no more begin, those that have begun end with their
    next result, and it is raised after these, because they are paid for.
    """

    def __init__(
        self,
        jobs: Iterable[Job[_T]],
        *,
        weigh: Callable[[_T], int] = lambda _: 0,
        limit: int = 1,
        check: Callable[[], object] = lambda: None,
        holds: bool = False,
    ) -> None:
        """`holds` has what was taken weigh on until `free` is called."""
        self._holds = holds
        self._jobs, self._weigh, self._limit, self._check = iter(jobs), weigh, limit, check
        self._results: deque[_T] = deque()
        self._weight = 0
        self._running: int | None = None
        self.readers = IN_FLIGHT
        """How many threads read: all, once results are slow."""
        self._waited_s, self._taken = 0.0, 0
        self._threads: list[threading.Thread] = []
        self._is_over = False
        self._error: BaseException | None = None
        # Entered by itself: what is raised in a thread from outside can leave a condition locked.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._grown = threading.Condition(self._lock)

    def __iter__(self) -> Iterator[_T]:
        """What is there, and then what comes; may be gone on with later.

        Raises:
            BaseException: what a job has raised, or what `check` raises while this waits.
        """
        if self._running is None:
            self._running = IN_FLIGHT
            # None begins before all are there: CPython gives a thread that is just being made what
            # somebody raises in the one that makes it, which would then wait for it for ever.
            with self._lock:
                for number in range(IN_FLIGHT):
                    # Daemons: the interpreter need not wait for an answer that nobody wants.
                    # In a copy of the context: the log says for which tenant they work.
                    work = partial(contextvars.copy_context().run, self._work, number)
                    self._threads.append(threading.Thread(target=work, name="flowiq", daemon=True))
                    self._threads[-1].start()
        while self._wait():
            yield self._take()
        # All have left `_work`. An interpreter that ends under one of them complains of leaks.
        for thread in self._threads:
            thread.join()
        if self._error:
            raise self._error

    def close(self) -> None:
        """Give up what is running: nobody wants it any more."""
        with self._lock:
            self._is_over = True
            self._changed.notify_all()
            self._have_all_read()

    def _wait(self) -> bool:
        """Whether there is another result, when that is known."""
        while True:
            self._check()
            with self._lock:
                if self._results or not self._running:
                    return bool(self._results)
                began_s = time.monotonic()
                self._changed.wait(_SLOW_S if self.readers < IN_FLIGHT else _POLL_S)
                self._waited_s += time.monotonic() - began_s
                if self._waited_s >= _SLOW_S:
                    if self._taken * QUICK_S < self._waited_s:
                        self._have_all_read()
                    self._waited_s, self._taken = 0.0, 0

    def _have_all_read(self) -> None:
        with self._lock:
            self.readers = IN_FLIGHT
            self._grown.notify_all()

    def _take(self) -> _T:
        with self._lock:
            result = self._results.popleft()
            self._taken += 1
            if not self._holds:
                self.free(self._weigh(result))
        return result

    def free(self, weight: int) -> None:
        """Make room for as much as was taken."""
        with self._lock:
            self._weight -= weight
            if self._has_room():
                self._changed.notify_all()

    def _work(self, number: int) -> None:
        try:
            with self._lock:
                self._grown.wait_for(lambda: number < self.readers)
            while (job := self._next()) is not None:
                job(self._put)
        except CancelledError:
            # Nobody wants what it would go on with.
            self.close()
        except BaseException as error:  # noqa: BLE001 - raised again where the results are wanted
            self._error = self._error or error
            self.close()
        finally:
            with self._lock:
                self._running = (self._running or 0) - 1
                self._changed.notify_all()
                # There is nothing left for those who were not wanted so far.
                self._have_all_read()

    def _next(self) -> Job[_T] | None:
        with self._lock:
            self._changed.wait_for(self._has_room)
            return None if self._is_over else next(self._jobs, None)

    def _put(self, result: _T) -> None:
        with self._lock:
            self._results.append(result)
            self._weight += self._weigh(result)
            self._changed.notify_all()
            # A long conversation comes in parts, and goes on when there is room.
            self._changed.wait_for(self._has_room)
            if self._is_over:
                raise CancelledError

    def _has_room(self) -> bool:
        return self._weight < self._limit or self._is_over


def in_order(
    asks: Iterable[Callable[[], _T]], check: Callable[[], object] = lambda: None
) -> Iterator[_T]:
    """The results of calls in the order of the calls; what one raises comes in its turn too."""

    def run(number: int, ask: Callable[[], _T], put: Put[tuple[int, _T | Exception]]) -> None:
        try:
            answer: _T | Exception = ask()
        except Exception as error:  # noqa: BLE001 - raised when it is its turn
            answer = error
        put((number, answer))

    jobs = (partial(run, number, ask) for number, ask in enumerate(asks))
    pool = Pool(jobs, weigh=lambda _: 1, limit=IN_FLIGHT, check=check, holds=True)
    early: dict[int, _T | Exception] = {}
    wanted = 0
    try:
        for number, result in pool:
            early[number] = result
            while wanted in early:
                ready = early.pop(wanted)
                # What waits for its turn has room for none ahead of it.
                pool.free(1)
                if isinstance(ready, Exception):
                    raise ready
                yield ready
                wanted += 1
    finally:
        pool.close()
