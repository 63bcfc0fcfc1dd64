"""What a destination says when it refuses: in one line, with what to do, and without a row's text.

A driver's message may quote the row that it could not take, or the SQL that held it. So only what
is known to be a name is kept of it, and dlt's own log of the error is cut down to that.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import dlt
from dlt.common.destination.exceptions import DestinationException
from dlt.common.exceptions import MissingDependencyException
from dlt.destinations.exceptions import DatabaseException
from dlt.load.exceptions import LoadClientJobException
from dlt.pipeline.exceptions import PipelineStepFailed

from flowiq_source.errors import DestinationError, FlowiqError

_T = TypeVar("_T")

_HELD = re.compile(
    r'lock on file "(?P<file>[^"]+)": Conflicting lock is held in (?P<program>.*?) '
    r"\(PID (?P<pid>\d+)"
)

_REMEDIES = [
    (
        r"Ambiguous reference to catalog or schema",
        "the DuckDB file and the dataset have one name: give one of them another",
    ),
    (r"different configuration than existing", "this process has the file open in another way"),
    (
        r"database file with version number|newer version of DuckDB|storage version",
        "the file was written by another version of DuckDB: pip install -U duckdb",
    ),
    (r"not a valid DuckDB database", "the file is no DuckDB database: name another one"),
    (
        r"Corrupt database file|Could not read enough bytes|Serialization Error",
        "the file is damaged: put a copy of it in its place, or begin a new one",
    ),
    (r"Is a directory", "that is a folder: name a file in it"),
    (
        r"[Ee]xtension .*(?:not found|not be loaded|INSTALL)|[Dd]ownload extension",
        "DuckDB's extension is missing: run INSTALL for it in DuckDB on a machine with a network",
    ),
    (r"No space left|[Dd]isk full|disk is full", "the disk is full: make room and run again"),
    (r"Permission denied|[Rr]ead-only", "this user may not write there: change its rights"),
    (
        r"Cannot open file|No such file or directory|Not a directory|does not exist: .*directory",
        "the file's folder is not there: make it, or name another one",
    ),
    (
        r"no password supplied|fe_sendauth",
        "the password is missing: put it into DESTINATION__<TYPE>__CREDENTIALS or secrets.toml",
    ),
    (r"authentication failed|[Ll]ogin failed|Access denied", "user or password is wrong"),
    (r"could not translate host|Name or service not known", "no host has that name"),
    (
        r"[Cc]onnection (?:refused|timed out|reset)|could not connect|timeout expired"  # noqa: ISC004
        r"|server closed the connection|terminating connection",
        "the server is away or does not listen there: start it, or check host and port",
    ),
    (r'database "[^"]+" does not exist', "create the database, or name another one"),
    (r'role "[^"]+" does not exist', "the server has no such user"),
    (r"permission denied", "grant the user the right to create and write there"),
    (r"lock timeout|deadlock|could not obtain lock", "another program was at it: run again"),
    (
        r"in (?:system|temporary) catalog|unacceptable schema name",
        "the dataset's name is reserved there: give it another",
    ),
    (r"reserved|syntax error at or near|[Pp]arser [Ee]rror", "a name may be reserved there"),
    (r"invalid (?:dsn|connection option)", "the credentials are no URL of this destination"),
]
_OF_A_SETTING = re.compile(
    r"Ambiguous reference to catalog|not a valid DuckDB|Is a directory|no password supplied"
    r"|fe_sendauth|authentication failed|[Ll]ogin failed|Access denied|invalid dsn"
    r'|(?:database|role) "[^"]+" does not exist|in (?:system|temporary) catalog|unacceptable schema'
)
"""What another run comes to as well."""
_REMEDY = "see what the destination's own log says, and run again"

# What a driver calls an error that is about a value; its text may quote the row.
_OF_A_ROW = re.compile(
    "Integrity|Data(?:base)?Error$|Constraint|Conversion|OutOfRange|InvalidInput|Violation|Truncation"
    "|Invalid(?:Text|Datetime|Byte|Json|Numeric)|NumericValue|NotNull|Unique|CharacterNot|Untranslat"
)
_NAMED = "file|database|role|user|schema|table|relation|column|extension|type|host|function|view"
_QUOTED = re.compile(
    rf"(?P<kind>\b(?:{_NAMED}) )?(?P<quoted>\"[^\"]*\"|'[^']*'|`[^`]*`)", re.IGNORECASE
)
_VALUES = re.compile(r"\s*(?:DETAIL|LINE \d|VALUES|Input:|Failing row|Key \().*", re.DOTALL)
_NUMBER = re.compile(r"\+?\d[\d ()./-]{5,}\d")
_LONGEST = 200


def destination_error(error: BaseException, destination: str) -> DestinationError | None:
    """What to raise of an error that the destination has raised; None of any other."""
    causes = list(causes_of(error))
    if any(isinstance(cause, KeyboardInterrupt | FlowiqError) for cause in causes):
        return None
    if missing := next((c for c in causes if isinstance(c, MissingDependencyException)), None):
        return DestinationError(" ".join(str(missing).split()), exit_status=2)
    in_step = isinstance(error, PipelineStepFailed) and error.step in {"load", "sync"}
    if not in_step and not any(map(_is_of_destination, causes)):
        return None
    cause = _innermost(causes)
    status = 2 if _OF_A_SETTING.search(str(cause)) else 1
    return DestinationError(f"{destination}: {said(cause)}", status)


def _is_of_destination(error: BaseException) -> bool:
    # PEP 249 calls the base of a driver's errors so; dlt passes some of them on as they are.
    is_drivers = any(kind.__name__ == "Error" for kind in type(error).__mro__)
    return is_drivers or isinstance(error, DestinationException | LoadClientJobException)


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came of, the driver's own last."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = (
            getattr(error, "client_exception", None)
            or getattr(error, "inner_exc", None)
            or getattr(error, "dbapi_exception", None)
            or error.__cause__
            or error.__context__
        )


def _innermost(causes: list[BaseException]) -> BaseException:
    """The driver's own error, where there is one."""
    return next((c for c in reversed(causes) if not isinstance(c, DatabaseException)), causes[-1])


def said(error: BaseException) -> str:
    """What an error is and says, without a row's text, and what to do."""
    kind, text = type(error).__name__, str(error)
    if held := _HELD.search(text):
        return (
            f"the file {held['file']} is open in {held['program']} (process {held['pid']}): "
            "close it there and run again"
        )
    remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, text)), None)
    if remedy is None and (_OF_A_ROW.search(kind) or not text.strip()):
        return f"it refuses a row ({kind}); {_REMEDY}"
    return f"{kind}: {cleaned(text)}: {remedy or _REMEDY}"


def cleaned(text: str) -> str:
    """The first line of a driver's message, with names and without values."""
    line = _VALUES.sub("", text.strip().split("\n", 1)[0])
    line = _QUOTED.sub(lambda m: m[0] if m["kind"] or _is_file(m["quoted"]) else "…", line)
    return _NUMBER.sub("…", line)[:_LONGEST].strip().rstrip(":.!")


def _is_file(quoted: str) -> bool:
    return quoted[1:].startswith(("/", "~", "\\")) and " " not in quoted


def is_held(error: BaseException | None) -> bool:
    """Whether another process has the DuckDB file open."""
    return any(_HELD.search(str(cause)) for cause in causes_of(error))


_SAID_ELSEWHERE = (
    # For each table, again and again; the summary says it once.
    "Falling back to `append`",
    # Of a run that is interrupted, which is what the command says.
    "Exiting runner due to signal",
    "was not fully loaded. Load job pool is successfully drained",
)


def without_row_text(record: logging.LogRecord) -> bool:
    """Keep of what dlt logs of a failed job which job it was; whether there is anything to say."""
    if any(said in record.getMessage() for said in _SAID_ELSEWHERE):
        return False
    if record.levelno >= logging.WARNING and (record.exc_info or "\n" in record.getMessage()):
        record.msg = cleaned(record.getMessage().partition(" with message")[0])
        record.args, record.exc_info, record.exc_text = (), None, None
    return True


_cutting: list[object] = []
"""Whoever wants the log to be cut: there may be one in each of several threads."""
_cutting_lock = threading.Lock()


@contextmanager
def _row_texts_unsaid() -> Iterator[None]:
    """Keep what a destination quotes of a row out of dlt's log."""
    logger, me = logging.getLogger("dlt"), object()
    with _cutting_lock:
        _cutting.append(me)
        logger.addFilter(without_row_text)
    try:
        yield
    finally:
        with _cutting_lock:
            _cutting.remove(me)
            if not _cutting:
                logger.removeFilter(without_row_text)


def without_row_texts(
    pipeline: dlt.Pipeline, step: Callable[[], _T], *, refused: Callable[[], object] = lambda: None
) -> _T:
    """What a step with the destination comes to; `refused` is called before a refusal is raised.

    Raises:
        DestinationError: the destination refuses or is away; no row's text is in it.
    """
    try:
        with _row_texts_unsaid():
            return step()
    except Exception as error:
        refusal = destination_error(error, pipeline.destination.destination_name)
        if refusal is None:
            raise
        refused()
    # Out here, it has no context that would quote the row after all.
    raise refusal
