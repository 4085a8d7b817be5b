"""A disagreement made small: models, fields and files are taken away as long as the two go on disagreeing."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.differential.mutants import Mutant, messages


def reduced(mutant: Mutant, disagree: Callable[[Mutant], bool]) -> Mutant:
    """The smallest mutant that is found by taking one thing away after the other."""
    while smaller := next((each for each in steps(mutant) if disagree(each)), None):
        mutant = smaller
    return mutant


def steps(mutant: Mutant) -> Iterator[Mutant]:
    """All mutants with one thing less."""
    for name in mutant.texts:
        if name != mutant.target:
            yield replace(mutant, texts={key: text for key, text in mutant.texts.items() if key != name})
    for name, text in mutant.texts.items():
        for shorter in (*without_a_field(text), *without_a_line(text)):
            yield replace(mutant, texts={**mutant.texts, name: shorter})


def without_a_field(text: str) -> Iterator[str]:
    """A config with one field less; nothing for one that cannot be read."""
    try:
        config = text_format.Parse(text, ModelConfig())
    except text_format.ParseError:
        return
    places = [(number, field.name) for number, each in enumerate(messages(config)) for field, _ in each.ListFields()]
    for number, name in places:
        smaller = ModelConfig()
        smaller.CopyFrom(config)
        list(messages(smaller))[number].ClearField(name)
        yield text_format.MessageToString(smaller)


def without_a_line(text: str) -> Iterator[str]:
    """A text with one line less."""
    lines = text.splitlines(keepends=True)
    for number in range(len(lines)):
        yield "".join(lines[:number] + lines[number + 1 :])
