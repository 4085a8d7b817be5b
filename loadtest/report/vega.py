"""Vega-Lite, compiled to Vega when a page is made, and the library that draws it there, for the page to carry.

Vega-Lite and not Bokeh or Plotly: 0.6 MB on a page that needs no other file (theirs: 1.3 and 4.8 MB), imported in
30 ms, and SVG, whose colors CSS chooses: dark, light or for print.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clients.installation import CACHE
from clients.output import write_atomically
from loadtest.report.drawing import Chart

_PACKAGE = "vl-convert-python"


def compiled(spec: dict[str, Any]) -> dict[str, Any]:
    """Compile a chart from Vega-Lite to Vega."""
    import vl_convert

    vega: dict[str, Any] = vl_convert.vegalite_to_vega(spec)
    return vega


@cache
def library() -> str:
    """Vega as JavaScript that sets the variable `vega`; bundling takes a second, so it is kept once for a machine."""
    import vl_convert

    # The address is a name: vl-convert carries what lies there, and asks no network.
    address = f"https://cdn.jsdelivr.net/npm/vega@{vl_convert.get_vega_version()}/+esm"
    source = f'import {{View, parse}} from "{address}"; window.vega = {{View, parse}};'
    kept = CACHE / f"vega-{version(_PACKAGE)}-{sha256(source.encode()).hexdigest()[:8]}.js"
    if kept.is_file():
        return kept.read_text("utf-8")
    script: str = vl_convert.javascript_bundle(source).replace("</script", r"<\/script")
    # Where nothing can be kept, each process takes the second.
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, script)
    return script


def drawn(panels: Sequence[tuple[str, Chart]]) -> str:
    """Charts beside each other as one SVG image, with their titles and legends, for a page of documentation."""
    import vl_convert

    # What a pointer selects has no place in an image.
    layers = {title: [layer for layer in chart.spec["layer"] if "params" not in layer] for title, chart in panels}
    parts = [{"title": title, "width": 230, "height": 170, "layer": own} for title, own in layers.items()]
    shared = {name: panels[0][1].spec[name] for name in ("background", "config", "params")}
    text = json.dumps({"hconcat": parts, "spacing": 30, **shared})
    image: str = vl_convert.vegalite_to_svg(
        text.replace('"legend": null', '"legend": {"orient": "top", "title": null}')
    )
    style = f"<style>{(Path(__file__).parent / 'palette.css').read_text('utf-8')}</style>"
    return image.replace(">", f">{style}", 1)
