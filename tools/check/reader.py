"""Parse a config.pbtxt into a message and record the position of each field.

An unknown field or a wrong value does not stop the parser: it records a finding and goes on, so that one run shows them
all. Only a syntax error ends it, because nothing after that has a meaning.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from tools.check.finding import Finding, Fix, Place, Rule
from tools.check.syntax import ONE_OF, REPEATED, UNKNOWN_FIELD, WRONG_TYPE
from tools.check.tokens import TextSyntaxError, Token, tokens, unquote
from tools.check.values import FLOATS, FieldValueError, boolean, enum_value, floating, integer, replacement, suggestion

_CLOSING = {"{": "}", "<": ">", "[": "]"}


@dataclass
class Node:
    """The position of a message or value, and its fields: each a list, because it may be repeated."""

    line: int = 0
    column: int = 0
    fields: dict[str, list["Node"]] = field(default_factory=dict)


class Reader:
    """A recursive-descent parser of one file, which fills a message and its nodes."""

    def __init__(self, file: Path):
        self.file = file
        self.findings: list[Finding] = []
        self.remaining: Iterator[Token] = iter(())
        self.token = Token("end", "", 1, 1)

    def begin(self, text: str) -> None:
        """Start at the first token of a text."""
        self.remaining = tokens(text)
        self.next()

    def next(self) -> Token:
        """Consume the current token and return it."""
        taken, self.token = self.token, next(self.remaining, self.token)
        return taken

    def take(self, *symbols: str) -> str:
        """Consume the current token if it is one of these symbols; return an empty string if it is not."""
        return self.next().text if self.token.kind == "symbol" and self.token.text in symbols else ""

    def need(self, *symbols: str) -> str:
        """Consume one of these symbols, or raise TextSyntaxError."""
        return self.take(*symbols) or self.fail(" or ".join(f"'{symbol}'" for symbol in symbols))

    def fail(self, expected: str) -> Any:
        """Raise TextSyntaxError at the current token."""
        raise TextSyntaxError(self.token.line, self.token.column, str(self.token), expected)

    def note(self, token: Token, rule: Rule, found: str, expected: str, remedy: str, better: str = "") -> None:
        """Record a finding at a token, which `better` may replace."""
        place = Place(self.file, token.line, token.column)
        fix = Fix(place, token.text, better) if better else None
        self.findings.append(rule.at(place, found=found, expected=expected, remedy=remedy, fix=fix))

    def message(self, message: Any, node: Node, closing: str) -> None:
        """Parse fields up to the closing symbol, or to the end of the file."""
        while not (self.take(closing) if closing else self.token.kind == "end"):
            if self.token.kind != "word":
                self.fail(f"a field name or '{closing}'" if closing else "a field name")
            self.field(message, node)
            self.take(",", ";")

    def field(self, message: Any, node: Node) -> None:
        """Parse one field with its value or values."""
        name = self.next()
        descriptor = message.DESCRIPTOR.fields_by_name.get(name.text)
        if descriptor is None:
            self.unknown(name, message.DESCRIPTOR)
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
        """Parse a list up to its closing bracket."""
        node.fields.setdefault(name.text, [])
        if self.take("]"):
            return
        while True:
            read(message, node, self.token, descriptor)
            if self.need(",", "]") == "]":
                return

    def submessage(self, message: Any, node: Node, name: Token, descriptor: FieldDescriptor) -> None:
        """Parse a field that is a message."""
        value = getattr(message, descriptor.name)
        if descriptor.is_repeated:
            value = value.add()
        else:
            value.SetInParent()
        self.braces(value, self.child(node, name, descriptor))

    def entry(self, message: Any, node: Node, name: Token, descriptor: FieldDescriptor) -> None:
        """Parse a map entry: a message with a key and a value; a repeated key replaces the earlier entry."""
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
        """Parse a message within braces."""
        self.message(message, node, _CLOSING[self.need("{", "<")])

    def child(self, node: Node, name: Token, descriptor: FieldDescriptor) -> Node:
        """Add a node for a field that begins at a token."""
        child = Node(name.line, name.column)
        node.fields.setdefault(descriptor.name, []).append(child)
        return child

    def scalar(self, message: Any, node: Node, name: Token, descriptor: FieldDescriptor) -> None:
        """Parse a number, string, boolean or enum value."""
        first = self.token
        self.child(node, first if descriptor.is_repeated else name, descriptor)
        try:
            value = self.value(descriptor)
        except FieldValueError as error:
            return self.note(first, error.rule, error.found, error.expected, error.remedy, error.better)
        if descriptor.is_repeated:
            getattr(message, descriptor.name).append(value)
        else:
            setattr(message, descriptor.name, value)
        return None

    def value(self, descriptor: FieldDescriptor) -> Any:
        """Parse one value as the field's type."""
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
        """Consume a word, number or string."""
        if self.token.kind in ("symbol", "end"):
            self.fail("a value")
        return self.next()

    def string(self, descriptor: FieldDescriptor) -> str:
        """Parse a string, which may consist of several literals."""
        token = self.token
        if token.kind != "text":
            self.take("-")
            self.literal()
            raise FieldValueError(
                WRONG_TYPE, f"{descriptor.name}: {token.text}", "a quoted string", f'write "{token.text}"'
            )
        pieces = []
        while self.token.kind == "text":
            pieces.append(unquote(self.next()))
        return "".join(pieces)

    def once(self, name: Token, descriptor: FieldDescriptor, message: Any) -> None:
        """Record a finding if a singular field is set already, or one that excludes it."""
        if descriptor.is_repeated:
            return
        group = descriptor.containing_oneof
        other = message.WhichOneof(group.name) if group else None
        if other and other != descriptor.name:
            remedy = f"remove {other} or {descriptor.name}"
            self.note(name, ONE_OF, f"{descriptor.name} together with {other}", "one of them", remedy)
            message.ClearField(other)
        elif other or _is_set(message, descriptor):
            self.note(name, REPEATED, f"{descriptor.name} again", "it once", "remove one of them")

    def unknown(self, name: Token, message: Descriptor) -> None:
        """Record a finding about a field that does not exist."""
        known = [other.name for other in message.fields]
        where = "a config" if message.name == "ModelConfig" else message.name
        found = f"field '{name.text}'"
        expected, better = f"a field of {where}", replacement(name.text, known)
        return self.note(name, UNKNOWN_FIELD, found, expected, suggestion(name.text, known), better)

    def skip(self) -> None:
        """Skip the value of an unknown field."""
        colon = self.take(":")
        opening = self.take("{", "<", "[")
        if opening:
            return self.skip_to(_CLOSING[opening])
        if not colon:
            self.fail("':' or '{'")
        self.take("-")
        is_text = self.literal().kind == "text"
        while is_text and self.token.kind == "text":
            self.next()
        return None

    def skip_to(self, closing: str) -> None:
        """Skip everything up to the closing symbol."""
        while not self.take(closing):
            if self.token.kind == "end":
                self.fail(f"'{closing}'")
            token = self.next()
            if token.kind == "symbol" and token.text in _CLOSING:
                self.skip_to(_CLOSING[token.text])


def _is_set(message: Any, descriptor: FieldDescriptor) -> bool:
    """Whether a field is set, where a scalar that was set to its default counts as unset, as protobuf does."""
    if descriptor.message_type:
        return bool(message.HasField(descriptor.name))
    return bool(getattr(message, descriptor.name) != descriptor.default_value)
