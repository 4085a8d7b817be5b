"""Walks through a config.pbtxt, filling a message and noting where each field stands.

It never stops at a field that does not exist or a value that does not fit: it notes a finding and goes on, so that
one run shows all of them. Only broken syntax ends it, because nothing after that has a meaning.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from tools.check.finding import Finding, Fix, Place, Rule
from tools.check.syntax import NEW_FIELD, ONE_OF, REPEATED, UNKNOWN_FIELD, WRONG_TYPE
from tools.check.tokens import TextSyntaxError, Token, tokens, unquote
from tools.check.values import FLOATS, BadValue, boolean, enum_value, floating, integer, suggestion, surely

# In the protocol's newest description, not in that of 2.51.
TOO_NEW = {("ModelConfig", "model_metrics"), ("ModelEnsembling", "max_inflight_requests")}
CLOSING = {"{": "}", "<": ">", "[": "]"}


@dataclass
class Node:
    """Where a message or a value stands, and the fields in it: each a list, for it may be repeated."""

    line: int = 0
    column: int = 0
    fields: dict[str, list["Node"]] = field(default_factory=dict)


class Reader:
    """Walks through the tokens of one file, filling a message and its nodes."""

    def __init__(self, file: Path):
        self.file = file
        self.findings: list[Finding] = []
        self.left: Iterator[Token] = iter(())
        self.token = Token("end", "", 1, 1)

    def begin(self, text: str) -> None:
        """Start at a text's first token."""
        self.left = tokens(text)
        self.next()

    def next(self) -> Token:
        """Take the current token."""
        taken, self.token = self.token, next(self.left, self.token)
        return taken

    def take(self, *symbols: str) -> str:
        """Take the current token if it is one of these symbols; empty if it is none."""
        return self.next().text if self.token.kind == "symbol" and self.token.text in symbols else ""

    def need(self, *symbols: str) -> str:
        """Take one of these symbols, which must come now."""
        return self.take(*symbols) or self.fail(" or ".join(f"'{symbol}'" for symbol in symbols))

    def fail(self, expected: str) -> Any:
        """The current token cannot be here."""
        raise TextSyntaxError(self.token.line, self.token.column, str(self.token), expected)

    def note(self, token: Token, rule: Rule, found: str, expected: str, remedy: str, better: str = "") -> None:
        """Note a finding at a token, which something better may replace."""
        place = Place(self.file, token.line, token.column)
        fix = Fix(place, token.text, better) if better else None
        self.findings.append(rule.at(place, found=found, expected=expected, remedy=remedy, fix=fix))

    def message(self, message: Any, node: Node, closing: str) -> None:
        """Read fields up to the closing symbol, or up to the end."""
        while not (self.take(closing) if closing else self.token.kind == "end"):
            if self.token.kind != "word":
                self.fail(f"a field name or '{closing}'" if closing else "a field name")
            self.field(message, node)
            self.take(",", ";")

    def field(self, message: Any, node: Node) -> None:
        """Read one field with its value or values."""
        name = self.next()
        descriptor = message.DESCRIPTOR.fields_by_name.get(name.text)
        if descriptor is None or (message.DESCRIPTOR.name, name.text) in TOO_NEW:
            self.unknown(name, message.DESCRIPTOR, descriptor)
            return self.skip()
        self.once(name, descriptor, message)
        if descriptor.message_type:
            self.take(":")
            read = self.entry if descriptor.message_type.GetOptions().map_entry else self.submessage
        else:
            self.need(":")
            read = self.scalar
        if descriptor.is_repeated and self.take("["):
            return self.many(message, node, name, descriptor, read)
        return read(message, node, name, descriptor)

    def many(
        self,
        message: Any,
        node: Node,
        name: Token,
        descriptor: FieldDescriptor,
        read: Callable[[Any, Node, Token, FieldDescriptor], None],
    ) -> None:
        """Read a list up to its closing bracket."""
        node.fields.setdefault(name.text, [])
        if self.take("]"):
            return
        while True:
            read(message, node, self.token, descriptor)
            if self.need(",", "]") == "]":
                return

    def submessage(self, message: Any, node: Node, name: Token, descriptor: FieldDescriptor) -> None:
        """Read a message within braces."""
        value = getattr(message, descriptor.name)
        if descriptor.is_repeated:
            value = value.add()
        else:
            value.SetInParent()
        self.braces(value, self.child(node, name, descriptor))

    def entry(self, message: Any, node: Node, name: Token, descriptor: FieldDescriptor) -> None:
        """Read an entry of a map: a message with a key and a value; a key that comes again replaces the first."""
        assert descriptor.message_type
        entry: Any = GetMessageClass(descriptor.message_type)()
        child = self.child(node, name, descriptor)
        self.braces(entry, child)
        entries = getattr(message, descriptor.name)
        if descriptor.message_type.fields_by_name["value"].message_type:
            entries[entry.key].CopyFrom(entry.value)
        else:
            entries[entry.key] = entry.value
        node.fields[f"{descriptor.name}[{entry.key}]"] = [child]

    def braces(self, message: Any, node: Node) -> None:
        """Read a message with the braces around it."""
        self.message(message, node, CLOSING[self.need("{", "<")])

    def child(self, node: Node, name: Token, descriptor: FieldDescriptor) -> Node:
        """A node for a field that begins at a token."""
        child = Node(name.line, name.column)
        node.fields.setdefault(descriptor.name, []).append(child)
        return child

    def scalar(self, message: Any, node: Node, name: Token, descriptor: FieldDescriptor) -> None:
        """Read a number, a text, a boolean or a value of an enumeration."""
        first = self.token
        self.child(node, first if descriptor.is_repeated else name, descriptor)
        try:
            value = self.value(descriptor)
        except BadValue as error:
            return self.note(first, error.rule, error.found, error.expected, error.remedy, error.better)
        if descriptor.is_repeated:
            getattr(message, descriptor.name).append(value)
        else:
            setattr(message, descriptor.name, value)
        return None

    def value(self, descriptor: FieldDescriptor) -> Any:
        """Read one value and make it the field's type."""
        if descriptor.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return self.string(descriptor)
        minus, token = self.take("-"), self.literal()
        if descriptor.enum_type:
            return enum_value(descriptor, minus, token)
        if descriptor.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return boolean(descriptor, minus, token)
        if descriptor.cpp_type in FLOATS:
            return floating(descriptor, minus, token)
        return integer(descriptor, minus, token)

    def literal(self) -> Token:
        """Take a word, a number or a text."""
        if self.token.kind in ("symbol", "end"):
            self.fail("a value")
        return self.next()

    def string(self, descriptor: FieldDescriptor) -> str:
        """Read a text, which may be written in several pieces."""
        token = self.token
        if token.kind != "text":
            self.take("-")
            self.literal()
            raise BadValue(WRONG_TYPE, f"{descriptor.name}: {token.text}", "a text in quotes", f'write "{token.text}"')
        pieces = []
        while self.token.kind == "text":
            pieces.append(unquote(self.next()))
        return "".join(pieces)

    def once(self, name: Token, descriptor: FieldDescriptor, message: Any) -> None:
        """A field that may be set once, or excludes others, is not set yet."""
        if descriptor.is_repeated:
            return
        group = descriptor.containing_oneof
        other = message.WhichOneof(group.name) if group else None
        if other and other != descriptor.name:
            remedy = f"remove {other} or {descriptor.name}"
            self.note(name, ONE_OF, f"{descriptor.name} beside {other}", "one of them", remedy)
            message.ClearField(other)
        elif other or is_set(message, descriptor):
            self.note(name, REPEATED, f"{descriptor.name} again", "it once", "remove one of the two")

    def unknown(self, name: Token, message: Descriptor, descriptor: FieldDescriptor | None) -> None:
        """Note a field that does not exist, or not yet."""
        if descriptor is not None:
            found, expected = f"field '{name.text}'", "a field that Triton 2.51 has"
            return self.note(name, NEW_FIELD, found, expected, "remove it, or serve with a newer release")
        known = [other.name for other in message.fields]
        where = "a config" if message.name == "ModelConfig" else message.name
        found = f"field '{name.text}'"
        expected, better = f"a field of {where}", surely(name.text, known)
        return self.note(name, UNKNOWN_FIELD, found, expected, suggestion(name.text, known), better)

    def skip(self) -> None:
        """Pass over the value of a field that does not exist."""
        colon = self.take(":")
        opening = self.take("{", "<", "[")
        if opening:
            return self.skip_to(CLOSING[opening])
        if not colon:
            self.fail("':' or '{'")
        self.take("-")
        text = self.literal().kind == "text"
        while text and self.token.kind == "text":
            self.next()
        return None

    def skip_to(self, closing: str) -> None:
        """Pass over everything up to the symbol that closes what was opened."""
        while not self.take(closing):
            if self.token.kind == "end":
                self.fail(f"'{closing}'")
            token = self.next()
            if token.kind == "symbol" and token.text in CLOSING:
                self.skip_to(CLOSING[token.text])


def is_set(message: Any, descriptor: FieldDescriptor) -> bool:
    """Whether a field was set before; one that was set to its default counts as not set."""
    if descriptor.message_type:
        return bool(message.HasField(descriptor.name))
    return bool(getattr(message, descriptor.name) != descriptor.default_value)
