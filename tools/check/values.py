"""The values of a config.pbtxt: tokens made numbers, booleans and enumerations, as protobuf's C++ reader makes them."""

from difflib import SequenceMatcher, get_close_matches

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from tools.check.finding import Rule
from tools.check.syntax import UNKNOWN_VALUE, WRONG_TYPE
from tools.check.tokens import Token

INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
BOOLEANS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}


class BadValue(ValueError):
    """A value that a field cannot take; `better` is what was meant, where that is clear."""

    def __init__(self, rule: Rule, found: str, expected: str, remedy: str, better: str = ""):
        super().__init__(found)
        self.rule, self.found, self.expected, self.remedy, self.better = rule, found, expected, remedy, better


def wrong(descriptor: FieldDescriptor, found: str, expected: str, remedy: str = "") -> BadValue:
    """A value of the wrong type."""
    return BadValue(WRONG_TYPE, f"{descriptor.name}: {found}", expected, remedy or f"give {expected}")


def integer(descriptor: FieldDescriptor, minus: str, token: Token) -> int:
    """A whole number within its field's bounds; 010 is octal, 0x10 hexadecimal."""
    low, high = INTEGERS[descriptor.cpp_type]
    bounds = f"a whole number of {low} to {high}"
    if token.kind != "int" or (minus and low == 0):
        raise wrong(descriptor, minus + token.text, bounds)
    value = number(token)
    if value is None or not low <= (-value if minus else value) <= high:
        raise wrong(descriptor, minus + token.text, bounds)
    return -value if minus else value


def number(token: Token) -> int | None:
    """What an integer token stands for; None for an octal number with the digits 8 or 9."""
    text = token.text
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    if text[0] != "0":
        return int(text)
    return None if set(text) & set("89") else int(text, 8)


def floating(descriptor: FieldDescriptor, minus: str, token: Token) -> float:
    """A decimal number, or inf or nan."""
    words = {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}
    sign = -1.0 if minus else 1.0
    if token.kind == "word" and token.text.lower() in words:
        return sign * words[token.text.lower()]
    decimal = token.kind == "float" or (token.kind == "int" and (token.text == "0" or token.text[0] != "0"))
    if not decimal:
        raise wrong(descriptor, minus + token.text, "a decimal number")
    return sign * float(token.text.rstrip("fF"))


def boolean(descriptor: FieldDescriptor, minus: str, token: Token) -> bool:
    """True or false in the spellings that protobuf takes."""
    if not minus and token.kind == "word" and token.text in BOOLEANS:
        return BOOLEANS[token.text]
    if not minus and token.kind == "int" and number(token) in (0, 1):
        return bool(number(token))
    raise wrong(descriptor, minus + token.text, "true or false")


def enum_value(descriptor: FieldDescriptor, minus: str, token: Token) -> int:
    """A value of an enumeration, by name or by number; a number without a name is taken too."""
    enum = descriptor.enum_type
    assert enum
    if token.kind == "int" and (value := number(token)) is not None and value < 2**31:
        return -value if minus else value
    if minus or token.kind != "word" or token.text not in enum.values_by_name:
        names = list(enum.values_by_name)
        found, better = f"{descriptor.name}: {minus}{token.text}", "" if minus else surely(token.text, names)
        raise BadValue(UNKNOWN_VALUE, found, spelled(enum), suggestion(token.text, names), better)
    return int(enum.values_by_name[token.text].number)


def spelled(enum: EnumDescriptor) -> str:
    """The values of an enumeration for a message."""
    return "one of " + ", ".join(enum.values_by_name)


def meant(word: str, known: list[str]) -> str:
    """The name that was probably meant; empty when none is near."""
    upper = {name.upper(): name for name in known}
    close = get_close_matches(word.upper(), list(upper), 1, 0.6) or get_close_matches(word.upper(), list(upper), 1, 0.4)
    return upper[close[0]] if close else ""


def surely(word: str, known: list[str]) -> str:
    """The name that was meant beyond doubt, so that it may be written in its place: FP32 for TYPE_FP32, or one slip."""
    name = meant(word, known)
    same = SequenceMatcher(None, word.upper(), name.upper()).ratio() >= 0.8
    return name if same or name.endswith(f"_{word.upper()}") else ""


def suggestion(word: str, known: list[str]) -> str:
    """What was probably meant, or all that there is."""
    return f"did you mean {name}?" if (name := meant(word, known)) else f"there are {', '.join(known)}"
