"""Tasks that wait at the same time, in the thread of whoever wants them or in one of their own."""

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from flowiq_source.api.in_flight import IN_FLIGHT, ReadAhead, Task, as_completed, in_order, sleep
from flowiq_source.errors import ServerError


async def number(value: int, after_s: float = 0.0) -> int:
    """The number, after a while."""
    await sleep(after_s)
    return value


async def failure(after_s: float = 0.0) -> int:
    """An error of the API, after a while."""
    await sleep(after_s)
    raise ServerError("no")


def test_sixteen_tasks_wait_at_the_same_time() -> None:
    """And no more: forty waits of 50 ms take three rounds."""
    running, most = 0, 0

    async def counted() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await sleep(0.05)
        running -= 1

    list(as_completed(counted() for _ in range(40)))
    assert most == IN_FLIGHT


def test_results_come_as_they_are_ready_or_in_the_order_of_the_tasks() -> None:
    """Whichever was asked for."""
    waits = [0.08, 0.0, 0.04]
    tasks = [number(n, wait_s) for n, wait_s in enumerate(waits)]
    assert list(as_completed(tasks)) == [1, 2, 0]
    tasks = [number(n, wait_s) for n, wait_s in enumerate(waits)]
    assert list(in_order(tasks)) == [0, 1, 2]


def test_in_order_an_error_has_its_place() -> None:
    """What comes before it is there first, however late it is."""
    results = in_order([number(0, 0.05), failure()])
    assert next(results) == 0
    with pytest.raises(ServerError):
        next(results)


def endless() -> Iterator[Task[int]]:
    """Numbers without end, each with a little wait."""
    n = 0
    while True:
        yield number(n, 0.001)
        n += 1


def test_reading_ahead_stops_at_its_limit_and_goes_on() -> None:
    """No task begins while what lies there weighs enough; those that have begun come too."""
    begun = 0

    def tasks() -> Iterator[Task[int]]:
        nonlocal begun
        for task in endless():
            begun += 1
            yield task

    reading = ReadAhead(tasks(), weigh=lambda _: 10, limit=200)
    time.sleep(0.3)
    assert 20 <= begun <= 20 + IN_FLIGHT
    taken = iter(reading)
    assert len({next(taken) for _ in range(100)}) == 100
    # Another may go on where the first has stopped.
    assert next(iter(reading)) >= 0
    reading.close()


def test_an_error_comes_after_the_results_of_what_has_begun() -> None:
    """And nothing else begins."""
    tasks = iter([failure(), number(1, 0.05), *(number(2, 0.05) for _ in range(14)), number(3)])
    results: list[int] = []
    with pytest.raises(ServerError):
        results.extend(as_completed(tasks))
    assert sorted(results) == [1] + [2] * 14
    next(tasks).close()


def test_reading_ahead_hands_on_what_a_task_raises() -> None:
    """After the results that were there before."""
    reading = ReadAhead(iter([number(1, 0.05), failure()]), weigh=lambda _: 1, limit=10)
    results = iter(reading)
    assert next(results) == 1
    with pytest.raises(ServerError):
        next(results)


def test_reading_ahead_can_be_given_up_in_the_middle_of_a_wait() -> None:
    """The tasks are closed and the thread ends."""
    given_up = []

    async def waits() -> int:
        try:
            await sleep(60)
        except GeneratorExit:
            given_up.append(True)
            raise
        return 0

    reading = ReadAhead(iter([waits()]), weigh=lambda _: 1, limit=10)
    began = time.monotonic()
    reading.close()
    assert given_up == [True]
    assert time.monotonic() - began < 30
    with pytest.raises(CancelledError):
        next(iter(reading))
