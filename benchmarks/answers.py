"""How long each model takes over so many messages in DuckDB, and the report.

    python answers.py MESSAGES

Prints JSON: seconds, the median of three, with two threads.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import dlt
import duckdb

from flowiq_source import flowiq_source, sync
from flowiq_source.models import create_models
from flowiq_source.models.definitions import NAMES
from flowiq_source.report.write import write_report
from flowiq_source.sandbox import Sandbox, World
from flowiq_source.source import FlowiqSource

A_CONVERSATION = 100
"""Messages of each conversation."""

# A day and a half of one hundred messages each, over a year; who writes is as in a lively business.
FILL = """
    INSERT INTO flowiq.messages (tenant_id, contact_id, id, sender, timestamp, status, assignee,
                                 content, scan, _dlt_id, _dlt_load_id)
    SELECT 'sandbox', 'contact-' || (n % {contacts}), md5(n::VARCHAR),
        CASE WHEN h % 10 < 4 THEN 'user-whatsapp' WHEN h % 10 < 7 THEN 'bot-whatsapp'
             WHEN h % 10 < 9 THEN 'human-whatsapp' ELSE 'system' END,
        now() - to_seconds((n // {contacts}) * 310000 + h % 200000),
        ['sent', 'delivered', 'read', 'failed'][(1 + h % 4)::BIGINT],
        ['ann', 'bob', 'cy', NULL][(1 + h % 4)::BIGINT], repeat('x', 80), 1, 'm' || n, 'load'
    FROM (SELECT n, hash(n) AS h FROM range({messages}) r(n))"""
CONVERSATIONS = """
    INSERT INTO flowiq.conversations (tenant_id, contact_id, status, message_count, scan, _dlt_id,
                                      _dlt_load_id)
    SELECT 'sandbox', 'contact-' || n, 'complete', {each}, 1, 'c' || n, 'load'
    FROM range({contacts}) r(n)"""


def main(messages: int) -> dict[str, float]:
    """The seconds of each model and of the report, and the report's size."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    with tempfile.TemporaryDirectory() as folder:
        return _measured(Path(folder), messages)


def _measured(folder: Path, messages: int) -> dict[str, float]:
    file = folder / "answers.duckdb"
    pipeline = dlt.pipeline(
        "answers",
        pipelines_dir=str(folder),
        destination=dlt.destinations.duckdb(str(file)),
        dataset_name="flowiq",
    )
    source = _filled(pipeline, file, messages)
    found: dict[str, float] = {}
    with closing(duckdb.connect(str(file), config={"threads": 2})) as connection:
        for name in NAMES:
            sql = f"CREATE OR REPLACE TEMP TABLE answer AS SELECT * FROM flowiq.{name}"
            found[name] = _seconds(lambda sql=sql: connection.execute(sql))  # type: ignore[misc]
    page = folder / "report.html"
    found["report"] = _seconds(lambda: write_report(pipeline, source, page))
    return found | {"report_mb": page.stat().st_size / 1e6}


def _filled(pipeline: dlt.Pipeline, file: Path, messages: int) -> FlowiqSource:
    """The tables as a sync makes them, with that many messages."""
    with Sandbox(World(contacts=1), limited=False) as api:
        source = flowiq_source(api.token, api.tenant, api.url)
        sync(pipeline, source)
    sizes = {"messages": messages, "contacts": messages // A_CONVERSATION, "each": A_CONVERSATION}
    with closing(duckdb.connect(str(file))) as connection:
        for sql in (FILL, CONVERSATIONS):
            connection.execute(sql.format(**sizes))
    create_models(pipeline, source)
    return source


def _seconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
