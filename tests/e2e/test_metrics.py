"""Every metric that the dashboard or an alert asks for is one that something exposes, by its own account."""

import json
import re
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from tests.compiler import NEEDS_NATIVE
from tests.haproxy import NEEDS_HAPROXY
from tools.front.door import Front
from tools.front.options import Backend, FrontOptions
from tools.repository import ROOT
from tools.serve.journal import Journal
from tools.serve.tritonserver import Server

RULES = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "triton.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
# What begins a name says who exposes it.
NAMES = set(re.findall(r"\b(?:nv|pytorch|triton|haproxy)_\w+", " ".join([RULES, *EXPRESSIONS])))


def named(prefix: str) -> set[str]:
    found = {name for name in NAMES if name.startswith(prefix)}
    assert found
    return found


def exposed(lines: Iterable[str]) -> set[str]:
    """The names of an exposition: of its series, and of families that have none yet."""
    names = set()
    for line in lines:
        if family := re.fullmatch(r"# TYPE (\w+) (\w+)", line):
            suffixes = ("_bucket", "_sum", "_count") if family[2] == "histogram" else ("",)
            names |= {family[1] + suffix for suffix in suffixes}
    return names


def exposition(address: str) -> set[str]:
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        return exposed(answer.read().decode().splitlines())


@pytest.fixture(scope="module")
def triton(server: Server) -> set[str]:
    return exposition(server.metrics)


def test_tritons_counters_exist(triton: set[str]) -> None:
    assert named("nv_") <= triton


@NEEDS_NATIVE
def test_the_native_backends_histograms_exist(triton: set[str]) -> None:
    assert named("pytorch_") <= triton


def test_the_supervisors_series_exist() -> None:
    registry = Journal().registry
    assert named("triton_") <= exposed(generate_latest(registry).decode().splitlines())


@NEEDS_HAPROXY
def test_the_front_doors_series_exist(server: Server, tmp_path: Path) -> None:
    options = FrontOptions(front="127.0.0.1:0", operator="127.0.0.1:0")
    with Front(tmp_path, options, [], [Backend("replica0", server.http, server.grpc)]) as front:
        assert named("haproxy_") <= exposition(front.operator)
