"""`flowiq demo`: two syncs of a sandbox with a day between them, then three questions."""

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import click
import duckdb

from flowiq_source.sandbox import Sandbox

HOME = Path(".demo")
DATABASE = HOME / "flowiq_demo.duckdb"

QUESTIONS = {
    "Who writes the most?": """
        SELECT c.full_name, count(*) AS messages, max(m.timestamp)::DATE AS last_on
        FROM flowiq.messages m JOIN flowiq.contacts c
          ON c.tenant_id = m.tenant_id AND c.id = m.contact_id
        WHERE m.sender = 'user-whatsapp'
        GROUP BY ALL ORDER BY messages DESC, full_name LIMIT 5""",
    "How quickly do we answer?": """
        WITH turns AS (
            SELECT sender, timestamp, lead(sender) OVER w AS answer,
                   lead(timestamp) OVER w AS answered_at
            FROM flowiq.messages
            WINDOW w AS (PARTITION BY tenant_id, contact_id ORDER BY timestamp))
        SELECT answer AS answered_by, count(*) AS answers,
               round(median(epoch(answered_at - timestamp)) / 60, 1) AS median_minutes
        FROM turns WHERE sender = 'user-whatsapp' AND answer IN ('bot-whatsapp', 'human-whatsapp')
        GROUP BY ALL ORDER BY answered_by""",
    "Which reactions do our messages get?": """
        SELECT r.emoji, count(*) AS reactions
        FROM flowiq.messages__reactions r JOIN flowiq.messages m ON m._dlt_id = r._dlt_parent_id
        GROUP BY ALL ORDER BY reactions DESC, emoji""",
}


def demonstrate() -> None:
    """Run the demo in a folder of its own, made anew, and print what happens."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    with Sandbox() as sandbox:
        click.echo(
            f"A FlowIQ sandbox listens on {sandbox.url}; its people and texts are invented.\n"
        )
        _sync("First sync", sandbox)
        sandbox.world.advance(timedelta(days=1))
        _sync("A day later, the second sync", sandbox)
    for question, query in QUESTIONS.items():
        _ask(question, query)
    flowiq = _command()
    click.echo(f"""The warehouse is {DATABASE}. With your own FlowIQ account:

  mkdir -p .dlt && printf '[sources.flowiq]\\nbearer_token = "fiq_..."\\n' > .dlt/secrets.toml
  chmod 600 .dlt/secrets.toml
  export SOURCES__FLOWIQ__TENANT_ID=your-organisation
  {flowiq} check && {flowiq} sync      # into flowiq_pipeline.duckdb""")


def _command() -> str:
    """How the command is called here: by its name, or as make does from a folder of its own."""
    called = Path(sys.argv[0])
    is_script = called.name == "flowiq" and not shutil.which("flowiq")
    return str(called) if is_script else "flowiq"


def _sync(title: str, sandbox: Sandbox) -> None:
    click.echo(f"--- {title}")
    settings = {
        "SOURCES__FLOWIQ__BASE_URL": sandbox.url,
        "SOURCES__FLOWIQ__BEARER_TOKEN": sandbox.token,
        "SOURCES__FLOWIQ__TENANT_ID": sandbox.tenant,
        "DESTINATION_TYPE": "duckdb",
        "DESTINATION__DUCKDB__CREDENTIALS": DATABASE.name,
        "DATASET_NAME": "flowiq",
        "DLT_DATA_DIR": str(HOME.resolve()),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "WARNING",
    }
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("SOURCES__")}
    command = [sys.executable, "-m", "flowiq_source.cli", "sync", "--project", str(HOME)]
    subprocess.run(command, env=inherited | settings, check=True)  # noqa: S603
    click.echo()


def _ask(question: str, query: str) -> None:
    click.echo(f"--- {question}\n{_dedent(query)}")
    with duckdb.connect(str(DATABASE), read_only=True) as connection:
        click.echo(str(connection.sql(query)))


def _dedent(query: str) -> str:
    return query.replace("\n        ", "\n").strip()
