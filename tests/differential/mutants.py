"""Configs that differ a little from good ones, as people's mistakes do: a hypothesis strategy.

About half of them are still good. A mutant is plain text and a list of files, so that it can be shown and kept.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.differential.seeds import Seed

NUMBERS = (-2, -1, 0, 1, 2, 3, 4, 5, 8, 9, 10, 16, 64, 100)
WORDS = ("", "A", "INPUT__0", "OUTPUT__0", "OUT", "model", "prepare", "ensemble", "pytorch", "alpha", "1", "labels.txt")
# A running server has none of these, so all mutants with them are refused alike; a name with a slash leaves the folder.
LEFT_ALONE = {"model_repository_agents", "runtime", "cc_model_filenames", "model_metrics", "max_inflight_requests"}
FOLDERS = ("1", "2", "0", "01", "v1", "1a", "configs", "warmup")

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Mutant:
    """A repository: texts of the configs by model, the files of each model's folder, and the model to load."""

    target: str
    texts: Mapping[str, str]
    files: Mapping[str, tuple[str, ...]]

    def write(self, repository: Path) -> None:
        """Write it into an empty folder."""
        for name, text in self.texts.items():
            for file in self.files[name]:
                path = repository / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("red\ngreen\n")
            (repository / name).mkdir(exist_ok=True)
            (repository / name / "config.pbtxt").write_text(text)

    def __str__(self) -> str:
        shown = [f"--- {name} ({', '.join(self.files[name])})\n{text}" for name, text in self.texts.items()]
        return f"load {self.target}\n" + "\n".join(shown)


def mutants(seeds: list[Seed]) -> st.SearchStrategy[Mutant]:
    """Mutants of some seeds, one to three mistakes in each; a few are the seeds themselves."""

    @st.composite
    def mutant(draw: Draw) -> Mutant:
        seed = draw(st.sampled_from(seeds))
        configs = {name: copied(config) for name, config in seed.configs.items()}
        for _ in range(draw(st.sampled_from((0, 1, 1, 1, 1, 1, 1, 2, 2, 3)))):
            mutate(draw, configs[draw(st.sampled_from(sorted(configs)))])
        texts = {name: text_format.MessageToString(config) for name, config in configs.items()}
        files = {name: files_of(config) for name, config in seed.configs.items()}
        victim = draw(st.sampled_from(sorted(texts)))
        if draw(st.integers(0, 5)) == 0:
            texts[victim] = draw(st.sampled_from(SLIPS))(draw, texts[victim])
        if draw(st.integers(0, 11)) == 0:
            files[victim] = draw(misplaced(files[victim]))
        return Mutant(seed.target, texts, files)

    return mutant()


def copied(config: ModelConfig) -> ModelConfig:
    """A copy to change."""
    copy = ModelConfig()
    copy.CopyFrom(config)
    return copy


def files_of(config: ModelConfig) -> tuple[str, ...]:
    """A version, and the labels that a good config names."""
    labels = {output.label_filename for output in config.output if output.label_filename}
    return ("1/model.any", *sorted(labels))


def misplaced(files: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    """The files with one gone, or with a version folder of another name."""
    gone = st.sampled_from([tuple(file for file in files if file != lost) for lost in files])
    named = st.sampled_from(FOLDERS).map(lambda name: (f"{name}/model.any", *files[1:]))
    more = st.sampled_from(FOLDERS).map(lambda name: (*files, f"{name}/model.any"))
    return gone | named | more


def messages(message: Any) -> Iterator[Any]:
    """A message and all messages in it that are set."""
    yield message
    for descriptor, value in message.ListFields():
        if not descriptor.message_type:
            continue
        if descriptor.message_type.GetOptions().map_entry:
            if descriptor.message_type.fields_by_name["value"].message_type:
                for key in sorted(value):
                    yield from messages(value[key])
        else:
            for each in value if descriptor.is_repeated else [value]:
                yield from messages(each)


def mutate(draw: Draw, config: ModelConfig) -> None:
    """Make one mistake somewhere in a config."""
    message = draw(st.sampled_from(list(messages(config))))
    there = [descriptor for descriptor, _ in message.ListFields() if descriptor.name not in LEFT_ALONE]
    if there and draw(st.integers(0, 3)):
        change(draw, message, draw(st.sampled_from(there)))
    else:
        absent = [field for field in message.DESCRIPTOR.fields if field.name not in LEFT_ALONE and field not in there]
        if absent:
            set_field(draw, message, draw(st.sampled_from(absent)))


def change(draw: Draw, message: Any, descriptor: FieldDescriptor) -> None:
    """Change a field that is set: remove it, double one of its values, or give it another."""
    is_map = bool(descriptor.message_type and descriptor.message_type.GetOptions().map_entry)
    kind = draw(st.integers(0, 3))
    if kind == 0:
        message.ClearField(descriptor.name)
    elif is_map:
        change_map(draw, getattr(message, descriptor.name))
    elif descriptor.is_repeated:
        change_list(draw, getattr(message, descriptor.name), descriptor)
    else:
        set_field(draw, message, descriptor)


def change_map(draw: Draw, entries: Any) -> None:
    """Rename a key, or point it elsewhere."""
    key = draw(st.sampled_from(sorted(entries)))
    if not isinstance(key, str):
        entries[draw(st.integers(0, 4))].CopyFrom(entries.pop(key))
    elif isinstance(entries[key], str):
        value = entries.pop(key) if draw(st.booleans()) else entries[key]
        entries[draw(words(key))] = draw(words(value))
    else:
        kept = type(entries[key])()
        kept.CopyFrom(entries[key])
        del entries[key]
        entries[draw(words(key))].CopyFrom(kept)


def change_list(draw: Draw, values: Any, descriptor: FieldDescriptor) -> None:
    """Remove, double or replace a value, or swap two."""
    number = draw(st.integers(0, len(values) - 1))
    kind = draw(st.integers(0, 2))
    if kind == 0:
        del values[number]
    elif descriptor.message_type:
        values.add().CopyFrom(values[number])
    elif kind == 1:
        values.append(values[number])
    else:
        values[number] = draw(scalar(descriptor, values[number]))


def words(word: str) -> st.SearchStrategy[str]:
    """Another word than one, or the same with a slip."""
    return st.sampled_from((*WORDS, word + "x", word[:-1], word.lower(), word))


def scalar(descriptor: FieldDescriptor, value: Any) -> st.SearchStrategy[Any]:
    """A value for a field; the present one says what it may resemble."""
    if descriptor.enum_type:
        return st.sampled_from([value.number for value in descriptor.enum_type.values])
    if descriptor.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return words(value)
    if descriptor.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if descriptor.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
        return st.sampled_from([number for number in NUMBERS if number >= 0])
    return st.sampled_from(NUMBERS)


def set_field(draw: Draw, message: Any, descriptor: FieldDescriptor) -> None:
    """Set a field: a message to an empty one, a list to one more value, anything else to a value."""
    field = getattr(message, descriptor.name)
    if descriptor.message_type and descriptor.message_type.GetOptions().map_entry:
        add_entry(draw, field, descriptor)
    elif descriptor.message_type:
        if descriptor.is_repeated:
            field.add()
        else:
            field.SetInParent()
    elif descriptor.is_repeated:
        field.append(draw(scalar(descriptor, "" if descriptor.cpp_type == FieldDescriptor.CPPTYPE_STRING else 0)))
    else:
        setattr(message, descriptor.name, draw(scalar(descriptor, field)))


def add_entry(draw: Draw, entries: Any, descriptor: FieldDescriptor) -> None:
    """One more entry of a map."""
    assert descriptor.message_type
    key = draw(scalar(descriptor.message_type.fields_by_name["key"], ""))
    if descriptor.message_type.fields_by_name["value"].message_type:
        entries[key].SetInParent()
    else:
        entries[key] = draw(words(""))


def replace_one(draw: Draw, text: str, pattern: str, by: str) -> str:
    """Replace one match of a pattern, if there is any."""
    matches = list(re.finditer(pattern, text))
    if not matches:
        return text
    match = draw(st.sampled_from(matches))
    return f"{text[: match.start()]}{match.expand(by)}{text[match.end() :]}"


def misspelt(draw: Draw, text: str) -> str:
    """A field's name with a letter less."""
    return replace_one(draw, text, r"\b([a-z_]+)([a-z])(?=:| \{)", r"\1")


def unclosed(draw: Draw, text: str) -> str:
    """A brace or a quote less."""
    return replace_one(draw, text, r'[{}"]', "")


def no_colon(draw: Draw, text: str) -> str:
    """A colon less."""
    return replace_one(draw, text, ":", "")


def other_value(draw: Draw, text: str) -> str:
    """A value of another type."""
    by = draw(st.sampled_from(("-1", "1.5", '"4"', "true", "TYPE_FLOAT", "07", "99999999999", "[ 1 ]", "{ }")))
    return replace_one(draw, text, r"(?<=: )\S+", by)


def doubled(draw: Draw, text: str) -> str:
    """A line twice."""
    return replace_one(draw, text, r"(?m)^[^\n{}]+\n", r"\g<0>\g<0>")


def commented(draw: Draw, text: str) -> str:
    """A line out of use."""
    return replace_one(draw, text, r"(?m)^(?=.)", "# ")


SLIPS = (misspelt, unclosed, no_colon, other_value, doubled, commented)
