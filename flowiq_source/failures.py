"""What a command says of an error: one line with what to do, and the exit status."""

import re
import traceback
from pathlib import Path

import tomlkit
from dlt.common.configuration.exceptions import (
    ConfigFieldMissingException,
    ConfigProviderException,
    ConfigValueCannotBeCoercedException,
)
from dlt.common.destination.exceptions import UnknownDestinationModule
from dlt.pipeline.exceptions import PipelineStepFailed
from tomlkit.exceptions import ParseError

from flowiq_source.errors import FlowiqError
from flowiq_source.loading.refusals import causes_of, cleaned, destination_error
from flowiq_source.settings import shortened, wrong_type

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
                return 2, _missing(cause)
            case ConfigValueCannotBeCoercedException():
                ours = wrong_type(cause.field_name)
                return 2, ours or f"the value of {cause.field_name} has the wrong type"
            case ConfigProviderException():
                return 2, _unreadable(cause)
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


_VARIABLE = re.compile(r"Environment Variables, (DESTINATION__\w+__CREDENTIALS)(?:__(\w+))?")


def _missing(error: ConfigFieldMissingException) -> str:
    """Which of the destination's settings is not there, and where to put it."""
    # It says what was looked for, and no value of it.
    found = dict.fromkeys(_VARIABLE.findall(str(error)))
    if not found:
        return f"{', '.join(error.fields)} is not set: put it into .dlt/config.toml"
    [(credentials, part), *others] = found
    # All but the password may stand in a URL.
    what, where = "credentials of the destination", credentials
    if part and not others:
        what, where = f"the {part.lower()} for the destination", f"{credentials}__{part}"
    verb = "are not set: put them" if what.startswith("cred") else "is not set: put it"
    return f"{what} {verb} into .dlt/secrets.toml or into {where}"


def _unreadable(error: ConfigProviderException) -> str:
    """Which file is no TOML, and where; what stands there may be a secret."""
    for path in map(Path, getattr(error, "full_paths", ())):
        try:
            tomlkit.parse(path.read_text(encoding="utf-8"))
        except ParseError as wrong:
            return f"{shortened(path)} is no TOML in line {wrong.line}: correct it there"
        except (OSError, ValueError) as wrong:
            if path.exists():
                return f"{shortened(path)} cannot be read ({type(wrong).__name__})"
    return f"dlt cannot read its settings from {error.provider_name}"


def trace(error: BaseException) -> str:
    """Where it failed, without what the errors say beyond their first, cleaned line."""
    parts = []
    for cause in reversed(list(causes_of(error))):
        parts += traceback.format_tb(cause.__traceback__)
        parts.append(f"{type(cause).__name__}: {cleaned(str(cause))}\n\n")
    return "Traceback (innermost error first):\n" + "".join(parts)
