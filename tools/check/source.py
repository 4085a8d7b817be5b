"""A config.pbtxt parsed as Triton parses it, with the position of each field."""

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
    """A parsed config: the message, the positions of its fields, and what could not be parsed."""

    file: Path
    text: str
    config: Any
    root: Node
    findings: tuple[Finding, ...]

    def place(self, *path: str | int) -> Place:
        """The position of a field, given by names, with an index after one that is repeated (default: the first).

        An absent field gets the position of the nearest message around it.
        """
        node, steps = self.root, list(path)
        while steps:
            name = str(steps.pop(0))
            number = steps.pop(0) if steps and isinstance(steps[0], int) else 0
            nodes = node.fields.get(name, [])
            if not isinstance(number, int) or number >= len(nodes):
                break
            node = nodes[number]
        return Place(self.file, max(node.line, 1), max(node.column, 1))


def read(file: Path, text: str) -> Source:
    """Parse a config, with a finding for each thing that Triton cannot parse."""
    reader = Reader(file)
    root = Node(1, 1)
    config = ModelConfig()
    try:
        reader.begin(text)
        reader.message(config, root, "")
    except TextSyntaxError as error:
        place = Place(file, error.line, error.column)
        remedy = "correct it; the rest of the file cannot be read"
        reader.findings.append(SYNTAX.at(place, found=error.found, expected=error.expected, remedy=remedy))
    return Source(file, text, config, root, tuple(reader.findings))
