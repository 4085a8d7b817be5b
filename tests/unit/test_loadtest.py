"""Load tests with Locust without a server: objectives, histograms that merge, the server's counters, the report."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

# Importing Locust replaces the sockets and threads of the whole process by gevent's: not in the process of all tests.
with patch.dict(os.environ, LOCUST_SKIP_MONKEY_PATCH="1"):
    from locust.env import Environment


from clients.client import Client
from clients.connection import Connection
from clients.contract import Contract, TensorSpec
from clients.statistics import Counted
from loadtest import slo
from loadtest.analysis import counters
from loadtest.payloads import BODIES, inputs
from loadtest.swarm import report
from loadtest.swarm.latencies import Latencies, curve, percentiles
from loadtest.swarm.options import SwarmOptions
from loadtest.swarm.report import Seen, SwarmResult

FIGURES = {"p50_ms": 3.0, "p95_ms": 9.0, "p99_ms": 20.0, "max_ms": 30.0, "rps": 100.0, "error_share": 0.002}


def histogram_of(values_ms: list[float]) -> Latencies:
    latencies = Latencies(Environment())
    for value in values_ms:
        latencies.on_request("model", value, None)
    return latencies


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("p99<20.1ms", True),
        ("p99<20ms", False),
        ("p50<3001us", True),
        ("max<0.03s", False),
        ("errors<0.3%", True),
        ("errors<0.2%", False),
        ("rps>99", True),
        ("rps>100", False),
        (" p95 < 10 ms ,errors<1%", True),
        ("p95<10ms,errors<0.1%", False),
    ],
)
def test_an_objective_is_met_or_missed(text: str, met: bool) -> None:
    assert (slo.missed(slo.parse(text), FIGURES) == []) is met


@pytest.mark.parametrize("text", ["p98<1ms", "p99<1", "p99<1%", "errors<1", "errors<1ms", "rps>5ms", "p99", "p99=1ms"])
def test_an_objective_that_cannot_be_parsed_shows_the_form(text: str) -> None:
    with pytest.raises(slo.SloError, match="expected"):
        slo.parse(text)


def test_a_missed_objective_says_what_was_reached() -> None:
    assert slo.missed(slo.parse("p99<1ms,errors<0.1%,rps>1000"), FIGURES) == [
        "p99<1ms (was 20 ms)",
        "errors<0.1% (was 0.200%)",
        "rps>1000 (was 100.0)",
    ]


def test_an_objective_is_missed_when_nothing_was_answered() -> None:
    assert slo.missed(slo.parse("p99<1ms"), {"p99_ms": None}) == ["p99<1ms (was not measured: too few answers)"]


def test_percentiles_keep_microseconds_where_locusts_are_rounded() -> None:
    levels = percentiles(histogram_of([1.234] * 98 + [250.7] * 2).histograms["model"])
    assert levels["p50_ms"] == pytest.approx(1.234, rel=1e-3)
    assert levels["p99_ms"] == pytest.approx(250.7, rel=1e-3)
    assert levels["mean_ms"] == pytest.approx(0.98 * 1.234 + 0.02 * 250.7, rel=1e-2)


def test_workers_histograms_merge_into_what_one_process_would_have_seen() -> None:
    values = [0.1 * number for number in range(1, 2001)]
    whole = histogram_of(values)
    master = Latencies(Environment())
    for part in (values[::2], values[1::2]):
        worker, data = histogram_of(part), {}
        worker.on_report_to_master(data)
        master.on_worker_report(json.loads(json.dumps(data, default=bytes.decode)))
        assert not worker.histograms
    assert percentiles(master.total()) == percentiles(whole.total())


def test_failures_have_no_place_among_latencies() -> None:
    latencies = histogram_of([1.0])
    latencies.on_request("model", 99.0, RuntimeError("failed"))
    assert latencies.total().get_total_count() == 1


def test_the_curve_rises() -> None:
    points = curve(histogram_of([float(n) for n in range(1, 500)]).total())
    assert [ms for _, ms in points] == sorted(ms for _, ms in points)
    assert points[-1][1] > points[0][1]


def test_nothing_answered_gives_no_figures() -> None:
    empty = histogram_of([]).histograms["model"]
    assert set(percentiles(empty).values()) == {None}
    assert curve(empty) == []


def test_counters_are_subtracted_through_all_levels() -> None:
    before = {"a": {"inference_count": 5, "name": "a", "inference_stats": {"queue": {"count": 2, "ns": 10}}}}
    after = {
        "a": {"inference_count": 9, "name": "a", "inference_stats": {"queue": {"count": 5, "ns": 40}}},
        "new": {"inference_count": 3},
    }
    assert counters.difference(before, after) == {
        "a": {"inference_count": 4, "inference_stats": {"queue": {"count": 3, "ns": 30}}},
        "new": {"inference_count": 3},
    }


@pytest.mark.parametrize(("looks", "last"), [([5, 6, 8, 8, 9], 8), (range(100), 10)], ids=["a run is over", "others"])
def test_counters_are_read_until_they_stand_still_but_not_for_ever(
    looks: Iterable[int], last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter(looks)
    monkeypatch.setattr(counters, "snapshot", lambda client: {"a": {"inference_count": next(seen)}})
    assert counters.settled(Client(Connection())) == {"a": {"inference_count": last}}


def test_counters_that_were_zero_before_and_left_out_are_counted() -> None:
    before = {"a": {"inference_count": 0, "batch_stats": {"1": {"count": 2}}}}
    after = {"a": {"inference_count": 9, "queue": {"ns": 7}, "batch_stats": {"1": {"count": 3}, "8": {"count": 4}}}}
    assert counters.difference(before, after)["a"] == {
        "inference_count": 9,
        "queue": {"ns": 7},
        "batch_stats": {"1": {"count": 1}, "8": {"count": 4}},
    }


def contract(*specs: TensorSpec) -> Contract:
    return Contract("unknown", ("1",), 4, specs, (TensorSpec("OUT", "FP32", (2,)),))


def test_a_model_without_samples_gets_random_inputs_that_it_accepts_and_says_so(tmp_path: Path) -> None:
    model = contract(TensorSpec("A", "FP32", (3, -1)), TensorSpec("B", "INT64", (1,)), TensorSpec("C", "BOOL", (2,)))
    source, batches = inputs(model, tmp_path, batch=3)
    assert source == "synthetic"
    assert len(batches) == BODIES
    for batch in batches:
        model.check(batch)


COUNTED = Counted(1000, 0, 1000, 400, 2.5, 500.0, 10.0, 1000.0, 90.0)
SEEN = Seen(1000, 2, 100.0, {"mean_ms": 4.0, "p50_ms": 3.0, "p95_ms": 9.0, "p99_ms": 20.0, "max_ms": 30.0})


def result(slo_text: str = "", source: str = "samples", server_requests: int = 1000) -> SwarmResult:
    """A test of one model."""
    return SwarmResult(
        options=SwarmOptions("http", "", Path("samples"), None, 1, 0.0, slo_text, None, users=8, headless=True),
        host="http://127.0.0.1:8000",
        duration_s=10.0,
        seen=SEEN,
        models={"model": SEEN},
        servers={"model": replace(COUNTED, requests=server_requests)},
        sources={"model": source},
        error_kinds={"HTTP 500: <b>oops</b>": 2},
        objectives=tuple(slo.parse(slo_text)),
        curve=[(0, 1.0), (50, 3.0), (99, 20.0)],
    )


def test_the_page_stands_alone_and_escapes_what_servers_say(tmp_path: Path) -> None:
    page = report.write(result(), tmp_path).read_text()
    assert "&lt;b&gt;oops" in page and "<b>oops" not in page
    assert page.count('class="plot"') == 2
    assert {path.suffix for path in tmp_path.iterdir()} == {".html", ".md", ".json"}
    assert json.loads((tmp_path / "http.json").read_text())["requests"] == 1000


def test_the_stages_and_what_is_left_make_up_the_clients_mean() -> None:
    stages = report.mean_stages(result())["model"]
    assert stages["network_and_client"] == pytest.approx(4000 - 1600)
    assert sum(stages.values()) == pytest.approx(4000)


def test_a_model_without_answers_or_counters_has_its_row_and_no_stages() -> None:
    silent = Seen(3, 3, 0.0, dict.fromkeys(SEEN.latencies))
    broken = replace(result(), seen=silent, models={"model": silent}, servers={}, curve=[])
    assert report.mean_stages(broken) == {} and not broken.has_passed
    assert re.search(r"model +3 +3 +0 +- +- +- +- +- +-", report.text(broken))
    assert report.page_of(broken).html().count('class="plot"') == 1


def test_requests_of_others_on_the_server_are_reported() -> None:
    crowded = report.notes(result(server_requests=2000))
    assert not any("other clients use the server" in note for note in report.notes(result()))
    assert any("counted 2,000 requests, this test sent 1,000" in note for note in crowded)


def test_random_inputs_and_missed_objectives_stand_beside_the_figures() -> None:
    text = report.text(result("p99<1ms", source="synthetic"))
    assert "SLO missed: p99<1ms" in text and "Random inputs, not samples: model" in text
    assert "SLO met: p99<1s" in report.text(result("p99<1s"))
