"""What is well in each model and wrong between models."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from tools.check.finding import Finding, Rule
from tools.check.instances import RESOURCE
from tools.check.pytorch import COUNTS
from tools.check.served import Model

THREADS = Rule(
    "threads-differ",
    "Models of the pytorch backend ask for different thread counts; in libtorch the first one sets it for all",
)
RULES = (THREADS,)


def check(models: Iterable[Model]) -> Iterator[Finding]:
    """All conflicts between models."""
    there = list(models)
    for parameter in COUNTS:
        yield from check_threads([model for model in there if model.config.backend == "pytorch"], parameter)
    yield from check_resources(there)


def check_threads(models: Iterable[Model], parameter: str) -> Iterator[Finding]:
    """One thread count for all models of the process."""
    asked: dict[str, list[Model]] = defaultdict(list)
    for model in models:
        if parameter in model.config.parameters:
            asked[model.config.parameters[parameter].string_value].append(model)
    if len(asked) < 2:
        return
    common = max(asked, key=lambda count: len(asked[count]))
    for count, askers in asked.items():
        for model in askers if count != common else []:
            yield THREADS.at(
                model.place(f"parameters[{parameter}]"),
                found=f"{parameter} {count}",
                expected=f"{common}, as in {asked[common][0].name}: the setting holds for the whole process",
                remedy="set the same number in all models of the pytorch backend",
            )


def check_resources(models: Iterable[Model]) -> Iterator[Finding]:
    """A resource of the rate limiter is global in all models, or in none."""
    seen: dict[str, tuple[bool, str]] = {}
    for model in models:
        for number, group in enumerate(model.config.instance_group):
            for index, resource in enumerate(group.rate_limiter.resources):
                everywhere = getattr(resource, "global")
                first, owner = seen.setdefault(resource.name, (everywhere, model.name))
                if first != everywhere and owner != model.name:
                    yield RESOURCE.at(
                        model.place("instance_group", number, "rate_limiter", 0, "resources", index),
                        found=f"resource '{resource.name}' is {'' if everywhere else 'not '}global here",
                        expected=f"the same as in {owner}",
                        remedy="set global in both or in none",
                    )
