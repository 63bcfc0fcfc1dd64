"""What goes wrong with one page or one conversation, and ends no run."""

import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TypeVar

from flowiq_source.errors import ConfigurationError, FlowiqError

_T = TypeVar("_T")


def attempt(call: Callable[[], _T]) -> _T | Exception:
    """What the call returns or raises.

    Raises:
        ConfigurationError: nothing else can be read either.
        CancelledError: the run is over.
    """
    try:
        return call()
    except (ConfigurationError, CancelledError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever one holds, the others are read
        return error


def reason(error: BaseException) -> str:
    """What an error says; of one that nobody foresaw only where, because its text may quote."""
    if isinstance(error, FlowiqError):
        return str(error)
    trace = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(trace[-1].filename).name}:{trace[-1].lineno}" if trace else ""
    return f"{type(error).__name__}{where}: this connector has a bug; the rest is read"
