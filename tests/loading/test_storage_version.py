"""A new DuckDB file can be opened by the DuckDB of Python 3.10, of Node and of BI tools."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from flowiq_source import FlowiqError
from flowiq_source.sandbox import Contact, Sandbox
from tests.support.history import write
from tests.support.warehouse import Warehouse

OLD = "1.5.6"
VERSION = "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'warehouse'"


@pytest.fixture(scope="session")
def old_duckdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the newest DuckDB of the versions before 2.0."""
    folder = tmp_path_factory.mktemp("duckdb")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--no-deps", "--target", str(folder), f"duckdb=={OLD}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"duckdb {OLD} cannot be installed beside: pip needs a package index")
    return folder


def test_an_older_duckdb_opens_the_file(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, old_duckdb: Path
) -> None:
    """After two syncs, and it finds every message."""
    for _ in range(2):
        write(sandbox, alice, 3)
        warehouse.sync(sandbox)
    sql = "SELECT count(*) FROM flowiq.current_messages"
    script = (
        f"import duckdb; assert duckdb.__version__ == '{OLD}'; "
        f"print(duckdb.connect({str(warehouse.file)!r}, read_only=True).sql('{sql}').fetchone())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(old_duckdb)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("(6,)", 0), done.stderr


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_new_file_is_made_for_the_version_that_is_set(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, looked_at: bool
) -> None:
    """Also where a command that only looks has made an empty one; later syncs keep it."""
    if looked_at:
        duckdb.connect(str(warehouse.file)).close()
    assert alice.id
    for wanted in ("v1.4.0", "v1.2.0"):
        warehouse.sync(sandbox, duckdb_storage_version=wanted)
        assert warehouse.one(VERSION) == "v1.4.0+"


def test_a_file_with_tables_stays_as_it_is(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """Somebody else's table is not lost."""
    with closing(duckdb.connect(str(warehouse.file))) as connection:
        connection.execute("CREATE TABLE theirs AS SELECT 1 AS one")
    assert alice.id
    warehouse.sync(sandbox)
    assert warehouse.one("SELECT one FROM theirs") == 1


def test_a_version_that_is_none_is_refused(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """By the name of the setting, and before a request."""
    assert alice.id
    with pytest.raises(FlowiqError, match="duckdb_storage_version is no version"):
        warehouse.sync(sandbox, duckdb_storage_version="1.2")
    assert not sandbox.requests
