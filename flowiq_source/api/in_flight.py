"""Several requests at a time in one thread: coroutines that wait for answers, or sleep.

libcurl sends and receives; Python goes on when an answer is complete. It is no asyncio: in a
notebook an event loop is running already, and a second one may not.
"""

import heapq
import itertools
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import closing
from typing import Any, Generic, TypeVar

import pycurl
from dlt.common.runtime import signals

IN_FLIGHT = 16
"""How many conversations are read at a time."""

_POLL_S = 0.2
"""How often a wait looks whether Ctrl-C came."""

_PAUSE_S = 0.01
"""How often a thread with nothing to do looks whether there is something."""

_END: Any = object()

_T = TypeVar("_T")

Task = Coroutine[Any, Any, _T]
"""A coroutine that waits for nothing but what is in this module."""


@types.coroutine
def answered(request: pycurl.Curl) -> Generator[pycurl.Curl, None, None]:
    """Wait until the answer to a request is complete.

    Raises:
        pycurl.error: there is none.
    """
    yield request


@types.coroutine
def sleep(seconds: float) -> Generator[float, None, None]:
    """Let others go on for so long."""
    yield seconds


def as_completed(
    tasks: Iterable[Task[_T] | None], check: Callable[[], object] = signals.raise_if_signalled
) -> Iterator[_T]:
    """The results of tasks, as they come.

    The next tasks are taken when there is room for them, so they may depend on results; None
    instead of a task says that there is none at the moment. When a task raises something, no more
    are taken, and it is raised after the results of those that have begun: they are paid for. What
    `check` raises ends everything at once.
    """
    source = iter(tasks)
    exhausted = False
    with closing(_Running[_T]()) as running:
        while running or not exhausted:
            check()
            while not exhausted and not running.results and len(running) < IN_FLIGHT:
                task = next(source, _END)
                exhausted = task is _END
                if task is None or exhausted:
                    break
                running.go_on(task)
            if running:
                running.wait()
            elif not running.results and not exhausted:
                time.sleep(_PAUSE_S)
            exhausted = exhausted or running.error is not None
            while running.results:
                yield running.results.pop()
        if running.error:
            raise running.error


class ReadAhead(Generic[_T]):
    """The results of tasks, as they come: in a thread, while those who want them do other things.

    No task begins while the results that nobody has taken yet weigh `limit` or more. Those that
    have begun go on, because answers do not wait.
    """

    def __init__(self, tasks: Iterable[Task[_T]], weigh: Callable[[_T], int], limit: int) -> None:
        self._tasks, self._weigh, self._limit = iter(tasks), weigh, limit
        self._results: deque[_T] = deque()
        self._weight = 0
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="flowiq", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[_T]:
        """What is there, and then what comes; may be gone on with later.

        Raises:
            BaseException: what a task has raised.
        """
        while self._wait():
            result = self._results.popleft()
            with self._changed:
                self._weight -= self._weigh(result)
            yield result
        if self._error:
            raise self._error

    def close(self) -> None:
        """Give up what is running: nobody wants it any more."""
        self._closed = True
        self._thread.join()

    def _wait(self) -> bool:
        """Whether there is another result, when that is known."""
        while True:
            signals.raise_if_signalled()
            with self._changed:
                if self._results or self._ended:
                    return bool(self._results)
                self._changed.wait(_POLL_S)

    def _read(self) -> None:
        try:
            for result in as_completed(self._with_room(), self._check):
                with self._changed:
                    self._results.append(result)
                    self._weight += self._weigh(result)
                    self._changed.notify()
        except BaseException as error:  # noqa: BLE001 - raised again where the results are wanted
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _with_room(self) -> Iterator[Task[_T] | None]:
        while True:
            if self._weight >= self._limit:
                yield None
                continue
            task = next(self._tasks, None)
            if task is None:
                return
            yield task

    def _check(self) -> None:
        if self._closed:
            raise CancelledError


def in_order(tasks: Iterable[Task[_T]]) -> Iterator[_T]:
    """The results of tasks in the order of the tasks; what a task raises comes in its turn too."""
    early: dict[int, Future[_T]] = {}
    wanted = 0
    for number, future in as_completed(_settled(n, task) for n, task in enumerate(tasks)):
        early[number] = future
        while wanted in early:
            yield early.pop(wanted).result()
            wanted += 1


async def _settled(number: int, task: Task[_T]) -> tuple[int, Future[_T]]:
    future: Future[_T] = Future()
    try:
        future.set_result(await task)
    except Exception as error:  # noqa: BLE001 - raised when it is its turn
        future.set_exception(error)
    return number, future


def result_of(task: Task[_T]) -> _T:
    """The result of one task."""
    [result] = as_completed([task])
    return result


class _Running(Generic[_T]):
    """Tasks that wait for an answer or sleep, and the results of those that have ended."""

    def __init__(self) -> None:
        self.results: list[_T] = []
        self.error: Exception | None = None
        self._multi = pycurl.CurlMulti()
        self._asking: dict[pycurl.Curl, Task[_T]] = {}
        self._sleeping: list[tuple[float, int, Task[_T]]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._asking) + len(self._sleeping)

    def go_on(self, task: Task[_T], error: Exception | None = None) -> None:
        """Run the task until it waits for something or ends."""
        try:
            wanted = task.throw(error) if error else task.send(None)
        except StopIteration as end:
            self.results.append(end.value)
            return
        except Exception as raised:  # noqa: BLE001 - raised again when the others have ended
            self.error = self.error or raised
            return
        if isinstance(wanted, pycurl.Curl):
            self._asking[wanted] = task
            self._multi.add_handle(wanted)
        else:
            wake_at = time.monotonic() + wanted
            # Numbered, because tasks do not compare.
            heapq.heappush(self._sleeping, (wake_at, next(self._numbers), task))

    def wait(self) -> None:
        """Have a task go on whose answer is there or whose sleep is over, or wait a little."""
        # For every answer, so that what its task asks next is sent before the next is looked at.
        self._multi.perform()
        if not self._take_answer() and not self._wake():
            self._rest()

    def _take_answer(self) -> bool:
        _, whole, broken = self._multi.info_read(1)
        errors = {request: pycurl.error(code, text) for request, code, text in broken}
        for request in [*whole, *errors]:
            self._multi.remove_handle(request)
            self.go_on(self._asking.pop(request), errors.get(request))
        return bool(whole or broken)

    def _wake(self) -> bool:
        now, woken = time.monotonic(), False
        while self._sleeping and self._sleeping[0][0] <= now:
            self.go_on(heapq.heappop(self._sleeping)[2])
            woken = True
        return woken

    def _rest(self) -> None:
        seconds = _POLL_S
        if self._sleeping:
            seconds = min(seconds, max(0.0, self._sleeping[0][0] - time.monotonic()))
        if self._asking:
            self._multi.select(seconds)
        else:
            time.sleep(seconds)

    def close(self) -> None:
        """Give up what is running: nobody wants it any more."""
        for request in self._asking:
            self._multi.remove_handle(request)
        for task in [*self._asking.values(), *(task for *_, task in self._sleeping)]:
            task.close()
        self._multi.close()
