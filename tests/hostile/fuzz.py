"""Hostile requests by the thousand: good and bad ones of either protocol, spoilt at random places."""

import random
from collections.abc import Callable

from tests.hostile import over_grpc, over_http
from tests.hostile.over_grpc import Call

_LONGEST = 100_000
_NUMBERS = (b"-1", b"0", b"1e308", b"9223372036854775807", b"18446744073709551616", b"[]", b"null", b"NaN", b'"a"')
_WORDS = (
    b'"classification"',
    b'"shape"',
    b'"binary_data_size"',
    b'"OUTPUT__0"',
    b'"TEXT"',
    b'"BYTES"',
    b"[[[[",
    b"]]}}",
)


def http_seeds() -> list[bytes]:
    """Good requests, and those hostile ones that are short."""
    good = [over_http.infer(over_http.tensor()), over_http.classes("OUTPUT__0", 3)]
    return good * 5 + [sent for _, sent in over_http.http_requests() if len(sent) < _LONGEST]


def grpc_seeds() -> list[bytes]:
    """The messages of inferences."""
    good = [over_grpc.infer().SerializeToString()]
    calls = (call for _, call in over_grpc.grpc_requests() if call.method == "ModelInfer")
    return good * 5 + [call.message for call in calls if len(call.message) < _LONGEST]


def spoilt_http(chance: random.Random, seeds: list[bytes]) -> bytes:
    """A request with a few changes in its body; its length is right again, most of the time."""
    head, _, body = chance.choice(seeds).partition(b"\r\n\r\n")
    changed = _spoilt(chance, body, (_number, _word, _drop, _repeat, _flip))
    if chance.random() < 0.95:
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"content-length", b"transfer"))]
        head = b"\r\n".join([*lines, b"Content-Length: %d" % len(changed)])
    return head + b"\r\n\r\n" + changed


def spoilt_grpc(chance: random.Random, seeds: list[bytes]) -> Call:
    """A call whose message has a few changes."""
    return Call("ModelInfer", _spoilt(chance, chance.choice(seeds), (_drop, _repeat, _flip, _flip)), 5.0)


_Change = Callable[[random.Random, bytes], bytes]


def _spoilt(chance: random.Random, content: bytes, changes: tuple[_Change, ...]) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        content = chance.choice(changes)(chance, content)
    return content


def _place(chance: random.Random, content: bytes) -> int:
    # What matters comes first: tensors are longer than all that describes them.
    return chance.randrange(min(len(content), chance.choice((200, 1 + len(content)))) + 1)


def _number(chance: random.Random, content: bytes) -> bytes:
    digits = [place for place in range(min(len(content), 2000)) if content[place : place + 1].isdigit()]
    if not digits:
        return content
    place = chance.choice(digits)
    return content[:place] + chance.choice(_NUMBERS) + content[place + 1 :]


def _word(chance: random.Random, content: bytes) -> bytes:
    place = _place(chance, content)
    return content[:place] + chance.choice(_WORDS) + content[place:]


def _drop(chance: random.Random, content: bytes) -> bytes:
    place = _place(chance, content)
    return content[:place] + content[place + chance.choice((1, 2, 8, 64)) :]


def _repeat(chance: random.Random, content: bytes) -> bytes:
    place = _place(chance, content)
    return (
        content[:place]
        + content[place : place + chance.choice((1, 8, 64))] * chance.choice((1, 2, 50))
        + content[place:]
    )


def _flip(chance: random.Random, content: bytes) -> bytes:
    place = _place(chance, content)
    return content[:place] + bytes([chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))]) + content[place + 1 :]
