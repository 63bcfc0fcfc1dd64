"""`flowiq demo`: two syncs of a sandbox with a day between, three questions, and a report."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import duckdb

from flowiq_source.sandbox import Sandbox, World
from flowiq_source.sandbox.world import planned_for

HOME = Path(".demo")
DATABASE = HOME / "flowiq_demo.duckdb"
REPORT = HOME / "flowiq_report.html"

CONTACTS = 32

QUESTIONS = {
    "How fast do we answer?": """
        SELECT answered_by, count(*) AS waits,
               round(median(wait_seconds) / 60, 1) AS median_minutes,
               round(median(business_wait_seconds) / 60, 1) AS in_business_hours
        FROM flowiq.fct_waits WHERE answered_by IS NOT NULL
        GROUP BY ALL ORDER BY answered_by""",
    "What does the bot settle?": """
        SELECT outcome, count(*) AS windows,
               count(*) FILTER (returned_within_7_days) AS returned_within_7_days
        FROM flowiq.fct_windows GROUP BY ALL ORDER BY windows DESC""",
    "Do our messages arrive?": """
        SELECT sum(sent) AS sent, sum(delivered) AS delivered, sum("read") AS at_least_read,
               sum(failed) AS failed
        FROM flowiq.fct_delivery_daily""",
}

MODELS = {"TIME_ZONE": "Africa/Johannesburg", "BUSINESS_HOURS": '{"mon-fri": "08:00-17:00"}'}
"""Where the invented business is, and when somebody is there."""


@dataclass
class Demo:
    """What the demo came to; a person has read it as it went."""

    syncs: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    exit_status: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        report = str(REPORT.resolve()) if REPORT.exists() else None
        files = {"warehouse": str(DATABASE.resolve()), "report": report}
        return files | {"syncs": self.syncs, "answers": self.answers}


def demonstrate() -> None:
    """Run the demo in a folder of its own, made anew, and print what happens."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    with Sandbox(World(planned_for(CONTACTS), lively=True), limited=False) as sandbox:
        click.echo(
            f"A FlowIQ sandbox listens on {sandbox.url}; its people and texts are invented.\n"
        )
        click.echo("--- First sync")
        _run(sandbox, "sync")
        sandbox.world.advance(timedelta(days=1))
        click.echo("\n--- A day later, the second sync")
        _run(sandbox, "sync")
        click.echo("\n--- A report of that")
        _report(sandbox)
    for question, query in QUESTIONS.items():
        _ask(question, query)
    flowiq = _command()
    report = f"Open {REPORT} in a browser; the" if REPORT.exists() else "The"
    click.echo(f"""
{report} warehouse is {DATABASE}. With your own FlowIQ account:

  mkdir -p .dlt && printf '[sources.flowiq]\\nbearer_token = "fiq_..."\\n' > .dlt/secrets.toml
  chmod 600 .dlt/secrets.toml
  export SOURCES__FLOWIQ__TENANT_ID=your-organisation
  {flowiq} check && {flowiq} sync      # into flowiq_pipeline.duckdb""")


def measured() -> Demo:
    """Run the same, and print nothing."""
    demo = Demo()
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    with Sandbox(World(planned_for(CONTACTS), lively=True), limited=False) as sandbox:
        for days in (0, 1):
            sandbox.world.advance(timedelta(days=days))
            demo.syncs.append(json.loads(_run(sandbox, "sync", "--quiet", "--json") or ""))
        _report(sandbox, "--json")
    with duckdb.connect(str(DATABASE), read_only=True) as connection:
        for question, query in QUESTIONS.items():
            cursor = connection.execute(query)
            names = [column[0] for column in cursor.description or ()]
            demo.answers[question] = [
                dict(zip(names, row, strict=True)) for row in cursor.fetchall()
            ]
    return demo


def _report(sandbox: Sandbox, *words: str) -> None:
    # Without what draws it, it says what to install, and the demo is none the worse.
    now = sandbox.world.now.isoformat()
    where = "--output", str(REPORT.resolve())
    _run(sandbox, "report", "--quiet", "--as-of", now, *where, *words, check=False)


def _command() -> str:
    """How the command is called here: by its name, or as make does from a folder of its own."""
    called = Path(sys.argv[0])
    is_script = called.name == "flowiq" and not shutil.which("flowiq")
    return str(called) if is_script else "flowiq"


def _run(sandbox: Sandbox, *words: str, check: bool = True) -> str | None:
    """Run a command on the sandbox and the demo's own folder; with `--json`, what it prints."""
    settings = {
        "SOURCES__FLOWIQ__BASE_URL": sandbox.url,
        "SOURCES__FLOWIQ__BEARER_TOKEN": sandbox.token,
        "SOURCES__FLOWIQ__TENANT_ID": sandbox.tenant,
        # What is invented is not rationed.
        "SOURCES__FLOWIQ__REQUESTS_PER_MINUTE": "100000",
        **{f"SOURCES__FLOWIQ__MODELS__{name}": value for name, value in MODELS.items()},
        "DESTINATION_TYPE": "duckdb",
        "DESTINATION__DUCKDB__CREDENTIALS": DATABASE.name,
        "DATASET_NAME": "flowiq",
        "DLT_DATA_DIR": str(HOME.resolve()),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "WARNING",
    }
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("SOURCES__")}
    command = [sys.executable, "-m", "flowiq_source.cli", *words, "--project", str(HOME)]
    printed = subprocess.PIPE if "--json" in words else None
    done = subprocess.run(  # noqa: S603
        command, env=inherited | settings, check=False, stdout=printed, text=True
    )
    if check and done.returncode:
        # It has said why, or nobody reads on.
        sys.exit(done.returncode)
    return done.stdout


def _ask(question: str, query: str) -> None:
    click.echo(f"\n--- {question}\n{_dedent(query)}")
    with duckdb.connect(str(DATABASE), read_only=True) as connection:
        click.echo(str(connection.sql(query)))


def _dedent(query: str) -> str:
    return query.replace("\n        ", "\n").strip()
