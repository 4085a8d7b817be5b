"""The table of all rules, and the order in which a repository is checked against them."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from tools.check import (
    batching,
    bugs,
    conflicts,
    deep,
    ensembles,
    features,
    habits,
    instances,
    layout,
    names,
    pytorch,
    releases,
    sequences,
    served,
    signatures,
    steps,
    suppressions,
    syntax,
    tensors,
    torchscript,
    traffic,
    vllm,
    warmup,
)
from tools.check.finding import Finding, Rule
from tools.check.served import Model, Served

# By subject, in the order of docs/check-rules.md.
SUBJECTS = {
    "Files and folders": (*served.RULES, *layout.RULES),
    "Syntax": syntax.RULES,
    "Names": names.RULES,
    "Tensors": tensors.RULES,
    "Batching": batching.RULES,
    "Sequences": sequences.RULES,
    "Instances": instances.RULES,
    "Warm-up": warmup.RULES,
    "Caches, agents, custom batching, metrics": features.RULES,
    "Ensembles": ensembles.RULES,
    "Steps of ensembles": steps.RULES,
    "The pytorch backend": (*pytorch.RULES, *torchscript.RULES, *deep.RULES),
    "The vllm backend": vllm.RULES,
    "Releases of Triton": releases.RULES,
    "Known bugs of Triton": bugs.RULES,
    "Habits": (*habits.RULES, *traffic.RULES),
    "Between models": conflicts.RULES,
    "Signatures": signatures.RULES,
    "Suppressions": suppressions.RULES,
}
RULES: dict[str, Rule] = {rule.id: rule for rules in SUBJECTS.values() for rule in rules}
# Publishing a version fixes these.
_TO_BE_MADE = (layout.NO_VERSION.id, instances.NO_GPU.id, instances.NO_GPU_CONFIG.id)
# Each of these checks one model on its own.
_CHECKS = (
    *(layout.check, names.check, tensors.check, batching.check, sequences.check),
    *(instances.check, warmup.check, features.check, ensembles.check),
)


@dataclass(frozen=True)
class Scope:
    """What is known about the server, and what to report.

    Attributes:
        hardware: "cpu" adds what a server without a GPU refuses.
        installed: the backends that it has; None if unknown.
        unbuilt: models that are built only on request; their missing versions, and the CPU configs that are written
            with a version, are not reported.
        core_only: report only what Triton's core refuses.
        auto_complete: the server lets backends complete configs, which is Triton's default.
        releases: those of Triton that are to serve the repository, by their containers.
    """

    hardware: str = "auto"
    installed: frozenset[str] | None = None
    unbuilt: frozenset[str] = frozenset()
    core_only: bool = False
    auto_complete: bool = True
    releases: tuple[str, ...] = (releases.EMBEDDED,)


_ANY_SERVER = Scope()


def check(repository: Path, scope: Scope = _ANY_SERVER) -> list[Finding]:
    """All findings about a repository, under config.pbtxt and under each name of a variant, sorted by place."""
    findings: dict[Finding, None] = {}
    for name in ("", *served.config_names(repository)):
        findings |= dict.fromkeys(check_served(served.load(repository, name, scope.auto_complete), scope))
    return sorted(findings, key=lambda finding: (finding.place, finding.rule))


def check_served(repository: Served, scope: Scope) -> Iterator[Finding]:
    """Yield all findings under one config name, except those that a comment suppresses."""
    findings = {name: _check_model(model, scope) for name, model in repository.models.items()}
    broken = {name for name, of_model in findings.items() if _has_error(of_model)}
    broken |= {path.name for path in repository.path.iterdir() if path.is_dir()} - set(repository.models)
    for name in _ensembles_bottom_up(repository):
        in_steps = list(steps.check(repository.models[name], repository, broken))
        findings[name] += [replace(finding, model=name) for finding in in_steps]
        if _has_error(findings[name]):
            broken.add(name)
    conflicting = conflicts.check(repository.models.values())
    found = [*repository.findings, *chain(*findings.values()), *conflicting]
    yield from _unsuppressed(repository, [finding for finding in found if not _is_mended(finding, scope)])


def check_configs(repository: Path, scope: Scope = _ANY_SERVER) -> list[Finding]:
    """What configs alone show that load: of models whose files are elsewhere, such as those of a running server."""
    found = []
    for model in served.load(repository, auto_complete=False).models.values():
        findings = (*releases.check(model, scope.releases), *bugs.check(model), *habits.check(model))
        found += [replace(finding, model=model.name) for finding in findings if not _is_mended(finding, scope)]
    return found


def _has_error(findings: Iterable[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)


def _unsuppressed(repository: Served, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings to report, each with its model, and those about the comments that suppress others."""
    texts = {model.source.file: model.source.text for model in repository.models.values()}
    owners = {model.source.file: model.name for model in repository.models.values()}
    for finding in (*suppressions.unsuppressed(findings, texts), *suppressions.check(texts, RULES)):
        yield replace(finding, model=finding.model or owners[finding.place.file])


def _check_model(model: Model, scope: Scope) -> list[Finding]:
    findings = [finding for check in _CHECKS for finding in check(model)]
    findings += releases.check(model, scope.releases)
    if scope.hardware == "cpu":
        findings += instances.check_without_gpu(model)
    if scope.installed is not None:
        findings += names.check_installed(model, scope.installed)
    if scope.core_only:
        findings = [finding for finding in findings if RULES[finding.rule].refused_by == "core"]
    for check in () if scope.core_only else (pytorch.check, bugs.check, torchscript.check, vllm.check, habits.check):
        findings += () if _has_error(findings) else check(model)
    ignored = _TO_BE_MADE if model.name in scope.unbuilt else ()
    return [replace(finding, model=model.name) for finding in findings if finding.rule not in ignored]


def _is_mended(finding: Finding, scope: Scope) -> bool:
    until = RULES[finding.rule].until
    return bool(until) and min(scope.releases) >= until


def check_traffic(repository: Path, url: str) -> Iterator[Finding]:
    """Yield what the counters of a running server show.

    Raises:
        ClientError: the server at the URL does not answer.
    """
    loaded = served.load(repository)
    yield from _unsuppressed(loaded, traffic.check(loaded.models.values(), url))


def check_deep(repository: Path, broken: Collection[str]) -> Iterator[Finding]:
    """Yield what only calling the models shows; broken ones are left out."""
    for model in served.load(repository).models.values():
        if model.name not in broken:
            yield from (replace(finding, model=model.name) for finding in deep.check(model))


def _ensembles_bottom_up(repository: Served) -> list[str]:
    """All ensembles, each after those that it contains."""
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in order or name in above or name not in repository.models or not repository.models[name].ensemble:
            return
        for step in steps.steps_of(repository.models[name]):
            visit(step.model_name, (*above, name))
        order.append(name)

    for name in repository.models:
        visit(name, ())
    return order
