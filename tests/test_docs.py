"""Every command, program and query of README and docs is run as it stands."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import git
import pytest

from flowiq_source.sandbox import Sandbox, World
from tests.support.script import FLOWIQ, ROOT, settings_of

pytestmark = pytest.mark.models

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HASH_KEY = {"SOURCES__FLOWIQ__HASH_KEY": "0123456789abcdef" * 4}
BLOCK = re.compile(r"^```(?P<kind>sh|python|sql)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[tuple[str, str]]:
    """The page's name and its blocks of a kind, in their order."""
    found = ((page.name, BLOCK.finditer(page.read_text())) for page in PAGES)
    return [(name, m["text"]) for name, matches in found for m in matches if m["kind"] == kind]


def programs() -> dict[str, str]:
    """All Python of a page, because its blocks go on from each other."""
    texts: dict[str, str] = {}
    for name, text in blocks("python"):
        texts[name] = texts.get(name, "") + text
    return texts


@pytest.fixture(scope="module")
def account() -> Iterator[Sandbox]:
    """A small business."""
    with Sandbox(World(contacts=3), limited=False) as sandbox:
        yield sandbox


@pytest.fixture
def environment(account: Sandbox, tmp_path: Path) -> dict[str, str]:
    """What a user has set, and everything that is written in a folder of the test's."""
    # A make around the tests would speak through the one that they start.
    outside = {name: v for name, v in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    warehouse = {"DESTINATION__DUCKDB__CREDENTIALS": str(tmp_path / "docs.duckdb")}
    return outside | settings_of(account, tmp_path / "dlt") | warehouse


def done(command: list[str], environment: dict[str, str], folder: Path) -> str:
    """What a command prints."""
    run = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("page", programs())
def test_a_program_of_the_docs_runs(page: str, environment: dict[str, str], tmp_path: Path) -> None:
    """From an empty folder, with the account in the environment."""
    environment.pop("DESTINATION__DUCKDB__CREDENTIALS")
    assert done([sys.executable, "-c", programs()[page]], environment, tmp_path)


def make_commands() -> list[str]:
    """Every `make` that README and docs name, once, demo and tests aside."""
    text = "\n".join(page.read_text() for page in PAGES)
    found = re.findall(r'make (?:run|backfill|plan|verify|status)(?: ARGS="[^"]*")?', text)
    options = re.findall(r'`ARGS="([^"]*)"`', text)
    runs = [f'make run ARGS="{words}"' for words in options if "from-last" not in words]
    verifies = [f'make verify ARGS="{words}"' for words in options if "from-last" in words]
    return sorted({*found, *(run for run in runs if "--mark" not in run), *verifies})


def test_every_make_command_of_the_docs_works(
    environment: dict[str, str], account: Sandbox
) -> None:
    """`make -n` says what it would run; that is run, into a folder of the test's."""
    commands = make_commands()
    assert len(commands) > 5
    for command in ["make run", *commands]:
        listed = done([*shlex.split(command), "-n", "-o", ".venv/ready"], environment, ROOT)
        line = listed.strip().splitlines()[-1].replace(".venv/bin/flowiq", shlex.join(FLOWIQ))
        assert done(["bash", "-c", line], environment, ROOT)


def test_every_command_of_the_docs_works(environment: dict[str, str], tmp_path: Path) -> None:
    """Each `flowiq …` that a table names, from an empty folder; the sandbox would not end."""
    text = "\n".join(page.read_text() for page in PAGES)
    found = re.findall(r"\| `flowiq ([^`]+)` \|", text)
    assert len(found) > 7
    for words in sorted(found, key=lambda words: words.startswith(("verify", "forget"))):
        if not words.startswith("sandbox"):
            wanted = shlex.split(words.replace("NUMBER", "27820000000 --yes"))
            done([*FLOWIQ, *wanted], environment | HASH_KEY, tmp_path)


def test_dlt_init_makes_a_project_of_it(tmp_path: Path) -> None:
    """From this repository, with a script that names the source and its credentials."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / "sources", repository / "sources")
    stored = git.Repo.init(repository)
    stored.git.add("sources")
    stored.index.commit("All")
    home = tmp_path / "home"
    home.mkdir()
    dlt = [str(Path(sys.executable).with_name("dlt")), "--non-interactive", "init", "flowiq"]
    done([*dlt, "duckdb", "--location", str(repository)], dict(os.environ), home)
    assert "sync(pipeline, flowiq_source())" in (home / "flowiq_pipeline.py").read_text()
    assert "bearer_token" in (home / ".dlt" / "secrets.toml").read_text()


def test_every_query_of_the_docs_answers(environment: dict[str, str], tmp_path: Path) -> None:
    """Against what the command has loaded."""
    done([*FLOWIQ, "sync"], environment, tmp_path)
    queries = [text for _, text in blocks("sql")]
    assert len(queries) >= 3
    with duckdb.connect(str(tmp_path / "docs.duckdb")) as connection:
        for query in queries:
            assert connection.sql(query) is not None


def test_every_link_of_the_docs_leads_somewhere() -> None:
    """Files of the project, that is."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_test_that_the_promises_name_exists() -> None:
    """By its function or its file."""
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for named in re.findall(r"`(tests/\S+|test_\w+)`", (ROOT / "docs/promises.md").read_text()):
        there = (ROOT / named).exists() if "/" in named else f"def {named}(" in tests
        assert there, named


def test_every_setting_of_the_source_is_in_the_readme() -> None:
    """And none that there is not."""
    from flowiq_source.settings import Settings  # noqa: PLC0415

    rows = re.findall(r"^\| (`[^|]*`) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    settings = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(Settings.get_resolvable_fields()) <= settings
