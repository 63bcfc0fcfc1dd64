"""Steps in the destination that another program may be in the way of."""

import logging
from collections.abc import Callable
from typing import TypeVar

import tenacity
from dlt.common.runtime import signals
from dlt.destinations.exceptions import DatabaseException
from dlt.pipeline.helpers import retry_schema_update

from flowiq_source.loading.refusals import is_held

logger = logging.getLogger("flowiq_source")
_T = TypeVar("_T")

HELD_PATIENCE_S = 60.0
"""How long a DuckDB file that another program has open is waited for."""

ATTEMPTS = 5
"""How often a step is done that another tenant's sync gets in the way of."""


def patiently(step: Callable[[], _T]) -> _T:
    """What comes of a step that may meet another tenant's, who makes the same tables meanwhile.

    A DuckDB file that another program has open is waited for.
    """
    retrying = tenacity.Retrying(
        sleep=signals.sleep,
        stop=_give_up,
        wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=2),
        retry=tenacity.retry_if_exception_type(DatabaseException)
        | tenacity.retry_if_exception(retry_schema_update())
        | tenacity.retry_if_exception(is_held),
        before_sleep=_say_held,
        reraise=True,
    )
    return retrying(step)


def _give_up(state: tenacity.RetryCallState) -> bool:
    if is_held(_error(state)):
        return (state.seconds_since_start or 0) >= HELD_PATIENCE_S
    return state.attempt_number >= ATTEMPTS


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _say_held(state: tenacity.RetryCallState) -> None:
    if state.attempt_number == 1 and is_held(_error(state)):
        logger.warning("another program has the DuckDB file open: waiting for it for a minute")
