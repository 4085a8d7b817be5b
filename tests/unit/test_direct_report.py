"""The report of a direct run, and the comparison of two."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.connection import Connection
from clients.errors import InvalidInput
from loadtest import diff, direct_report, slo
from loadtest.direct import Setting, document_of
from loadtest.explain import documents, explain
from loadtest.generator.fleet import Sent
from loadtest.load import scheduled
from loadtest.payloads import Payload
from loadtest.records import ANSWERED, Records
from loadtest.server_side import Observation, server_side, stages

CONFIG = {"name": "model", "instance_group": [{"count": 1}], "max_batch_size": 8, "dynamic_batching": {}}


def run(seed: int = 0, slower: float = 1.0, lag: float = 0.0, failing: float = 0.0) -> dict[str, Any]:
    """A run's document, made as `direct.measure` makes it, of latencies that are drawn here instead of measured."""
    random = np.random.default_rng(seed)
    load = scheduled("poisson", 400, 10, seed)
    assert load.due is not None
    count = len(load.due)
    latency = 0.004 * slower * random.lognormal(sigma=0.4, size=count) + lag
    outcome = (random.uniform(size=count) < failing).astype(np.int16)
    records = Records(
        load.due, np.full(count, lag), latency, outcome, np.zeros(count, np.bool_), (ANSWERED, "HTTP 500: <b>oops</b>")
    )
    setting = Setting(Connection(), Payload("model", "samples", (b"",), {}, 4), 1, 1, 8, 0.0, seed)
    found = document_of(setting, load, Sent(records, 0.0, 0.4, 0.1, 1), slo.parse("p99<20ms"))
    stage = {"count": count, "ns": count * 500_000}
    counted = {"inference_stats": dict.fromkeys(("success", "queue", "compute_infer"), stage), "execution_count": 7}
    server = server_side(Observation({}, None), Observation({"model": counted}, None), CONFIG, 10.0)
    found |= {"server": server, "stages_us": stages(server, found["mean_ms"], 1000 * lag)}
    return {**found, "explanation": documents(explain(found))}


def test_the_page_stands_alone_and_escapes_what_servers_say(tmp_path: Path) -> None:
    page = direct_report.write(run(failing=0.01), tmp_path).read_text()
    assert "&lt;b&gt;oops" in page and "<b>oops" not in page
    assert not re.search(r"(?:src|href)=|@import|url\(", page)
    assert {path.name for path in tmp_path.iterdir()} == {f"model-http-open.{kind}" for kind in ("html", "md", "json")}
    assert page.count("<polyline") == 1 + 3 + 1 and "network and client" in page
    assert json.loads((tmp_path / "model-http-open.json").read_text())["requests"] > 3500


def test_the_plots_hold_every_stretch_of_the_run_and_rise_by_percentile() -> None:
    document = run()
    rates, latency, levels = direct_report.plots(document)
    assert len(rates.lines[0].points.split()) == len(document["course"]) == 20
    assert [line.name for line in latency.lines] == ["p50", "p99", "max"]
    heights = [float(point.split(",")[1]) for point in levels.lines[0].points.split()]
    assert heights == sorted(heights, reverse=True)


def test_a_report_of_an_invalid_run_shows_why_and_no_latency(tmp_path: Path) -> None:
    page = direct_report.write(run(lag=0.5), tmp_path)
    for text in (page.read_text(), page.with_suffix(".md").read_text()):
        assert "is the generator&#39;s own lag" in text or "is the generator's own lag" in text
        assert "<polyline" not in text and "95 % interval" not in text


def verdicts(before: dict[str, Any], after: dict[str, Any], tolerance: float = 0.05) -> dict[str, str]:
    return {one.figure: one.verdict for one in diff.changes(before, after, tolerance)}


def test_runs_of_the_same_server_differ_in_nothing() -> None:
    found = [verdict for seed in range(1, 20) for verdict in verdicts(run(0), run(seed)).values()]
    assert set(found) == {"no difference"}


def test_a_slower_server_is_worse_and_a_faster_one_better() -> None:
    slower, faster = verdicts(run(0), run(1, slower=1.3)), verdicts(run(1, slower=1.3), run(0))
    assert slower["p50"] == slower["p99"] == "worse" and faster["p50"] == faster["p99"] == "better"
    assert set(verdicts(run(0), run(1, slower=1.3), tolerance=0.5).values()) == {"no difference"}


def test_more_failures_are_worse_and_fewer_good_answers_too() -> None:
    found = verdicts(run(0), run(1, failing=0.1))
    assert found["errors"] == found["goodput"] == "worse"


def test_an_open_end_of_an_interval_proves_nothing() -> None:
    spans: Any = ((1.0, None), (5.0, 6.0))
    assert diff.verdict((2.0, 5.5), spans, 0.0, True) == "no difference"
    assert diff.verdict((2.0, 5.5), ((1.0, 3.0), spans[1]), 0.0, True) == "worse"


@pytest.mark.parametrize("name", ["model", "protocol", "rate", "arrivals", "client_batch"])
def test_runs_of_different_loads_are_refused(name: str) -> None:
    other = copy.deepcopy(run())
    other[name] = "another"
    with pytest.raises(InvalidInput, match=f"different loads: {name} was .* and is another"):
        diff.check_same(run(), other)


def test_the_command_says_by_its_exit_code_whether_something_is_worse(tmp_path: Path, command: Any) -> None:
    paths = {name: tmp_path / f"{name}.json" for name in ("before", "after", "late", "other")}
    runs = (run(0), run(1, slower=1.3), run(0, lag=0.5), {"requests": 1})
    for path, document in zip(paths.values(), runs, strict=True):
        path.write_text(json.dumps(document))
    result = command("loadtest.diff", paths["before"], paths["after"])
    assert result.returncode == 1 and "p99" in json.loads(result.stdout.splitlines()[-1])["worse"]
    assert command("loadtest.diff", paths["after"], paths["before"]).returncode == 0
    for name, words in (("late", "this run is not valid"), ("other", "which this is not"), ("none", "No such file")):
        result = command("loadtest.diff", paths["before"], paths.get(name, tmp_path / name))
        assert result.returncode == 2 and words in result.stderr and "Traceback" not in result.stderr
