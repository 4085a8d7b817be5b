"""A tokenizer for config.pbtxt that behaves as protobuf's C++ tokenizer, which Triton uses.

Python's parser differs from it (octal numbers, single quotes across lines, control characters) and reports no
positions. The grammar is https://protobuf.dev/reference/protobuf/textformat-spec/. Bytes that are not UTF-8 are lone
surrogates here, as Python's error handler "surrogateescape" makes them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PATTERN = re.compile(
    r"""(?P<space>[ \t\r\f\v]+|\#[^\n\0]*)
      | (?P<line>\n)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<float>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?|\d+[eE][+-]?\d+[fF]?|\d+[fF])
      | (?P<int>0[xX][0-9a-fA-F]+|\d+)
      | (?P<text>"(?:[^"\\\n\0]|\\[^\n\0])*"|'(?:[^'\\\n\0]|\\[^\n\0])*')
      | (?P<symbol>[\x21-\x7e])
    """,
    re.VERBOSE | re.ASCII,
)
_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34, "?": 63}
_ESCAPE = re.compile(
    r"\\(?:x(?P<hex>[0-9a-fA-F]{1,2})|(?P<octal>[0-7]{1,3})|u(?P<u>[0-9a-fA-F]{4})|U00(?P<long>[0-9a-fA-F]{6})"
    r"|(?P<simple>.))"
)


class TextSyntaxError(ValueError):
    """The text is not valid text format; nothing after this place can be read."""

    def __init__(self, line: int, column: int, found: str, expected: str):
        super().__init__(f"{line}:{column}: {found}; expected {expected}")
        self.line, self.column, self.found, self.expected = line, column, found, expected


@dataclass(frozen=True)
class Token:
    """A token; kind is word, float, int, text, symbol or end."""

    kind: str
    text: str
    line: int
    column: int

    def __str__(self) -> str:
        return "the end of the file" if self.kind == "end" else f"'{self.text}'"


def tokens(text: str) -> Iterator[Token]:
    """Tokenize a text; the last token is of kind "end".

    Raises:
        TextSyntaxError: an unexpected character, or a string that does not end on its line.
    """
    line, start, position, previous = 1, 0, 0, Token("end", "", 1, 1)
    while position < len(text):
        match = _PATTERN.match(text, position)
        column = position - start + 1
        if match is None or (match.lastgroup == "symbol" and match[0] in "\"'"):
            character = text[position]
            if character in "\"'":
                raise TextSyntaxError(line, column, "a string that does not end on its line", f"a closing {character}")
            raise TextSyntaxError(line, column, f"the character {character!r}", "a field name, a value or a comment")
        kind, position = str(match.lastgroup), match.end()
        if kind == "line":
            line, start = line + 1, position
        elif kind != "space":
            token = Token(kind, match[0], line, column)
            _refuse_adjacent(previous, token)
            yield (previous := token)
    yield Token("end", "", line, len(text) - start + 1)


def _refuse_adjacent(previous: Token, token: Token) -> None:
    """A number must be separated from the word after it, unlike in 8KIND."""
    numbers = ("int", "float")
    is_adjacent = previous.line == token.line and previous.column + len(previous.text) == token.column
    if is_adjacent and previous.kind in numbers and token.kind in ("word", *numbers):
        raise TextSyntaxError(token.line, token.column, f"'{previous.text}{token.text}'", "a number or a name")


def unquote(token: Token) -> str:
    """Decode a string token; bytes that are not UTF-8 are replaced, as a message of Python's cannot hold them.

    Raises:
        TextSyntaxError: an unknown escape sequence.
    """
    inner = token.text[1:-1]
    if inner.isascii() and "\\" not in inner:
        return inner
    try:
        return b"".join(_unescape(inner)).decode(errors="replace")
    except ValueError as error:
        raise TextSyntaxError(token.line, token.column, f"the string {token.text}", "known escape sequences") from error


def _unescape(text: str) -> Iterator[bytes]:
    position = 0
    for match in _ESCAPE.finditer(text):
        yield text[position : match.start()].encode(errors="surrogateescape")
        position = match.end()
        if match["hex"] or match["octal"]:
            yield bytes([int(match["hex"], 16) if match["hex"] else int(match["octal"], 8) & 0xFF])
        elif match["u"] or match["long"]:
            yield chr(int(match["u"] or match["long"], 16)).encode(errors="surrogatepass")
        elif match["simple"] in _SIMPLE:
            yield bytes([_SIMPLE[match["simple"]]])
        else:
            raise ValueError(f"unknown escape {match[0]}")
    yield text[position:].encode(errors="surrogateescape")
