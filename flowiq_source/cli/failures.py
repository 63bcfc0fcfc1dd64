"""What a command says of an error: one line with what to do, and the exit status."""

import traceback

from dlt.common.configuration.exceptions import (
    ConfigFieldMissingException,
    ConfigValueCannotBeCoercedException,
)
from dlt.common.destination.exceptions import UnknownDestinationModule
from dlt.pipeline.exceptions import PipelineStepFailed

from flowiq_source.errors import FlowiqError
from flowiq_source.loading.refusals import causes_of, cleaned, destination_error

INTERRUPTED = 130
"""The exit status of a program that was ended by Ctrl-C."""


def diagnosis(error: BaseException) -> tuple[int, str]:  # noqa: PLR0911 - one a case
    """The exit status and the line."""
    causes = list(causes_of(error))
    for cause in causes:
        match cause:
            case KeyboardInterrupt():
                return INTERRUPTED, "interrupted"
            case FlowiqError():
                return cause.exit_status, str(cause)
            case ConfigFieldMissingException() if "bearer_token" in cause.fields:
                return 2, (
                    "bearer_token is not set: put it into .dlt/secrets.toml (see "
                    ".dlt/secrets.toml.example) or into SOURCES__FLOWIQ__BEARER_TOKEN"
                )
            case ConfigFieldMissingException():
                return 2, (
                    f"{', '.join(cause.fields)} of the destination is not set: put it into "
                    ".dlt/secrets.toml or into DESTINATION__<TYPE>__CREDENTIALS"
                )
            case ConfigValueCannotBeCoercedException():
                return 2, f"the value of {cause.field_name} has the wrong type: see the README"
            case UnknownDestinationModule():
                return 2, f"dlt knows no destination {cause.ref}: check destination_type"
    if refused := destination_error(error, "the destination"):
        return refused.exit_status, str(refused)
    # Another message might quote a row or a connection string: only its kind is said.
    step = f"the {error.step} step" if isinstance(error, PipelineStepFailed) else "the command"
    last = causes[-1]
    return 1, (
        f"{step} failed with {type(last).__name__}, which nobody foresaw: "
        "--debug shows where; please report it"
    )


def trace(error: BaseException) -> str:
    """Where it failed, without what the errors say beyond their first, cleaned line."""
    parts = []
    for cause in reversed(list(causes_of(error))):
        parts += traceback.format_tb(cause.__traceback__)
        parts.append(f"{type(cause).__name__}: {cleaned(str(cause))}\n\n")
    return "Traceback (innermost error first):\n" + "".join(parts)
