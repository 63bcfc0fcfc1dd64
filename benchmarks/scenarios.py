"""What is measured: each function is one scenario and returns what goes into results.json."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from processes import (
    HERE,
    Account,
    Run,
    folder,
    rows_of,
    run_once,
    run_peer,
    run_program,
    server,
    with_libcurl,
)

Json = dict[str, Any]

SLOTS = 16
"""Requests at a time that the goal for latency is counted with."""


@dataclass(frozen=True)
class Size:
    """How much is measured: the real thing, or `--quick`. `stored` are earlier results."""

    rounds: int
    quick: bool
    stored: Json

    def of(self, number: int) -> int:
        """So many, or a fiftieth."""
        return max(10, number // 50) if self.quick else number


def peers(size: Size) -> Json:
    """100,000 messages in 1,000 conversations: ours, the script, the floor, dlt's REST source."""
    account = Account(contacts=size.of(1_000), messages=100)
    # The REST source is slow: it takes part in every third round.
    turns = {"ours": 1, "script": 1, "floor": 1, "rest_api": 3}
    with server(account) as url:
        found = _compared(account, url, turns, size.rounds)
        lossy = run_once("rest_api_cursor", url)
    ratios, ours = found["ratios"], found["peers"]["ours"]
    return {
        **found,
        "rest_api_cursor": lossy.as_json(),
        "goals": [
            _goal("ours/script", ratios["ours/script"]["median"], 1.0),
            _goal("ours/floor", ratios["ours/floor"]["median"], 2.0),
            _goal("ours/rest_api", ratios["ours/rest_api"]["median"], 0.15),
            _goal("peak RSS of ours, MB", ours["peak_rss_mb"]["median"], 400),
        ],
    }


def price(size: Size) -> Json:
    """100,000 messages, at once and 50 ms late: on requests, and as it was on libcurl."""
    found = {}
    with with_libcurl():
        for name, latency_ms in (("at_once", 0), ("late", 50)):
            account = Account(contacts=size.of(1_000), messages=100, latency_ms=latency_ms)
            with server(account) as url:
                turns = {"requests": 1, "libcurl": 1}
                found[name] = _compared(account, url, turns, size.rounds)
    at_once, late = (found[name]["ratios"] for name in ("at_once", "late"))
    return {
        **found,
        "goals": [
            _goal("CPU, at once", at_once["requests/libcurl CPU"]["median"], 1.2),
            _goal("seconds, 50 ms late", late["requests/libcurl"]["median"], 1.0),
        ],
    }


def million(size: Size) -> Json:
    """1,000,000 messages in 10,000 conversations: ours and the floor."""
    account = Account(contacts=size.of(10_000), messages=100)
    with server(account) as url:
        found = _compared(account, url, {"ours": 1, "floor": 1}, max(1, size.rounds // 2))
    rss = found["peers"]["ours"]["peak_rss_mb"]["median"]
    goals = [
        _goal("ours/floor", found["ratios"]["ours/floor"]["median"], 1.8),
        _goal("peak RSS of ours, MB", rss, 400),
    ]
    if before := size.stored.get("peers"):
        smaller = before["peers"]["ours"]["peak_rss_mb"]["median"]
        goals.append(_goal("peak RSS of ours, 1M/100k", rss / smaller, 1.15))
    return {**found, "goals": goals}


def latency(size: Size) -> Json:
    """1,600 conversations of 200 messages, every answer 100 ms late: ours."""
    account = Account(contacts=size.of(1_600), messages=200, latency_ms=100)
    with server(account) as url:
        runs = [_whole(account, run_once("ours", url)) for _ in range(min(2, size.rounds))]
    least = account.latency_ms / 1000 * runs[0].requests / SLOTS
    sync = _spread((run.sync_seconds or run.seconds) / least for run in runs)
    process = _spread(run.seconds / least for run in runs)
    return {
        **_described(account, runs),
        "least_seconds": least,
        "goals": [
            _goal("sync seconds / least", sync["median"], 1.25),
            _goal("whole process / least", process["median"], 1.25),
        ],
    }


def limit(size: Size) -> Json:
    """About 400 requests, with the API's limit of 100 a minute and bursts of 150: ours."""
    account = Account(contacts=170 if size.quick else 396, messages=20, per_minute=100)
    with server(account) as url:
        run = _whole(account, run_once("ours_limited", url))
    served, minutes = run.requests - run.too_many, run.served_seconds / 60
    # The bucket is full at first, with a minute and a half's requests.
    of_the_bucket = served / (account.per_minute * (minutes + 1.5))
    return {
        **_described(account, [run]),
        "goals": [
            _goal("answers 429", run.too_many, 0),
            _goal("of 100 a minute", served / (account.per_minute * minutes), 0.97, at_least=True),
            _goal("of what the bucket allowed", of_the_bucket, 0.97, at_least=True),
        ],
    }


def state(size: Size) -> Json:
    """What dlt's state of 100,000 conversations weighs, and what saving and loading it takes."""
    # A process of its own: a child's peak memory is never less than that of who started it.
    command = [sys.executable, str(HERE / "state.py"), str(size.of(100_000))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    found: Json = json.loads(done.stdout)
    saved, loaded = (f"{act}_compressed_seconds" for act in ("save", "load"))
    goals = [
        _goal("bytes each", found["compressed_bytes_each"], 60),
        _goal("seconds to save", found["hash_seconds"] + found[saved], 2),
        _goal("seconds to load", found[loaded], 2),
    ]
    return {**found, "goals": goals}


def answers(size: Size) -> Json:
    """The models and the report over 1,000,000 messages in 10,000 conversations."""
    command = [sys.executable, str(HERE / "answers.py"), str(size.of(1_000_000))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=900, check=True)
    found: Json = json.loads(done.stdout)
    bounds = {name: 2.0 for name in found if name.startswith("fct_")}
    bounds |= {"report": 10.0, "report_mb": 1.0}
    return {**found, "goals": [_goal(name, found[name], most) for name, most in bounds.items()]}


def tenants(size: Size) -> Json:
    """1,000 tenants of 10 contacts with 20 messages, through `sync_tenants`, 4 at a time: ours."""
    count, account = size.of(1_000), Account(contacts=10, messages=20)
    with server(account) as url, folder() as path:
        said = run_program("tenants.py", [url, str(path), str(count), "4"], path)
        loaded = rows_of(path / "warehouse.duckdb", "flowiq.messages")
    if loaded != count * account.total:
        raise RuntimeError(f"{loaded:,} messages in the file")
    found: Json = json.loads(said.splitlines()[-1])
    cpu_s = found["idle"]["cpu_seconds_each"]
    return {**found, "goals": [_goal("CPU seconds of an idle tenant", cpu_s, 0.3)]}


def growth(size: Size) -> Json:
    """Seconds and requests against contacts of 5 messages each, and against messages: ours."""
    by_contacts = [Account(contacts=size.of(10**n), messages=5) for n in (2, 3, 4, 5)]
    by_messages = [Account(contacts=size.of(10**n), messages=100) for n in (2, 3, 4)]
    return {
        "contacts": [_grown(account) for account in by_contacts],
        "messages": [_grown(account) for account in by_messages],
    }


def _grown(account: Account) -> Json:
    """A first run, and a second with nothing new on the same file."""
    with server(account) as url, folder() as path:
        first = _whole(account, run_peer("ours", url, path))
        second = _whole(account, run_peer("ours", url, path))
    print(
        f"  {account.contacts:,} contacts: {first.seconds} s, then {second.seconds} s", flush=True
    )
    return {
        "contacts": account.contacts,
        "messages": account.total,
        "first": first.as_json(),
        "second": second.as_json(),
    }


def _compared(account: Account, url: str, turns: dict[str, int], rounds: int) -> Json:
    """Every peer's runs, and the first one's over each other's of the same round.

    `turns` says in which rounds a peer takes part: every one, every third. One run of each, except
    of those with few turns, goes before and is not counted. Rounds begin with another peer each.
    """
    names = list(turns)
    ours = names[0]
    runs: dict[str, dict[int, Run]] = {name: {} for name in names}
    for name in names:
        if turns[name] == 1:
            _take(name, url, account, "warm-up")
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if number % turns[name] == 0:
                runs[name][number] = _take(name, url, account, f"round {number + 1}")
    return {
        "rounds": rounds,
        "peers": {name: _described(account, list(runs[name].values())) for name in names},
        "ratios": {
            f"{ours}/{name}{unit}": _spread(
                getattr(runs[ours][number], what) / getattr(run, what)
                for number, run in runs[name].items()
            )
            for name in names[1:]
            for unit, what in (("", "seconds"), (" CPU", "cpu_seconds"))
        },
    }


def _take(name: str, url: str, account: Account, when: str) -> Run:
    run = _whole(account, run_once(name, url))
    print(f"  {when}: {name} {run.seconds:.2f} s", flush=True)
    return run


def _described(account: Account, runs: list[Run]) -> Json:
    return {
        "contacts": account.contacts,
        "messages": account.total,
        "seconds": _spread(run.seconds for run in runs),
        "cpu_seconds": _spread(run.cpu_seconds for run in runs),
        "peak_rss_mb": _spread(run.peak_rss_mb for run in runs),
        "runs": [run.as_json() for run in runs],
    }


def _whole(account: Account, run: Run) -> Run:
    """The run.

    Raises:
        RuntimeError: its file lacks messages, or has some twice.
    """
    if run.messages != account.total:
        raise RuntimeError(f"{run.messages:,} messages in the file instead of {account.total:,}")
    return run


def _spread(values: Iterable[float]) -> Json:
    numbers = list(values)
    return {"median": statistics.median(numbers), "min": min(numbers), "max": max(numbers)}


def _goal(what: str, value: float, bound: float, *, at_least: bool = False) -> Json:
    met = value >= bound if at_least else value <= bound
    sign = ">=" if at_least else "<="
    return {"what": what, "value": value, "goal": f"{sign} {bound}", "met": met}


SCENARIOS: dict[str, Callable[[Size], Json]] = {
    "peers": peers,
    "price": price,
    "million": million,
    "latency": latency,
    "limit": limit,
    "state": state,
    "answers": answers,
    "tenants": tenants,
    "growth": growth,
}
