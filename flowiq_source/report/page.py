"""The page from its parts: pure text, no request, no script; whatever a part says is escaped."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from flowiq_source.report import palette
from flowiq_source.report.charts import Series


@dataclass(frozen=True)
class Table:
    """Numbers; the first `texts` columns are words, the others are set to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    open: bool = False
    """Whether it is the figure itself, and not what lies behind a chart."""


@dataclass(frozen=True)
class Figure:
    """One figure with its numbers, what it means and the model that it is from."""

    key: str
    title: str
    says: str
    """The figure in a sentence or two."""
    definition: Sequence[str]
    models: Sequence[str]
    table: Table | None = None
    drawings: dict[str, str] = field(default_factory=dict)
    """The chart as SVG by width."""
    series: Sequence[Series] = ()


@dataclass(frozen=True)
class Tile:
    """One number that the page begins with."""

    label: str
    value: str
    note: str
    tone: str = ""


@dataclass(frozen=True)
class Page:
    """All that is shown."""

    title: str
    about: Sequence[str]
    """Lines under the title."""
    tiles: Sequence[Tile]
    sections: Sequence[tuple[str, Sequence[Figure]]]
    foot: Sequence[str]


def render(page: Page) -> str:
    """The page as one HTML document."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{escape(page.title)}</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            _header(page),
            "<main>",
            _tiles(page.tiles),
            *(_section(n, title, figures) for n, (title, figures) in enumerate(page.sections)),
            "</main>",
            f"<footer>{_paragraphs(page.foot)}</footer>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _style() -> str:
    text = files("flowiq_source.report").joinpath("style.css").read_text("utf-8")
    light, dark = palette.variables(palette.LIGHT), palette.variables(palette.DARK)
    text = text.replace("/*LIGHT*/", light).replace("/*DARK*/", dark)
    return text + palette.classes()


def _header(page: Page) -> str:
    return f"<header><h1>{_text(page.title)}</h1>{_paragraphs(page.about)}</header>"


def _tiles(tiles: Iterable[Tile]) -> str:
    made = [
        f'<li class="{escape(tile.tone)}"><span class="label">{_text(tile.label)}</span>'
        f'<strong>{_text(tile.value)}</strong><span class="note">{_text(tile.note)}</span></li>'
        for tile in tiles
    ]
    return f'<ul class="tiles">{"".join(made)}</ul>'


def _section(number: int, title: str, figures: Sequence[Figure]) -> str:
    shown = "\n".join(map(_figure, figures))
    return (
        f'<section aria-labelledby="s{number}">\n<h2 id="s{number}">{_text(title)}</h2>\n'
        f"{shown}\n</section>"
    )


def _figure(figure: Figure) -> str:
    table = figure.table if figure.table and figure.table.rows else None
    opened = table is not None and table.open
    parts = [
        f'<article id="{escape(figure.key)}">',
        f'<h3 id="t-{escape(figure.key)}">{_text(figure.title)}</h3>',
        f'<p class="says">{_text(figure.says)}</p>',
        _legend(figure.series) if figure.drawings else "",
        *(f'<div class="{size}">{svg}</div>' for size, svg in figure.drawings.items()),
        _table(figure) if opened else "",
        '<div class="more">',
        _details("The numbers", _table(figure)) if table and not opened else "",
        _details("What this is", _definition(figure)),
        "</div>",
        "</article>",
    ]
    return "\n".join(part for part in parts if part)


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ""
    items = [f'<li class="{_key_class(one)}">{_text(one.label)}</li>' for one in series]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _key_class(one: Series) -> str:
    return f"k-{escape(one.colour)}" + " dashed" * one.dashed


def _table(figure: Figure) -> str:
    table = figure.table
    if table is None:
        return ""
    head = "".join(
        f'<th scope="col"{_side(n, table)}>{_text(title)}</th>'
        for n, title in enumerate(table.head)
    )
    body = "".join(f"<tr>{_cells(row, table)}</tr>" for row in table.rows)
    # A region that scrolls has to be reached by the keyboard, and needs a name then.
    return (
        '<div class="scroll" role="region" tabindex="0" '
        f'aria-label="{escape(figure.title)}: numbers">'
        f'<table data-of="{escape(figure.key)}"{_kind(table)}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cells(row: Sequence[str], table: Table) -> str:
    first, *others = row
    cells = "".join(
        f'<td{_side(n, table)} data-head="{escape(table.head[n])}">{_text(cell)}</td>'
        for n, cell in enumerate(others, 1)
    )
    return f'<th scope="row">{_text(first)}</th>{cells}'


def _kind(table: Table) -> str:
    """How it fits a telephone: in small print, or with a card in the place of each row."""
    if sum(map(len, table.head)) > 34:
        return ' class="cards"'
    return ' class="dense"' if len(table.head) > 6 else ""


def _side(column: int, table: Table) -> str:
    return "" if column < table.texts else ' class="n"'


def _details(title: str, inside: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{inside}</details>"


def _definition(figure: Figure) -> str:
    names = ", ".join(f"<code>{escape(name)}</code>" for name in figure.models)
    return f'<div class="means">{_paragraphs(figure.definition)}<p>From {names}.</p></div>'


def _paragraphs(texts: Iterable[str]) -> str:
    return "".join(f"<p>{_text(text)}</p>" for text in texts)


def _text(text: str) -> str:
    """The text, escaped; what comes from outside keeps its own direction."""
    return escape(text).replace(_OPEN, "<bdi>").replace(_CLOSE, "</bdi>")


_OPEN, _CLOSE = "\ue000", "\ue001"
"""Characters for private use: nothing that is shown needs them."""


def foreign(text: str) -> str:
    """A text from outside, as one that is shown in its own direction."""
    return f"{_OPEN}{plain(text)}{_CLOSE}"


def plain(text: str) -> str:
    """The text without the marks of what is foreign, for where there is no room for an element."""
    return text.replace(_OPEN, "").replace(_CLOSE, "")
