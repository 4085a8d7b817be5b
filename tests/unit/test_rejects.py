"""What a metrics endpoint says was rejected: its text, differences, and endpoints that give no counts."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from clients.errors import InvalidInput
from loadtest.analysis.rejects import Rejects, Scrape, metrics_address, parse, rejects, scrape

TEXT = """\
# HELP nv_inference_request_failure Number of failed inference requests
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="a",reason="REJECTED",version="1"} 3
nv_inference_request_failure{model="a",reason="REJECTED",version="2"} 4.0
nv_inference_request_failure{model="a",reason="BACKEND",version="1"} 1.2e+01 1700000000000
nv_inference_request_failure{model="b",version="1"} 5
nv_inference_request_success{model="a",version="1"} 99
nv_inference_pending_request_count{model="a",version="1"} 2
nv_inference_pending_request_count{model="a",version="2"} 1
nv_cpu_utilization 0.5
"""


@contextmanager
def endpoint(text: str, status: int = 200) -> Iterator[str]:
    """Serve one text at every path; the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_failures_are_summed_over_versions_by_model_and_reason() -> None:
    found = parse(TEXT)
    assert found.failed == {"a": {"REJECTED": 7, "BACKEND": 12}, "b": {"OTHER": 5}}
    assert found.pending == {"a": 3} and not found.problem


def test_an_endpoint_is_asked_for_its_metrics() -> None:
    with endpoint(TEXT) as address:
        assert scrape(address) == parse(TEXT)


@pytest.mark.parametrize(("text", "status"), [("up 1\n", 200), (TEXT, 503)])
def test_an_endpoint_other_than_tritons_is_a_problem(text: str, status: int) -> None:
    with endpoint(text, status) as address:
        found = scrape(address)
    assert found.problem.startswith(f"no metrics at {address}: HTTP {status}") and not found.failed


@pytest.mark.parametrize("address", ["127.0.0.1:1", "a" * 70 + ":8002"])
def test_an_endpoint_that_does_not_answer_is_a_problem_and_no_failure(address: str) -> None:
    assert scrape(address).problem.startswith(f"no metrics at {address}: ")


def test_only_what_changed_during_the_run_counts_and_only_for_its_models() -> None:
    before = Scrape({"a": {"REJECTED": 7}, "b": {"OTHER": 1}}, {"a": 1, "b": 5})
    after = Scrape({"a": {"REJECTED": 7, "CANCELED": 2}, "b": {"OTHER": 1}, "c": {"OTHER": 9}}, {"a": 4, "b": 2})
    found = rejects(before, after, {"a", "b"})
    assert found == Rejects({"a": {"CANCELED": 2}}, {"a": 3, "b": -3}, None)
    assert found.sentences() == [
        "a: Triton counted failed requests: 2 CANCELED",
        "a: 3 more requests wait in Triton than before the run",
        "b: 3 fewer requests wait in Triton than before the run",
    ]


def test_nothing_is_reported_where_nothing_was_rejected_or_no_endpoint_was_asked() -> None:
    same = parse(TEXT)
    unchanged = rejects(same, same, {"a"})
    assert unchanged == Rejects({}, {}, None) and unchanged.sentences() == []
    assert rejects(None, None, {"a"}) is None


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (Scrape(problem="gone"), parse(TEXT), "gone"),
        (parse(TEXT), Scrape(problem="gone"), "gone"),
        (parse(TEXT), Scrape({"a": {"REJECTED": 1}}), "were reset"),
    ],
)
def test_without_counts_the_problem_is_reported_and_no_number(before: Scrape, after: Scrape, words: str) -> None:
    found = rejects(before, after, {"a"})
    assert found and found.failed is None and found.pending is None
    (line,) = found.sentences()
    assert line.startswith("Requests that Triton rejected are not counted: ") and words in line


def test_the_address_is_the_options_else_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_METRICS_URL", raising=False)
    assert metrics_address(None) is None
    monkeypatch.setenv("TRITON_METRICS_URL", "there:8002")
    assert (metrics_address(None), metrics_address("here:9")) == ("there:8002", "here:9")


@pytest.mark.parametrize("address", ["http://here:8002", "here", "here:8002/metrics", "here:65536", "here:" + "9" * 30])
def test_an_invalid_address_is_refused_with_its_source(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="expected --metrics-url HOST:PORT.*got"):
        metrics_address(address)
    monkeypatch.setenv("TRITON_METRICS_URL", address)
    with pytest.raises(InvalidInput, match="expected TRITON_METRICS_URL of HOST:PORT.*got"):
        metrics_address(None)
