"""The text format of config.pbtxt cut into tokens, as protobuf's C++ tokenizer cuts it, which is the one in Triton.

Python's own reader differs from it (octal numbers, single quotes across lines, control characters), and gives no
places of what it has read. The grammar is https://protobuf.dev/reference/protobuf/textformat-spec/.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

PATTERN = re.compile(
    r"""(?P<space>[ \t\r\f\v]+|\#[^\n]*)
      | (?P<line>\n)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<float>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?|\d+[eE][+-]?\d+[fF]?|\d+[fF])
      | (?P<int>0[xX][0-9a-fA-F]+|\d+)
      | (?P<text>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')
      | (?P<symbol>[\x21-\x7e])
    """,
    re.VERBOSE,
)
SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34, "?": 63}
ESCAPE = re.compile(r"\\(?:x(?P<hex>[0-9a-fA-F]{1,2})|(?P<octal>[0-7]{1,3})|u(?P<u>[0-9a-fA-F]{4})|(?P<simple>.))")


class TextSyntaxError(ValueError):
    """The text is no text format; nothing after this place can be read."""

    def __init__(self, line: int, column: int, found: str, expected: str):
        super().__init__(f"{line}:{column}: {found}; expected {expected}")
        self.line, self.column, self.found, self.expected = line, column, found, expected


@dataclass(frozen=True)
class Token:
    """One token; kind is word, float, int, text, symbol or end."""

    kind: str
    text: str
    line: int
    column: int

    def __str__(self) -> str:
        return "the end of the file" if self.kind == "end" else f"'{self.text}'"


def tokens(text: str) -> Iterator[Token]:
    """Cut a text into tokens; the last one is of kind "end".

    Raises:
        TextSyntaxError: a character that cannot be here, or a string that does not end on its line.
    """
    line, start, position, previous = 1, 0, 0, Token("end", "", 1, 1)
    while position < len(text):
        match = PATTERN.match(text, position)
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
            refuse_glued(previous, token)
            yield (previous := token)
    yield Token("end", "", line, len(text) - start + 1)


def refuse_glued(previous: Token, token: Token) -> None:
    """A number must be apart from the word after it: 8KIND is neither."""
    numbers = ("int", "float")
    glued = previous.line == token.line and previous.column + len(previous.text) == token.column
    if glued and previous.kind in numbers and token.kind in ("word", *numbers):
        raise TextSyntaxError(token.line, token.column, f"'{previous.text}{token.text}'", "a number or a name")


def unquote(token: Token) -> str:
    """The characters that a string token stands for.

    Raises:
        TextSyntaxError: an escape sequence that does not exist, or bytes that are no UTF-8.
    """
    inner = token.text[1:-1]
    if "\\" not in inner:
        return inner
    try:
        return b"".join(unescaped(inner)).decode()
    except ValueError as error:
        raise TextSyntaxError(token.line, token.column, f"the string {token.text}", "UTF-8 text") from error


def unescaped(text: str) -> Iterator[bytes]:
    """The bytes of a string's inside, one escape sequence or stretch without any at a time."""
    position = 0
    for match in ESCAPE.finditer(text):
        yield text[position : match.start()].encode()
        position = match.end()
        if match["hex"] or match["octal"]:
            yield bytes([int(match["hex"], 16) if match["hex"] else int(match["octal"], 8)])
        elif match["u"]:
            yield chr(int(match["u"], 16)).encode()
        elif match["simple"] in SIMPLE:
            yield bytes([SIMPLE[match["simple"]]])
        else:
            raise ValueError(f"unknown escape {match[0]}")
    yield text[position:].encode()
