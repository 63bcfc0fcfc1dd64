"""The report of a real warehouse: what it says is what SQL says."""

import json
import re
import sys
import uuid
from pathlib import Path

import dlt
import pytest

from flowiq_source import sync
from flowiq_source.errors import ConfigurationError
from flowiq_source.report.words import duration, number
from flowiq_source.report.write import Report, write_report
from flowiq_source.sandbox import Contact, Sandbox, World
from flowiq_source.sandbox.world import planned_for
from tests.support.browser import needs_chromium, reading
from tests.support.destinations import NEEDS_POSTGRES, SERVER
from tests.support.history import write
from tests.support.script import Run
from tests.support.warehouse import Rows, Warehouse

pytestmark = pytest.mark.models


class Lively:
    """A business of four months, in a warehouse, and the time of its clock."""

    def __init__(self, folder: Path) -> None:
        self.warehouse = Warehouse(folder)
        world = World(planned_for(24), lively=True)
        self.now = world.now
        with Sandbox(world, limited=False) as sandbox:
            self.people = [(one.full_name, one.number) for one in world.contacts]
            self.texts = {m.content for one in world.contacts for m in one.messages if m.content}
            self.warehouse.sync(sandbox)
            self.source = self.warehouse.source(sandbox)

    def report(self, file: Path, **options: object) -> Report:
        """Written as of the world's time."""
        return write_report(
            self.warehouse.pipeline,
            self.source,
            file,
            as_of=self.now,
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Lively:
    """Made once: nobody changes it."""
    return Lively(tmp_path_factory.mktemp("lively"))


@pytest.fixture(scope="module")
def file(lively: Lively) -> Path:
    """Its report, without contacts."""
    file = lively.warehouse.folder / "report.html"
    lively.report(file)
    return file


Tables = dict[str, list[list[str]]]
"""The numbers in the page, as a reader sees them, by figure."""


@pytest.fixture(scope="module")
def tables(file: Path) -> Tables:
    """Read once in a browser."""
    with reading(file) as reader:
        reader.open_all()
        found: Tables = reader.page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll('table')].map(table =>
                [table.dataset.of, [...table.tBodies[0].rows].map(row =>
                    [...row.cells].map(cell => cell.innerText))]))"""
        )
    return found


def test_the_report_of_a_real_warehouse_names_nobody(lively: Lively, file: Path) -> None:
    """No name, number or text of a message; with `with_contacts` those who wait."""
    html = file.read_text("utf-8")
    for name, digits in lively.people:
        assert digits not in html
        assert name is None or name not in html
    assert not [text for text in lively.texts if len(text) > 8 and text in html]
    named = lively.warehouse.folder / "named.html"
    lively.report(named, with_contacts=True)
    assert any(digits in named.read_text("utf-8") for _, digits in lively.people)


def test_it_is_small_and_for_its_user_alone(lively: Lively, file: Path) -> None:
    """Under 1 MB, whole, and not to be read by others."""
    assert 100_000 < file.stat().st_size < 1_000_000
    assert file.stat().st_mode & 0o077 == 0
    assert file.read_text("utf-8").endswith("</html>\n")
    assert [path for path in file.parent.iterdir() if path.suffix == ".tmp"] == []


def shown(rows: Rows) -> list[list[str]]:
    """Rows as the page writes them: counts with commas, days as they are."""
    return [[number(c) if isinstance(c, int) else str(c) for c in row] for row in rows]


def waits(rows: Rows) -> list[list[str]]:
    """A count, and seconds as durations."""
    return [[number(count), *map(duration, of)] for count, *of in rows]


@needs_chromium
def test_the_numbers_in_the_page_are_those_of_sql(lively: Lively, tables: Tables) -> None:
    """Asked of the views once more, in other words; a reader sees exactly these."""
    ask, days = lively.warehouse.query, "local_date > DATE '2026-03-02' - 90"
    since = "waiting_since >= TIMESTAMPTZ '2025-12-03 00:00+00'"
    volume = ", ".join(f"count(*) FILTER (party = '{party}')" for party in PARTIES)
    volume = f"SELECT local_date, {volume} FROM flowiq.fct_messages WHERE {days}"
    assert tables["volume"] == shown(ask(f"{volume} GROUP BY 1 ORDER BY 1 DESC"))
    hours = ", ".join(f"count(*) FILTER (local_weekday = {day})" for day in range(1, 8))
    load = f"SELECT format('{{:02d}}', local_hour), {hours} FROM flowiq.fct_messages "
    load += f"WHERE party = 'customer' AND {days} GROUP BY 1 ORDER BY 1"
    quiet = [row for row in tables["load"] if set(row[1:]) == {"0"}]
    assert [row for row in tables["load"] if row not in quiet] == shown(ask(load))
    first = f"SELECT count(*), {PERCENTILES} FROM flowiq.fct_waits WHERE {since} AND answered_by"
    human = f"SELECT count(*), {PERCENTILES} FROM flowiq.fct_agent_waits WHERE {since} AND "
    expected = [
        *ask(f"{first} = 'bot'"),
        *ask(f"{first} = 'agent'"),
        *ask(f"{human} first_agent_at IS NOT NULL"),
    ]
    assert [row[1:] for row in tables["answers"]] == waits(expected)
    by_outcome: dict[str, int] = dict(ask(f"{OUTCOME} WHERE {days} GROUP BY ALL"))
    sums = [sum(int(row[n]) for row in tables["windows"]) for n in range(1, 7)]
    assert sums == [by_outcome.get(one, 0) for one in OUTCOMES]
    assert min(sums) > 0
    kinds = ("<> 'failed'", "IN ('delivered', 'read')", "= 'read'", "= 'failed'")
    sent = ", ".join(f"count(*) FILTER (status {kind})" for kind in kinds)
    ours = f"party IN ('bot', 'agent') AND sent_at <= {YESTERDAY}"
    [steps] = ask(f"SELECT {sent} FROM flowiq.fct_messages WHERE {days} AND {ours}")
    assert [row[1] for row in tables["delivery"]] == [number(step) for step in steps]
    agents = "SELECT count(*), count(DISTINCT contact_id) FROM flowiq.fct_messages "
    agents += f"WHERE party = 'agent' AND {days} GROUP BY assignee ORDER BY 1 DESC, assignee"
    assert [row[1:3] for row in tables["agents"]] == shown(ask(agents))
    reactions = "SELECT r.emoji, count(*) FROM flowiq.messages__reactions r JOIN flowiq.messages m "
    reactions += "ON m._dlt_id = r._dlt_parent_id WHERE m.timestamp >= DATE '2025-12-03' "
    reactions += "GROUP BY 1 ORDER BY 2 DESC, 1"
    assert tables["reactions"] == shown(ask(reactions))
    waiting = ask("SELECT count(*) FROM flowiq.fct_backlog")
    assert sum(int(cell) for row in tables["backlog"] for cell in row[1:]) == waiting[0][0]


PARTIES = ("customer", "bot", "agent", "system")
OUTCOMES = ("contained", "returned", "handed_over", "agent_only", "unanswered", "open")
NOW, YESTERDAY = "TIMESTAMPTZ '2026-03-02 08:00+00'", "TIMESTAMPTZ '2026-03-01 08:00+00'"
OUTCOME = f"""
    SELECT CASE WHEN closes_at > {NOW} THEN 'open'
                WHEN outcome = 'contained' AND closes_at > {YESTERDAY} THEN 'open'
                ELSE outcome END, count(*)
    FROM (SELECT *, CAST(opened_at AT TIME ZONE 'UTC' AS DATE) AS local_date
          FROM flowiq.fct_windows)
"""
PERCENTILES = ", ".join(
    f"quantile_cont({column}, {share})"
    for column in ("wait_seconds", "business_wait_seconds")
    for share in (0.5, 0.9)
)


def test_the_command_writes_the_report_beside_you(
    run: Run, sandbox: Sandbox, alice: Contact, tmp_path: Path
) -> None:
    """And says where; the views are made if they are missing."""
    write(sandbox, alice, 1)
    run(SOURCES__FLOWIQ__MODELS__CREATE="false")
    now = sandbox.world.now.isoformat()
    done = run("report", "--as-of", now, SOURCES__FLOWIQ__BEARER_TOKEN="")
    assert (done.returncode, done.stderr) == (0, "")
    file = tmp_path / "flowiq_report.html"
    assert str(file) in done.stdout
    html = file.read_text("utf-8")
    assert "in its one conversation the warehouse holds as many messages" in html
    assert "1 message came from customers" in html
    assert "1 conversation waits for an answer" in html
    later = run("report", "--output", str(file), "--as-of", "2027-01-01", "--json")
    assert json.loads(later.stdout)["messages"] == 0
    assert "Nothing in this time; the newest message is of" in file.read_text("utf-8")


def test_an_account_without_anybody_has_a_report(run: Run, tmp_path: Path) -> None:
    """It says that there is nothing."""
    run()
    assert run("report").returncode == 0
    html = (tmp_path / "flowiq_report.html").read_text("utf-8")
    assert "No conversation was loaded yet." in html
    assert "Nobody waits" in html


def test_what_cannot_be_is_one_line(run: Run, sandbox: Sandbox, alice: Contact) -> None:
    """Nothing loaded, no such folder, no such time."""
    assert "nothing was loaded yet" in run("report").stderr
    write(sandbox, alice, 1)
    run()
    refused = run("report", "--output", "there/is/none.html")
    assert refused.returncode == 2
    assert "No such file or directory" in refused.stderr
    assert run("report", "--as-of", "yesterday").returncode == 2


def test_without_what_draws_it_the_report_says_what_to_install(
    lively: Lively, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One line, before anything is asked."""
    for name in ("figures", "charts", "svg", "page"):
        monkeypatch.delitem(sys.modules, f"flowiq_source.report.{name}", raising=False)
        monkeypatch.delattr(f"flowiq_source.report.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'flowiq-source\[report\]'"):
        lively.report(tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_contact_called_script_is_harmless(sandbox: Sandbox, warehouse: Warehouse) -> None:
    """From the API to the page."""
    name = "<script>alert(1)</script>"
    contact = sandbox.world.add_contact("27820000001", full_name=name)
    sandbox.world.add_message(contact, content=name, reactions=[{"emoji": name, "sender": "1"}])
    warehouse.sync(sandbox)
    file = warehouse.folder / "report.html"
    source = warehouse.source(sandbox)
    write_report(warehouse.pipeline, source, file, with_contacts=True, as_of=sandbox.world.now)
    html = file.read_text("utf-8")
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3


@NEEDS_POSTGRES
def test_postgresql_gives_the_same_report(lively: Lively, file: Path) -> None:
    """The same account, the same time, the same page; but for the time of the sync."""
    name = f"flowiq_{uuid.uuid4().hex}"
    pipeline = dlt.pipeline(
        "postgres",
        pipelines_dir=str(lively.warehouse.folder / "postgres"),
        destination=dlt.destinations.postgres(SERVER or ""),
        dataset_name=name,
    )
    other = lively.warehouse.folder / "postgres.html"
    try:
        with Sandbox(World(planned_for(24), lively=True), limited=False) as sandbox:
            source = lively.warehouse.source(sandbox)
            sync(pipeline, source)
            write_report(pipeline, source, other, as_of=lively.now)
    finally:
        with pipeline.sql_client() as client:
            for suffix in ("", "_staging"):
                client.execute_sql(f'DROP SCHEMA IF EXISTS "{name}{suffix}" CASCADE')
    pages = [re.sub("Last sync</th>.*?</tr>", "", one.read_text("utf-8")) for one in (file, other)]
    assert pages[0] == pages[1]
