"""Everybody can tell the report's colours from the page, by day and by night."""

import pytest

from flowiq_source.report.palette import DARK, LIGHT


def luminance(colour: str) -> float:
    """As WCAG defines it."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """From 1, the same, to 21."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_texts_and_shapes_stand_out(colours: dict[str, str]) -> None:
    """4.5 for what is read, 3 for what is seen, on the page and on a panel."""
    for ground in (colours["page"], colours["panel"]):
        for text in ("ink", "muted"):
            assert contrast(colours[text], ground) >= 4.5, text
        for shape in ("customer", "bot", "agent", "system", "handover", "alert"):
            assert contrast(colours[shape], ground) >= 3, shape


def test_both_sides_have_the_same_colours() -> None:
    """Or a shape would vanish in the dark."""
    assert LIGHT.keys() == DARK.keys()
