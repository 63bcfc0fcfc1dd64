"""The command `flowiq` as a person and as a program use it."""

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pexpect
import pyte
import pytest

from flowiq_source.cli.commands import flowiq
from flowiq_source.cli.progress import Progress
from flowiq_source.sandbox import Contact, Reply, Sandbox
from tests.support.history import message_requests, write
from tests.support.script import FLOWIQ, Run

COMMANDS = sorted(flowiq.commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_an_example(name: str, run: Run) -> None:
    """That names the options that all have."""
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"flowiq {name}" in done.stdout.partition("Examples:")[2]
    for option in ("--project", "--json", "--progress", "--quiet", "--debug"):
        assert option in done.stdout


def test_the_shell_completes(run: Run) -> None:
    """Commands and options."""
    done = run(
        "sync",
        _FLOWIQ_COMPLETE="bash_complete",
        COMP_WORDS="flowiq s",
        COMP_CWORD="1",
    )
    assert {"plain,sync", "plain,status", "plain,sandbox"} <= set(done.stdout.split())


def test_a_misspelt_command_or_option_is_a_usage_error(run: Run) -> None:
    """Exit status 2, and the nearest right one."""
    assert "Did you mean '--full-refresh'" in run("sync", "--ful-refresh").stderr
    assert run("snyc").returncode == 2


RESULTS: dict[str, list[str]] = {
    "check": ["check"],
    "plan": ["plan"],
    "sync": ["sync"],
    "status": ["status"],
    "verify": ["verify"],
    "backfill": ["backfill", "--from", "2020-01-01"],
}


def test_json_is_one_object_on_standard_output(run: Run, sandbox: Sandbox, alice: Contact) -> None:
    """And nothing else, on either."""
    write(sandbox, alice, 3)
    run()
    for name, words in RESULTS.items():
        done = run(*words, "--json")
        assert (done.returncode, done.stderr) == (0, ""), name
        assert isinstance(json.loads(done.stdout), dict)


def test_the_demo_and_the_sandbox_print_one_object_too(
    run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    """The one what it came to, the other what to ask it by, as soon as it listens."""
    done = run("demo", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert Path(told["warehouse"]).is_file()
    assert [sync["complete"] for sync in told["syncs"]] == [True, True]
    assert 0 < told["syncs"][1]["changed"] < told["syncs"][1]["known"]
    assert all(told["answers"].values())
    sandbox = [*FLOWIQ, "sandbox", "--json", "--port", "0", "--tenant", "north"]
    with subprocess.Popen(sandbox, env=environment, cwd=tmp_path, stdout=subprocess.PIPE) as served:
        assert served.stdout
        told = json.loads(served.stdout.readline())
        served.kill()
    assert told["base_url"].startswith("http://127.0.0.1:")
    assert told["tenants"] == [{"tenant_id": "north", "bearer_token": "fiq_north"}]


def test_a_reader_who_has_enough_is_no_failure(environment: dict[str, str], tmp_path: Path) -> None:
    """Such as `head`."""
    command = f"{shlex.join(FLOWIQ)} demo | head -1"
    done = subprocess.run(
        ["/bin/bash", "-c", command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("A FlowIQ sandbox listens")
    assert done.stderr == ""


def test_an_error_is_json_too(run: Run) -> None:
    """With the exit status, and the line for a person on standard error."""
    done = run("sync", "--json", SOURCES__FLOWIQ__BEARER_TOKEN="fiq_wrong")
    assert done.returncode == 2
    error = json.loads(done.stdout)
    assert error["exit_status"] == 2
    assert "HTTP 401" in error["error"]
    assert done.stderr == f"flowiq: {error['error']}\n"


def test_progress_as_json_is_an_event_a_line(run: Run, sandbox: Sandbox, alice: Contact) -> None:
    """Each with its time; the steps of every package among them."""
    write(sandbox, alice, 3)
    done = run("sync", "--progress", "json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    steps = [e["step"] for e in events if e["event"] == "start"]
    assert [step for n, step in enumerate(steps) if step != steps[n - 1]] == [
        *("reading", "preparing", "loading"),
    ]
    assert all(e["at"] > 1e9 for e in events)


def test_messages_are_counted_over_all_packages() -> None:
    """The counters of dlt begin anew with each."""
    progress = Progress("none")
    for _ in range(2):
        with progress("Extract flowiq"):
            progress.update("messages", 3)
            told = progress.line()
    assert told == "reading: 6 messages"
    progress._start("Extract flowiq")
    assert progress.line() == "reading: 6 messages"


def test_status_needs_no_token_and_sends_nothing(
    run: Run, sandbox: Sandbox, alice: Contact, tmp_path: Path
) -> None:
    """The destination alone is asked; before anything was loaded too, and then it stays away."""
    assert "nothing was loaded yet" in run("status", SOURCES__FLOWIQ__BEARER_TOKEN="").stdout
    assert run("plan").returncode == 0
    assert list(tmp_path.glob("*.duckdb*")) == []
    write(sandbox, alice, 3)
    run()
    sandbox.requests.clear()
    done = run("status", SOURCES__FLOWIQ__BEARER_TOKEN="")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"messages +3\n", done.stdout)
    assert "1 complete, 0 behind" in done.stdout
    assert sandbox.requests == []


def test_status_says_what_has_failed(run: Run, sandbox: Sandbox, alice: Contact) -> None:
    """And exits with 1, so that a scheduler can tell."""
    write(sandbox, alice, 3)
    sandbox.intercept = lambda params: Reply(400, b"{}") if "ascending" in params else None
    assert run().returncode == 1
    done = run("status")
    assert done.returncode == 1
    assert "1 failed" in done.stdout


def test_check_tries_everything_for_two_requests(
    run: Run, sandbox: Sandbox, alice: Contact, tmp_path: Path
) -> None:
    """Each line says what was found."""
    write(sandbox, alice, 3)
    done = run("check", SOURCES__FLOWIQ__REQUESTS_PER_MINUTE="")
    assert done.returncode == 0, done.stdout
    assert len(sandbox.requests) == 2
    lines = [line.split()[:2] for line in done.stdout.splitlines()]
    assert all(verdict == "ok" for verdict, _ in lines)
    for found in (
        "bearer_token from SOURCES__FLOWIQ__BEARER_TOKEN",
        "1 contacts",
        "a page of 3 of 3",
        "100 requests a minute",
        "duckdb",
        "merged by key",
        "parquet",
    ):
        assert found in done.stdout
    assert sandbox.token not in done.stdout


@pytest.mark.parametrize("loaded", [False, True])
def test_check_leaves_nothing_in_the_destination(
    run: Run, sandbox: Sandbox, alice: Contact, tmp_path: Path, loaded: bool
) -> None:
    """No file where there was none, and no table or dataset more than there were."""
    file = tmp_path / "flowiq_pipeline.duckdb"
    if loaded:
        run()
        with duckdb.connect(str(file)) as connection:
            connection.execute("CREATE SCHEMA mine")

    def there() -> list[Any]:
        if not file.exists():
            return sorted(path.name for path in tmp_path.iterdir() if path.name != "dlt")
        with duckdb.connect(str(file)) as connection:
            schemas = connection.sql("SELECT schema_name FROM duckdb_schemas() ORDER BY 1")
            tables = connection.sql(
                "SELECT schema_name, table_name FROM duckdb_tables() ORDER BY 2"
            )
            return [*schemas.fetchall(), *tables.fetchall()]

    before = there()
    for dataset in ["flowiq", "another"] if loaded else ["flowiq"]:
        done = run("check", DATASET_NAME=dataset)
        assert done.returncode == 0, done.stdout
        assert "made by the first sync" in done.stdout or dataset == "flowiq"
        assert there() == before


def test_check_finds_a_file_and_a_dataset_of_one_name(run: Run) -> None:
    """Which DuckDB cannot tell apart: a sync would fail."""
    done = run("check", DESTINATION__DUCKDB__CREDENTIALS="flowiq.duckdb")
    assert done.returncode == 2
    assert "both called flowiq" in done.stdout


def test_the_settings_of_the_destination_are_named(run: Run, tmp_path: Path) -> None:
    """What is not set, and where to put it; and a file that cannot be read."""
    of_models = "SOURCES__FLOWIQ__MODELS__CREATE"
    assert run(**{of_models: "maybe"}).stderr == (
        f"flowiq: sources.flowiq.models.create must be true or false (it stands in {of_models})\n"
    )
    done = run("plan", SOURCES__FLOWIQ__LOOKBACK_DAYS="seven")
    assert done.stderr == (
        "flowiq: sources.flowiq.lookback_days must be a number "
        "(it stands in SOURCES__FLOWIQ__LOOKBACK_DAYS)\n"
    )
    postgres = {"DESTINATION_TYPE": "postgres"}
    url = {"DESTINATION__POSTGRES__CREDENTIALS": "postgresql://u@127.0.0.1:9/d"}
    assert "into DESTINATION__POSTGRES__CREDENTIALS\n" in run("status", **postgres).stderr
    done = run("status", **postgres | url)
    assert done.returncode == 2
    assert "the password for the destination is not set" in done.stderr
    assert "DESTINATION__POSTGRES__CREDENTIALS__PASSWORD" in done.stderr
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "secrets.toml").write_text("[sources.flowiq]\nbearer_token = my secret\n")
    done = run("plan")
    assert done.returncode == 2
    assert done.stderr.endswith(
        "flowiq: .dlt/secrets.toml is no TOML in line 2: correct it there\n"
    )
    assert "my secret" not in done.stderr


UNREADABLE = {
    "a key twice": (
        "config.toml",
        "[sources.flowiq]\nmax_minutes = 1\nmax_minutes = 2\n",
        ".dlt/config.toml has a key twice: leave one of them",
    ),
    "a secret among what is none": (
        "config.toml",
        '[sources.flowiq]\nhash_key = "0123456789abcdef"\n',
        "sources.flowiq.hash_key is a secret and stands in config.toml: put it into .dlt/sec",
    ),
    "credentials that are none": (
        "secrets.toml",
        'destination_type = "postgres"\n[destination.postgres]\ncredentials = "my words"\n',
        "credentials of the destination cannot be read: they are a URL such as postgresql://user:",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_setting_that_dlt_cannot_use_is_named(run: Run, tmp_path: Path, case: str) -> None:
    """With what to do, and the exit status of a setting."""
    name, written, says = UNREADABLE[case]
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / name).write_text(written)
    (tmp_path / ".dlt" / name).chmod(0o600)
    done = run("sync", "--quiet")
    assert done.returncode == 2
    assert done.stderr.startswith(f"flowiq: {says}")
    assert "my words" not in done.stderr


def test_plan_and_verify_pass_over_who_is_forgotten(
    run: Run, sandbox: Sandbox, alice: Contact
) -> None:
    """They cost nothing and are not new; verify shows how far it is."""
    key = {"SOURCES__FLOWIQ__HASH_KEY": "0123456789abcdef" * 4}
    write(sandbox, alice, 3)
    write(sandbox, sandbox.world.add_contact("27820000002"), 2)
    run(**key)
    run("forget", "--contact", alice.id, "--yes", **key)
    planned = json.loads(run("plan", "--json", **key).stdout)
    assert (planned["contacts"], planned["new"], planned["requests"]) == (2, 0, 2)
    assert run("sync", "--json", **key).returncode == 0
    events = run("verify", "--progress", "json", **key).stderr.splitlines()
    assert json.loads(events[-1])["step"] == "comparing"
    assert json.loads(events[-1])["conversations"]["total"] == 1


def test_a_disk_or_folder_that_refuses_is_named(run: Run, tmp_path: Path) -> None:
    """A folder of dlt's, and where the result goes, or a help text."""
    (tmp_path / "a_file").write_text("")
    done = run(DLT_DATA_DIR=str(tmp_path / "a_file"))
    assert done.returncode == 1
    assert f"'{tmp_path}/a_file" in done.stderr
    assert "the file's folder is not there: make it, or name another one" in done.stderr
    # Python's own buffer holds what the disk did not take.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for arguments in (["status"], ["status", "--json"], ["--help"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*FLOWIQ, *arguments],
                cwd=tmp_path,
                env=inherited | {"DLT_DATA_DIR": str(tmp_path / "dlt")},
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr.endswith("the disk is full: make room and run again\n")
        assert "Traceback" not in done.stderr


def test_a_sync_whose_output_is_closed_loads_what_it_reads(
    sandbox: Sandbox, alice: Contact, environment: dict[str, str], tmp_path: Path
) -> None:
    """As a line of cron's may do it: `flowiq sync >&-`."""
    write(sandbox, alice, 3)
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *FLOWIQ, "sync", "--quiet"],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with duckdb.connect(str(tmp_path / "flowiq_pipeline.duckdb"), read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM flowiq.messages").fetchall() == [(3,)]


FAULTS = {
    "no token": ({"SOURCES__FLOWIQ__BEARER_TOKEN": ""}, "settings", "bearer_token is not set"),
    "a wrong token": ({"SOURCES__FLOWIQ__BEARER_TOKEN": "fiq_no"}, "api", "HTTP 401"),
    "nobody there": (
        {"DESTINATION_TYPE": "postgres", "DESTINATION__POSTGRES__CREDENTIALS": "postgresql://u:p@127.0.0.1:9/d"},
        "writable",
        "the server is away",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_check_says_what_is_wrong_and_goes_on(run: Run, case: str) -> None:
    """The other lines are tried all the same."""
    settings, name, says = FAULTS[case]
    done = run("check", **settings)
    assert done.returncode != 0
    [line] = [line for line in done.stdout.splitlines() if line.startswith("fail")]
    assert line.split()[1] == name
    assert says in line
    assert "destination" in done.stdout


def test_the_project_is_found_from_below_and_by_its_option(
    run: Run, environment: dict[str, str], sandbox: Sandbox, alice: Contact, tmp_path: Path
) -> None:
    """What it makes lies beside `.dlt`, for the owner alone."""
    home = tmp_path / "etl"
    (home / ".dlt").mkdir(parents=True)
    (home / "deep" / "er").mkdir(parents=True)
    secrets = home / ".dlt" / "secrets.toml"
    secrets.write_text(f'[sources.flowiq]\nbearer_token = "{sandbox.token}"\n')
    secrets.chmod(0o600)
    outside = {name: v for name, v in environment.items() if "TOKEN" not in name}
    for at, words in ((home / "deep" / "er", []), (tmp_path, ["--project", "etl"])):
        done = subprocess.run(
            [*FLOWIQ, "sync", *words],
            cwd=at,
            env=outside,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
    file = home / "flowiq_pipeline.duckdb"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secrets.chmod(0o644)
    for name in ("check", "sync"):
        done = subprocess.run(
            [*FLOWIQ, name, "--project", str(home)],
            env=outside,
            capture_output=True,
            text=True,
            check=False,
        )
        told = (done.stdout + done.stderr).replace("./", "")
        assert told.count(f"chmod 600 {Path('.dlt/secrets.toml')}") == 1
    assert run("sync", "--project", "nowhere").returncode == 2


@pytest.fixture
def slow(sandbox: Sandbox) -> Sandbox:
    """An account of twelve that takes its time from the sixth conversation on."""
    for n in range(12):
        write(sandbox, sandbox.world.add_contact(f"2782000000{n}"), 2)
    sandbox.intercept = lambda _: (
        Reply(200, b"", delay_s=30) if message_requests(sandbox) > 6 else None
    )
    return sandbox


class Terminal:
    """A terminal that a command runs in."""

    def __init__(self, environment: dict[str, str], folder: Path, *words: str, **size: int) -> None:
        rows, columns = size.get("rows", 24), size.get("columns", 80)
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "flowiq_source.cli", *words],
            env=environment | {"TERM": "xterm-256color"},
            cwd=str(folder),
            dimensions=(rows, columns),
            timeout=60,
            # It is ignored where the tests run in the background of a shell.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def wait_for(self, pattern: str) -> str:
        """The screen, when it shows this."""
        for _ in range(600):
            shown = "\n".join(line.rstrip() for line in self.screen.display)
            if re.search(pattern, shown):
                return shown
            self._read()
        raise AssertionError(shown)

    def end(self) -> int:
        """The exit status; the screen has everything then."""
        with suppress(pexpect.EOF):
            for _ in range(1200):
                self._read()
            raise AssertionError(self.screen.display)
        self.child.wait()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -1)

    def _read(self) -> None:
        try:
            piece = self.child.read_nonblocking(65536, timeout=0.1)
        except pexpect.TIMEOUT:
            return
        self.raw += piece
        self.stream.feed(piece)


@pytest.mark.parametrize("display", ["json", "lines"])
def test_that_nobody_reads_the_progress_ends_no_sync(
    sandbox: Sandbox, alice: Contact, environment: dict[str, str], tmp_path: Path, display: str
) -> None:
    """The data goes on, and so does the result."""
    sandbox.intercept = lambda params: Reply(400, b"{}") if "ascending" in params else None
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [*FLOWIQ, "sync", "--progress", display],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=writes,
        text=True,
        check=False,
    )
    os.close(writes)
    assert done.stdout.startswith("new  ")
    assert "1 conversations are read again" in done.stdout


def test_sigterm_is_an_interruption_whatever_runs(
    run: Run, sandbox: Sandbox, alice: Contact, environment: dict[str, str], tmp_path: Path
) -> None:
    """And an event, where there are events."""
    write(sandbox, alice, 3)
    run()
    sandbox.intercept = lambda _: Reply(200, b"", delay_s=30)
    process = subprocess.Popen(
        [*FLOWIQ, "verify", "--progress", "json"],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr
        assert json.loads(process.stderr.readline())["step"] == "comparing"
        process.terminate()
        *_, last = process.stderr
    assert process.returncode == 130
    error = json.loads(last)
    assert (error["event"], error["message"], error["exit_status"]) == ("error", "interrupted", 130)


@pytest.mark.parametrize("columns", [80, 30])
def test_a_terminal_shows_how_far_it_is(
    slow: Sandbox, environment: dict[str, str], tmp_path: Path, columns: int
) -> None:
    """Conversations, messages, requests, the limit; no line is broken in a narrow window."""
    settings = {"SOURCES__FLOWIQ__PACKAGE_CONVERSATIONS": "2", "COLUMNS": str(columns)}
    terminal = Terminal(environment | settings, tmp_path, "sync", columns=columns)
    shown = terminal.wait_for(r"of 12 conv")
    assert "flowiq is reading" in shown
    terminal.wait_for(r"\d requests|\d+ of \d+ req")
    terminal.child.sendintr()
    assert terminal.end() == 130
    said = "".join(line.rstrip() for line in terminal.screen.display)
    assert "interrupted" in said
    assert "the same" in said


def test_ctrl_c_says_what_is_kept_and_no_colour_is_used_where_none_is_wanted(
    slow: Sandbox, environment: dict[str, str], tmp_path: Path
) -> None:
    """By the convention of NO_COLOR."""
    settings = {"SOURCES__FLOWIQ__PACKAGE_CONVERSATIONS": "2", "NO_COLOR": "1"}
    terminal = Terminal(environment | settings, tmp_path, "sync")
    terminal.wait_for(r"packages? committed")
    terminal.child.sendintr()
    assert terminal.end() == 130
    assert re.search(rb"interrupted: \d packages? with \d+ messages stay", terminal.raw)
    assert not re.search(rb"\x1b\[(3[0-7]|38|9[0-7])", terminal.raw)


def test_the_result_stays_when_the_progress_has_gone(
    sandbox: Sandbox, alice: Contact, environment: dict[str, str], tmp_path: Path
) -> None:
    """The screen ends with the summary alone."""
    write(sandbox, alice, 3)
    terminal = Terminal(environment, tmp_path, "sync")
    assert terminal.end() == 0
    shown = "\n".join(line.rstrip() for line in terminal.screen.display).strip()
    assert shown.startswith("new             3 messages")
    assert "flowiq is" not in shown


def test_without_a_terminal_a_line_says_how_far_it_is(
    slow: Sandbox, environment: dict[str, str], tmp_path: Path
) -> None:
    """One in half a minute; here, in half a second."""
    often = "import flowiq_source.cli.progress as p; p.EVERY_S = 0.5\n"
    command = f"{often}from flowiq_source.cli.commands import flowiq; flowiq(['sync'])"
    process = subprocess.Popen(
        [sys.executable, "-c", command],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr
        for line in process.stderr:
            if " of 12 conversations" in line:
                break
        process.kill()
    assert line.startswith("flowiq: reading: ")
    assert "requests" in line


def test_quiet_is_quiet(run: Run, sandbox: Sandbox, alice: Contact) -> None:
    """But for the result."""
    write(sandbox, alice, 3)
    done = run("sync", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert "new             3 messages" in done.stdout


def test_logs_are_json_where_dlt_is_told_so(run: Run, sandbox: Sandbox, alice: Contact) -> None:
    """The package's own among them."""
    write(sandbox, alice, 3)
    sandbox.intercept = lambda params: Reply(400, b"{}") if "ascending" in params else None
    done = run("sync", RUNTIME__LOG_FORMAT="JSON")
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines()]
    assert any("one conversation failed" in line["msg"] for line in lines)


def test_the_dlt_command_line_has_it_too(environment: dict[str, str], tmp_path: Path) -> None:
    """`dlt flowiq status` is `flowiq status`."""
    dlt = Path(sys.executable).with_name("dlt")
    done = subprocess.run(
        [dlt, "flowiq", "status", "--json"],
        env=environment | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tables"] == {}


def test_the_package_is_the_command_too() -> None:
    """Where no script is on the path."""
    for module in ("flowiq_source", "flowiq_source.cli"):
        command = [sys.executable, "-m", module, "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("flowiq, version ")


def test_forget_asks_first(
    run: Run, sandbox: Sandbox, alice: Contact, environment: dict[str, str], tmp_path: Path
) -> None:
    """What would be removed, and then removes it; no number is said."""
    write(sandbox, alice, 3)
    run()
    key = {"SOURCES__FLOWIQ__HASH_KEY": "0123456789abcdef" * 4}
    done = run("forget", "--phone", alice.number, **key)
    assert done.returncode == 2
    assert "nothing was removed" in done.stderr
    terminal = Terminal(environment | key, tmp_path, "forget", "--contact", alice.id)
    terminal.wait_for(r"Remove that for good\? \[y/N\]")
    # Python overlooks a signal in the moment in which it begins to read a line.
    time.sleep(1)
    terminal.child.sendintr()
    assert terminal.end() == 130
    terminal = Terminal(environment | key, tmp_path, "forget", "--phone", f"+{alice.number}")
    terminal.wait_for(r"Remove that for good\? \[y/N\]")
    terminal.child.sendline("y")
    assert terminal.end() == 0
    assert re.search(rb"rows deleted +.*messages 3", terminal.raw)
    assert alice.number.encode() not in terminal.raw
    done = run("forget", "--contact", alice.id, "--yes", "--json", **key)
    assert json.loads(done.stdout)["contacts"] == 0
    assert run("status").returncode == 0


def test_a_file_that_the_command_made_opens(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    """By any program of the owner's."""
    run()
    with duckdb.connect(str(tmp_path / "flowiq_pipeline.duckdb"), read_only=True) as connection:
        assert connection.sql("FROM flowiq.contacts").fetchall() == []


def test_of_many_tenants_the_progress_says_who_runs_and_how_many_are_done() -> None:
    """A line for all, and one for each that runs; the events say whose they are."""
    progress = Progress("lines")
    progress.begin(3)
    assert progress.lines() == ["0 of 3 tenants"]
    ada = progress.of("ada")
    ada._start("Extract flowiq")
    ada.update("Conversations", 2, total=5)
    assert progress.lines() == [
        "0 of 3 tenants",
        "ada is reading: 2 of 5 conversations",
    ]
    progress.ended("ada", "complete")
    progress.ended("bea", "failed")
    assert progress.lines() == ["2 of 3 tenants: 1 complete, 1 failed"]


def test_the_events_of_many_tenants_say_whose_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """One a line."""
    Progress("json").of("ada")._start("Extract flowiq")
    said = json.loads(capsys.readouterr().err)
    assert (said["event"], said["tenant_id"], said["step"]) == ("start", "ada", "reading")
