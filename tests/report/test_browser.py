"""The report in a real browser: what a reader sees, by day, by night, on a telephone, on paper."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from flowiq_source.report.figures import page
from flowiq_source.report.numbers import Load, Numbers, Volume, Waiting
from flowiq_source.report.page import render
from tests.report.numbers import MONDAY, NOW, nothing, something
from tests.support.browser import needs_chromium, reading

pytestmark = needs_chromium

NAMES = ("שרה כהן", "أحمد", "Zoë 👩‍👩‍👧", "A" * 60, "<script>document.title='taken'</script>")
LONG = "An answer, please! " * 9


def full() -> Numbers:
    """With names, with texts that are long or go from right to left, and with large numbers."""
    waiting = [Waiting(name, "27820000001", LONG, NOW, NOW) for name in NAMES]
    load = [Load(day, hour, 12_345, 9) for day in range(1, 8) for hour in range(24)]
    volume = [Volume(MONDAY, party, 123_456) for party in ("customer", "bot", "agent", "system")]
    return something(with_contacts=True, waiting=waiting, load=load, volume=volume)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything in it."""
    return written(full(), tmp_path_factory.mktemp("report"))


def written(numbers: Numbers, folder: Path) -> Path:
    """The report of the numbers."""
    file = folder / "report.html"
    file.write_text(render(page(numbers)), "utf-8")
    return file


@pytest.mark.parametrize("scripts", [True, False])
def test_no_request_leaves_the_page_and_nothing_is_complained_of(file: Path, scripts: bool) -> None:
    """Also when everything is opened, and with scripts switched off."""
    with reading(file, java_script_enabled=scripts) as reader:
        reader.open_all()
        assert reader.page.locator("details[open]").count() > 20
        assert reader.requests == [file.as_uri()]
        assert reader.complaints == []


@pytest.mark.parametrize("width", [360, 700, 1280])
def test_nothing_is_cut_off(file: Path, width: int) -> None:
    """On a telephone, a tablet and a screen; with everything opened."""
    with reading(file, width=width) as reader:
        reader.open_all()
        assert reader.cut_off() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 820])
def test_everybody_can_read_it(file: Path, scheme: str, width: int) -> None:
    """No rule of axe-core is broken: contrast, names of regions and drawings, order of headings."""
    with reading(file, width=width, color_scheme=scheme) as reader:
        ground = reader.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        reader.open_all()
        found = Axe().run(reader.page)
        assert found.violations_count == 0, found.generate_report()


def test_shapes_have_another_colour_in_the_dark(file: Path) -> None:
    """As the page has, or nobody would see them."""
    colours = []
    for scheme in ("light", "dark"):
        with reading(file, color_scheme=scheme) as reader:
            bar = reader.page.locator("#volume .wide .f-customer").first
            colours.append(bar.evaluate("element => getComputedStyle(element).fill"))
    assert colours[0] != colours[1]


def test_names_from_right_to_left_and_emoji_show(file: Path) -> None:
    """Each in its own direction, and as what it is."""
    with reading(file) as reader:
        names = reader.page.locator("#waiting tbody th bdi")
        assert names.all_inner_texts() == list(NAMES)
        directions = names.evaluate_all("all => all.map(e => getComputedStyle(e).direction)")
        assert directions == ["rtl", "rtl", "ltr", "ltr", "ltr"]
        assert reader.page.title() == "How we answer on WhatsApp"
        assert reader.page.locator("#reactions .wide text", has_text="👍").count() == 1


def test_it_prints_on_a4(file: Path) -> None:
    """Light, with the broad drawings, nothing beyond the edge and no figure cut in two."""
    with reading(file, width=680, color_scheme="dark") as reader:
        reader.page.emulate_media(media="print", color_scheme="dark")
        assert reader.cut_off() == []
        ground = reader.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(255, 255, 255)"
        assert reader.page.locator("#volume .wide").is_visible()
        assert not reader.page.locator("summary").first.is_visible()
        printed = reader.page.pdf(prefer_css_page_size=True)
        assert 3 <= printed.count(b"/Type /Page\n") <= 9
        assert b"/MediaBox [0 0 594.95996 841.91998]" in printed


def test_an_empty_account_is_shown_as_one(tmp_path: Path) -> None:
    """No drawing without anything to draw, and nothing cut off."""
    with reading(written(nothing(), tmp_path), width=360) as reader:
        reader.open_all()
        assert reader.page.locator("svg").count() == 0
        assert reader.cut_off() == []
        assert "No conversation was loaded yet." in reader.page.inner_text("main")
