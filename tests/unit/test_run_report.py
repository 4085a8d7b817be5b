"""The report of a run, and the comparison of two."""

import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.connection import Connection
from clients.errors import InvalidInput
from loadtest import diff, slo
from loadtest.analysis.measurement import Setting, result_of
from loadtest.analysis.result import RunResult
from loadtest.analysis.server_side import Observation, server_side
from loadtest.generator.process import Sent
from loadtest.load import open_loop
from loadtest.options import GeneratorOptions
from loadtest.payloads import Payload
from loadtest.records import ANSWERED, Records
from loadtest.report import charts, comparison, vega
from loadtest.report.axes import number
from loadtest.report.charts import MS
from loadtest.report.drawing import Chart, lines_of
from loadtest.report.index import entries
from loadtest.report.page import Page, Section
from loadtest.report.page import write as write_page
from loadtest.report.run_report import page_of, write
from loadtest.report.vega import compiled

CONFIG = {"name": "model", "instance_group": [{"count": 1}], "max_batch_size": 8, "dynamic_batching": {}}


def run(seed: int = 0, slower: float = 1.0, lag: float = 0.0, failing: float = 0.0) -> RunResult:
    """A result, made as `measure` makes it, of latencies that are drawn here instead of measured."""
    random = np.random.default_rng(seed)
    load = open_loop("poisson", 400, 10, seed)
    assert load.due is not None
    count = len(load.due)
    latency = 0.004 * slower * random.lognormal(sigma=0.4, size=count) + lag
    outcome = (random.uniform(size=count) < failing).astype(np.int16)
    records = Records(
        load.due, np.full(count, lag), latency, outcome, np.zeros(count, np.bool_), (ANSWERED, "HTTP 500: <b>oops</b>")
    )
    options = GeneratorOptions(connections=8, warm_up_s=0.0, seed=seed)
    setting = Setting(Connection(), Payload("model", "samples", (b"",), {}, 4), options)
    stage = {"count": count, "ns": count * 500_000}
    counted = {"inference_stats": dict.fromkeys(("success", "queue", "compute_infer"), stage), "execution_count": 7}
    server = server_side(Observation({}, None), Observation({"model": counted}, None), CONFIG, 10.0)
    return result_of(setting, load, Sent(records, 0.0, 0.4, 0.1, 1), slo.parse("p99<20ms"), server)


def document(**options: Any) -> dict[str, Any]:
    """The same as it is read from a report's file."""
    read: dict[str, Any] = json.loads(json.dumps(run(**options).document()))
    return read


def test_the_page_stands_alone_and_escapes_what_servers_say(tmp_path: Path) -> None:
    page = write(run(failing=0.01), tmp_path).read_text()
    assert "&lt;b&gt;oops" in page and "<b>oops" not in page
    assert {path.name for path in tmp_path.iterdir()} == {f"model-http-open.{kind}" for kind in ("html", "md", "json")}
    assert page.count('class="plot"') == 4 and "network and client" in page
    assert len(page) < 1_000_000
    assert json.loads((tmp_path / "model-http-open.json").read_text())["requests"] > 3500


def layers(section: Section) -> list[list[dict[str, Any]]]:
    """The rows of each layer of a section's chart."""
    assert section.chart
    return [layer["data"]["values"] for layer in section.chart.spec["layer"]]


def test_the_charts_hold_every_stretch_of_the_run_and_the_percentiles_with_their_intervals_and_units() -> None:
    measured = run()
    levels, latency, rates, stages = (layers(section) for section in page_of(measured).sections if section.chart)
    assert len(rates[0]) == len(measured.figures.course) == 20
    assert {row["_series"] for row in latency[0]} == {"p50", "p99", "max"}
    heights = [row["_y"] for row in levels[0]]
    assert heights == sorted(heights)
    p99 = next(row for row in levels[-1] if row["for"] == "p99")
    estimate = measured.figures.percentiles["p99"]
    assert (p99["_y"], p99["_y_low"], p99["_y_high"]) == (estimate.value, estimate.low, estimate.high)
    assert p99["latency"] == f"{number(estimate.value)} ms" and p99["interval"].endswith(" ms")
    assert sum(row["_x"] for row in stages[0]) == pytest.approx(sum(measured.stages_us.values()))


def test_an_axis_has_round_ticks_and_a_logarithm_where_its_values_span_much() -> None:
    wide = MS.encoding("_y", [0.7, 3.3, None, 41.0])
    assert wide["axis"]["values"] == [0.5, 1, 2, 5, 10, 20, 50] and wide["scale"]["type"] == "log"
    assert MS.encoding("_y", [2e-3, 9e4])["axis"]["values"] == [10.0**power for power in range(-3, 6)]
    for low in (1e-3, 0.00099999999999999, 5e-4):
        assert MS.encoding("_y", [low, 1.0])["axis"]["values"][0] <= low
    narrow = MS.encoding("_y", [3.0, 4.0])
    assert narrow["scale"] == {"zero": True, "nice": narrow["axis"]["tickCount"]} and narrow["title"] == "ms"


def test_a_long_name_of_a_row_has_lines() -> None:
    together = "one: batch 64, 2 instances | other: batch 8, 1 instance"
    assert lines_of(together, is_narrow=False) == ["one: batch 64, 2 instances", "other: batch 8, 1 instance"]
    assert lines_of(together) == ["one: batch 64,", "2 instances", "other: batch 8,", "1 instance"]
    assert lines_of("batching off") == ["batching off"] and lines_of("x" * 40) == ["x" * 40]


@pytest.mark.parametrize(
    "chart",
    [
        charts.lines("empty", {"a": []}, (MS, MS)),
        charts.lines("a gap", {"a": [(1.0, None)]}, (MS, MS)),
        charts.by_percentile("empty", {"a": []}),
        charts.stacked_bars("nothing", {"model": {"queue_us": 0.0}}, MS),
        charts.dots("empty", [], MS, (1.0, "limit")),
        charts.dots("open", [charts.Dot("a", "b", 0.0, (None, None))], MS),
        charts.front("empty", [], (MS, MS), shaded=(1.0, 2.0)),
        charts.front("one", [charts.Point("a", "b", 1.0, 2.0)], (MS, MS), ["a"], is_named=True),
    ],
    ids=lambda chart: chart.about,
)
def test_a_chart_is_drawn_however_little_was_measured(chart: Chart) -> None:
    assert compiled(chart.spec)["signals"]


def test_a_report_of_an_invalid_run_shows_why_and_no_latency(tmp_path: Path) -> None:
    page = write(run(lag=0.5), tmp_path)
    for text in (page.read_text(), page.with_suffix(".md").read_text()):
        assert "is the generator&#39;s own lag" in text or "is the generator's own lag" in text
        assert 'class="plot"' not in text and "95 % interval" not in text
    assert json.loads(page.with_suffix(".json").read_text())["p99_ms"] is None


def verdicts(before: dict[str, Any], after: dict[str, Any], tolerance: float = 0.05) -> dict[str, str]:
    return {change.figure: change.verdict for change in comparison.changes(before, after, tolerance)}


def test_runs_of_the_same_server_differ_in_nothing() -> None:
    others = [verdict for seed in range(1, 20) for verdict in verdicts(document(), document(seed=seed)).values()]
    assert set(others) == {"no difference"}


def test_a_slower_server_is_worse_and_a_faster_one_better() -> None:
    usual, slow = document(seed=0), document(seed=1, slower=1.3)
    slower, faster = verdicts(usual, slow), verdicts(slow, usual)
    assert slower["p50"] == slower["p99"] == "worse" and faster["p50"] == faster["p99"] == "better"
    assert set(verdicts(usual, slow, tolerance=0.5).values()) == {"no difference"}


def test_more_failures_are_worse_and_fewer_good_answers_too() -> None:
    found = verdicts(document(seed=0), document(seed=1, failing=0.1))
    assert found["errors"] == found["goodput"] == "worse"


def test_an_open_end_of_an_interval_proves_nothing() -> None:
    after = comparison.Estimate(5.5, (5.0, 6.0))
    assert comparison.verdict(comparison.Estimate(2.0, (1.0, None)), after, 0.0, True) == "no difference"
    assert comparison.verdict(comparison.Estimate(2.0, (1.0, 3.0)), after, 0.0, True) == "worse"


@pytest.mark.parametrize("name", ["model", "protocol", "rate", "arrivals", "client_batch"])
def test_runs_of_different_loads_are_refused(name: str) -> None:
    other = document()
    other[name] = "another"
    with pytest.raises(InvalidInput, match=f"different loads: {name} was .* and is another"):
        diff.check_same_load(document(), other)


def test_the_exit_code_tells_whether_something_is_worse(tmp_path: Path, command: Any) -> None:
    paths = {name: tmp_path / f"{name}.json" for name in ("before", "after", "late", "other")}
    runs = (document(seed=0), document(seed=1, slower=1.3), document(lag=0.5), {"requests": 1})
    for path, contents in zip(paths.values(), runs, strict=True):
        path.write_text(json.dumps(contents))
    result = command("loadtest.diff", paths["before"], paths["after"], "--report", tmp_path)
    assert result.returncode == 1 and "p99" in json.loads(result.stdout.splitlines()[-1])["worse"]
    first, second = result.stdout.splitlines()[:2]
    assert first.startswith(f"before: {paths['before']} of 20") and second.startswith(f"after:  {paths['after']} of 20")
    assert json.loads(result.stdout.splitlines()[-1])["after"] == str(paths["after"])
    assert "Worse: p50 (" in (tmp_path / "model-http-diff.html").read_text()
    assert command("loadtest.diff", paths["after"], paths["before"], "--report", tmp_path).returncode == 0
    for name, words in (("late", "run is not valid"), ("other", "which this is not"), ("none", "/none: No such file")):
        result = command("loadtest.diff", paths["before"], paths.get(name, tmp_path / name))
        assert result.returncode == 2 and words in result.stderr and "Traceback" not in result.stderr


def test_an_index_has_the_pages_whose_heads_can_be_read(tmp_path: Path) -> None:
    write_page(Page("long", "asked " * 2000, "found", []), tmp_path / "a" / "long.html")
    for index, about in enumerate(('{"title": "another release\'s"}', "no JSON", "[1]", '{"made": 3}')):
        (tmp_path / f"{index}.html").write_text(f"<meta name='report' content='{escape(about)}'><h1>x</h1>")
    (tmp_path / "body.html").write_text(f"<p>not a head</p>{(tmp_path / 'a' / 'long.html').read_text()}")
    assert [(entry.path, entry.title) for entry in entries(tmp_path)] == [("a/long.html", "long")]


def test_a_page_is_made_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(vega, "CACHE", tmp_path / "file" / "cache")
    assert "window.vega" in vega.library.__wrapped__()
