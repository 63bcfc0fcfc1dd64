"""A copy of the DuckDB file that readers keep open while syncs run."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest

from flowiq_source import FlowiqError, snapshot
from flowiq_source.loading.lock import sole_sync
from flowiq_source.sandbox import Contact, Sandbox
from tests.support.history import DAY, write
from tests.support.script import Run
from tests.support.warehouse import Warehouse

COUNT = "SELECT count(*) FROM flowiq.current_messages"
READER = f"""
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
for _ in sys.stdin:
    print(connection.sql("{COUNT}").fetchall()[0][0], flush=True)
"""


@contextmanager
def reader(file: Path) -> Iterator[Any]:
    """A process that has the file open, and counts when it is asked."""
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout

    def count() -> int:
        print(file=process.stdin, flush=True)
        return int(process.stdout.readline() if process.stdout else "")

    yield count
    process.communicate()


def test_a_reader_keeps_a_snapshot_open_while_syncs_and_snapshots_go_on(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """It goes on reading the one that it has opened; who opens it later reads the newer one."""
    write(sandbox, alice, 3)
    warehouse.sync(sandbox)
    source = warehouse.source(sandbox)
    made = snapshot(warehouse.pipeline, source)
    assert Path(made.file).name == "warehouse.snapshot.duckdb"
    assert made.bytes == Path(made.file).stat().st_size
    with reader(Path(made.file)) as before:
        assert before() == 3
        sandbox.world.advance(DAY)
        sandbox.world.add_message(alice, content="later")
        assert warehouse.sync(sandbox).newer == 1
        assert snapshot(warehouse.pipeline, source).file == made.file
        assert before() == 3
        with reader(Path(made.file)) as after:
            assert after() == 4
    assert [file.name for file in warehouse.folder.glob("*.part*")] == []


def test_a_snapshot_is_made_beside_readers_of_the_file_itself(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, tmp_path: Path
) -> None:
    """It only reads it; and it is where it was wanted."""
    write(sandbox, alice, 3)
    warehouse.sync(sandbox)
    with reader(warehouse.file) as count:
        assert count() == 3
        snapshot(warehouse.pipeline, warehouse.source(sandbox), tmp_path / "copy.duckdb")
    with duckdb.connect(str(tmp_path / "copy.duckdb"), read_only=True) as connection:
        assert connection.sql(COUNT).fetchall() == [(3,)]


def test_what_cannot_be_copied_is_said(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, tmp_path: Path
) -> None:
    """No file yet, a sync that is at it, the file itself, another destination."""
    source = warehouse.source(sandbox)
    with pytest.raises(FlowiqError, match="sync first"):
        snapshot(warehouse.pipeline, source)
    warehouse.sync(sandbox)
    with sole_sync(warehouse.pipeline), pytest.raises(FlowiqError, match="syncing pipeline"):
        snapshot(warehouse.pipeline, source)
    with pytest.raises(FlowiqError, match="the file itself"):
        snapshot(warehouse.pipeline, source, warehouse.file)
    files = dlt.pipeline("f", destination=dlt.destinations.filesystem(str(tmp_path)))
    with pytest.raises(FlowiqError, match="copies a DuckDB file"):
        snapshot(files, source)
    open_connection = dlt.pipeline("o", destination=dlt.destinations.duckdb(duckdb.connect()))
    with pytest.raises(FlowiqError, match="open connection"):
        snapshot(open_connection, source)


def test_the_command_makes_a_snapshot(run: Run, sandbox: Sandbox, alice: Contact) -> None:
    """Without a token, and says where it is."""
    write(sandbox, alice, 3)
    assert run().returncode == 0
    done = run("snapshot", SOURCES__FLOWIQ__BEARER_TOKEN="")
    assert "flowiq_pipeline.snapshot.duckdb" in done.stdout
    assert done.returncode == 0
