"""The charts, from plain rows. Each is drawn twice: for a page, and for a telephone.

Vega-Altair describes them, vl-convert draws them, without a browser and without a network.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from flowiq_source.report.palette import LIGHT
from flowiq_source.report.svg import draw

Row = dict[str, Any]
Chart = Callable[[int], alt.TopLevelMixin]
"""A chart for a width in pixels."""

WIDTHS = {"wide": 680, "narrow": 320}
"""In pixels; the second fits a telephone of 360."""


@dataclass(frozen=True)
class Series:
    """One of the things that a chart shows beside each other."""

    key: str
    label: str
    colour: str
    dashed: bool = False


def both(chart: Chart, name: str) -> dict[str, str]:
    """The chart in every width, as SVG by the width's name."""
    return {size: draw(chart(width), name) for size, width in WIDTHS.items()}


def over_time(rows: Sequence[Row], series: Sequence[Series]) -> Chart:
    """Stacked bars; rows have `at` and `until` (dates as text), `series`, `value` and `told`.

    Those of one time follow each other, from the bottom to the top.
    """
    stacked = _stacked(rows)

    def chart(width: int) -> alt.TopLevelMixin:
        encoded = (
            alt.Chart(_data(stacked))
            .mark_rect()
            .encode(
                x=_time_axis(width),
                x2="until:T",
                y=_amount_axis("top"),
                y2="bottom:Q",
                color=_colour(series),
                description="told:N",
            )
        )
        return _sized(encoded, width, 180)

    return chart


def lines(rows: Sequence[Row], series: Sequence[Series]) -> Chart:
    """Lines over weeks; rows have `at`, `series`, `value` and `told`."""
    styles = [[4, 3] if one.dashed else [1, 0] for one in series]

    def chart(width: int) -> alt.TopLevelMixin:
        base = alt.Chart(_data(rows)).encode(
            x=_time_axis(width),
            y=_amount_axis("value", whole=False),
            color=_colour(series),
        )
        line = base.mark_line(strokeWidth=2).encode(
            strokeDash=alt.StrokeDash(
                "series:N",
                legend=None,
                scale=alt.Scale(domain=[one.key for one in series], range=styles),
            )
        )
        points = base.mark_circle(size=28, opacity=1).encode(description="told:N")
        return _sized(line + points, width, 180)

    return chart


def bars(rows: Sequence[Row], series: Sequence[Series], *, labels_px: int) -> Chart:
    """Lying bars; rows have `label`, `series`, `value` and `told`, in the order to be shown in.

    `labels_px` is the room for the labels. The sum of each bar stands at its end.
    """
    labels = list(dict.fromkeys(row["label"] for row in rows))
    sums = {label: sum(row["value"] for row in rows if row["label"] == label) for label in labels}
    ends = [{"label": label, "value": sums[label], "told": f"{sums[label]:,}"} for label in labels]

    def chart(width: int) -> alt.TopLevelMixin:
        # Without a limit, because the renderer would cut an emoji in two.
        axis = alt.Axis(
            title=None,
            domain=False,
            ticks=False,
            labelLimit=0,
            labelPadding=8,
            minExtent=labels_px,
            maxExtent=labels_px,
        )
        room = alt.Scale(domain=[0, 1.12 * (max(sums.values(), default=0) or 1)], nice=False)
        place = alt.Y("label:N", sort=labels, axis=axis)
        drawn = (
            alt.Chart(_data(rows))
            .mark_bar(height={"band": 0.62})
            .encode(
                x=alt.X("value:Q", stack=True, axis=None, scale=room),
                y=place,
                color=_colour(series),
                order=alt.Order("place:Q"),
                description="told:N",
            )
        )
        told = (
            alt.Chart(_data(ends))
            .mark_text(align="left", dx=6, color=LIGHT["ink"], fontSize=12)
            .encode(x=alt.X("value:Q", axis=None, scale=room), y=place, text="told:N")
        )
        return _sized(drawn + told, width, 8 + 28 * len(labels))

    return chart


def heat(rows: Sequence[Row], weekdays: Sequence[str]) -> Chart:
    """Weekday by hour; rows have `weekday`, `hour`, `value` and `told`. The more, the fuller."""
    most = max((row["value"] for row in rows), default=0) or 1

    def chart(width: int) -> alt.TopLevelMixin:
        encoded = (
            alt.Chart(_data(rows))
            .mark_rect(color=LIGHT["customer"], cornerRadius=2)
            .encode(
                x=alt.X(
                    "hour:O",
                    scale=alt.Scale(paddingInner=0.12),
                    axis=alt.Axis(
                        title=None,
                        labelAngle=0,
                        domain=False,
                        ticks=False,
                        values=[0, 3, 6, 9, 12, 15, 18, 21],
                        labelExpr="(datum.value < 10 ? '0' : '') + datum.value",
                    ),
                ),
                y=alt.Y(
                    "weekday:N",
                    sort=list(weekdays),
                    scale=alt.Scale(paddingInner=0.12),
                    axis=alt.Axis(title=None, domain=False, ticks=False, labelPadding=6),
                ),
                fillOpacity=alt.FillOpacity(
                    "value:Q", legend=None, scale=alt.Scale(domain=[0, most], range=[0.07, 1])
                ),
                description="told:N",
            )
        )
        return _sized(encoded, width, 200)

    return chart


def _stacked(rows: Sequence[Row]) -> list[Row]:
    """The rows with where each begins and ends; there is a little room between two times."""
    tops: Counter[str] = Counter()
    stacked = []
    for row in rows:
        bottom = tops[row["at"]]
        tops[row["at"]] += row["value"]
        stacked.append(row | {"bottom": bottom, "top": tops[row["at"]]})
    return stacked


def _data(rows: Sequence[Row]) -> alt.InlineData:
    return alt.InlineData(values=list(rows))


def _colour(series: Sequence[Series]) -> alt.Color:
    scale = alt.Scale(
        domain=[one.key for one in series], range=[LIGHT[one.colour] for one in series]
    )
    return alt.Color("series:N", scale=scale, legend=None)


def _time_axis(width: int) -> alt.X:
    axis = alt.Axis(
        title=None,
        grid=False,
        format="%-d %b",
        tickCount=max(3, width // 90),
        labelFlush=True,
        labelOverlap=True,
        domain=False,
    )
    return alt.X("at:T", scale=alt.Scale(type="utc"), axis=axis)


def _amount_axis(field: str, *, whole: bool = True) -> alt.Y:
    axis = alt.Axis(
        title=None,
        tickCount=4,
        tickMinStep=1 if whole else alt.Undefined,
        domain=False,
        ticks=False,
        labelPadding=6,
        format="~s" if whole else "~r",
    )
    return alt.Y(f"{field}:Q", stack=None, axis=axis)


def _sized(chart: Any, width: int, height: int) -> alt.TopLevelMixin:
    # Helvetica is what the renderer measures with; the page sets its own font.
    sized: alt.TopLevelMixin = chart.properties(
        width=width,
        height=height,
        background="transparent",
        padding=2,
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
    ).configure(
        font="Helvetica",
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            labelColor=LIGHT["muted"],
            gridColor=LIGHT["line"],
            tickColor=LIGHT["line"],
            labelFontSize=12,
        ),
    )
    return sized
