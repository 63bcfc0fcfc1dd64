"""The page as text: what may be in it, and what may not."""

import re
from html.parser import HTMLParser

import pytest

from flowiq_source.report.figures import page
from flowiq_source.report.numbers import Failure, Numbers, Reaction, Rejected, Waiting
from flowiq_source.report.page import render
from tests.report.numbers import NOW, nothing, something

HOSTILE = "<script>alert('1')</script>\"'&amp;\u202e{0}%s"


class Seen(HTMLParser):
    """Every element and attribute of a page, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: dict[str, list[str]] = {}
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.elements.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_data(self, data: str) -> None:
        """Remember it."""
        self.texts.append(data)


@pytest.fixture(params=[nothing(), something(), something(with_contacts=True)])
def html(request: pytest.FixtureRequest) -> str:
    """Of an empty account, and of one with a little of everything."""
    return render(page(request.param))


def test_nothing_in_the_page_runs_or_loads_anything(html: str) -> None:
    """No script, frame, picture, font, link or form; no address but the name spaces of SVG."""
    seen = Seen(html)
    assert not seen.elements & {
        *("script", "iframe", "object", "embed", "img", "link", "form", "a")
    }
    assert not [name for name in seen.attributes if name.startswith("on")]
    assert not {"href", "xlink:href", "src", "srcset", "action", "style"} & seen.attributes.keys()
    assert not re.search(r"url\(|@import|@font-face|javascript:", html)
    assert set(re.findall(r"https?://[^\s\"<]*", html)) <= {"http://www.w3.org/2000/svg"}


def test_the_policy_allows_the_one_style_sheet_alone(html: str) -> None:
    """By its hash, so that no text could bring another."""
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/]+='; base-uri 'none'; form-action 'none'",
        policy,
    )
    assert html.count("<style>") == 1


def hostile() -> Numbers:
    """An account in which every text from outside is an attack."""
    return something(
        tenant=HOSTILE,
        with_contacts=True,
        waiting=[Waiting(HOSTILE, HOSTILE, HOSTILE, NOW, NOW)],
        reactions=[Reaction(HOSTILE, 2)],
        failures=[Failure(HOSTILE, 1)],
        rejected=[Rejected(HOSTILE, HOSTILE, HOSTILE, 1)],
    )


def test_a_text_from_outside_is_text() -> None:
    """Wherever it stands: in a table, a sentence, a drawing or the title."""
    html = render(page(hostile()))
    seen = Seen(html)
    assert "script" not in seen.elements
    assert "".join(seen.texts).count(HOSTILE) >= 6
    test_nothing_in_the_page_runs_or_loads_anything(html)


def test_what_it_says_has_its_definition_and_its_models(html: str) -> None:
    """One click away, for every figure."""
    figures = re.findall(r'<article id="([\w-]+)">(.*?)</article>', html, re.DOTALL)
    assert len(figures) >= 13
    for key, text in figures:
        assert "What this is" in text, key
        assert re.search(r"<p>From <code>\w+</code>", text), key


def test_every_drawing_has_its_numbers_beside_it(html: str) -> None:
    """And a name, for those to whom the page is read aloud."""
    for text in re.findall(r"<article.*?</article>", html, re.DOTALL):
        drawings = re.findall(r"<svg [^>]*", text)
        assert len(drawings) in {0, 2}
        assert all('role="img"' in drawing and "aria-label=" in drawing for drawing in drawings)
        assert not drawings or "<table" in text


def test_an_empty_account_is_a_page_that_makes_sense() -> None:
    """It says that there is nothing, and invents no zero for a median."""
    html = render(page(nothing()))
    assert "No conversation was loaded yet." in html
    assert "<svg" not in html
    assert "Median wait for the team</span><strong>–</strong>" in html


def test_contacts_are_there_only_where_they_are_wanted() -> None:
    """The names of those who wait, and who in the team wrote."""
    waiting = [Waiting("Alice", "27820000001", "Where is it?", NOW, NOW)]
    private = ("Alice", "27820000001", "Where is it?", "agent-7")
    agents = [something().agents[0].__class__("agent-7", 1, 1, None, None, None)]
    without = render(page(something(waiting=waiting, agents=agents)))
    with_them = render(page(something(waiting=waiting, agents=agents, with_contacts=True)))
    assert not [text for text in private if text in without]
    assert all(text in with_them for text in private)
    assert "No name, number or text of a message is in this file" in without
    assert "No name, number or text of a message is in this file" not in with_them
