"""Conflicts between models, or instance groups, that are each correct on their own."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from tools.backends.pytorch.parameters import COUNTS
from tools.check.finding import Finding, Rule
from tools.check.served import Model

THREADS = Rule(
    "threads-differ",
    "Models of the pytorch backend set different thread counts; libtorch applies the first one to all",
)
RESOURCE = Rule(
    "rate-limiter-resource",
    "Instance groups disagree on whether a resource is global; refused with --rate-limit=execution_count",
)
RULES = (THREADS, RESOURCE)


def check(models: Iterable[Model]) -> Iterator[Finding]:
    """Yield all conflicts between models."""
    models = list(models)
    for parameter in COUNTS:
        yield from _check_threads([model for model in models if model.config.backend == "pytorch"], parameter)
    yield from _check_resources(models)


def _check_threads(models: Iterable[Model], parameter: str) -> Iterator[Finding]:
    requested: dict[str, list[Model]] = defaultdict(list)
    for model in models:
        if parameter in model.config.parameters:
            requested[model.config.parameters[parameter].string_value].append(model)
    if len(requested) < 2:
        return
    common = max(requested, key=lambda count: len(requested[count]))
    for count, users in requested.items():
        for model in users if count != common else []:
            yield THREADS.at(
                model.place(f"parameters[{parameter}]"),
                found=f"{parameter} {count}",
                expected=f"{common}, as in {requested[common][0].name}: the setting applies to the whole process",
                remedy="set the same number in all models of the pytorch backend",
            )


def _check_resources(models: Iterable[Model]) -> Iterator[Finding]:
    seen: dict[str, tuple[bool, str]] = {}
    for model in models:
        for number, group in enumerate(model.config.instance_group):
            for index, resource in enumerate(group.rate_limiter.resources):
                everywhere = getattr(resource, "global")
                first, owner = seen.setdefault(resource.name, (everywhere, model.name))
                if first != everywhere:
                    yield RESOURCE.at(
                        model.place("instance_group", number, "rate_limiter", "resources", index),
                        found=f"resource '{resource.name}' is {'global' if everywhere else 'per device'} here",
                        expected=f"the same as in the first group that names it, of {owner}",
                        remedy="set global in both or in neither",
                    )
