"""The values of a config.pbtxt: numbers, booleans and enums parsed as protobuf's C++ parser does."""

from difflib import SequenceMatcher, get_close_matches

from google.protobuf.descriptor import FieldDescriptor

from tools.check.finding import Rule
from tools.check.syntax import UNKNOWN_VALUE, WRONG_TYPE
from tools.check.tokens import Token

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
# What other frameworks call Triton's data types.
_OTHER_NAMES = {
    **{"FLOAT": "FP32", "FLOAT32": "FP32", "HALF": "FP16", "FLOAT16": "FP16", "DOUBLE": "FP64", "FLOAT64": "FP64"},
    **{"BFLOAT16": "BF16", "BYTE": "UINT8", "SHORT": "INT16", "INT": "INT32", "LONG": "INT64"},
    **{"BYTES": "STRING", "STR": "STRING", "BOOLEAN": "BOOL"},
}
_BOOLEANS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}


class FieldValueError(ValueError):
    """A value that a field cannot take; `better` replaces it, if it is clear what was meant."""

    def __init__(self, rule: Rule, found: str, expected: str, remedy: str, better: str = ""):
        super().__init__(found)
        self.rule, self.found, self.expected, self.remedy, self.better = rule, found, expected, remedy, better


def _wrong(descriptor: FieldDescriptor, found: str, expected: str, remedy: str = "") -> FieldValueError:
    return FieldValueError(WRONG_TYPE, f"{descriptor.name}: {found}", expected, remedy or f"write {expected}")


def integer(descriptor: FieldDescriptor, minus: str, token: Token) -> int:
    """Parse an integer within its field's bounds; 010 is octal, 0x10 hexadecimal."""
    low, high = _INTEGERS[descriptor.cpp_type]
    bounds = f"an integer from {low} to {high}"
    if token.kind != "int" or (minus and low == 0):
        raise _wrong(descriptor, minus + token.text, bounds)
    value = _number(token)
    if value is None or not low <= (-value if minus else value) <= high:
        raise _wrong(descriptor, minus + token.text, bounds)
    return -value if minus else value


def _number(token: Token) -> int | None:
    """The value of an integer token; None for an octal number with a digit 8 or 9."""
    text = token.text
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    if text[0] != "0":
        return int(text)
    return None if set(text) & set("89") else int(text, 8)


def floating(descriptor: FieldDescriptor, minus: str, token: Token) -> float:
    """Parse a decimal number, inf or nan."""
    words = {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}
    sign = -1.0 if minus else 1.0
    if token.kind == "word" and token.text.lower() in words:
        return sign * words[token.text.lower()]
    is_decimal = token.kind == "float" or (token.kind == "int" and (token.text == "0" or token.text[0] != "0"))
    if not is_decimal:
        raise _wrong(descriptor, minus + token.text, "a decimal number")
    return sign * float(token.text.rstrip("fF"))


def boolean(descriptor: FieldDescriptor, minus: str, token: Token) -> bool:
    """Parse true or false in any of protobuf's spellings."""
    if not minus and token.kind == "word" and token.text in _BOOLEANS:
        return _BOOLEANS[token.text]
    if not minus and token.kind == "int" and _number(token) in (0, 1):
        return bool(_number(token))
    raise _wrong(descriptor, minus + token.text, "true or false")


def enum_value(descriptor: FieldDescriptor, minus: str, token: Token) -> int:
    """Parse an enum value by name or number; protobuf accepts a number without a name."""
    enum = descriptor.enum_type
    assert enum
    if token.kind == "int" and (value := _number(token)) is not None and value < 2**31:
        return -value if minus else value
    if minus or token.kind != "word" or token.text not in enum.values_by_name:
        names = list(enum.values_by_name)
        found, better = f"{descriptor.name}: {minus}{token.text}", "" if minus else replacement(token.text, names)
        raise FieldValueError(
            UNKNOWN_VALUE, found, f"one of {', '.join(enum.values_by_name)}", suggestion(token.text, names), better
        )
    return int(enum.values_by_name[token.text].number)


def _closest(word: str, known: list[str]) -> str:
    other = f"TYPE_{_OTHER_NAMES.get(word.upper().removeprefix('TYPE_'))}"
    if other in known:
        return other
    upper = {name.upper(): name for name in known}
    close = get_close_matches(word.upper(), list(upper), 1, 0.6) or get_close_matches(word.upper(), list(upper), 1, 0.4)
    return upper[close[0]] if close else ""


def replacement(word: str, known: list[str]) -> str:
    """The name that was certainly meant, such as TYPE_FP32 for FP32 or for a typo; empty if it is not certain."""
    name = _closest(word, known)
    is_typo = SequenceMatcher(None, word.upper(), name.upper()).ratio() >= 0.8
    return name if is_typo or name.endswith(f"_{word.upper()}") else ""


def suggestion(word: str, known: list[str]) -> str:
    """A question about what was meant, or the list of what exists."""
    return f"did you mean {name}?" if (name := _closest(word, known)) else f"use one of {', '.join(known)}"
