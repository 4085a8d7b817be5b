"""A hypothesis strategy for configs that differ a little from valid ones, as people's mistakes do.

About half of them are still valid. A mutant is plain text and a list of files, so that it can be printed and stored.
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
# The server has none of these, so it would refuse every mutant with one; a name with a slash leaves the folder.
LEFT_ALONE = {"model_repository_agents", "runtime", "cc_model_filenames", "model_metrics", "max_inflight_requests"}
FOLDERS = ("1", "2", "0", "01", "v1", "1a", "configs", "warmup")

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Mutant:
    """A repository: the text of each model's config, the files in its folder, and the model to load."""

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
    """Mutate seeds by one to three mistakes each; a few stay as they are."""

    @st.composite
    def mutant(draw: Draw) -> Mutant:
        seed = draw(st.sampled_from(seeds))
        configs = {name: _copy(config) for name, config in seed.configs.items()}
        for _ in range(draw(st.sampled_from((0, 1, 1, 1, 1, 1, 1, 2, 2, 3)))):
            mutate(draw, configs[draw(st.sampled_from(sorted(configs)))])
        texts = {name: text_format.MessageToString(config) for name, config in configs.items()}
        files = {name: _files_of(config) for name, config in seed.configs.items()}
        victim = draw(st.sampled_from(sorted(texts)))
        if draw(st.integers(0, 5)) == 0:
            texts[victim] = draw(st.sampled_from(SLIPS))(draw, texts[victim])
        if draw(st.integers(0, 11)) == 0:
            files[victim] = draw(misplaced(files[victim]))
        return Mutant(seed.target, texts, files)

    return mutant()


def _copy(config: ModelConfig) -> ModelConfig:
    copy = ModelConfig()
    copy.CopyFrom(config)
    return copy


def _files_of(config: ModelConfig) -> tuple[str, ...]:
    """A version, and the label files that a valid config names."""
    labels = {output.label_filename for output in config.output if output.label_filename}
    return ("1/model.any", *sorted(labels))


def misplaced(files: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    """One file less, or a version folder of another name."""
    fewer = st.sampled_from([tuple(file for file in files if file != lost) for lost in files])
    renamed = st.sampled_from(FOLDERS).map(lambda name: (f"{name}/model.any", *files[1:]))
    more = st.sampled_from(FOLDERS).map(lambda name: (*files, f"{name}/model.any"))
    return fewer | renamed | more


def messages(message: Any) -> Iterator[Any]:
    """A message and all set messages in it."""
    yield message
    for descriptor, value in message.ListFields():
        if not descriptor.message_type:
            continue
        if descriptor.message_type.GetOptions().map_entry:
            if descriptor.message_type.fields_by_name["value"].message_type:
                for key in sorted(value):
                    yield from messages(value[key])
        else:
            for part in value if descriptor.is_repeated else [value]:
                yield from messages(part)


def mutate(draw: Draw, config: ModelConfig) -> None:
    """Make one mistake somewhere in a config."""
    message = draw(st.sampled_from(list(messages(config))))
    present = [descriptor for descriptor, _ in message.ListFields() if descriptor.name not in LEFT_ALONE]
    if present and draw(st.integers(0, 3)):
        change(draw, message, draw(st.sampled_from(present)))
    else:
        absent = [field for field in message.DESCRIPTOR.fields if field.name not in LEFT_ALONE and field not in present]
        if absent:
            set_field(draw, message, draw(st.sampled_from(absent)))


def change(draw: Draw, message: Any, descriptor: FieldDescriptor) -> None:
    """Change a set field: remove it, duplicate one of its values, or set another value."""
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
        copy = type(entries[key])()
        copy.CopyFrom(entries[key])
        del entries[key]
        entries[draw(words(key))].CopyFrom(copy)


def change_list(draw: Draw, values: Any, descriptor: FieldDescriptor) -> None:
    """Remove, duplicate or replace a value."""
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
    """Another word, or the same with a typo."""
    return st.sampled_from((*WORDS, word + "x", word[:-1], word.lower(), word))


def scalar(descriptor: FieldDescriptor, value: Any) -> st.SearchStrategy[Any]:
    """A value for a field, perhaps similar to its present one."""
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
    """Set a field: to an empty message, one more list element, or any value."""
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
    """Add an entry to a map."""
    assert descriptor.message_type
    key = draw(scalar(descriptor.message_type.fields_by_name["key"], ""))
    if descriptor.message_type.fields_by_name["value"].message_type:
        entries[key].SetInParent()
    else:
        entries[key] = draw(words(""))


def replace_one(draw: Draw, text: str, pattern: str, by: str) -> str:
    """Replace a random match of a pattern, if there is one."""
    matches = list(re.finditer(pattern, text))
    if not matches:
        return text
    match = draw(st.sampled_from(matches))
    return f"{text[: match.start()]}{match.expand(by)}{text[match.end() :]}"


def misspelt(draw: Draw, text: str) -> str:
    """Drop the last letter of a field name."""
    return replace_one(draw, text, r"\b([a-z_]+)([a-z])(?=:| \{)", r"\1")


def unclosed(draw: Draw, text: str) -> str:
    """Remove a brace or a quote."""
    return replace_one(draw, text, r'[{}"]', "")


def no_colon(draw: Draw, text: str) -> str:
    """Remove a colon."""
    return replace_one(draw, text, ":", "")


def other_value(draw: Draw, text: str) -> str:
    """Replace a value by one of another type."""
    by = draw(st.sampled_from(("-1", "1.5", '"4"', "true", "TYPE_FLOAT", "07", "99999999999", "[ 1 ]", "{ }")))
    return replace_one(draw, text, r"(?<=: )\S+", by)


def doubled(draw: Draw, text: str) -> str:
    """Duplicate a line."""
    return replace_one(draw, text, r"(?m)^[^\n{}]+\n", r"\g<0>\g<0>")


def commented(draw: Draw, text: str) -> str:
    """Comment out a line."""
    return replace_one(draw, text, r"(?m)^(?=.)", "# ")


SLIPS = (misspelt, unclosed, no_colon, other_value, doubled, commented)
