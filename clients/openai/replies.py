"""Answers in the forms of OpenAI's API: whole, as events of a stream, and errors."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from clients.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    RequestRejected,
    ServerUnavailable,
)
from clients.generation import Chunk, Token
from clients.openai.requests import Asked, Refused

Document = dict[str, Any]
DONE = b"data: [DONE]\n\n"
_IMPOSSIBLE = -9999.0  # OpenAI's logarithm of no probability; JSON has no infinity.
_STATUS: Mapping[type[ClientError], int] = {
    Refused: 400,
    InvalidInput: 400,
    RequestRejected: 400,
    ModelNotFound: 404,
    ServerUnavailable: 503,
    DeadlineExceeded: 504,
}


def event(document: Document) -> bytes:
    """A document as a server-sent event."""
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def error(problem: ClientError) -> tuple[int, Document]:
    """The HTTP status and the body that say what went wrong."""
    status = next((status for kind, status in _STATUS.items() if isinstance(problem, kind)), 500)
    code = "model_not_found" if isinstance(problem, ModelNotFound) else None
    return status, error_document(str(problem), status, getattr(problem, "parameter", None), code)


def error_document(message: str, status: int, parameter: str | None = None, code: str | None = None) -> Document:
    """An error's body."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}


class Reply:
    """The answer to one request, in whole or in parts; counts its tokens on the way."""

    def __init__(self, asked: Asked):
        self._asked = asked
        self._read = self._written = 0
        kind = "chatcmpl" if asked.is_chat else "cmpl"
        self._head = {"id": f"{kind}-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked.model}
        self._begun: set[int] = set()
        self._lengths: Counter[int] = Counter()  # Of the answers so far, in characters.

    def whole(self, chunks: Sequence[Chunk]) -> Document:
        """All of it, from all of its pieces."""
        for chunk in chunks:
            self._count(chunk)
        places = sorted({chunk.index for chunk in chunks})
        choices = [self._choice([chunk for chunk in chunks if chunk.index == place]) for place in places]
        kind = "chat.completion" if self._asked.is_chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices, "usage": self._usage()}

    def parts(self, chunk: Chunk) -> Iterator[bytes]:
        """The events for a piece."""
        self._count(chunk)
        if self._asked.is_chat and chunk.index not in self._begun:
            self._begun.add(chunk.index)
            yield self._part([_choice(chunk.index, {"delta": {"role": "assistant", "content": ""}}, None)])
        text = {"delta": {"content": chunk.text} if chunk.text else {}} if self._asked.is_chat else {"text": chunk.text}
        yield self._part([_choice(chunk.index, text, chunk.finish_reason, self._logprobs([chunk]))])

    def end(self) -> bytes:
        """The last events of a stream."""
        return (self._part([], self._usage()) if self._asked.counts_tokens else b"") + DONE

    def _count(self, chunk: Chunk) -> None:
        self._read, self._written = chunk.input_tokens, self._written + chunk.output_tokens

    def _usage(self) -> Document:
        total = self._read + self._written
        return {"prompt_tokens": self._read, "completion_tokens": self._written, "total_tokens": total}

    def _choice(self, chunks: Sequence[Chunk]) -> Document:
        text = "".join(chunk.text for chunk in chunks)
        content = {"message": {"role": "assistant", "content": text}} if self._asked.is_chat else {"text": text}
        return _choice(chunks[-1].index, content, chunks[-1].finish_reason, self._logprobs(chunks))

    def _logprobs(self, chunks: Sequence[Chunk]) -> Document | None:
        tokens, likeliest = [token for chunk in chunks for token in chunk.tokens], self._asked.likeliest
        if likeliest is None:
            return None
        if self._asked.is_chat:
            return {"content": [_of_chat(token, likeliest) for token in tokens], "refusal": None}
        lengths = [len(token.text) for token in tokens]
        offsets = list(accumulate(lengths, initial=self._lengths[chunks[0].index]))
        self._lengths[chunks[0].index] = offsets[-1]
        return _of_text(tokens, offsets[:-1])

    def _part(self, choices: list[Document], usage: Document | None = None) -> bytes:
        kind = "chat.completion.chunk" if self._asked.is_chat else "text_completion"
        counted = {"usage": self._usage() if self._asked.counts_each else usage} if self._asked.counts_tokens else {}
        return event({**self._head, "object": kind, "choices": choices, **counted})


def _choice(index: int, content: Document, reason: str | None, logprobs: Document | None = None) -> Document:
    return {"index": index, **content, "logprobs": logprobs, "finish_reason": reason}


def _of_chat(token: Token, likeliest: int) -> Document:
    return {**_told(token.text, token.logprob), "top_logprobs": [_told(*each) for each in token.known[:likeliest]]}


def _told(text: str, logprob: float) -> Document:
    # The bytes of a part of a character are not told.
    code = None if "\ufffd" in text else list(text.encode())
    return {"token": text, "logprob": max(logprob, _IMPOSSIBLE), "bytes": code}


def _of_text(tokens: Sequence[Token], offsets: Sequence[int]) -> Document:
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [max(token.logprob, _IMPOSSIBLE) for token in tokens],
        "top_logprobs": [{text: max(logprob, _IMPOSSIBLE) for text, logprob in token.known} for token in tokens],
        "text_offset": offsets,
    }
