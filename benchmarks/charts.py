"""The charts of what results.json holds."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Json = dict[str, Any]

OURS, THEIRS, GOAL, AGAIN = "#1f6f5c", "#b9c0c7", "#c0392b", "#d98e04"
CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
NAMES = {
    "ours": "this source",
    "script": "script",
    "floor": "floor",
    "rest_api": "dlt's REST source",
}
SHARE = {"script": 1.0, "floor": 2.0, "rest_api": 0.15}
"""How much of each peer's time ours may take; with a million messages, less of the floor's."""

SHARE_OF_FLOOR_AT_A_MILLION = 1.8


def draw(results: Json, folder: Path) -> None:
    """Draw what has been measured so far."""
    if "peers" in results:
        _save(_peers(results), folder / "peers.png")
    if "growth" in results:
        _save(_growth(results["growth"]), folder / "growth.png")


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _peers(results: Json) -> Figure:
    """Whole-process seconds: beside the quick peers, the slow one, and with a million messages."""
    peers = results["peers"]["peers"]
    panels = [("ours", "script", "floor"), ("ours", "rest_api")]
    million = results.get("million")
    count = len(panels) + (million is not None)
    figure, axes = plt.subplots(1, count, figsize=(4.6 * count, 3.0), layout="constrained")
    title = f"{peers['ours']['messages']:,} messages"
    for axis, names in zip(axes, panels, strict=False):
        _bars(axis, title, {name: peers[name] for name in names}, SHARE)
    if million:
        title = f"{million['peers']['ours']['messages']:,} messages"
        _bars(axes[-1], title, million["peers"], {"floor": SHARE_OF_FLOOR_AT_A_MILLION})
    return figure


def _bars(axis: Axes, title: str, peers: Json, shares: dict[str, float]) -> None:
    """Medians as bars, minimum to maximum as whiskers, goals as dashed lines."""
    for row, (name, peer) in enumerate(peers.items()):
        spread = peer["seconds"]
        median = spread["median"]
        whiskers = [[median - spread["min"]], [spread["max"] - median]]
        axis.barh(row, median, 0.6, color=OURS if name == "ours" else THEIRS)
        axis.errorbar(median, row, xerr=whiskers, color="#333", capsize=3, linewidth=1)
        axis.annotate(
            f"{median:.1f} s",
            (spread["max"], row),
            (6, 0),
            textcoords="offset points",
            va="center",
            bbox=CLEAR,
        )
        if name in shares:
            _goal_line(axis, shares[name] * median, f"goal: {shares[name]:g} x {NAMES[name]}")
    axis.set_yticks(range(len(peers)), [NAMES[name] for name in peers])
    axis.invert_yaxis()
    axis.margins(x=0.18)
    axis.set_xlim(left=0)
    axis.set_xlabel("seconds, whole process")
    axis.set_title(title, fontsize=11)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.22))


def _goal_line(axis: Axes, seconds: float, label: str) -> None:
    """Across our own bar, the uppermost."""
    style = "--" if "script" in label else ":"
    axis.vlines(seconds, -0.48, 0.48, color=GOAL, linestyle=style, linewidth=1.6, label=label)


def _growth(growth: Json) -> Figure:
    """Seconds above, requests below; contacts on the left, messages on the right."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), sharex="col", layout="constrained")
    for column, axis_name in enumerate(("contacts", "messages")):
        for row, what in enumerate(("seconds", "requests")):
            _lines(axes[row][column], growth[axis_name], axis_name, what)
        axes[1][column].set_xlabel(axis_name)
    axes[0][0].set_title("5 messages per contact", fontsize=11)
    axes[0][1].set_title("100 messages per contact", fontsize=11)
    axes[0][0].legend(frameon=False)
    return figure


def _lines(axis: Axes, points: list[Json], axis_name: str, what: str) -> None:
    sizes = [point[axis_name] for point in points]
    runs = (("first", "first sync", "o-", OURS), ("second", "sync with nothing new", "s--", AGAIN))
    for key, label, style, color in runs:
        axis.loglog(sizes, [point[key][what] for point in points], style, color=color, label=label)
    axis.set_ylabel(what)
    axis.grid(which="major", color="#e4e7ea")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
