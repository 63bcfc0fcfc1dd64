"""Threads that load one file wait for each other, and for nobody else."""

import ctypes
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
from dlt.common.schema import Schema
from dlt.destinations.exceptions import DatabaseTransientException
from dlt.pipeline.pipeline import Pipeline

from flowiq_source import DestinationError
from flowiq_source.loading.destination import held_open
from flowiq_source.loading.refusals import without_row_texts
from flowiq_source.loading.turns import ANYBODY, Turn, turn_at
from flowiq_source.sandbox import Contact, Sandbox
from tests.support.history import write
from tests.support.warehouse import Warehouse


class Stopped(BaseException):
    """What somebody raises in a thread."""


class Waiter(threading.Thread):
    """A thread that takes a turn, and says when it has it."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(daemon=True)
        self.turn, self.has_it, self.goes_on = turn, threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Wait for the turn, and then until told."""
        try:
            with self.turn:
                self.has_it.set()
                self.goes_on.wait(20)
        except BaseException as error:
            self.error = error


def test_a_turn_is_one_threads_at_a_time_as_often_as_it_likes() -> None:
    """The next has it when the first has left it altogether."""
    turn = Turn()
    with turn:
        with turn:
            other = Waiter(turn)
            other.start()
        assert not other.has_it.wait(0.1)
    assert other.has_it.wait(20)
    other.goes_on.set()
    other.join(20)
    assert other.error is None


def test_who_is_stopped_while_waiting_leaves_the_turn_to_others() -> None:
    """Whatever is raised in its thread, and whenever."""
    turn = Turn()
    for _ in range(50):
        waiters = [Waiter(turn) for _ in range(2)]
        with turn:
            for one in waiters:
                one.start()
            for one in waiters:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(one.ident or 0), ctypes.py_object(Stopped)
                )
        for one in waiters:
            one.goes_on.set()
            one.join(20)
            assert not one.is_alive()
    last = Waiter(turn)
    last.start()
    assert last.has_it.wait(20)
    last.goes_on.set()


def test_pipelines_into_one_file_share_a_turn(tmp_path: Path) -> None:
    """However the file is named, or one connection; a server is anybody's."""

    def turn(name: str, destination: Any) -> Turn:
        pipeline = dlt.pipeline(name, destination=destination, dataset_name="flowiq")
        return turn_at(pipeline, Schema("flowiq"))

    here = turn("one", dlt.destinations.duckdb("some.duckdb"))
    assert turn("two", dlt.destinations.duckdb(str(tmp_path / "some.duckdb"))) is here
    assert turn("three", dlt.destinations.duckdb("other.duckdb")) is not here
    with closing(duckdb.connect(":memory:")) as connection:
        given = [turn(name, dlt.destinations.duckdb(connection)) for name in ("four", "five")]
    assert given[0] is given[1] is not ANYBODY
    server = "postgresql://loader:unused@db.example.com/warehouse"
    assert turn("six", dlt.destinations.postgres(server)) is ANYBODY


OPEN = "import sys, duckdb; duckdb.connect(sys.argv[1])"


def test_no_other_process_comes_between_the_steps_of_a_load(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """What they hand on lies in a staging dataset that is everybody's."""
    write(sandbox, alice, 1)
    assert warehouse.sync(sandbox).complete

    def other() -> int:
        command = [sys.executable, "-c", OPEN, str(warehouse.file)]
        return subprocess.run(command, check=False, capture_output=True).returncode

    with held_open(warehouse.pipeline, Schema("flowiq")):
        assert other() != 0
    assert other() == 0


def test_no_row_is_quoted_as_long_as_one_thread_is_at_it(
    warehouse: Warehouse, all_logs: Callable[[], str]
) -> None:
    """Though another has ended meanwhile."""
    begun, ended = threading.Event(), threading.Event()

    def longer() -> None:
        begun.set()
        assert ended.wait(20)
        logging.getLogger("dlt").warning("a job failed\nwith message: a secret text")

    pipeline = warehouse.pipeline
    thread = threading.Thread(target=lambda: without_row_texts(pipeline, longer))
    thread.start()
    assert begun.wait(20)
    with pytest.raises(DestinationError):
        without_row_texts(pipeline, refuse)
    ended.set()
    thread.join(20)
    assert "a job failed" in all_logs()
    assert "secret" not in all_logs()


def refuse() -> None:
    """As a destination does."""
    raise duckdb.IOException("No space left on device")


def test_nobody_comes_between_two_attempts_of_a_load(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another tenant would empty the staging dataset, which is everybody's."""
    write(sandbox, alice, 3)
    load, waiters = Pipeline.load, list[Waiter]()

    def fails_first(pipeline: dlt.Pipeline, **options: Any) -> Any:
        if not waiters:
            waiters.append(Waiter(turn_at(pipeline, Schema("flowiq"))))
            waiters[0].goes_on.set()
            waiters[0].start()
            raise DatabaseTransientException(OSError("another tenant is in the way"))
        assert not waiters[0].has_it.is_set()
        return load(pipeline, **options)

    monkeypatch.setattr(Pipeline, "load", fails_first)
    assert warehouse.sync(sandbox).newer == 3
    waiters[0].join(20)
    assert waiters[0].has_it.is_set()
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 3
