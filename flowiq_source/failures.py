"""What a command says of an error: one line with what to do, and the exit status."""

import re
import traceback
from pathlib import Path

import tomlkit
from dlt.common.configuration.exceptions import (
    ConfigFieldMissingException,
    ConfigProviderException,
    ConfigValueCannotBeCoercedException,
    InvalidNativeValue,
    ValueNotSecretException,
)
from dlt.common.destination.exceptions import UnknownDestinationModule
from dlt.pipeline.exceptions import PipelineStepFailed
from tomlkit.exceptions import ParseError, TOMLKitError

from flowiq_source.errors import FlowiqError
from flowiq_source.loading.refusals import causes_of, cleaned, destination_error, said
from flowiq_source.models.settings import SECTION as MODELS
from flowiq_source.models.settings import ModelSettings
from flowiq_source.settings import shortened, wrong_type

INTERRUPTED = 130
"""The exit status of a program that was ended by Ctrl-C."""


def diagnosis(error: BaseException) -> tuple[int, str]:
    """The exit status and the line."""
    causes = list(causes_of(error))
    for cause in causes:
        if isinstance(cause, KeyboardInterrupt):
            return INTERRUPTED, "interrupted"
        if isinstance(cause, FlowiqError):
            return cause.exit_status, str(cause)
        if of_setting := _of_setting(cause):
            return 2, of_setting
    if refused := destination_error(error, "the destination"):
        return refused.exit_status, str(refused)
    last = causes[-1]
    if isinstance(last, OSError) and last.errno:
        # A disk or a folder: dlt's, or that of a report.
        return 1, said(last)
    # Another message might quote a row or a connection string: only its kind is said.
    step = f"the {error.step} step" if isinstance(error, PipelineStepFailed) else "the command"
    return 1, (
        f"{step} failed with {type(last).__name__}, which nobody foresaw: "
        "--debug shows where; please report it"
    )


def _of_setting(cause: BaseException) -> str | None:  # noqa: PLR0911 - one a case
    """What is wrong with a setting that dlt cannot use; None of any other error."""
    match cause:
        case ConfigFieldMissingException() if "bearer_token" in cause.fields:
            return (
                "bearer_token is not set: put it into .dlt/secrets.toml (see "
                ".dlt/secrets.toml.example) or into SOURCES__FLOWIQ__BEARER_TOKEN"
            )
        case ConfigFieldMissingException():
            return _missing(cause)
        case ConfigValueCannotBeCoercedException():
            name = cause.field_name
            ours = wrong_type(name) or wrong_type(name, ModelSettings, ".".join(MODELS))
            return ours or f"the value of {name} has the wrong type"
        case ValueNotSecretException():
            variable = cause.key.upper().replace(".", "__")
            return (
                f"{cause.key} is a secret and stands in {cause.provider_name}: put it into "
                f".dlt/secrets.toml or into {variable}"
            )
        case InvalidNativeValue():
            return (
                f"{'.'.join(cause.embedded_sections)} of the destination cannot be read: they are "
                "a URL such as postgresql://user:password@host:5432/database, or a table of its "
                "parts"
            )
        case ConfigProviderException():
            return _unreadable(cause)
        case UnknownDestinationModule():
            return f"dlt knows no destination {cause.ref}: check destination_type"
    return None


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
        except TOMLKitError:
            return f"{shortened(path)} has a key twice: leave one of them"
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
