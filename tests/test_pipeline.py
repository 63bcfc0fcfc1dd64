"""The commands as a person runs them: output, exit status, secrecy."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from flowiq_source.sandbox import Contact, Reply, Sandbox, World, reply_json
from tests.support.history import expected, loaded, message_requests, write
from tests.support.script import FLOWIQ, ROOT, Run
from tests.support.warehouse import Warehouse


def test_one_command_loads_everything_and_says_so(
    run: Run, sandbox: Sandbox, alice: Contact, tmp_path: Path
) -> None:
    """A summary on standard output, nothing else, exit status 0, a DuckDB file to ask."""
    write(sandbox, alice, 120)
    alice.messages[-1].reactions = [{"emoji": "👍", "sender": "1"}]
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    lines = re.sub(r"[0-9.]+ s$", "N s", done.stdout.strip(), flags=re.MULTILINE).splitlines()
    assert [re.sub(r"\s+", " ", line) for line in lines] == [
        "new 120 messages",
        "conversations 1 read",
        "rows written contact_identities 1, contacts 1, conversations 1, messages 120, messages__reactions 1",  # noqa: E501
        "cost 3 requests; N s",
        "attention none needed",
    ]
    with duckdb.connect(str(tmp_path / "flowiq_pipeline.duckdb")) as connection:
        assert connection.sql("SELECT count(*) FROM flowiq.messages").fetchall() == [(120,)]


def test_dlts_own_settings_decide_where_it_goes(
    run: Run, sandbox: Sandbox, alice: Contact, tmp_path: Path
) -> None:
    """Destination credentials and dataset come from dlt's configuration."""
    other = tmp_path / "other.duckdb"
    done = run(DESTINATION__DUCKDB__CREDENTIALS=str(other), DATASET_NAME="whatsapp")
    assert done.returncode == 0, done.stderr
    with duckdb.connect(str(other)) as connection:
        assert connection.sql("SELECT count(*) FROM whatsapp.contacts").fetchall() == [(1,)]


def test_the_command_line_backfills_and_refreshes(
    run: Run, sandbox: Sandbox, alice: Contact
) -> None:
    """A range, and everything."""
    write(sandbox, alice, 250, every=timedelta(days=1))
    day = alice.messages[200].at
    end = day + timedelta(days=3)
    done = run("backfill", "--from", day.isoformat(), "--to", end.isoformat())
    assert "new             3 messages of the range" in done.stdout
    assert run().returncode == 0
    assert "2 requests; reading everything would have cost 4;" in run().stdout
    assert "cost            4 requests; " in run("--full-refresh").stdout


def test_verification_exits_with_1_when_anything_differs(
    run: Run, sandbox: Sandbox, alice: Contact
) -> None:
    """`make verify` is this command."""
    write(sandbox, alice, 3)
    run()
    verified = run("verify")
    assert (verified.returncode, verified.stderr) == (0, "")
    assert "1 compared, 0 differ" in verified.stdout
    sandbox.world.add_message(alice)
    verified = run("verify", "--mark")
    assert verified.returncode == 1
    assert "3 in the warehouse, 4 at the API" in verified.stdout
    assert run("verify", "--from-last-sync").returncode == 0
    assert run("verify", SOURCES__FLOWIQ__BEARER_TOKEN="").returncode == 2


FAILURES: dict[str, tuple[dict[str, str], int, str]] = {
    "no token": ({"SOURCES__FLOWIQ__BEARER_TOKEN": ""}, 2, "bearer_token is not set"),
    "a wrong token": ({"SOURCES__FLOWIQ__BEARER_TOKEN": "fiq_wrong"}, 2, "HTTP 401"),
    "an unknown tenant": ({"SOURCES__FLOWIQ__TENANT_ID": "nobody"}, 2, "no organisation"),
    "a wrong tenant": ({"SOURCES__FLOWIQ__TENANT_ID": "another-organisation"}, 2, "HTTP 401"),
    "plain http": ({"SOURCES__FLOWIQ__BASE_URL": "http://example.com"}, 2, "https://"),
    "a bad date": ({"SOURCES__FLOWIQ__START_DATE": "soon"}, 2, "start_date"),
    "a misspelt key": (
        {"SOURCES__FLOWIQ__LOOKBACK_DAY": "3"},
        2,
        "lookback_day is no setting: did you mean lookback_days?",
    ),
    "a bad number": ({"SOURCES__FLOWIQ__LOOKBACK_DAYS": "many"}, 2, "lookback_days"),
    "an unknown destination": ({"DESTINATION_TYPE": "drawer"}, 2, "drawer"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_one_line_with_a_remedy(run: Run, case: str) -> None:
    """No traceback unless asked, exit status 2 for settings and credentials."""
    settings, status, says = FAILURES[case]
    done = run(**settings)
    assert done.returncode == status
    assert done.stdout == ""
    assert says in done.stderr
    assert done.stderr.startswith("flowiq: ")
    assert done.stderr.count("\n") == 1


def test_debug_prints_the_traceback(run: Run) -> None:
    """For the one who asks."""
    done = run("--debug", SOURCES__FLOWIQ__BEARER_TOKEN="fiq_wrong")
    assert "Traceback" in done.stderr
    assert "fiq_wrong" not in done.stderr


def test_a_failed_conversation_makes_exit_status_1(
    run: Run, sandbox: Sandbox, alice: Contact
) -> None:
    """The summary says how many, and where the reasons are."""
    sandbox.intercept = lambda params: (
        reply_json(400, {"success": False, "error": "No"}) if "ascending" in params else None
    )
    done = run()
    assert done.returncode == 1
    assert "conversations   0 read\n" in done.stdout
    assert "failed          1 conversations are read again" in done.stdout
    assert "status = 'failed'" in done.stdout


SECRETS = {
    "number": "27825550123",
    "name": "Thandeka Secretname",
    "text": "my private words",
    "email": "thandeka@private.example",
    "error": "the server quotes +27 82 555 0123",
}


@pytest.fixture
def talkative() -> Iterator[Sandbox]:
    """A sandbox whose contact must not be quoted anywhere, and whose API fails in every way."""
    with Sandbox(
        World(contacts=0), dialect="overview", token="fiq_topsecret", limited=False
    ) as sandbox:
        contact = sandbox.world.add_contact(
            SECRETS["number"], full_name=SECRETS["name"], email=SECRETS["email"]
        )
        for n in range(150):
            sandbox.world.add_message(contact, content=f"{SECRETS['text']} {n}")
        yield sandbox


LEAKS: dict[str, Reply] = {
    "400": reply_json(400, {"success": False, "error": SECRETS["error"]}),
    "500": reply_json(500, {"success": False, "error": SECRETS["error"]}),
    "a reset": Reply(0, b""),
    "success: false": reply_json(200, {"success": False, "message": SECRETS["error"]}),
    "HTML": Reply(200, SECRETS["error"].encode()),
    "a bad row": reply_json(
        200,
        {
            "success": True,
            "messages": [{"message": SECRETS["text"], "created_at": SECRETS["text"]}],
            "pagination": {"currentPage": 1, "totalPages": 1, "totalMessages": 1},
        },
    ),
}


@pytest.mark.parametrize("case", LEAKS)
@pytest.mark.parametrize("target", ["whatsappNumber", "contacts"])
def test_no_personal_data_or_token_is_said_or_traced(
    warehouse: Warehouse,
    talkative: Sandbox,
    all_logs: Callable[[], str],
    case: str,
    target: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """At any log level, in no error and no trace that dlt keeps."""
    talkative.intercept = lambda params: (
        LEAKS[case]
        if target in params or (target == "contacts" and params["action"] == "contacts")
        else None
    )
    said = ""
    try:
        summary = warehouse.sync_with(talkative)
        said = str(summary)
    except Exception as error:
        said = f"{error!r} {error.__cause__!r} {error}"
    said += all_logs() + "".join(capfd.readouterr())
    assert "Attempting to release lock" in said
    folder = warehouse.folder / "pipelines"
    kept = b"".join(
        path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name == "trace.pickle"
    )
    assert kept
    for secret in (talkative.token, *SECRETS.values()):
        assert secret not in said
        assert secret.encode() not in kept


def test_the_demo_answers_its_questions(run: Run) -> None:
    """From any folder: two syncs, three questions, a way to go on."""
    # On a busy machine it takes long enough for a line of progress.
    done = run("demo", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("requests; ") == 2
    assert done.stdout.count("SELECT") >= 3
    readme = (ROOT / "README.md").read_text()
    shown = readme[readme.index("--- First sync") : readme.index("and two more answers")]
    for line in shown.splitlines():
        # How DuckDB draws a table differs from version to version.
        assert line in done.stdout or line.startswith(("cost", "```", *"│┌├└"))
    assert "flowiq sync" in done.stdout


def wait_until(true: Callable[[], bool], within_s: float = 60) -> None:
    """Look again and again, for so long at the most."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_run_and_keeps_what_is_committed(
    warehouse: Warehouse, sandbox: Sandbox, environment: dict[str, str], number: int
) -> None:
    """Also while the API does not answer; the next run goes on from there."""
    for n in range(5):
        write(sandbox, sandbox.world.add_contact(f"2782000000{n}"), 2)
    asked = threading.Event()

    def intercept(params: dict[str, str]) -> Reply | None:
        if message_requests(sandbox) < 5:
            return None
        asked.set()
        return Reply(200, b"", delay_s=30)

    sandbox.intercept = intercept
    file = {"DESTINATION__DUCKDB__CREDENTIALS": str(warehouse.file)}
    process = subprocess.Popen(
        [*FLOWIQ, "sync"],
        env=environment | file | {"SOURCES__FLOWIQ__PACKAGE_CONVERSATIONS": "2"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert asked.wait(60)
    loaded_packages = Path(environment["DLT_DATA_DIR"], "pipelines").glob
    wait_until(lambda: len(list(loaded_packages("*/load/loaded/*"))) == 2)
    process.send_signal(number)
    # Half of what the API would have kept it waiting.
    _, said = process.communicate(timeout=15)
    kept = "2 packages with 8 messages stay; the same command goes on from there"
    assert (process.returncode, said) == (130, f"flowiq: interrupted: {kept}\n")
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 8
    sandbox.intercept = None
    assert warehouse.sync(sandbox).complete
    assert loaded(warehouse) == expected(sandbox)


def test_the_sandbox_can_be_started_alone() -> None:
    """`python -m flowiq_source.sandbox` prints what to set."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flowiq_source.sandbox", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(7)]
        process.terminate()
    assert any("SOURCES__FLOWIQ__BASE_URL=http://127.0.0.1:" in line for line in said)


@pytest.mark.parametrize("content", ["", "{}"])
@pytest.mark.parametrize("file", ["state.json", "schemas/flowiq.schema.json"])
def test_a_working_folder_that_dlt_cannot_open_is_made_anew(
    run: Run, sandbox: Sandbox, tmp_path: Path, file: str, content: str
) -> None:
    """As a machine leaves it that lost its power."""
    sandbox.world.add_message(sandbox.world.add_contact("27820000001"))
    assert run().returncode == 0
    [folder] = (tmp_path / "dlt").rglob("flowiq_pipeline_sandbox")
    (folder / file).write_text(content)
    again = run()
    assert (again.returncode, again.stderr) == (0, "")
    assert "new             0 messages" in again.stdout
