"""Rules about a server as a whole, its configs, and several servers that should be alike."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.json_format import ParseDict
from tritonclient.grpc.model_config_pb2 import ModelConfig

from loadtest.analysis.result import Finding
from tools.check.releases import NEWEST, OLDEST, ReleaseError, parse_release
from tools.check.rules import RULES, Scope, check_configs
from tools.check.upgrade import Difference, differences
from tools.doctor.diagnosis import Diagnosis
from tools.doctor.observation import READY, Seen

_MOST_SHOWN = 5


def rules(seen: Seen) -> Iterator[Diagnosis]:
    """Yield what is wrong with a server beyond its models' counters."""
    yield from _summaries(seen)
    yield from _admin(seen)
    with tempfile.TemporaryDirectory() as folder:
        for found in check_configs(write_configs(seen, Path(folder)), Scope(releases=(release(seen),))):
            proof = f"python -m tools.check REPOSITORY --model {found.model} --triton {release(seen)}"
            finding = Finding(
                found.rule, f"{found.found}: {RULES[found.rule].summary}", found.remedy, f"expected {found.expected}"
            )
            yield Diagnosis(found.severity, seen.url, found.model, finding, proof)


def _summaries(seen: Seen) -> Iterator[Diagnosis]:
    if seen.has_summaries:
        why = (
            "the metrics report quantiles of latencies (nv_inference_request_summary_us), which Triton updates with "
            "every request; those of replicas cannot be added up"
        )
        finding = Finding("latency summaries", why, "--metrics-config=summary_latencies=false", "some µs per request")
        yield Diagnosis("warning", seen.url, "", finding, "curl -s METRICS/metrics | grep -c summary_us")


def _admin(seen: Seen) -> Iterator[Diagnosis]:
    """Who can reach these can take the server down; on the loopback address, that is nobody new."""
    if seen.open_apis:
        what = ", ".join(seen.open_apis)
        where = "whoever reaches this address" if not seen.is_loopback else "whoever is on this host"
        change = "--http-restricted-api and --grpc-restricted-api, or a door in front (tools.serve --front)"
        finding = Finding("admin APIs open", f"{where} can {what}", change, "nobody else changes what is served")
        proof = f"curl -s -o /dev/null -w '%{{http_code}}' -X POST http://{seen.url}/v2/repository/index"
        yield Diagnosis("info" if seen.is_loopback else "warning", seen.url, "", finding, proof)


def release(seen: Seen) -> str:
    """The release of a server; the oldest that is known for an older or unknown one."""
    try:
        return parse_release(seen.version)
    except ReleaseError:
        return OLDEST


def upgrade(seen: Seen) -> list[Difference]:
    """What the newest known release changes for the models that a server serves."""
    if release(seen) >= NEWEST:
        return []
    with tempfile.TemporaryDirectory() as folder:
        return differences(write_configs(seen, Path(folder)), release(seen), NEWEST, Scope(), check_configs)


def write_configs(seen: Seen, folder: Path) -> Path:
    """Write the configs that a server uses as a repository without files; returns it."""
    for name, model in seen.served.items():
        config = ParseDict(model.config, ModelConfig(), ignore_unknown_fields=True)
        for version in model.versions or ("1",):
            (folder / name / version).mkdir(parents=True, exist_ok=True)
        (folder / name / "config.pbtxt").write_text(text_format.MessageToString(config))
    return folder


def unlike(servers: Sequence[Seen]) -> Iterator[Diagnosis]:
    """Yield how each server differs from the first, of which it should be a replica."""
    for other in servers[1:]:
        if found := list(_differences(servers[0], other)):
            more = f", and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
            why = f"unlike {servers[0].url}: {'; '.join(found[:_MOST_SHOWN])}{more}"
            change = "one image, one repository and one set of flags for all replicas"
            proof = f"python -m tools.doctor {servers[0].url} {other.url}"
            finding = Finding("replicas differ", why, change, "the same answers and times from each")
            yield Diagnosis("warning", other.url, "", finding, proof)


def _differences(one: Seen, other: Seen) -> Iterator[str]:
    if one.version != other.version:
        yield f"Triton {other.version} for {one.version}"
    mine, theirs = ({model.name: model for model in seen.models} for seen in (one, other))
    for name in sorted(mine.keys() | theirs.keys()):
        left, right = mine.get(name), theirs.get(name)
        if not left or not right or (left.state == READY) != (right.state == READY):
            yield f"{name} is served by one alone"
            continue
        if left.versions != right.versions:
            yield f"{name}: versions {', '.join(right.versions)} for {', '.join(left.versions)}"
        here, there = dict(_flat(left.config)), dict(_flat(right.config))
        for path in sorted(here.keys() | there.keys()):
            if here.get(path) != there.get(path):
                yield f"{name}: {path} {there.get(path, 'unset')} for {here.get(path, 'unset')}"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested JSON by their paths."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path, value
        return
    for key, item in items:
        yield from _flat(item, f"{path}.{key}" if path else str(key))
