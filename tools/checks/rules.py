"""All rules in one table, and the order in which a repository is checked against them."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tools.checks import (
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
    steps,
    suppressions,
    syntax,
    tensors,
    torchscript,
    traffic,
    warmup,
)
from tools.checks.finding import Finding, Rule
from tools.checks.served import Model, Served
from tools.repository import DERIVED

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
    "Suppressions": suppressions.RULES,
}
RULES: dict[str, Rule] = {rule.id: rule for rules in SUBJECTS.values() for rule in rules}
# Each of these looks at one model by itself.
CHECKS = (
    *(layout.check, names.check, tensors.check, batch_tensors.check, batching.check, sequences.check),
    *(instances.check, warmup.check, features.check, ensembles.check),
)


def check(repository: Path, hardware: str = "auto", unbuilt: Iterable[str] = ()) -> list[Finding]:
    """All findings about a repository: under its own configs, and under each name that some variant has.

    Args:
        repository: folder with one folder for each model.
        hardware: "cpu" adds what a server without a GPU refuses.
        unbuilt: models that somebody will make when they are needed: their missing versions are no finding.
    """
    found: dict[Finding, None] = {}
    for name in ("", *served.config_names(repository)):
        found |= dict.fromkeys(check_served(served.load(repository, name), hardware, frozenset(unbuilt)))
    return sorted(found, key=lambda finding: (finding.place, finding.rule))


def check_served(
    repository: Served, hardware: str = "auto", unbuilt: frozenset[str] = frozenset(), backends: bool = True
) -> Iterator[Finding]:
    """All findings under one config name, without those that a comment suppresses.

    Args:
        repository: the models.
        hardware: as for `check`.
        unbuilt: as for `check`.
        backends: whether what a backend refuses counts too, and not only what Triton's core does.
    """
    findings = {name: check_model(model, hardware, backends) for name, model in repository.models.items()}
    for name in unbuilt & set(findings):
        findings[name] = [each for each in findings[name] if each.rule != layout.NO_VERSION.id]
    broken = {name for name, found in findings.items() if any(each.severity == "error" for each in found)}
    broken |= {path.name for path in repository.path.iterdir() if path.is_dir()} - set(repository.models)
    for name in in_order_of_steps(repository):
        found = [replace(each, model=name) for each in steps.check(repository.models[name], repository, broken)]
        findings[name] += found
        if any(each.severity == "error" for each in found):
            broken.add(name)
    everything = [*repository.findings, *(each for model in findings.values() for each in model)]
    everything += conflicts.check(repository.models.values())
    texts = {model.source.file: model.source.text for model in repository.models.values()}
    # A derived config repeats what its original says, without the comments; people cannot improve it.
    derived = {file for file, text in texts.items() if text.startswith(DERIVED)}
    wanted = [each for each in everything if each.severity == "error" or each.place.file not in derived]
    owners = {model.source.file: model.name for model in repository.models.values()}
    for finding in (*suppressions.kept(wanted, texts), *suppressions.check(texts, RULES)):
        yield replace(finding, model=finding.model or owners[finding.place.file])


def check_model(model: Model, hardware: str, backends: bool) -> list[Finding]:
    """All findings about one model by itself."""
    found = [finding for check in CHECKS for finding in check(model)]
    if hardware == "cpu":
        found += instances.check_without_gpu(model)
    if backends and not any(finding.severity == "error" for finding in found):
        found += pytorch.check(model)
    if backends and not any(finding.severity == "error" for finding in found):
        found += [*torchscript.check(model), *habits.check(model)]
    wanted = [finding for finding in found if backends or RULES[finding.rule].refused_by != "backend"]
    return [replace(finding, model=model.name) for finding in wanted]


def check_traffic(repository: Path, url: str) -> Iterator[Finding]:
    """What the counters of a running server show.

    Raises:
        ClientError: the server at the URL does not answer.
    """
    models = served.load(repository).models
    texts = {model.source.file: model.source.text for model in models.values()}
    owners = {model.source.file: model.name for model in models.values()}
    for finding in suppressions.kept(traffic.check(models.values(), url), texts):
        yield replace(finding, model=owners[finding.place.file])


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
