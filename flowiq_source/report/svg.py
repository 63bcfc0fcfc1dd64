"""A chart as SVG that may stand in a page without script: nothing in it but shapes and texts.

What the renderer writes is taken apart and built anew from a short list of elements and attributes,
so no script, address, style or font gets through, whatever a later version of it writes. A colour
becomes a class, which the page's style sheet gives another colour in the dark; the colour itself
stays for programs that know no style sheets.
"""

import re
import xml.etree.ElementTree as ET

import altair as alt
import vl_convert

from flowiq_source.report.palette import LIGHT

_ELEMENTS = {"svg", "g", "rect", "path", "line", "text", "tspan", "circle"}
_ATTRIBUTES = {
    *("d", "transform", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height"),
    *("fill", "stroke", "opacity", "fill-opacity", "stroke-opacity", "stroke-width"),
    *("stroke-dasharray", "stroke-linecap", "stroke-linejoin", "stroke-miterlimit"),
    *("text-anchor", "font-size", "font-weight", "viewBox"),
}
_COLOUR_NAMES = {colour: name for name, colour in LIGHT.items()}
_SMALL_MOVE = re.compile(r"(\d+\.\d{2})\d+")


def draw(chart: alt.TopLevelMixin, name: str) -> str:
    """The chart; `name` says what it shows, for reading aloud."""
    spec = chart.to_dict()
    drawn = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    parsed = ET.fromstring(drawn)  # noqa: S314 - it was made by the line above
    clean = _clean(parsed)
    clean.attrib = {"viewBox": parsed.attrib["viewBox"], "role": "img", "aria-label": name}
    return ET.tostring(clean, encoding="unicode")


def _clean(element: ET.Element) -> ET.Element:
    """The element with what is allowed of it."""
    kept = ET.Element(_local(element.tag))
    kept.text = element.text
    classes = []
    for key, value in element.attrib.items():
        if key not in _ATTRIBUTES:
            continue
        if key in {"fill", "stroke"} and value in _COLOUR_NAMES:
            classes.append(f"{key[0]}-{_COLOUR_NAMES[value]}")
        kept.set(key, _SMALL_MOVE.sub(r"\1", value) if key in {"d", "transform"} else value)
    if classes:
        kept.set("class", " ".join(classes))
    told = element.get("aria-label")
    if told and element.get("role") == "graphics-symbol" and _local(element.tag) != "text":
        ET.SubElement(kept, "title").text = told
    for child in element:
        if _local(child.tag) in _ELEMENTS and not _is_nothing(child):
            kept.append(_clean(child))
    return kept


def _is_nothing(element: ET.Element) -> bool:
    """Whether nobody can see it: a frame or a group without content, or what is not displayed."""
    attributes = element.attrib
    shapeless = _local(element.tag) == "path" and (
        not attributes.get("d") or "background" in attributes.get("class", "")
    )
    empty_group = _local(element.tag) == "g" and all(_is_nothing(child) for child in element)
    unpainted = attributes.get("fill") == "transparent"
    return shapeless or empty_group or unpainted or attributes.get("display") == "none"


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
