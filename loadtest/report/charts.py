"""Charts of reports: figures in, Vega-Lite out.

Fields that begin with an underscore are drawn; the others are shown where a pointer rests, as texts with units. Colors
are variables of the page's style sheet. The page has the legend, too: what it hides is the parameter `hidden`.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.analysis.intervals import Percentile
from loadtest.report.axes import Axis, Span

Part = dict[str, Any]  # of a specification in Vega-Lite
Line = Sequence[tuple[float, float | None]]  # None leaves a gap
Curve = Sequence[tuple[float, float]]  # (percentile, value)
Limit = tuple[float, str]  # a value that should not be crossed, and its name

MS = Axis("", "ms", log=True)
_COLORS = [f"var(--c{number})" for number in range(1, 9)]
_QUIET = {"before", "others"}  # series that stand behind the one that counts, in grey
_SHOWN: list[Part] = [{"filter": "indexof(hidden, datum._series) < 0"}]
_HOVERED = {"content": "data"}
_NEAREST = {"type": "point", "fields": ["_x"], "nearest": True, "on": "pointerover", "clear": "pointerout"}
_LINE: Part = {"type": "line", "strokeWidth": 1.8, "strokeJoin": "round"}
_HALO: Part = {"stroke": "var(--paper)", "strokeWidth": 3}  # around a text, which may lie on lines
_NAMES = {"labelLimit": {"expr": "max(120, 0.4 * containerSize()[0])"}}
_PLACES = (("left", -9), ("right", -9), ("left", 11), ("right", 11), ("left", -24), ("left", 26))
_LEVELS = (0.0, 50.0, 90.0, 99.0, 99.9)
_CONFIG: Part = {
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **{"labelColor": "var(--soft)", "titleColor": "var(--soft)", "gridColor": "var(--line)"},
        **{"domain": False, "ticks": False, "labelPadding": 6, "titlePadding": 8},
        **{"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelOverlap": True},
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


@dataclass(frozen=True)
class Point:
    """A point of a front; `details` are shown where a pointer rests; a cross stands for `is_met` False."""

    name: str
    series: str
    x: float
    y: float
    x_span: Span | None = None
    y_span: Span | None = None
    is_met: bool = True
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dot:
    """A figure of a row and a series, with its interval; a cross stands for `is_met` False."""

    row: str
    series: str
    value: float | None
    span: Span | None = None
    is_met: bool = True


def over_time(about: str, given: Mapping[str, Line], axis: Axis, limit: Limit | None = None) -> Chart:
    """Named lines over the seconds of a run."""
    return lines(about, given, (Axis("", "seconds"), axis), limit)


def lines(about: str, given: Mapping[str, Line], axes: tuple[Axis, Axis], limit: Limit | None = None) -> Chart:
    """Named lines; a pointer reads all of them at the nearest place."""
    rows = [{"_x": x, "_y": y, "_series": name} for name, line in given.items() for x, y in line]
    places: dict[float, Part] = {}
    for name, line in given.items():
        for x, y in line:
            places.setdefault(x, {"_x": x, "at": axes[0].text(x)})[name] = axes[1].text(y)
    across = axes[0].encoding("_x", places) | {"scale": {"zero": True, "nice": False}}
    across["axis"]["grid"] = False
    up = axes[1].encoding("_y", [*(y for line in given.values() for _, y in line), limit and limit[0]])
    pointer = {
        "data": {"values": [places[x] for x in sorted(places)]},
        "params": [{"name": "near", "select": _NEAREST}],
        "mark": {"type": "rule", "tooltip": _HOVERED},
        "encoding": {
            "x": across,
            "opacity": {"condition": {"param": "near", "empty": False, "value": 0.6}, "value": 0},
        },
    }
    drawn = _layer(rows, _LINE | {"point": len(places) < 9}, {"x": across, "y": up, "color": _colored(given)})
    return _chart(about, [drawn, *_limit(limit, "y", up), pointer], given)


def by_percentile(
    about: str, curves: Mapping[str, Curve], known: Mapping[str, Mapping[str, Percentile]] | None = None
) -> Chart:
    """Milliseconds by percentile, where each further nine has the same room: the tail counts.

    `known` are percentiles with intervals by curve and name, such as "p99"; where there are none, the curve's points
    can be read.
    """
    rows: list[Part] = []
    for name, curve in curves.items():
        for level, ms in curve:
            rows.append(
                {"_x": _nines(level), "_y": ms, "_series": name, "percentile": f"p{level:g}", name: MS.text(ms)}
            )
    points = [
        _estimated(Dot(name, curve, each.value, (each.low, each.high)), MS, "y", {"_x": _nines(float(name[1:]))})
        for curve, percentiles in (known or {}).items()
        for name, each in percentiles.items()
        if each.value is not None
    ]
    up = MS.encoding("_y", _ends([*rows, *points]))
    across = {"field": "_x", "type": "quantitative", "title": "percentile", "scale": {"nice": False}}
    across["axis"] = {
        "grid": False,
        "values": [_nines(level) for level in _LEVELS],
        "labelExpr": "format(100 - 100 * pow(10, -datum.value), '.4~r')",
    }
    encoding = {"x": across, "y": up, "color": _colored(curves)}
    return _chart(about, [_layer(rows, _LINE, encoding), *_dots(points or rows, encoding, "y")], curves)


def stacked_bars(about: str, bars: Mapping[str, Mapping[str, float]], axis: Axis) -> Chart:
    """One bar for each name, of parts that add up, such as the stages of a request."""
    rows = []
    for name, parts in bars.items():
        whole = sum(parts.values()) or 1.0
        for place, (part, value) in enumerate(parts.items()):
            part = part.replace("_", " ")
            shown = {"of": name, part: axis.text(value), "share": f"{value / whole:.0%}"}
            rows.append({"_row": name, "_x": value, "_place": place, "_series": part} | shown)
    series = list(dict.fromkeys(str(row["_series"]) for row in rows))
    across = axis.encoding("_x", []) | {"stack": "zero"}
    encoding = {"x": across, "y": _banded(bars), "color": _colored(series), "order": {"field": "_place"}}
    mark = {"type": "bar", "height": {"band": 0.62}, "tooltip": _HOVERED}
    return _chart(about, [_layer(rows, mark, encoding)], series, {"step": 34})


def dots(about: str, given: Sequence[Dot], axis: Axis, limit: Limit | None = None) -> Chart:
    """Figures with their intervals: a row for each name, in it a place for each series."""
    series = list(dict.fromkeys(each.series for each in given))
    points = [
        _estimated(each, axis, "x", {"_row": each.row, "_met": each.is_met}) for each in given if each.value is not None
    ]
    across = axis.encoding("_x", [*_ends(points, "x"), limit and limit[0]])
    encoding = {"x": across, "y": _banded(dict.fromkeys(each.row for each in given)), "color": _colored(series)}
    most = max(
        (len({each.series for each in given if each.row == row}) for row in {each.row for each in given}), default=1
    )
    if most > 1:
        encoding["yOffset"] = {"field": "_series", "scale": {"domain": series, "paddingOuter": 0.5}}
    layers = [*_limit(limit, "x", across), *_dots(points, encoding, "x")]
    return _chart(about, layers, series, {"step": 12 + 14 * most, "for": "position"} if points else 40)


def front(
    about: str,
    points: Sequence[Point],
    axes: tuple[Axis, Axis],
    joined: Sequence[str] = (),
    limits: tuple[Limit | None, Limit | None] = (None, None),
    is_named: bool = False,
) -> Chart:
    """Points with two figures, x and y.

    `joined` names those that nothing beats in both, `is_named` writes the names beside the points.
    """
    series = list(dict.fromkeys(point.series for point in points))
    rows = [_pointed(point, *axes) for point in points]
    encoding: Part = {"color": _colored(series)}
    layers = list[Part]()
    for channel, axis, limit in zip("xy", axes, limits, strict=True):
        encoding[channel] = axis.encoding(f"_{channel}", [*_ends(rows, channel), limit and limit[0]])
        layers += _limit(limit, channel, encoding[channel])
    if best := [row for row in rows if row["name"] in joined]:
        order = {"order": {"field": "_x"}, "color": {"value": _COLORS[0]}}
        layers.append(_layer(best, {"type": "line", "strokeWidth": 1.2, "opacity": 0.5}, encoding | order))
    layers += _dots(rows, encoding, "x", "y")
    if is_named:
        written = encoding | {"text": {"field": "name"}, "color": {"value": "var(--soft)"}}
        for (side, dy), own in _placed(rows).items():
            text = {"type": "text", "align": side, "dx": 7 if side == "left" else -7, "dy": dy, **_HALO}
            layers.append(_layer(own, text, written))
    return _chart(about, layers, series, 320)


def _placed(rows: Sequence[Part]) -> dict[tuple[str, int], list[Part]]:
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


def _nines(level: float) -> float:
    return -math.log10(1 - level / 100)  # 0 for 0, 1 for 90, 2 for 99


def _chart(about: str, layers: list[Part], series: Iterable[str], height: object = 210) -> Chart:
    spec = {
        **{"width": "container", "height": height, "autosize": {"type": "fit-x", "contains": "padding"}},
        **{"background": "transparent", "padding": {"left": 0, "right": 8, "top": 4, "bottom": 6}, "config": _CONFIG},
        **{"params": [{"name": "hidden", "value": []}], "layer": layers},
    }
    return Chart(about, spec, _colors(series))


def _layer(rows: Sequence[Part], mark: Part, encoding: Part) -> Part:
    return {"data": {"values": rows}, "transform": _SHOWN, "mark": mark, "encoding": encoding}


def _colored(series: Iterable[str]) -> Part:
    colors = _colors(series)
    scale = {"domain": list(colors), "range": list(colors.values())}
    return {"field": "_series", "type": "nominal", "scale": scale, "legend": None}


def _colors(series: Iterable[str]) -> dict[str, str]:
    loud = itertools.cycle(_COLORS)
    return {name: "var(--c5)" if name in _QUIET else next(loud) for name in series}


def _banded(rows: Iterable[str]) -> Part:
    return {"field": "_row", "type": "nominal", "sort": list(rows), "title": None, "axis": _NAMES}


def _limit(limit: Limit | None, channel: str, encoding: Part) -> list[Part]:
    """A dashed line at a limit, with its name."""
    if limit is None:
        return []
    value, name = limit
    at = {key: encoding[key] for key in ("type", "scale", "axis", "title") if key in encoding} | {"datum": value}
    place = {"align": "left", "baseline": "bottom", "dx": 4, "dy": -4, "x": 0}
    if channel == "x":
        place = {"align": "left", "baseline": "top", "dx": 5, "y": 0}
    text = {"type": "text", "text": name, **_HALO, **place}
    return [
        {"data": {"values": [{}]}, "mark": mark, "encoding": {channel: at}}
        for mark in ({"type": "rule", "strokeDash": [5, 4]}, text)
    ]


def _dots(rows: Sequence[Part], encoding: Part, *channels: str) -> list[Part]:
    """Points that can be read, on top of their intervals along some channels."""
    layers = []
    for channel in channels:
        ends = {channel: encoding[channel] | {"field": f"_{channel}_low"}, f"{channel}2": {"field": f"_{channel}_high"}}
        spans = [row for row in rows if f"_{channel}_low" in row]
        if spans:
            layers.append(_layer(spans, {"type": "rule", "strokeWidth": 2, "opacity": 0.55}, encoding | ends))
    mark = {"type": "point", "filled": True, "opacity": 1, "size": 62, "tooltip": _HOVERED}
    for is_met, shape in ((True, {"shape": "circle"}), (False, {"shape": "cross", "angle": 45, "size": 80})):
        some = [row for row in rows if row.get("_met", True) is is_met]
        if some:
            layers.append(_layer(some, mark | shape, encoding))
    return layers


def _estimated(each: Dot, axis: Axis, channel: str, row: Part) -> Part:
    """A row with a value along a channel and its interval, to draw and to read."""
    row = {
        "_series": each.series,
        f"_{channel}": each.value,
        **row,
        each.row: each.series,
        "value": axis.text(each.value),
    }
    return row | (_spanned(channel, each.value, each.span, axis) if each.span else {})


def _pointed(point: Point, x: Axis, y: Axis) -> Part:
    row: Part = {"_series": point.series, "_x": point.x, "_y": point.y, "_met": point.is_met}
    row |= {"name": point.name, x.title: x.text(point.x), y.title: y.text(point.y)}
    for channel, axis, value, span in (("x", x, point.x, point.x_span), ("y", y, point.y, point.y_span)):
        if span:
            row |= _spanned(channel, value, span, axis, f"{axis.title}, interval")
    return {**row, **point.details}


def _spanned(channel: str, value: float | None, span: Span, axis: Axis, name: str = "interval") -> Part:
    low, high = (value if end is None else end for end in span)
    return {f"_{channel}_low": low, f"_{channel}_high": high, name: axis.span(span)}


def _ends(rows: Iterable[Part], channel: str = "y") -> list[float]:
    names = (f"_{channel}", f"_{channel}_low", f"_{channel}_high")
    return [row[name] for row in rows for name in names if name in row]
