"""All rules in one table, and the order in which a repository is checked against them."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tools.check import (
    batch_tensors,
    batching,
    conflicts,
    decoupled,
    deep,
    ensembles,
    features,
    habits,
    instances,
    layout,
    names,
    pytorch,
    sequences,
    served,
    signatures,
    steps,
    suppressions,
    syntax,
    tensors,
    torchscript,
    traffic,
    warmup,
)
from tools.check.finding import Finding, Rule
from tools.check.served import Model, Served
from tools.cpu_config import DERIVED

# By subject, in the order of the page about them.
SUBJECTS = {
    "Files and folders": (*served.RULES, *layout.RULES),
    "Syntax": syntax.RULES,
    "Names": names.RULES,
    "Tensors": (*tensors.RULES, *batch_tensors.RULES),
    "Batching": batching.RULES,
    "Sequences": sequences.RULES,
    "Instances": instances.RULES,
    "Warm-up": warmup.RULES,
    "Caches, agents, custom batching, metrics": features.RULES,
    "Ensembles": ensembles.RULES,
    "Steps of ensembles": (*steps.RULES, *decoupled.RULES),
    "The pytorch backend": (*pytorch.RULES, *torchscript.RULES, *deep.RULES),
    "Habits": (*habits.RULES, *traffic.RULES),
    "Between models": conflicts.RULES,
    "Signatures": signatures.RULES,
    "Suppressions": suppressions.RULES,
}
RULES: dict[str, Rule] = {rule.id: rule for rules in SUBJECTS.values() for rule in rules}
# What a version brings with it when it is published.
TO_BE_MADE = (layout.NO_VERSION.id, instances.NO_GPU.id, instances.NO_GPU_CONFIG.id)
# Each of these looks at one model by itself.
CHECKS = (
    *(layout.check, names.check, tensors.check, batch_tensors.check, batching.check, sequences.check),
    *(instances.check, warmup.check, features.check, ensembles.check),
)


@dataclass(frozen=True)
class Scope:
    """What is known about the server, and what is to be said.

    Attributes:
        hardware: "cpu" adds what a server without a GPU refuses.
        installed: the backends that it has; None if that is not known.
        unbuilt: models that somebody will make when they are needed: it is no finding that their versions are missing,
            nor the configs for a CPU that are written with them.
        core_only: leave out what backends refuse and what nobody does.
    """

    hardware: str = "auto"
    installed: frozenset[str] | None = None
    unbuilt: frozenset[str] = frozenset()
    core_only: bool = False


ANY_SERVER = Scope()


def check(repository: Path, scope: Scope = ANY_SERVER) -> list[Finding]:
    """All findings about a repository: under its own configs, and under each name that some variant has."""
    found: dict[Finding, None] = {}
    for name in ("", *served.config_names(repository)):
        found |= dict.fromkeys(check_served(served.load(repository, name), scope))
    return sorted(found, key=lambda finding: (finding.place, finding.rule))


def check_served(repository: Served, scope: Scope) -> Iterator[Finding]:
    """All findings under one config name, without those that a comment suppresses."""
    findings = {name: check_model(model, scope) for name, model in repository.models.items()}
    broken = {name for name, found in findings.items() if has_error(found)}
    broken |= {path.name for path in repository.path.iterdir() if path.is_dir()} - set(repository.models)
    for name in in_order_of_steps(repository):
        found = [replace(each, model=name) for each in steps.check(repository.models[name], repository, broken)]
        findings[name] += found
        if has_error(found):
            broken.add(name)
    everything = [*repository.findings, *(each for model in findings.values() for each in model)]
    yield from kept(repository, [*everything, *conflicts.check(repository.models.values())])


def has_error(findings: Iterable[Finding]) -> bool:
    """Whether one of the findings is an error."""
    return any(finding.severity == "error" for finding in findings)


def kept(repository: Served, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings that are to be shown, each with its model, and those about the comments that suppress others."""
    texts = {model.source.file: model.source.text for model in repository.models.values()}
    owners = {model.source.file: model.name for model in repository.models.values()}
    # A derived config repeats what its original says, without the comments, and is written again when it is served.
    derived = {file for file, text in texts.items() if text.startswith(DERIVED)}
    wanted = [each for each in findings if each.place.file not in derived]
    for finding in (*suppressions.kept(wanted, texts), *suppressions.check(texts, RULES)):
        yield replace(finding, model=finding.model or owners[finding.place.file])


def check_model(model: Model, scope: Scope) -> list[Finding]:
    """All findings about one model by itself."""
    found = [finding for check in CHECKS for finding in check(model)]
    if scope.hardware == "cpu":
        found += instances.check_without_gpu(model)
    if scope.installed is not None:
        found += names.check_installed(model, scope.installed)
    if scope.core_only:
        found = [finding for finding in found if RULES[finding.rule].refused_by == "core"]
    for check in () if scope.core_only else (pytorch.check, torchscript.check, habits.check):
        found += () if has_error(found) else check(model)
    passed_over = TO_BE_MADE if model.name in scope.unbuilt else ()
    return [replace(finding, model=model.name) for finding in found if finding.rule not in passed_over]


def check_traffic(repository: Path, url: str) -> Iterator[Finding]:
    """What the counters of a running server show.

    Raises:
        ClientError: the server at the URL does not answer.
    """
    there = served.load(repository)
    yield from kept(there, traffic.check(there.models.values(), url))


def check_deep(repository: Path, wrong: Collection[str]) -> Iterator[Finding]:
    """What only calling the models shows, of those that have no error already."""
    for model in served.load(repository).models.values():
        if model.name not in wrong:
            yield from (replace(finding, model=model.name) for finding in deep.check(model))


def in_order_of_steps(repository: Served) -> list[str]:
    """Ensembles, each behind the ensembles that it contains."""
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
