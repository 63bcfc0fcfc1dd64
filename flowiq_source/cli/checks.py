"""`flowiq check`: settings, API and destination tried one after the other, for two requests."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dlt

from flowiq_source import failures
from flowiq_source.api.client import Meter
from flowiq_source.cli import project
from flowiq_source.errors import NotFound
from flowiq_source.loading.refusals import without_row_texts
from flowiq_source.loading.trial import try_destination
from flowiq_source.loading.undocumented import loads_parquet
from flowiq_source.reading.listing import conversation_of
from flowiq_source.rows.arrow import read_rows
from flowiq_source.settings import Settings, place_of
from flowiq_source.source import FlowiqSource


@dataclass(frozen=True)
class Check:
    """One thing that was tried: `ok`, `warn` or `fail`, and what was found or what to do."""

    name: str
    verdict: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<5} {self.name:<12} {self.text}"


@dataclass
class Checks:
    """All of them."""

    checks: list[Check] = field(default_factory=list)
    exit_status: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {"ok": not self.exit_status, "checks": [asdict(one) for one in self.checks]}

    def __str__(self) -> str:
        return "\n".join(map(str, self.checks))

    def attempt(self, name: str, found: Callable[[], str]) -> bool:
        """Try something; whether it is well."""
        try:
            self.checks.append(Check(name, "ok", found()))
        except Exception as error:  # noqa: BLE001 - each line stands for itself
            status, text = failures.diagnosis(error)
            self.exit_status = max(self.exit_status, status)
            self.checks.append(Check(name, "fail", text))
            return False
        return True

    def warn(self, name: str, text: str | None) -> None:
        """Point at something that works and should not stay so."""
        if text:
            self.checks.append(Check(name, "warn", text))


def check_all(
    open_pipeline: Callable[[], dlt.Pipeline], make_source: Callable[[], FlowiqSource]
) -> Checks:
    """Try everything that a sync needs; what depends on a failed line is left out."""
    checks = Checks()
    made: dict[str, Any] = {}
    checks.attempt("project", _project)
    checks.warn("secrets", project.open_secrets())

    def settings() -> str:
        made["source"] = make_source()
        return _origins()

    if checks.attempt("settings", settings):
        _check_api(checks, made["source"])

    def destination() -> str:
        made["pipeline"] = open_pipeline()
        return _destination(made["pipeline"])

    if checks.attempt("destination", destination) and "source" in made:
        _check_destination(checks, made["pipeline"], made["source"])
    return checks


def _project() -> str:
    has_settings = Path(dlt.current.run_context().settings_dir).is_dir()
    return f"{Path.cwd()}, " + ("settings in .dlt" if has_settings else "which has no .dlt")


def _origins() -> str:
    """Where each setting comes from; no value, because one is a secret."""
    found = {name: place_of(name) for name in Settings.get_resolvable_fields()}
    places = [f"{name} from {place.name}" for name, place in found.items() if place]
    return ", ".join(places) or "all as by default"


def _check_api(checks: Checks, source: FlowiqSource) -> None:
    settings = source.feed.settings
    client = source.feed.connect(settings, sleep=time.sleep, read_rows=read_rows)
    pages: dict[str, Any] = {}

    def contacts() -> str:
        pages["contacts"] = page = client.contacts(1, Meter())
        total = len(page.rows) if page.total is None else page.total
        return f"{settings.base_url} answers, token and tenant are right: {total:,} contacts"

    def messages() -> str:
        mapped = map(source.feed.contact_mapper(), pages["contacts"].rows)
        ways = [way for one in mapped for way in conversation_of(one).ways]
        if not ways:
            return "no contact to ask for"
        try:
            page = client.messages(ways[0], 1, Meter())
        except NotFound:
            return "the first contact has no conversation"
        return f"a page of {len(page.rows)} of {page.total or 0:,} is read"

    if checks.attempt("api", contacts):
        checks.attempt("messages", messages)
        checks.attempt("rate limit", client.pace)


def _destination(pipeline: dlt.Pipeline) -> str:
    kind = pipeline.destination.destination_name
    package = {"postgres": "psycopg2-binary"}.get(kind, kind)
    try:
        library = f", {package} {version(package)}"
    except PackageNotFoundError:
        library = ""
    return f"{kind}{library}, dataset {pipeline.dataset_name}"


def _check_destination(checks: Checks, pipeline: dlt.Pipeline, source: FlowiqSource) -> None:
    def writable() -> str:
        return without_row_texts(pipeline, lambda: try_destination(pipeline, source.schema))

    def merging() -> str:
        able = pipeline.destination.capabilities().supported_merge_strategies
        return "rows are merged by key" if able else "rows can only be appended, not merged"

    if checks.attempt("writable", writable):
        checks.attempt("merge", merging)
        checks.attempt("format", lambda: "parquet" if loads_parquet(pipeline) else "rows as text")
