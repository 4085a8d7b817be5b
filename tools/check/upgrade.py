"""What another release of Triton changes for a repository: `python -m tools.check --upgrade 24.10 26.09`.

Each change was read in release branches at github.com/triton-inference-server; the commit or file is named here.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup, ModelSequenceBatching

from tools.check.finding import Finding
from tools.check.releases import ReleaseError
from tools.check.rules import RULES, Scope, check
from tools.check.served import Model, Served, load

Find = Callable[[Path, Scope], list[Finding]]


@dataclass(frozen=True)
class Change:
    """Something that a release does differently, without refusing anything."""

    since: str
    what: str
    concerns: Callable[[Model], bool]


@dataclass(frozen=True)
class Difference:
    """What changes for a model; `kind` is refused, taken, mended or different."""

    since: str
    kind: str
    model: str
    what: str


def _on_gpu(model: Model) -> bool:
    groups = model.config.instance_group
    return not model.ensemble and (not groups or any(group.kind != ModelInstanceGroup.KIND_CPU for group in groups))


def _has_python(model: Model) -> bool:
    return bool(model.config.backend == "python")


def _has(*path: str) -> Callable[[Model], bool]:
    """Whether a message, or a list in it, is set."""

    def concerns(model: Model) -> bool:
        value: Any = model.config
        for name in path:
            value = getattr(value, name)
        return bool(value.ByteSize() if hasattr(value, "ByteSize") else value)

    return concerns


def _takes_correlation_id(model: Model) -> bool:
    controls = [control for tensor in model.config.sequence_batching.control_input for control in tensor.control]
    return any(control.kind == ModelSequenceBatching.Control.CONTROL_SEQUENCE_CORRID for control in controls)


def _is_ensemble(model: Model) -> bool:
    return model.ensemble


def _any(model: Model) -> bool:
    return True


# core, server and others are the repositories that a commit is in.
CHANGES = (
    Change("24.11", "the container has Ubuntu 24.04 and Python 3.12: rebuild packed environments", _has_python),
    Change("24.11", "GPUs below compute capability 7.5 are no longer used (core#407)", _on_gpu),
    Change("24.11", "a step may leave out an output that the ensemble does not need (core#399)", _is_ensemble),
    Change("25.01", "a correlation ID of another type than the control's is refused (core#425)", _takes_correlation_id),
    Change("25.06", "HTTP requests above 64 MB are refused; --http-max-input-size raises it (server#8174)", _any),
    Change("25.06", "the results of steps are passed on by a pool of threads (core#438)", _is_ensemble),
    Change("25.10", "iterative sequences release their requests (core#456)",
           _has("sequence_batching", "iterative_sequence")),
    Change("26.01", "histogram metrics also of models that are not decoupled (core#464)", _has("model_metrics")),
    Change("26.03", "the model may define is_ready(), which readiness asks (python_backend#430)", _has_python),
    Change("26.04", "readiness turns false when the model's process has died (core#473)", _has_python),
    Change("26.04", "clients' shared memory needs --allow-client-shm=true (server#8739)", _any),
    Change("26.04", "max_inflight_requests is one limit for all requests of the ensemble (core#482)",
           _has("ensemble_scheduling", "max_inflight_requests")),
    Change("26.05", "a request that names an output twice is refused (core#493)", _any),
)  # fmt: skip


def differences(repository: Path, old: str, new: str, scope: Scope, find: Find = check) -> list[Difference]:
    """What differs between two releases for the models of a repository, oldest change first.

    `find` is `check_configs` where there are only configs.

    Raises:
        ReleaseError: the new one is not later than the old one.
    """
    if new <= old:
        raise ReleaseError(f"{new} is not later than {old}; give the earlier release first")
    before, after = (find(repository, replace(scope, releases=(name,))) for name in (old, new))
    found = {*_verdicts(before, after), *_changes(load(repository), old, new)}
    return sorted(found, key=lambda difference: (difference.since, difference.kind, difference.what, difference.model))


def by_change(found: Iterable[Difference]) -> dict[tuple[str, str, str], list[str]]:
    """The models that each change concerns: since, kind and what, in the order of what was found."""
    models: dict[tuple[str, str, str], list[str]] = {}
    for difference in found:
        models.setdefault((difference.since, difference.kind, difference.what), []).append(difference.model)
    return models


def _verdicts(found_before: list[Finding], found_after: list[Finding]) -> Iterator[Difference]:
    """What one release refuses, or answers wrongly, and the other does not."""
    before, after = _by_place(found_before), _by_place(found_after)
    for key in before.keys() - after.keys():
        finding, rule = before[key], RULES[before[key].rule]
        if rule.until:
            yield Difference(rule.until, "mended", finding.model, rule.summary)
        else:
            yield Difference(finding.since, "taken", finding.model, finding.found.partition(", which")[0])
    for key in after.keys() - before.keys():
        finding = after[key]
        yield Difference(finding.since, "refused", finding.model, f"{finding.found}; {finding.remedy}")


def _by_place(findings: list[Finding]) -> dict[tuple[object, ...], Finding]:
    """Those that depend on the release; an error that is gone may let others appear that do not."""
    depending = (finding for finding in findings if finding.since or RULES[finding.rule].until)
    return {(finding.rule, finding.place): finding for finding in depending}


def _changes(served: Served, old: str, new: str) -> Iterator[Difference]:
    for change in CHANGES:
        if old < change.since <= new:
            for model in served.models.values():
                if change.concerns(model):
                    yield Difference(change.since, "different", model.name, change.what)
