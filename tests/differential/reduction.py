"""Reduce a disagreement to a minimal example: remove models, fields and lines while the two still disagree."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.differential.mutants import Mutant, messages


def reduce(mutant: Mutant, disagree: Callable[[Mutant], bool]) -> Mutant:
    """Remove one part after the other while the verdicts disagree, and return the smallest mutant."""
    while smaller := next((candidate for candidate in _candidates(mutant) if disagree(candidate)), None):
        mutant = smaller
    return mutant


def _candidates(mutant: Mutant) -> Iterator[Mutant]:
    """All mutants with one part less."""
    for name in mutant.texts:
        if name != mutant.target:
            yield replace(mutant, texts={key: text for key, text in mutant.texts.items() if key != name})
    for name, text in mutant.texts.items():
        for shorter in (*_without_a_field(text), *_without_a_line(text)):
            yield replace(mutant, texts={**mutant.texts, name: shorter})


def _without_a_field(text: str) -> Iterator[str]:
    """All configs with one field less; none if the text cannot be parsed."""
    try:
        config = text_format.Parse(text, ModelConfig())
    except text_format.ParseError:
        return
    places = [(number, field.name) for number, part in enumerate(messages(config)) for field, _ in part.ListFields()]
    for number, name in places:
        smaller = ModelConfig()
        smaller.CopyFrom(config)
        list(messages(smaller))[number].ClearField(name)
        yield text_format.MessageToString(smaller)


def _without_a_line(text: str) -> Iterator[str]:
    lines = text.splitlines(keepends=True)
    for number in range(len(lines)):
        yield "".join(lines[:number] + lines[number + 1 :])
