"""The console script `flowiq`; each command prints one result and ends with its exit status.

Standard output is the result, standard error is talk. Exit status: 0 all is well; 1 something
failed or differs, run again; 2 a setting, the credentials or the command line are wrong; 130 it
was interrupted.
"""

import functools
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import click
import dlt
from dlt.common.runtime import signals

import flowiq_source
from flowiq_source import failures
from flowiq_source.cli import project
from flowiq_source.cli.checks import check_all
from flowiq_source.cli.demo import demonstrate, measured
from flowiq_source.cli.progress import DISPLAYS, Progress
from flowiq_source.errors import ConfigurationError
from flowiq_source.many import Outcome, TenantsInterrupted
from flowiq_source.models import create_models
from flowiq_source.roll import roll_settings, tenants_of
from flowiq_source.sandbox.command import sandbox
from flowiq_source.source import FlowiqSource
from flowiq_source.source import flowiq_source as make_source
from flowiq_source.times import parse_timestamp

logger = logging.getLogger("flowiq_source")


class Result(Protocol):
    """What a command prints."""

    @property
    def exit_status(self) -> int:
        """0, or 1 where something needs attention."""

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""


@dataclass
class Session:
    """What every command is given."""

    progress: Progress
    as_json: bool = False
    debug: bool = False

    def pipeline(self) -> dlt.Pipeline:
        """The configured pipeline, which shows its progress."""
        return project.open_pipeline(self.progress)

    def source(self, **settings: Any) -> FlowiqSource:
        """The configured source, with those settings that the command line has."""
        given = {name: value for name, value in settings.items() if value not in (None, (), False)}
        if numbers := given.get("phone_numbers"):
            given["phone_numbers"] = list(numbers)
        return make_source(**{"backend": "pyarrow"} | given)


_COMMON = [
    click.option(
        "--project",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Work in this folder, whose .dlt has the settings. [default: the nearest with one]",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object."),
    click.option(
        "--progress",
        "display",
        type=click.Choice(DISPLAYS),
        default="auto",
        show_default=True,
        help="How to show what is going on, on standard error.",
    ),
    click.option(
        "-q", "--quiet", is_flag=True, help="Show no progress; warnings and errors alone."
    ),
    click.option("--debug", is_flag=True, help="Print the traceback of a failure."),
]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`flowiq COMMAND --help` has examples. Shell completion: "
    'eval "$(_FLOWIQ_COMPLETE=bash_source flowiq)", or zsh_source, fish_source.',
)
@click.version_option(flowiq_source.__version__, prog_name="flowiq")
def flowiq() -> None:
    """WhatsApp contacts and messages from FlowIQ into DuckDB or any warehouse."""


def command(*examples: str) -> Callable[[Callable[..., Result | None]], click.Command]:
    """A command with everybody's options, whose result is printed and whose error is one line."""

    def decorate(function: Callable[..., Result | None]) -> click.Command:
        @functools.wraps(function)
        def run(
            *,
            folder: Path | None,
            as_json: bool,
            display: str,
            quiet: bool,
            debug: bool,
            **options: Any,
        ) -> None:
            progress = Progress("none" if quiet else display)
            try:
                with progress.showing():
                    project.enter(folder)
                    result = function(Session(progress, as_json, debug), **options)
                if result is not None:
                    click.echo(_json(result.as_dict()) if as_json else str(result))
            except (click.ClickException, BrokenPipeError):
                # Click's own: what is wrong with the line, and that nobody reads on.
                raise
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last line of defence
                _fail(error, progress, as_json=as_json, debug=debug)
            if result is not None:
                sys.exit(result.exit_status)

        text = "\b\nExamples:" + "".join(f"\n  {line}" for line in examples)
        made: click.Command = flowiq.command(function.__name__, epilog=text)(run)
        for option in _COMMON:
            option(made)
        return made

    return decorate


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def _fail(error: BaseException, progress: Progress, *, as_json: bool, debug: bool) -> None:
    status, text = failures.diagnosis(error)
    if status == failures.INTERRUPTED:
        kept = f": {progress.kept}; the same command goes on from there"
        text = "interrupted" + kept * progress.loads
    progress.failed(status, text, failures.trace(error) if debug else "")
    if as_json:
        # Standard output may be what failed.
        with suppress(OSError):
            click.echo(_json({"error": text, "exit_status": status}))
    if status == failures.INTERRUPTED:
        # Python would wait for threads whose work nobody wants any more.
        _close_output()
        os._exit(status)
    sys.exit(status)


def _close_output() -> None:
    """Give up what a full disk did not take: Python would try it again, and end with 120."""
    # There is none where the shell has closed it.
    if sys.stdout:
        with suppress(OSError):
            sys.stdout.close()


_MOMENT = "an ISO 8601 time such as 2026-01-31 or 2026-01-31T12:00:00Z, UTC"
_phone = click.option(
    "--phone",
    "phone_numbers",
    multiple=True,
    metavar="NUMBER",
    help="Only this contact; repeat it.",
)
_full = click.option(
    "--full-refresh", is_flag=True, help="Read every conversation to its beginning."
)


@command(
    "flowiq sync",
    "flowiq sync --full-refresh",
    "flowiq sync --max-requests 500 --json | jq .requests",
    "flowiq sync --project ~/etl --quiet",
    "flowiq sync --all --tenants tenants.toml --at-once 8",
)
@_full
@_phone
@click.option("--max-requests", type=click.IntRange(1), help="What the run may spend.")
@click.option("--max-minutes", type=click.FloatRange(0, min_open=True), help="When to stop.")
@click.option("--delete-gone", is_flag=True, help="Delete what the API no longer has.")
@click.option(
    "--force",
    is_flag=True,
    help="Believe it when over a tenth of the conversations vanish at once.",
)
@click.option("--all", "everybody", is_flag=True, help="Load all tenants that are configured.")
@click.option(
    "--tenants",
    type=click.Path(path_type=Path, dir_okay=False, resolve_path=True),
    metavar="FILE",
    help="Load all tenants of this TOML file.",
)
@click.option("--at-once", type=click.IntRange(1), help="How many tenants run at a time.")
def sync(
    session: Session,
    *,
    everybody: bool,
    tenants: Path | None,
    at_once: int | None,
    **settings: Any,
) -> Result:
    """Load everything that is new."""
    if not everybody and tenants is None:
        if at_once is not None:
            raise click.UsageError("--at-once goes with --all")
        return _run(session, settings)
    if settings.pop("phone_numbers"):
        raise click.UsageError("--phone goes with one tenant, not with --all")
    return _run_all(session, tenants, at_once, settings)


@command("flowiq backfill --from 2025-01-01 --to 2025-02-01")
@_phone
@click.option("--from", "start_date", required=True, metavar="TIME", help=f"From {_MOMENT}.")
@click.option("--to", "end_date", metavar="TIME", help="Before this time. [default: now]")
def backfill(session: Session, **settings: Any) -> Result:
    """Load the messages of a range, read before or not."""
    return _run(session, settings)


def _run(session: Session, settings: dict[str, Any]) -> Result:
    with _loading(session):
        source = session.source(**settings)
        return flowiq_source.sync(session.pipeline(), source)


def _run_all(
    session: Session, file: Path | None, at_once: int | None, settings: dict[str, Any]
) -> Result:
    roll = roll_settings(at_once=at_once, **({"file": str(file), "query": ""} if file else {}))
    given = {name: value for name, value in settings.items() if value not in (None, False)}
    progress = session.progress
    if session.debug:
        logging.getLogger("flowiq_source").setLevel(logging.DEBUG)

    def done(outcome: Outcome) -> None:
        progress.ended(outcome.tenant_id, outcome.status)
        if outcome.status != "complete":
            logger.warning("%s", outcome.text)

    with _loading(session):
        tenants = [
            # What the command line says goes before what a tenant says.
            replace(one, settings={"backend": "pyarrow"} | dict(one.settings) | given)
            for one in tenants_of(roll, session.pipeline)
        ]
        progress.begin(len(tenants))
        try:
            return flowiq_source.sync_tenants(
                tenants,
                at_once=roll.at_once,
                pipeline_of=lambda tenant: tenant.pipeline(progress.of(tenant.id)),
                done=done,
            )
        except TenantsInterrupted as interrupted:
            return interrupted.summary


@contextmanager
def _loading(session: Session) -> Iterator[None]:
    session.progress.loads = True
    if warning := project.open_secrets():
        logger.warning(warning)
    with signals.intercepted_signals():
        # Or the garbage collector looks through all imported modules again and again.
        gc.freeze()
        try:
            yield
        finally:
            gc.unfreeze()


@command("flowiq plan", "flowiq plan --full-refresh --json")
@_full
@_phone
def plan(session: Session, **settings: Any) -> Result:
    """Say what a sync would cost, for one request."""
    return flowiq_source.plan(session.pipeline(), session.source(**settings))


@command("flowiq verify", "flowiq verify --from-last-sync")
@click.option("--from-last-sync", is_flag=True, help="By what the last sync saw: no requests.")
@click.option("--mark", is_flag=True, help="Have the next sync read again what differs.")
def verify(session: Session, *, from_last_sync: bool, mark: bool) -> Result:
    """Compare the warehouse with the API."""
    return flowiq_source.verify(
        session.pipeline(), session.source(), from_last_sync=from_last_sync, mark=mark
    )


@command("flowiq models", "flowiq models --json | jq .views")
def models(session: Session) -> Result:
    """Make the models anew: views that answer questions."""
    return create_models(session.pipeline(), session.source(bearer_token=_any_token()), anew=True)


@command("flowiq status", "flowiq status --json | jq .tables.messages")
def status(session: Session) -> Result:
    """Say what the warehouse holds, without a request."""
    return flowiq_source.status(session.pipeline(), session.source(bearer_token=_any_token()))


@command("flowiq snapshot", "flowiq snapshot --to /srv/reports/flowiq.duckdb")
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The copy. [default: NAME.snapshot.duckdb beside the file]",
)
def snapshot(session: Session, *, to: Path | None) -> Result:
    """Copy the DuckDB file, for readers who may keep it open while syncs run."""
    source = session.source(bearer_token=_any_token())
    return flowiq_source.snapshot(session.pipeline(), source, to)


def _any_token() -> str:
    """No request is sent, so a machine that has no token can do it."""
    return dlt.secrets.get("sources.flowiq.bearer_token", str) or "none"


@command("flowiq check", "flowiq check --project ~/etl --json")
def check(session: Session) -> Result:
    """Try settings, API and destination, for two requests."""
    return check_all(session.pipeline, session.source)


@command(
    "flowiq forget --phone +27821234567",
    "flowiq forget --contact c7d49032-8e88-4923 --yes --json",
)
@click.option("--phone", metavar="NUMBER", help="Everybody who has this number, or had it.")
@click.option("--contact", metavar="ID", help="The contact with this id.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(session: Session, *, phone: str | None, contact: str | None, yes: bool) -> Result:
    """Remove one person from the warehouse, and from what later syncs bring."""
    source, pipeline = session.source(bearer_token=_any_token()), session.pipeline()
    if not yes:
        found = flowiq_source.forget(pipeline, source, phone=phone, contact=contact, dry_run=True)
        click.echo(str(found), err=True)
        try:
            sure = click.confirm("Remove that for good?", err=True)
        except click.Abort as abort:
            if isinstance(abort.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            # Nobody is there to answer.
            sure = False
        if not sure:
            raise ConfigurationError("nothing was removed; --yes does not ask")
    return flowiq_source.forget(pipeline, source, phone=phone, contact=contact)


@command(
    "flowiq report",
    "flowiq report --output customer.html --days 30",
    "flowiq report --with-contacts",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, resolve_path=True),
    default="flowiq_report.html",
    metavar="FILE",
    help="Where to write it. [default: flowiq_report.html]",
)
@click.option("--with-contacts", is_flag=True, help="Name those who wait, and the team.")
@click.option(
    "--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="How far back."
)
@click.option("--as-of", metavar="TIME", help=f"Who waits at this time: {_MOMENT}. [default: now]")
def report(
    session: Session, *, output: Path, with_contacts: bool, days: int, as_of: str | None
) -> Result:
    """Write a report to look at: one HTML file that needs no network."""
    from flowiq_source.report.write import write_report  # noqa: PLC0415 - most commands need none

    return write_report(
        session.pipeline(),
        session.source(bearer_token=_any_token()),
        output,
        with_contacts=with_contacts,
        days=days,
        as_of=None if as_of is None else _moment(as_of),
    )


def _moment(text: str) -> datetime:
    try:
        return parse_timestamp(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not {_MOMENT}", param_hint="--as-of") from None


@command("flowiq demo", "flowiq demo --json | jq .answers")
def demo(session: Session) -> Result | None:
    """Load a sandbox twice into .demo, ask it three questions and report; needs no account."""
    if session.as_json:
        return measured()
    demonstrate()
    return None


for _option in _COMMON:
    # It works in no folder and shows no progress; but whoever gives them to all may.
    _option(sandbox)
flowiq.add_command(sandbox)


def main() -> None:
    """Run the command line; SIGTERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        flowiq(prog_name="flowiq")
    except OSError as error:
        # Click's own output, such as a help text, onto a full disk.
        status, text = failures.diagnosis(error)
        click.echo(f"flowiq: {text}", err=True)
        sys.exit(status)
    finally:
        _close_output()
