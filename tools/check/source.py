"""A config.pbtxt that was read as Triton 2.51 reads it, with the place of each field."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from tools.check.finding import Finding, Place
from tools.check.reader import Node, Reader
from tools.check.syntax import SYNTAX
from tools.check.tokens import TextSyntaxError


@dataclass(frozen=True)
class Source:
    """A config that was read: the message, where its fields stand, and what could not be read."""

    file: Path
    text: str
    config: Any
    root: Node
    findings: tuple[Finding, ...]

    def place(self, *path: str | int) -> Place:
        """Where a field stands: names, and numbers for the how-manieth of a repeated one.

        A field that is not there is placed where the nearest message around it begins.
        """
        node, steps = self.root, list(path)
        while steps:
            name = str(steps.pop(0))
            number = steps.pop(0) if steps and isinstance(steps[0], int) else 0
            found = node.fields.get(name, [])
            if not isinstance(number, int) or number >= len(found):
                break
            node = found[number]
        return Place(self.file, max(node.line, 1), max(node.column, 1))


def read(file: Path, text: str) -> Source:
    """Read a config, with a finding for each thing that Triton would not read."""
    reader = Reader(file)
    root = Node(1, 1)
    config = ModelConfig()
    try:
        reader.begin(text)
        reader.message(config, root, "")
    except TextSyntaxError as error:
        place = Place(file, error.line, error.column)
        remedy = "correct it: what comes after cannot be read"
        reader.findings.append(SYNTAX.at(place, found=error.found, expected=error.expected, remedy=remedy))
    return Source(file, text, config, root, tuple(reader.findings))
