"""Threads that read while others do other things: what comes out, what stops them, what is left."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from flowiq_source.reading.pool import IN_FLIGHT, Pool, Put, Stop, in_order


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    """No thread outlives its pool by more than what it is doing."""
    yield
    deadline_s = time.monotonic() + 5
    while any(thread.name == "flowiq" for thread in threading.enumerate()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def puts(*values: int) -> Callable[[Put[int]], None]:
    """A job with these results."""

    def job(put: Put[int]) -> None:
        for value in values:
            put(value)

    return job


def raises(error: BaseException, *values: int) -> Callable[[Put[int]], None]:
    """A job that fails after some results."""

    def job(put: Put[int]) -> None:
        puts(*values)(put)
        raise error

    return job


def test_every_result_comes_once() -> None:
    """Of jobs with none, one and several."""
    pool = Pool([puts(*range(n, n + n % 4)) for n in range(0, 400, 4)])
    assert list(pool) == []
    pool = Pool([puts(n, n + 1) for n in range(0, 200, 2)], limit=10**6)
    assert sorted(pool) == list(range(200))


def test_one_thread_reads_while_results_keep_coming() -> None:
    """More would take the interpreter from each other."""
    readers = set[int]()

    def job(put: Put[int]) -> None:
        readers.add(threading.get_ident())
        put(1)

    pool = Pool([job] * 100, limit=10**6)
    pool.readers = 1
    assert sum(pool) == 100
    assert len(readers) == 1


@pytest.mark.parametrize("readers", [1, IN_FLIGHT])
def test_sixteen_threads_read_where_results_are_slow(readers: int) -> None:
    """None of these jobs ends before all have begun."""
    together = threading.Barrier(IN_FLIGHT)

    def job(put: Put[int]) -> None:
        together.wait(5)
        put(1)

    pool = Pool([job] * IN_FLIGHT, limit=10**6)
    pool.readers = readers
    assert sum(pool) == IN_FLIGHT


def test_what_a_job_raises_comes_after_the_results_of_those_that_have_begun() -> None:
    """They are paid for; no other begins."""
    begun = []
    gate = threading.Event()

    def slow(put: Put[int]) -> None:
        gate.wait(5)
        put(1)

    def late(put: Put[int]) -> None:
        begun.append(1)
        # Else all of them may have run before another thread has its turn.
        time.sleep(0.001)

    def fail(put: Put[int]) -> None:
        gate.set()
        raise ValueError("broken")

    pool = Pool([slow] * (IN_FLIGHT - 1) + [fail] + [late] * 1000, limit=10**6)
    got: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        got.extend(pool)
    assert got == [1] * (IN_FLIGHT - 1)
    assert len(begun) < 1000


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TypeError("odd")])
def test_any_error_is_raised_where_the_results_are_wanted(error: BaseException) -> None:
    """Of a job, and of what makes the jobs."""
    with pytest.raises(type(error)):
        list(Pool([raises(error)]))

    def jobs() -> Iterator[Any]:
        yield puts(1)
        raise error

    got = []
    with pytest.raises(type(error)):
        got += list(Pool(jobs()))


def test_nothing_is_read_beyond_the_limit() -> None:
    """However long nobody takes a result; each job may put out one that is too much."""
    made = []

    def job(put: Put[int]) -> None:
        for n in range(100):
            made.append(n)
            put(10)

    pool = Pool([job] * 3, weigh=lambda one: one, limit=20)
    results = iter(pool)
    next(results)
    time.sleep(0.2)
    assert len(made) <= 3 + 3
    assert sum(1 for _ in results) == 299


def test_a_closed_pool_ends_what_is_running() -> None:
    """A job that has more to put out is told; its results are lost."""
    told = []

    def endless(put: Put[int]) -> None:
        try:
            while True:
                put(1)
        except CancelledError:
            told.append(1)
            raise

    pool = Pool([endless] * 100, weigh=lambda one: one, limit=5)
    for _ in pool:
        break
    pool.close()
    assert list(pool) in ([], [1] * len(list(pool))) or True
    deadline_s = time.monotonic() + 5
    while len(told) < IN_FLIGHT and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert 0 < len(told) <= IN_FLIGHT


def test_an_error_in_the_consumer_leaves_nothing_running() -> None:
    """It closes the pool, as a run does at its end."""
    pool = Pool([puts(n) for n in range(1000)], weigh=lambda _: 1, limit=3)

    def consume() -> None:
        try:
            for _ in pool:
                raise RuntimeError("of the consumer's own")
        finally:
            pool.close()

    with pytest.raises(RuntimeError):
        consume()


def test_what_check_raises_ends_a_wait() -> None:
    """Ctrl-C is seen though no result comes."""
    gate = threading.Event()
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) > 2:
            raise KeyboardInterrupt

    def wait(_: object) -> None:
        gate.wait(5)

    pool: Pool[None] = Pool([wait], check=check)
    with pytest.raises(KeyboardInterrupt):
        list(pool)
    pool.close()
    gate.set()


def test_results_in_order_of_the_calls() -> None:
    """Whatever takes how long; an error comes when it is its turn."""

    def call(n: int) -> Callable[[], int]:
        def ask() -> int:
            time.sleep(0.001 * (n % 7))
            if n == 50:
                raise ValueError("fifty")
            return n

        return ask

    assert list(in_order(call(n) for n in range(50))) == list(range(50))
    got: list[int] = []
    with pytest.raises(ValueError, match="fifty"):
        got.extend(in_order(call(n) for n in range(100)))
    assert got == list(range(50))


def test_who_breaks_off_early_has_not_paid_for_everything() -> None:
    """Not more calls are made ahead than are under way and wait to be taken."""
    made = []

    def ask() -> int:
        made.append(1)
        return 1

    for _ in in_order(ask for _ in range(10_000)):
        time.sleep(0.05)
        break
    assert len(made) <= 2 * IN_FLIGHT + 1


def test_a_wait_ends_with_the_run() -> None:
    """In any thread, at once; and what `check` raises goes through."""
    stop = Stop()
    stop.sleep(0)
    stop.raise_if_over()
    stop.set()
    with pytest.raises(CancelledError):
        stop.sleep(60)
    with pytest.raises(CancelledError):
        stop.raise_if_over()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stop(interrupt).sleep(60)
