"""Every message that the README names as a failure is provoked, as a person would meet it."""

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from flowiq_source.loading.lock import sole
from flowiq_source.sandbox import Contact, Reply, Sandbox, documented, reply_json
from tests.support.history import write
from tests.support.script import ROOT

_CELL = re.compile(r"^\| (?P<said>[^|]+) \| [^|]+ \|$", re.MULTILINE)
_IMPATIENT = """
from functools import partial
from flowiq_source.api import client
from flowiq_source.loading import feed, patience
client.ATTEMPTS, patience.HELD_PATIENCE_S = 2, 0.1
feed.FlowiqClient = partial(client.FlowiqClient, timeout_s=(5.0, 1.0))
from flowiq_source.cli.commands import main
main()
"""


def messages() -> list[str]:
    """What the first column of the table quotes."""
    section = (ROOT / "README.md").read_text().partition("## When something fails")[2]
    cells = [m["said"] for m in _CELL.finditer(section.partition("\n## ")[0])]
    return [said for cell in cells for said in re.findall(r"`([^`]+)`", cell)]


@dataclass
class Stage:
    """An account of ten, and the command, which waits for nothing."""

    sandbox: Sandbox
    environment: dict[str, str]
    folder: Path

    def __call__(self, command: str = "sync", **settings: str) -> str:
        """All that the command says."""
        done = subprocess.run(
            [sys.executable, "-c", _IMPATIENT, command],
            env={name: v for name, v in (self.environment | settings).items() if v},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    @property
    def file(self) -> Path:
        """The warehouse."""
        return self.folder / "flowiq_pipeline.duckdb"

    def answering(self, answer: Callable[[dict[str, str]], Reply | None]) -> str:
        """What a sync says when the API answers so."""
        self.sandbox.intercept = answer
        return self()

    def conversations_answering(self, answer: Callable[[], Reply | None]) -> str:
        """The same of every page of a conversation alone."""
        return self.answering(lambda params: answer() if "ascending" in params else None)

    def losing(self) -> Contact:
        """A contact that the API has no longer, and the warehouse has."""
        self()
        lost = self.sandbox.world.contacts[3]
        self.sandbox.world.delete_contact(lost)
        return lost


@pytest.fixture
def stage(sandbox: Sandbox, environment: dict[str, str], tmp_path: Path) -> Stage:
    """Everything is well on it."""
    for n in range(10):
        write(sandbox, sandbox.world.add_contact(f"278200000{n:02d}"), 3)
    return Stage(sandbox, environment, tmp_path)


def changing(stage: Stage) -> str:
    """Of five messages four are shown, each time others."""
    numbers = itertools.count()

    def page() -> Reply:
        rows = [
            {
                "id": f"{next(numbers)}",
                "message": "m",
                "created_at": "2026-01-01T00:00:00Z",
                "sender_type": "system",
            }
            for _ in range(4)
        ]
        pagination = {"currentPage": 1, "hasNextPage": False, "totalMessages": 5}
        return reply_json(200, {"success": True, "messages": rows, "pagination": pagination})

    return stage.conversations_answering(page)


def doubtful(stage: Stage) -> str:
    """One has just vanished."""
    stage.losing()
    return stage()


def missing(stage: Stage) -> str:
    """It was so the time before, too."""
    return doubtful(stage) + stage()


def vanished(stage: Stage) -> str:
    """All have."""
    stage()
    return stage.conversations_answering(lambda: documented("no contact").reply)


def without_messages(stage: Stage) -> str:
    """Somebody has dropped their table."""
    stage()
    with duckdb.connect(str(stage.file)) as connection:
        connection.execute("DROP VIEW flowiq.current_messages")
        connection.execute("DROP TABLE flowiq.messages")
    return stage()


def busy(stage: Stage) -> str:
    """Another sync is at it."""
    folder = Path(stage.environment["DLT_DATA_DIR"]) / "pipelines"
    with sole(folder, f"flowiq_pipeline_{stage.sandbox.tenant}"):
        return stage()


def held(stage: Stage) -> str:
    """Another program has the file open."""
    holding = (
        "import duckdb, sys; connection = duckdb.connect(sys.argv[1]); print(flush=True); input()"
    )
    with ExitStack() as stack:
        other = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", holding, str(stage.file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        stack.callback(other.kill)
        assert other.stdout
        other.stdout.readline()
        return stage()


def no_database(stage: Stage) -> str:
    """The file is none."""
    stage.file.write_text("This is no database. " * 100)
    return stage()


POSTGRES = {
    "DESTINATION_TYPE": "postgres",
    "DESTINATION__POSTGRES__CREDENTIALS": "postgresql://u:p@127.0.0.1:9/d",
}

CASES: dict[str, Callable[[Stage], str]] = {
    "bearer_token is not set": lambda stage: stage(SOURCES__FLOWIQ__BEARER_TOKEN=""),
    "is no setting: did you mean": lambda stage: stage(SOURCES__FLOWIQ__LOOKBACK="3"),
    "HTTP 401": lambda stage: stage(SOURCES__FLOWIQ__BEARER_TOKEN="fiq_wrong"),
    "FlowIQ knows no organisation with this tenant id": lambda stage: stage(
        SOURCES__FLOWIQ__TENANT_ID="nobody"
    ),
    "no connection": lambda stage: stage(SOURCES__FLOWIQ__BASE_URL="http://127.0.0.1:9"),
    "no answer in time": lambda stage: stage.answering(lambda _: Reply(200, b"", delay_s=5)),
    "not an answer that FlowIQ documents": lambda stage: stage.answering(
        lambda _: Reply(200, b"<html>Log in</html>", {"Content-Type": "text/html"})
    ),
    "failed": lambda stage: stage.conversations_answering(lambda: Reply(400, b"{}")),
    "counts 250 messages and handed out 249": changing,
    "doubtful": doubtful,
    "vanished at once": vanished,
    "not at the API": missing,
    "every conversation is read again": without_messages,
    "process 123 … has been doing that since": busy,
    "is open in … (process 123)": held,
    "duckdb: …": no_database,
    "postgres: …": lambda stage: stage(**POSTGRES),
}


def test_the_table_names_what_is_provoked_here() -> None:
    """A message that is added there needs a case here."""
    assert set(messages()) == set(CASES)


@pytest.mark.parametrize("message", messages())
def test_a_message_of_the_table_is_what_a_person_reads(message: str, stage: Stage) -> None:
    """With other numbers, and without the token."""
    pattern = re.sub(r"\d{3}", r"\\d+", re.escape(message)).replace("HTTP\\ \\d+", "HTTP 401")
    said = CASES[message](stage)
    assert re.search(pattern.replace("…", ".+"), said), said
    assert stage.sandbox.token not in said
