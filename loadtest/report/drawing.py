"""What charts are drawn from: layers in Vega-Lite with their rows, colors by series, limits, intervals, names.

Fields that begin with an underscore are drawn; the others are shown where a pointer rests, as texts with units. Colors
are variables of the page's style sheet. The page has the legend, too: what it hides is the parameter `hidden`.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.report.axes import Axis, Span

Part = dict[str, Any]  # of a specification in Vega-Lite
Limit = tuple[float, str]  # a value that should not be crossed, and its name

COLORS = [f"var(--c{number})" for number in range(1, 9)]
_QUIET = {"before", "others"}  # series that stand behind the one that counts, in grey
_SHOWN: list[Part] = [{"filter": "indexof(hidden, datum._series) < 0"}]
HOVERED = {"content": "data"}
HALO: Part = {"stroke": "var(--paper)", "strokeWidth": 3}  # around a text, which may lie on lines
IS_NARROW = "containerSize()[0] < 600"  # a phone's
_LONG = 20  # letters
_SPAN: Part = {"type": "rule", "strokeWidth": 2, "opacity": 0.55}
_EDGES: dict[str, Part] = {"x": {"low": 0, "high": "width"}, "y": {"low": "height", "high": 0}}  # of the plot
_PLACES = (("left", -9), ("right", -9), ("left", 11), ("right", 11), ("left", -24), ("left", 26))
_CONFIG: Part = {
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **{"labelColor": "var(--soft)", "titleColor": "var(--soft)", "gridColor": "var(--line)"},
        **{"domain": False, "ticks": False, "labelPadding": 6, "titlePadding": 8},
        **{"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
        **{"labelOverlap": True, "labelSeparation": 8},
    },
    # The title stands above the numbers, where it can be read.
    "axisLeft": {"titleAngle": 0, "titleAlign": "left", "titleBaseline": "bottom", "titleX": 0, "titleY": -8},
    "rule": {"color": "var(--soft)"},
    "text": {"color": "var(--soft)", "fontSize": 12},
}


@dataclass(frozen=True)
class Chart:
    """A chart; `about` says what it shows, for those who do not see it."""

    about: str
    spec: Part  # Vega-Lite
    legend: Mapping[str, str]  # colors by series


def chart(about: str, layers: list[Part], series: Iterable[str], height: object = 210) -> Chart:
    """Layers on top of each other, as wide as the page allows; the series are those of the legend."""
    spec = {
        **{"width": "container", "height": height, "autosize": {"type": "fit-x", "contains": "padding"}},
        **{"background": "transparent", "padding": {"left": 0, "right": 8, "top": 4, "bottom": 6}, "config": _CONFIG},
        **{"params": [{"name": "hidden", "value": []}], "layer": layers},
    }
    return Chart(about, spec, _colors(series))


def layer(rows: Sequence[Part], mark: Part, encoding: Part) -> Part:
    """Rows drawn with one kind of mark, without those that the legend hides."""
    return {"data": {"values": rows}, "transform": _SHOWN, "mark": mark, "encoding": encoding}


def colored(series: Iterable[str]) -> Part:
    """The channel of colors."""
    colors = _colors(series)
    scale = {"domain": list(colors), "range": list(colors.values())}
    return {"field": "_series", "type": "nominal", "scale": scale, "legend": None}


def _colors(series: Iterable[str]) -> dict[str, str]:
    loud = itertools.cycle(COLORS)
    return {name: "var(--c5)" if name in _QUIET else next(loud) for name in series}


def banded(rows: Iterable[str]) -> Part:
    """The channel of rows below each other, in their order; names as `lines_of` breaks them."""
    names = list(rows)
    wide, narrow = (json.dumps({name: lines_of(name, is_narrow) for name in names}) for is_narrow in (False, True))
    axis = {
        "labelExpr": f"({IS_NARROW} ? {narrow} : {wide})[datum.label]",
        "labelLimit": {"expr": f"{IS_NARROW} ? 170 : 0.4 * containerSize()[0]"},
        "labelLineHeight": 13,
        "labelOverlap": False,  # There is room for all.
    }
    return {"field": "_row", "type": "nominal", "sort": names, "title": None, "axis": axis}


def lines_of(name: str, is_narrow: bool = True) -> list[str]:
    """The lines of a name: one for each part between bars, and on a phone two for a long one."""
    return [line for part in name.split(" | ") for line in (_halves(part) if is_narrow else [part])]


def _halves(name: str) -> list[str]:
    spaces = [place for place, letter in enumerate(name) if letter == " "]
    if len(name) <= _LONG or not spaces:
        return [name]
    places = [place for place in spaces if name[place - 1] in ",:"] or spaces
    middle = min(places, key=lambda place: abs(place - len(name) / 2))
    return [name[:middle], name[middle + 1 :]]


def limit_line(limit: Limit | None, channel: str, encoding: Part) -> list[Part]:
    """A dashed line at a limit, with its name."""
    if limit is None:
        return []
    value, name = limit
    at = _axis(encoding) | {"datum": value}
    # At the right: above the left end stands the axis's title.
    place = {"align": "right", "baseline": "bottom", "dy": -4, "x": "width"}
    if channel == "x":
        is_far = f"scale('x', {value}) > width / 2"
        place = {"align": {"expr": f"{is_far} ? 'right' : 'left'"}, "dx": {"expr": f"{is_far} ? -5 : 5"}}
        place |= {"baseline": "top", "y": 0}
    text = {"type": "text", "text": name, **HALO, **place}
    return [
        {"data": {"values": [{}]}, "mark": mark, "encoding": {channel: at}}
        for mark in ({"type": "rule", "strokeDash": [5, 4]}, text)
    ]


def readable(rows: Sequence[Part], encoding: Part, *channels: str) -> list[Part]:
    """Points that can be read, on top of their intervals along some channels."""
    layers = []
    for channel in channels:
        ends = {channel: encoding[channel] | {"field": f"_{channel}_low"}, f"{channel}2": {"field": f"_{channel}_high"}}
        spans = [row for row in rows if f"_{channel}_low" in row]
        if spans:
            layers.append(layer(spans, _SPAN, encoding | ends))
        for side, edge in _EDGES[channel].items():
            if unknown := [row for row in spans if f"_{channel}_open_{side}" in row]:
                open_end = encoding | {f"{channel}2": {"value": edge}}
                layers.append(layer(unknown, _SPAN | {"strokeDash": [1, 5]}, open_end))
    mark = {"type": "point", "filled": True, "opacity": 1, "size": 62, "tooltip": HOVERED}
    for is_met, shape in ((True, {"shape": "circle"}), (False, {"shape": "cross", "angle": 45, "size": 80})):
        some = [row for row in rows if row.get("_met", True) is is_met]
        if some:
            layers.append(layer(some, mark | shape, encoding))
    return layers


def spanned(channel: str, value: float | None, span: Span, axis: Axis, name: str = "interval") -> Part:
    """The fields of an interval along a channel; an end that is unknown lies at the value, and is open."""
    low, high = (value if end is None else end for end in span)
    is_open = {f"_{channel}_open_{side}": True for side, end in zip(("low", "high"), span, strict=True) if end is None}
    return {f"_{channel}_low": low, f"_{channel}_high": high, **is_open, name: axis.span(span)}


def ends(rows: Iterable[Part], channel: str = "y") -> list[float]:
    """All that is drawn along a channel: values, and the ends of their intervals."""
    names = (f"_{channel}", f"_{channel}_low", f"_{channel}_high")
    return [row[name] for row in rows for name in names if name in row]


def placed_names(rows: Sequence[Part]) -> dict[tuple[str, int], list[Part]]:
    """The rows by where their names stand beside their points, so that on a wide page none lies on another."""
    width, height, letter, line = 950.0, 280.0, 6.8, 15.0  # pixels, about
    low = {axis: min(row[axis] for row in rows) for axis in ("_x", "_y")}
    whole = {axis: max(row[axis] for row in rows) - low[axis] or 1.0 for axis in ("_x", "_y")}
    taken, found = list[tuple[float, float, float]](), dict[tuple[str, int], list[Part]]()
    for row in sorted(rows, key=lambda row: float(row["_x"])):
        x, y = (row["_x"] - low["_x"]) / whole["_x"] * width, (row["_y"] - low["_y"]) / whole["_y"] * height
        length = letter * len(row["name"])
        for place in _PLACES:
            left, level = (x if place[0] == "left" else x - length), y - place[1]
            is_free = all(left > end or left + length < start or abs(level - at) > line for start, end, at in taken)
            if left >= 0 and left + length <= width and is_free:
                break
        taken.append((left, left + length, level))
        found.setdefault(place, []).append(row)
    return found


def band(span: Span | None, encoding: Part) -> list[Part]:
    """An interval of x, shaded from top to bottom."""
    if span is None:
        return []
    sides = {"x": _axis(encoding) | {"datum": span[0]}, "x2": {"datum": span[1]}}
    mark = {"type": "rect", "color": COLORS[0], "opacity": 0.09}
    return [{"data": {"values": [{}]}, "mark": mark, "encoding": sides}]


def _axis(encoding: Part) -> Part:
    """A channel without its field."""
    return {key: encoding[key] for key in ("type", "scale", "axis", "title") if key in encoding}
