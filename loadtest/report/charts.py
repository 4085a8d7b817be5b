"""Charts of reports: figures in, Vega-Lite out, as `loadtest.report.drawing` describes it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadtest.analysis.intervals import Percentile
from loadtest.report.axes import Axis, Span
from loadtest.report.drawing import (
    COLORS,
    HALO,
    HOVERED,
    IS_NARROW,
    Chart,
    Limit,
    Part,
    band,
    banded,
    chart,
    colored,
    ends,
    layer,
    limit_line,
    lines_of,
    placed_names,
    readable,
    spanned,
)

Line = Sequence[tuple[float, float | None]]  # None leaves a gap
Curve = Sequence[tuple[float, float]]  # (percentile, value)
MS = Axis("", "ms", log=True)
_NEAREST = {"type": "point", "fields": ["_x"], "nearest": True, "on": "pointerover", "clear": "pointerout"}
_LINE: Part = {"type": "line", "strokeWidth": 1.8, "strokeJoin": "round"}
_ROOM: Part = {"fontSize": {"expr": f"{IS_NARROW} ? 0 : 12"}}  # On a phone, names would lie on each other.
_LEVELS = (0.0, 50.0, 90.0, 99.0, 99.9)


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
        "mark": {"type": "rule", "tooltip": HOVERED},
        "encoding": {
            "x": across,
            "opacity": {"condition": {"param": "near", "empty": False, "value": 0.6}, "value": 0},
        },
    }
    # Between two gaps, a line is a point.
    has_gaps = any(y is None for line in given.values() for _, y in line)
    points = len(places) < 9 or (has_gaps and {"size": 12})
    drawn = layer(rows, _LINE | {"point": points}, {"x": across, "y": up, "color": colored(given)})
    return chart(about, [drawn, *limit_line(limit, "y", up), pointer], given)


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
    up = MS.encoding("_y", ends([*rows, *points]))
    across = {"field": "_x", "type": "quantitative", "title": "percentile", "scale": {"nice": False}}
    across["axis"] = {
        "grid": False,
        "values": [_nines(level) for level in _LEVELS],
        "labelExpr": "format(100 - 100 * pow(10, -datum.value), '.4~r')",
    }
    encoding = {"x": across, "y": up, "color": colored(curves)}
    return chart(about, [layer(rows, _LINE, encoding), *readable(points or rows, encoding, "y")], curves)


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
    encoding = {"x": across, "y": banded(bars), "color": colored(series), "order": {"field": "_place"}}
    mark = {"type": "bar", "height": {"band": 0.62}, "tooltip": HOVERED}
    return chart(about, [layer(rows, mark, encoding)], series, {"step": 34})


def dots(about: str, given: Sequence[Dot], axis: Axis, limit: Limit | None = None) -> Chart:
    """Figures with their intervals: a row for each name, in it a place for each series."""
    series = list(dict.fromkeys(each.series for each in given))
    points = [
        _estimated(each, axis, "x", {"_row": each.row, "_met": each.is_met}) for each in given if each.value is not None
    ]
    across = axis.encoding("_x", [*ends(points, "x"), limit and limit[0]])
    encoding = {"x": across, "y": banded(dict.fromkeys(each.row for each in given)), "color": colored(series)}
    most = max(
        (len({each.series for each in given if each.row == row}) for row in {each.row for each in given}), default=1
    )
    if most > 1:
        encoding["yOffset"] = {"field": "_series", "scale": {"domain": series, "paddingOuter": 0.5}}
    layers = [*limit_line(limit, "x", across), *readable(points, encoding, "x")]
    step = max([12 + 14 * most, *(6 + 13 * len(lines_of(each.row)) for each in given)])
    return chart(about, layers, series, {"step": step, "for": "position"} if points else 40)


def front(
    about: str,
    points: Sequence[Point],
    axes: tuple[Axis, Axis],
    joined: Sequence[str] = (),
    limits: tuple[Limit | None, Limit | None] = (None, None),
    shaded: Span | None = None,
    is_named: bool = False,
) -> Chart:
    """Points with two figures, x and y.

    `joined` names those that nothing beats in both, `shaded` is an interval of x, `is_named` writes the names beside
    the points.
    """
    series = list(dict.fromkeys(point.series for point in points))
    rows = [_pointed(point, *axes) for point in points]
    encoding: Part = {"color": colored(series)}
    layers = list[Part]()
    for channel, axis, limit in zip("xy", axes, limits, strict=True):
        more = limit and limit[0], *(shaded or ()) * (channel == "x")
        encoding[channel] = axis.encoding(f"_{channel}", [*ends(rows, channel), *more])
        layers += limit_line(limit, channel, encoding[channel])
    layers += band(shaded, encoding["x"])
    if best := [row for row in rows if row["name"] in joined]:
        order = {"order": {"field": "_x"}, "color": {"value": COLORS[0]}}
        layers.append(layer(best, {"type": "line", "strokeWidth": 1.2, "opacity": 0.5}, encoding | order))
    layers += readable(rows, encoding, "x", "y")
    if is_named:
        written = encoding | {"text": {"field": "name"}, "color": {"value": "var(--soft)"}}
        for (side, dy), own in placed_names(rows).items():
            text = {"type": "text", "align": side, "dx": 7 if side == "left" else -7, "dy": dy, **HALO, **_ROOM}
            layers.append(layer(own, text, written))
    return chart(about, layers, series, 320)


def _nines(level: float) -> float:
    return -math.log10(1 - level / 100)  # 0 for 0, 1 for 90, 2 for 99


def _estimated(each: Dot, axis: Axis, channel: str, row: Part) -> Part:
    """A row with a value along a channel and its interval, to draw and to read."""
    read = {"for": each.row, each.series: axis.text(each.value)}
    row = {"_series": each.series, f"_{channel}": each.value, **row, **read}
    return row | (spanned(channel, each.value, each.span, axis) if each.span else {})


def _pointed(point: Point, x: Axis, y: Axis) -> Part:
    row: Part = {"_series": point.series, "_x": point.x, "_y": point.y, "_met": point.is_met}
    row |= {"name": point.name, x.title: x.text(point.x), y.title: y.text(point.y)}
    for channel, axis, value, span in (("x", x, point.x, point.x_span), ("y", y, point.y, point.y_span)):
        if span:
            row |= spanned(channel, value, span, axis, f"{axis.title}, interval")
    return {**row, **point.details}
