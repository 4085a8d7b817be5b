"""A request of Triton's: its tensors read, and its answers written as NVIDIA's vLLM backend writes them."""

from __future__ import annotations

import json
import math
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from tools.backends.vllm.engine import Sequence
    from tools.backends.vllm.pipeline import News
    from tools.backends.vllm.sampling import Sampling
    from tools.backends.vllm.text import Text, Vocabulary
else:  # Triton puts this folder on sys.path.
    from text import Text

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
FLAGS = ("finish_reason", "cumulative_logprob", "logprobs", "num_input_tokens", "num_output_tokens")


class Call:
    """What one request asks for, and how far it is.

    Attributes:
        sequences: its continuations, from when they are submitted until it is over.
        is_left: nobody waits for more of it.
    """

    def __init__(self, request: Any):
        self._request, self.sender = request, request.get_response_sender()
        self.sequences: list[Sequence] = []
        self.is_left = self._is_over = False  # Over is what has had its last response.
        self._lock = threading.Lock()

    def read(self) -> tuple[str, str]:
        """The prompt and the sampling parameters as JSON.

        Raises:
            ValueError: the tensors contradict each other, or a text is not UTF-8.
        """
        self.prompt = self._value("text_input", b"").decode()
        self.streams = bool(self._value("stream", False))
        self._echoes = not bool(self._value("exclude_input_in_output", self.streams))
        if self._echoes and self.streams:
            raise ValueError("When streaming, `exclude_input_in_output` = False is not allowed.")
        self._wanted = [name for name in FLAGS if self._value(f"return_{name}", False)]
        given = self._value("sampling_parameters", None)
        return self.prompt, (given.decode() if given is not None else self._request.parameters()) or "{}"

    def _value(self, name: str, default: Any) -> Any:
        """The first element of an input, or the default where it was left out."""
        tensor = pb_utils.get_input_tensor_by_name(self._request, name)
        return default if tensor is None else tensor.as_numpy().reshape(-1)[0]

    def begin(self, vocabulary: Vocabulary, sampling: Sampling, read: int, interval: int) -> None:
        """Prepare the answers to a prompt of so many tokens; one message holds `interval` of theirs."""
        self.read_tokens, self._interval = read, interval
        self.answers = [Answer(vocabulary, sampling) for _ in range(sampling.n)]

    def take(self, sequence: Sequence, news: News) -> int:
        """Take what a step brought one of the answers; returns how many tokens belong to it."""
        answer = self.answers[sequence.number]
        taken = answer.take(news)
        sequence.leaves = answer.reason is not None
        return taken

    def send(self) -> None:
        """Send what there is, if it is time for it."""
        is_last = all(answer.reason for answer in self.answers)
        new = max(answer.new_tokens for answer in self.answers)
        is_first = self.streams and not any(answer.sent_tokens for answer in self.answers)
        if is_last or (self.streams and (new >= self._interval or is_first)):
            self._respond(is_last)

    def _respond(self, is_last: bool) -> None:
        tensors = [pb_utils.Tensor("text_output", _texts([self._echo() + answer.new_text for answer in self.answers]))]
        tensors += [pb_utils.Tensor(name, self._column(name)) for name in self._wanted]
        for answer in self.answers:
            answer.is_sent()
        self._finish(pb_utils.InferenceResponse(tensors), is_last)

    def _echo(self) -> str:
        return self.prompt if self._echoes else ""

    def _column(self, name: str) -> Any:
        """One of the outputs that are asked for by a flag."""
        if name == "num_input_tokens":
            return np.array([self.read_tokens], np.uint32)
        if name == "num_output_tokens":
            return np.array([answer.new_tokens for answer in self.answers], np.uint32)
        if name == "cumulative_logprob":
            return np.array([answer.cumulative_logprob for answer in self.answers], np.float32)
        texts = [str(answer.reason) if name == "finish_reason" else answer.new_logprobs() for answer in self.answers]
        return _texts(texts)

    def fail(self, message: str, code: int) -> None:
        """Answer with what went wrong, unless there was a last answer."""
        self._finish(pb_utils.InferenceResponse([], pb_utils.TritonError(message, code)), True)

    def leave(self) -> None:
        """Generate no more of it."""
        self.is_left = True
        for sequence in self.sequences:
            sequence.leaves = True

    def _finish(self, response: Any, is_last: bool) -> None:
        # One thread sends tokens while another one ends what was cancelled: a response behind the last one would end
        # tritonserver, which has freed the request by then.
        with self._lock, suppress(pb_utils.TritonModelException):  # Whoever has gone is noticed by asking for it.
            if not self._is_over:
                self._is_over = is_last
                if is_last:
                    self.leave()
                    # They know this call: Python frees what knows each other late, and megabytes with it.
                    self.sequences = []
                self.sender.send(response, flags=FINAL if is_last else 0)


class Answer:
    """One of the texts that a request gets, and what of it has not been sent yet."""

    def __init__(self, vocabulary: Vocabulary, sampling: Sampling):
        self._text, self._vocabulary, self._sampling = Text(vocabulary, sampling), vocabulary, sampling
        self.reason: str | None = None
        self.new_text, self.sent_tokens = "", 0
        self._logprobs: list[tuple[int, float]] = []
        self.cumulative_logprob = math.nan if sampling.logprobs is None else 0.0
        self.last: float | None = None  # When its newest token came.

    @property
    def new_tokens(self) -> int:
        """How many have not been sent."""
        return self._text.tokens - self.sent_tokens

    def take(self, news: News) -> int:
        """Add tokens; returns how many belong to the text."""
        if self.reason:
            return 0
        before = self._text.tokens
        self.new_text += self._text.add(news.tokens)
        taken = self._text.tokens - before
        if self._sampling.logprobs is not None:
            self._logprobs += zip(news.tokens[:taken], news.logprobs[:taken], strict=True)
            self.cumulative_logprob += sum(news.logprobs[:taken])
        self.reason = "stop" if self._text.is_stopped else news.reason
        if self.reason:
            self.new_text += self._text.end()
        return taken

    def is_sent(self) -> None:
        """Everything so far has been sent."""
        self.new_text, self.sent_tokens = "", self._text.tokens
        self._logprobs.clear()

    def new_logprobs(self) -> str:
        """Logarithms of the probabilities of the new tokens, as JSON; null where they were not asked for."""
        if self._sampling.logprobs is None:
            return "null"
        rank = 1 if self._sampling.takes_likeliest else None
        return json.dumps([{token: self._logprob(token, value, rank)} for token, value in self._logprobs])

    def _logprob(self, token: int, value: float, rank: int | None) -> dict[str, Any]:
        known = self._vocabulary.tokens[token] if token < len(self._vocabulary.tokens) else b""
        return {"logprob": value, "rank": rank, "decoded_token": known.decode(errors="replace")}


def _texts(texts: list[str]) -> Any:
    """Texts as Triton's BYTES."""
    return np.array([text.encode() for text in texts], np.object_)
