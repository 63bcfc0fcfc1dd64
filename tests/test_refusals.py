"""What a destination's refusal becomes: a cause with a remedy, and nothing of a row."""

from collections.abc import Callable

import duckdb
import psycopg2
import pytest
from dlt.common.exceptions import MissingDependencyException
from dlt.destinations.exceptions import DatabaseTerminalException, DatabaseTransientException

from flowiq_source import DestinationError, sync
from flowiq_source.loading.refusals import cleaned, destination_error
from flowiq_source.sandbox import Contact, Sandbox
from tests.support.history import write
from tests.support.warehouse import Warehouse

REFUSALS: dict[str, tuple[Exception, str]] = {
    "held": (
        duckdb.IOException(
            'IO Error: Could not set lock on file "/data/flowiq.duckdb": Conflicting lock is held '
            "in /usr/bin/python3.11 (PID 4711) by user ann. See also https://duckdb.org/docs"
        ),
        "the file /data/flowiq.duckdb is open in /usr/bin/python3.11 (process 4711): close it",
    ),
    "extension": (
        duckdb.IOException('IO Error: Extension "/root/.duckdb/icu.duckdb_extension" not found.'),
        "run INSTALL for it",
    ),
    "newer file": (
        duckdb.IOException(
            "IO Error: Trying to read a database file with version number 67, but we can only read "
            "version 64."
        ),
        "pip install -U duckdb",
    ),
    "no folder": (
        duckdb.IOException('IO Error: Cannot open file "/no/x.duckdb": No such file or directory'),
        "the file's folder is not there",
    ),
    "no password": (
        psycopg2.OperationalError('connection to server at "db" failed: fe_sendauth: no password'),
        "the password is missing",
    ),
    "wrong password": (
        psycopg2.OperationalError('FATAL:  password authentication failed for user "loader"'),
        "user or password is wrong",
    ),
    "no host": (
        psycopg2.OperationalError('could not translate host name "nowhere" to address'),
        "no host has that name",
    ),
    "away": (
        psycopg2.OperationalError("connection to server at 127.0.0.1 failed: Connection refused"),
        "the server is away",
    ),
    "no database": (
        psycopg2.OperationalError('FATAL:  database "flowiq" does not exist'),
        'database "flowiq" does not exist: create the database',
    ),
    "no right": (
        psycopg2.errors.InsufficientPrivilege("permission denied for schema flowiq"),
        "permission denied for schema flowiq: grant the user",
    ),
    "a full disk": (OSError(28, "No space left on device"), "make room"),
    "no database file": (
        duckdb.IOException('IO Error: The file "/x" exists, but it is not a valid DuckDB database'),
        "the file is no DuckDB database",
    ),
    "a damaged file": (
        duckdb.Error("Corrupt database file: computed checksum 12345678 does not match stored"),
        "the file is damaged",
    ),
    "a folder": (
        duckdb.IOException('IO Error: Could not read from file "/data": Is a directory'),
        "that is a folder",
    ),
    "a reserved dataset": (
        duckdb.BinderException("Binder Error: Cannot create entry in system catalog"),
        "the dataset's name is reserved there",
    ),
    "no URL": (
        psycopg2.ProgrammingError('invalid dsn: invalid connection option "mysql://u:p@h/d"'),
        "the credentials are no URL of this destination",
    ),
}
SETTINGS = {
    "no password", "wrong password", "no database", "no database file", "a folder", "no URL",
    "a reserved dataset",
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_named_with_what_to_do(case: str) -> None:
    """By the driver's own words, as far as they are names."""
    said, remedy = REFUSALS[case]
    error = destination_error(DatabaseTransientException(said), "warehouse")
    assert str(error).startswith("warehouse: ")
    assert remedy in str(error)
    assert "u:p" not in str(error)
    assert error is not None
    assert error.exit_status == (2 if case in SETTINGS else 1)


def test_a_missing_package_is_a_setting() -> None:
    """It is named; another run will not help."""
    error = destination_error(MissingDependencyException("Postgres", ["psycopg2"]), "postgres")
    assert error is not None
    assert error.exit_status == 2
    assert "psycopg2" in str(error)


def test_what_the_destination_did_not_raise_is_not_its_refusal() -> None:
    """A user's own step, for one."""
    assert destination_error(ValueError("a step of the user's"), "duckdb") is None


SECRET = "my private words to +27 82 555 0123"
OF_A_ROW = [
    psycopg2.errors.NotNullViolation(
        f'null value in column "x" violates not-null constraint\nDETAIL:  Failing row ({SECRET}).'
    ),
    psycopg2.DataError(f'invalid input syntax for type integer: "{SECRET}"'),
    psycopg2.errors.SyntaxError(f"syntax error\nLINE 1: INSERT INTO t VALUES ('{SECRET}')"),
    duckdb.ConversionException(f"Conversion Error: Could not convert string '{SECRET}' to INT32"),
    duckdb.ConstraintException(f'Constraint Error: Duplicate key "id: {SECRET}" violates'),
    duckdb.InvalidInputException(f"Invalid Input Error: Malformed JSON. Input: {SECRET}"),
    RuntimeError(f"the row with '{SECRET}' and +27 82 555 0123 was refused"),
]


@pytest.mark.parametrize("said", OF_A_ROW, ids=lambda said: type(said).__name__)
def test_a_rows_text_is_not_in_a_refusal(said: Exception) -> None:
    """Only its kind is."""
    error = destination_error(DatabaseTerminalException(said), "warehouse")
    assert type(said).__name__ in str(error)
    for part in ("private", "555 0123"):
        assert part not in str(error)
        assert part not in cleaned(str(said))


def test_a_row_that_the_database_refuses_is_quoted_nowhere(
    warehouse: Warehouse,
    sandbox: Sandbox,
    alice: Contact,
    capfd: pytest.CaptureFixture[str],
    all_logs: Callable[[], str],
) -> None:
    """Not in the error, what it was raised in, the log, the trace, nor any file of dlt's."""
    warehouse.sync(sandbox)
    write(sandbox, alice, 3)
    alice.messages[-1].content = SECRET
    warehouse.query("ALTER TABLE flowiq.messages ALTER content TYPE INTEGER")
    pipeline = warehouse.pipeline
    with pytest.raises(DestinationError, match="refuses a row") as failure:
        sync(pipeline, warehouse.source(sandbox))
    assert failure.value.__context__ is None
    assert failure.value.__cause__ is None
    said = f"{failure.value}{all_logs()}{''.join(capfd.readouterr())}{pipeline.last_trace}"
    files = [path for path in (warehouse.folder / "pipelines").rglob("*") if path.is_file()]
    kept = b"".join(path.read_bytes() for path in files)
    for part in ("private", "555 0123"):
        assert part not in said
        assert part.encode() not in kept
