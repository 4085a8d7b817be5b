"""From tokens to text, piece by piece: only what is new is decoded, characters stay whole, stop strings end it.

A token is a few bytes, not a few characters: one character may come in several tokens, and a stop string may begin in
one and end in the next. What may still become one or the other is held back.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tools.backends.vllm.sampling import Sampling


@dataclass(frozen=True)
class Vocabulary:
    """The bytes of every token; `special` ones stand for no text."""

    tokens: Sequence[bytes]
    special: frozenset[int]


def read_vocabulary(tokenizer: Any) -> Vocabulary:
    """Ask a tokenizer of OpenVINO for the bytes of its tokens.

    Each is decoded after another one: alone, some tokenizers drop a blank at its beginning.
    """
    names = {token: name for name, token in tokenizer.get_vocab().items()}
    anchor = next(token for token in names if tokenizer.decode([token]).isalnum())
    pairs, start = [[anchor, token] for token in names], len(tokenizer.decode([anchor]))
    plain = [text[start:] for text in tokenizer.decode(pairs)]
    whole = [text[start:] for text in tokenizer.decode(pairs, skip_special_tokens=False)]
    tokens = [b""] * (max(names) + 1)
    for (token, name), text in zip(names.items(), whole, strict=True):
        tokens[token] = _bytes(name, text)
    differs = (shown != text for shown, text in zip(plain, whole, strict=True))
    return Vocabulary(tokens, frozenset(compress(names, differs)))


def _bytes(name: bytes, text: str) -> bytes:
    """A token's bytes, from its name in the vocabulary where it is no whole character; <0x0A> is such a name too."""
    if name.startswith(b"<0x") and name.endswith(b">"):
        return bytes([int(name[3:-1], 16)])
    try:
        name.decode()
    except UnicodeDecodeError:
        return name
    return text.encode()


class Text:
    """The text of one answer while its tokens arrive.

    Attributes:
        tokens: how many belong to it so far.
        is_stopped: a stop string or a stop token has ended it.
    """

    def __init__(self, vocabulary: Vocabulary, sampling: Sampling):
        self.tokens = 0
        self.is_stopped = False
        self._bytes, self._special = vocabulary.tokens, vocabulary.special if sampling.skip_special_tokens else ()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops, self._min_tokens = sampling.stop, sampling.min_tokens
        self._stop_tokens, self._keeps_stop = frozenset(sampling.stop_token_ids), sampling.include_stop_str_in_output
        self._held = ""

    def add(self, tokens: Iterable[int]) -> str:
        """Take the next tokens; the text that is certain now. What comes after the end is ignored."""
        certain = ""
        for token in tokens:
            if self.is_stopped:
                break
            certain += self._add(token)
        return certain

    def end(self) -> str:
        """What was held back for a stop string that did not come; an unfinished character is dropped."""
        held, self._held = self._held, ""
        return held

    def _add(self, token: int) -> str:
        self.tokens += 1
        is_free = self.tokens <= self._min_tokens
        if token in self._stop_tokens and not is_free:
            self.is_stopped = True
            return self.end() + (self._decoded(token) if self._keeps_stop else "")
        self._held += self._decoded(token)
        return self.end() if is_free or not self._stops else self._until_stop()

    def _decoded(self, token: int) -> str:
        # A network may have more tokens than its tokenizer; they stand for nothing.
        is_text = token not in self._special and token < len(self._bytes)
        return self._decoder.decode(self._bytes[token]) if is_text else ""

    def _until_stop(self) -> str:
        """The held text up to the first stop string, or up to where one may have begun."""
        found = [(place, stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            place, stop = min(found)
            self.is_stopped = True
            self._held = self._held[: place + len(stop) * self._keeps_stop]
            return self.end()
        begun = max(_overlap(self._held, stop) for stop in self._stops)
        certain, self._held = self._held[: len(self._held) - begun], self._held[len(self._held) - begun :]
        return certain


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may be the beginning of a stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
