"""A scenario's results as lines of text."""

from typing import Any

Json = dict[str, Any]


def report(found: Json) -> str:
    """What was measured, and which goals were met."""
    lines: list[str] = []
    for part in (found, found.get("at_once", {}), found.get("late", {})):
        lines += [_peer(name, peer) for name, peer in part.get("peers", {}).items()]
        lines += [f"{name:22}{_range(ratio)}" for name, ratio in part.get("ratios", {}).items()]
    if lossy := found.get("rest_api_cursor"):
        lines.append(
            f"rest_api with its cursor: {lossy['messages']:,} messages, {lossy['seconds']} s"
        )
    if "seconds" in found:
        lines.append(_peer("ours", found))
    lines += [f"{name:26}{value:,.3f}" for name, value in found.items() if isinstance(value, float)]
    lines += [_round(name, found[name]) for name in ("first", "idle") if name in found]
    for axis in ("contacts", "messages"):
        lines += _table(axis, found[axis]) if isinstance(found.get(axis), list) else []
    lines += [_verdict(goal) for goal in found.get("goals", [])]
    return "\n".join(f"  {line}" for line in lines)


def _peer(name: str, peer: Json) -> str:
    last = peer["runs"][-1]
    own = f"   sync {last['sync_seconds']} s" if last["sync_seconds"] else ""
    return (
        f"{name:10}{_range(peer['seconds'])} s   CPU {peer['cpu_seconds']['median']:.2f} s"
        f"   peak {peer['peak_rss_mb']['median']:.0f} MB   {last['requests']:,} requests{own}"
    )


def _round(name: str, found: Json) -> str:
    return (
        f"{name:10}each {found['seconds_each']:.2f} s   CPU {found['cpu_seconds_each']:.2f} s"
        f"   {found['requests_each']:.0f} requests   peak {found['peak_rss_mb']:.0f} MB"
    )


def _table(axis: str, points: list[Json]) -> list[str]:
    lines = [f"{axis:>10}  first: s  requests  second: s  requests"]
    for point in points:
        first, second = point["first"], point["second"]
        lines.append(
            f"{point[axis]:>10,}{first['seconds']:>10.1f}{first['requests']:>10,}"
            f"{second['seconds']:>11.1f}{second['requests']:>10,}"
        )
    return lines


def _verdict(goal: Json) -> str:
    word = "met" if goal["met"] else "MISSED"
    return f"goal {word:7}{goal['what']} {goal['value']:.3f}, wanted {goal['goal']}"


def _range(spread: Json) -> str:
    return f"{spread['median']:.2f} ({spread['min']:.2f} to {spread['max']:.2f})"
