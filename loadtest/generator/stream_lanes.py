"""Lanes for language models: every message of a streamed answer is noted with its time and its tokens.

Tokens are those that the server counts. Messages say little: a busy server puts several tokens into one, and some
carry none.
"""

import asyncio
import json
import ssl
from typing import Any

import numpy as np

from loadtest.generator.grpc_lane import GrpcLane
from loadtest.generator.http_lane import CLOSES, HEAD_END, HttpLane, error_message, error_text
from loadtest.generator.lane import Finished, Target, failure_kind
from loadtest.records import ANSWERED, Streamed

Notes = dict[int, Streamed]  # by number of the request
_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
_NO_TOKENS = "no token came; the server must count them (num_output_tokens, or OpenAI's usage)"


class GrpcStreamLane(GrpcLane):
    """One streaming call at a time."""

    def __init__(self, target: Target, channel: Any, finished: Finished, notes: Notes):
        super().__init__(target, channel, finished)
        self.call = channel.stream_stream(_METHOD)
        self.notes = notes

    async def _carry(self, number: int) -> None:
        import grpc

        note = self.notes[number] = Streamed()
        call = self.call((self.target.requests[number % len(self.target.requests)],), metadata=self.metadata)
        try:
            kind = await _read_messages(call, note)
        except grpc.aio.AioRpcError as error:
            kind = failure_kind(error.code().name, error.details() or "")
        self.finished(self, number, kind)


async def _read_messages(call: Any, note: Streamed) -> str:
    from tritonclient.grpc.service_pb2 import ModelStreamInferResponse

    loop = asyncio.get_running_loop()
    async for message in call:
        moment, answer = loop.time(), ModelStreamInferResponse.FromString(message)
        if answer.error_message:
            call.cancel()
            return failure_kind("error", answer.error_message)
        response = answer.infer_response
        outputs = zip(response.outputs, response.raw_output_contents, strict=False)
        counts = {output.name: content for output, content in outputs if output.datatype == "UINT32"}
        note.prompt_tokens = _sum(counts.get("num_input_tokens")) or note.prompt_tokens
        note.add(moment, _sum(counts.get("num_output_tokens")))
    return ANSWERED if note.tokens else _NO_TOKENS


def _sum(content: bytes | None) -> int:
    return int(np.frombuffer(content or b"", "<u4").sum())


class Chunks:
    """A body of HTTP chunks as it arrives, and whether it has ended."""

    def __init__(self) -> None:
        self.has_ended = False
        self._pending = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take bytes off the wire; returns the content of the chunks that are complete."""
        self._pending += data
        content = bytearray()
        while not self.has_ended and (line := self._pending.find(b"\r\n")) >= 0:
            size = int(self._pending[:line].partition(b";")[0], 16)
            start, end = line + 2, line + 2 + size
            if len(self._pending) < end + 2:
                break
            content += self._pending[start:end]
            del self._pending[: end + 2]
            self.has_ended = size == 0
        return bytes(content)


class SseLane(HttpLane):
    """A connection whose answers are server-sent events: Triton's generate_stream, and OpenAI's completions."""

    def __init__(self, target: Target, tls: ssl.SSLContext | None, finished: Finished, notes: Notes):
        super().__init__(target, tls, finished)
        self.notes = notes
        self.chunks: Chunks | None = None  # None until the head of an answer in chunks has come
        self.status, self.text, self.closes = b"", b"", False

    def send(self, number: int) -> None:
        """Write a request."""
        self.notes[number] = Streamed()
        super().send(number)

    def data_received(self, data: bytes) -> None:
        """Read events as they come; an answer that is no stream is an error, with its length in its head."""
        if self.chunks is None:
            head, separator, rest = bytes(self.received + data).partition(HEAD_END)
            if not separator or b"\r\ntransfer-encoding: chunked" not in head.lower():
                super().data_received(data)
                return
            self.received.clear()
            self.chunks, self.status, self.closes, data = Chunks(), head[9:12], bool(CLOSES.search(head)), rest
        self.text += self.chunks.feed(data)
        if self.status == b"200" and self.number >= 0:
            *lines, self.text = self.text.split(b"\n")
            self._note(lines)
        if self.chunks.has_ended:
            self._end()

    def _note(self, lines: list[bytes]) -> None:
        moment, note = asyncio.get_running_loop().time(), self.notes[self.number]
        for line in lines:
            event = line.removeprefix(b"data:").strip()
            if line.startswith(b"data:") and event != b"[DONE]":
                note_event(note, json.loads(event), moment)

    def _end(self) -> None:
        status, text, note = self.status, self.text, self.notes.get(self.number, Streamed())
        self._drop() if self.closes else self._clear()
        if status != b"200":
            self._finish(failure_kind(f"HTTP {status.decode()}", error_message(text)))
        elif note.error:
            self._finish(failure_kind("error", note.error))
        else:
            self._finish(ANSWERED)

    def _has_begun(self) -> bool:
        return self.chunks is not None or super()._has_begun()

    def _clear(self) -> None:
        super()._clear()
        self.chunks, self.text = None, b""

    def _finish(self, kind: str) -> None:
        answered_nothing = kind == ANSWERED and not self.notes[self.number].tokens
        super()._finish(_NO_TOKENS if answered_nothing else kind)


def note_event(note: Streamed, event: dict[str, Any], moment: float) -> None:
    """Note one event of generate_stream or of OpenAI's completions."""
    if "error" in event:
        note.error = error_text(event["error"])
    elif "num_output_tokens" in event:
        note.prompt_tokens = int(event.get("num_input_tokens", 0)) or note.prompt_tokens
        note.add(moment, int(np.sum(event["num_output_tokens"])))
    else:
        _note_openai(note, event, moment)


def _note_openai(note: Streamed, event: dict[str, Any], moment: float) -> None:
    """OpenAI's usage counts all tokens so far: with every event where the server offers that, else with the last."""
    usage, choices = event.get("usage") or {}, event.get("choices") or ()
    note.prompt_tokens = int(usage.get("prompt_tokens", 0)) or note.prompt_tokens
    total = int(usage.get("completion_tokens", 0))
    if choices and usage:
        note.add(moment, total - sum(note.tokens))
    elif any(choice.get("text") or (choice.get("delta") or {}).get("content") for choice in choices):
        note.add(moment, 1)
        note.is_counted = False
    elif total and not note.is_counted:
        note.spread(total)
