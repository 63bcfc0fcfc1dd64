"""Several requests at a time: results as they come, or in order. Tasks run in threads."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TypeVar

from dlt.common.runtime import signals

IN_FLIGHT = 16
"""How many conversations are read at a time."""

_BUSY = 0.8
"""From which share of one processor on it is the processor that a run waits for."""

_POLL_S = 0.2
"""How often a wait looks whether Ctrl-C came."""

_T = TypeVar("_T")

Task = Callable[[], _T]


class Window:
    """How many tasks are worth having in flight: up to `IN_FLIGHT`, while the processor has time.

    Against an API that answers at once, sixteen threads that wait for Python's lock take twice the
    time of two, and each keeps memory of its own.
    """

    def __init__(self) -> None:
        self.size = IN_FLIGHT // 4
        self._start()

    def _start(self) -> None:
        self._finished, self._began_s = 0, time.monotonic()
        self._cpu_s = time.process_time()

    def note(self, finished: int) -> None:
        """Look again when every place in the window has been used twice."""
        self._finished += finished
        if self._finished < 2 * self.size:
            return
        busy = (time.process_time() - self._cpu_s) / (time.monotonic() - self._began_s)
        self.size = max(2, self.size // 2) if busy > _BUSY else min(IN_FLIGHT, self.size * 2)
        self._start()


def as_completed(tasks: Iterable[Task[_T]], window: Window) -> Iterator[list[_T]]:
    """The results of tasks, as they come, one or more at a time.

    The next tasks are taken when there is room for them, so they may depend on results.
    """
    source = iter(tasks)
    # Cheaper than `wait`, which looks at every future each time.
    done: SimpleQueue[Future[_T]] = SimpleQueue()
    running = 0
    with _pool() as pool:
        while True:
            for task in islice(source, max(0, window.size - running)):
                pool.submit(task).add_done_callback(done.put)
                running += 1
            if not running:
                return
            finished = [_next(done)]
            while not done.empty():
                finished.append(done.get())
            running -= len(finished)
            window.note(len(finished))
            yield [future.result() for future in finished]


def in_order(tasks: Iterable[Task[_T]]) -> Iterator[_T]:
    """The results of tasks in the order of the tasks."""
    source = iter(tasks)
    with _pool() as pool:
        running: deque[Future[_T]] = deque()
        while True:
            running += [pool.submit(task) for task in islice(source, IN_FLIGHT - len(running))]
            if not running:
                return
            yield _result(running.popleft())


def _next(done: "SimpleQueue[Future[_T]]") -> Future[_T]:
    while True:
        signals.raise_if_signalled()
        with suppress(Empty):
            return done.get(timeout=_POLL_S)


def _result(future: Future[_T]) -> _T:
    while not wait([future], timeout=_POLL_S).done:
        signals.raise_if_signalled()
    return future.result()


_of_thread = threading.local()


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    given_up = threading.Event()
    pool = ThreadPoolExecutor(
        IN_FLIGHT,
        thread_name_prefix="flowiq",
        initializer=lambda: setattr(_of_thread, "given_up", given_up),
    )
    try:
        yield pool
    finally:
        # Not waiting: when a run is given up, nobody wants what is still on its way.
        given_up.set()
        pool.shutdown(wait=False, cancel_futures=True)


def sleep(seconds: float) -> None:
    """`time.sleep` that a task need not sit out when its results are not wanted any more.

    Raises:
        CancelledError: they are not.
        KeyboardInterrupt: a signal came in the main thread.
    """
    given_up: threading.Event | None = getattr(_of_thread, "given_up", None)
    if given_up is None:
        signals.sleep(seconds)
        signals.raise_if_signalled()
    elif given_up.wait(seconds):
        raise CancelledError
