"""The report's colours by what they stand for, in the light and in the dark.

Texts keep a contrast of 4.5 to the page, and shapes one of 3, in both.
"""

LIGHT = {
    "page": "#ffffff",
    "panel": "#f5f7f9",
    "ink": "#1b2430",
    "muted": "#566171",
    "line": "#dfe4ea",
    "customer": "#4674b4",
    "bot": "#178573",
    "agent": "#c06a14",
    "system": "#7d8896",
    "handover": "#8257b8",
    "alert": "#bf3f3f",
}
DARK = {
    "page": "#14181e",
    "panel": "#1c222a",
    "ink": "#e8ecf1",
    "muted": "#a3aebc",
    "line": "#313a45",
    "customer": "#7ea6e0",
    "bot": "#45bfa9",
    "agent": "#eda04f",
    "system": "#8c97a5",
    "handover": "#b391e6",
    "alert": "#ee7f7a",
}


def variables(colours: dict[str, str]) -> str:
    """The colours as variables of a style sheet."""
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def classes() -> str:
    """The rules by which a shape of a chart has its colour."""
    fills = "".join(f".f-{name}{{fill:var(--{name})}}" for name in LIGHT)
    strokes = "".join(f".s-{name}{{stroke:var(--{name})}}" for name in LIGHT)
    keys = "".join(f".k-{name}::before{{background:var(--{name})}}" for name in LIGHT)
    return fills + strokes + keys
