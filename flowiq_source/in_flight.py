"""Several requests at a time in one thread: coroutines that wait for answers, or sleep.

libcurl sends and receives; Python goes on when an answer is complete. It is no asyncio: in a
notebook an event loop is running already, and a second one may not.
"""

import heapq
import itertools
import time
import types
from collections.abc import Coroutine, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from typing import Any, Generic, TypeVar

import pycurl
from dlt.common.runtime import signals

IN_FLIGHT = 16
"""How many conversations are read at a time."""

_POLL_S = 0.2
"""How often a wait looks whether Ctrl-C came."""

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


def as_completed(tasks: Iterable[Task[_T]]) -> Iterator[_T]:
    """The results of tasks, as they come.

    The next tasks are taken when there is room for them, so they may depend on results.
    """
    source = iter(tasks)
    with closing(_Running[_T]()) as running:
        while True:
            for task in itertools.islice(source, IN_FLIGHT - len(running)):
                running.go_on(task)
            if running:
                running.wait()
            elif not running.results:
                return
            while running.results:
                yield running.results.pop()


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
        if isinstance(wanted, pycurl.Curl):
            self._asking[wanted] = task
            self._multi.add_handle(wanted)
        else:
            wake_at = time.monotonic() + wanted
            # Numbered, because tasks do not compare.
            heapq.heappush(self._sleeping, (wake_at, next(self._numbers), task))

    def wait(self) -> None:
        """Have a task go on whose answer is there or whose sleep is over, or wait a little."""
        signals.raise_if_signalled()
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
