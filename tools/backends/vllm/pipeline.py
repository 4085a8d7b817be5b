"""OpenVINO GenAI's continuous batching, opened as the settings ask; the only file that knows it."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tools.backends.vllm.sampling import Sampling
    from tools.backends.vllm.settings import Settings

REMEDY = "openvino-genai is not installed; run `make lm`, or `pip install openvino-genai`"
_HAS_REQUESTS = "_ZN2ov5genai26ContinuousBatchingPipeline25has_non_finished_requestsEv"
_STEP = "_ZN2ov5genai26ContinuousBatchingPipeline4stepEv"
_WARM_UP = 8  # tokens


@dataclass(frozen=True)
class News:
    """What a step brought one sequence: tokens, the logarithms of their probabilities, and why it ended if it did.

    The reasons are "stop" and "length", or "error" with what went wrong.
    """

    tokens: list[int]
    logprobs: list[float]
    reason: str | None
    error: str = ""


class Pipeline:
    """A network with its KV cache, which continues many sequences by a token at each step."""

    def __init__(self, settings: Settings, first: Sampling):
        try:
            import openvino_genai
        except ImportError as error:
            raise ValueError(f"{REMEDY} ({error})") from error
        self._genai, self._settings = openvino_genai, settings
        arguments = (str(settings.weights), _scheduler(openvino_genai, settings), "CPU")
        self._engine = openvino_genai.ContinuousBatchingPipeline(*arguments, _properties(openvino_genai, settings))
        self.tokenizer = self._engine.get_tokenizer()
        # As in vLLM: what generation_config.json names, and the tokenizer's own end, which may be another one.
        self._ends = {*self._engine.get_config().stop_token_ids, self.tokenizer.get_eos_token_id()} - {-1}
        self.step: Callable[[], None] = self._engine.step
        self._requests = 0
        self._warm_up(first)

    def encode(self, prompt: str) -> Any:
        """A prompt's tokens as OpenVINO's tensor of shape [1, length]."""
        return self.tokenizer.encode(prompt).input_ids

    def add(self, prompt: Any, config: Any) -> Any:
        """Let a prompt, from `encode`, join at the next step and be continued as `config` says; returns its handle."""
        self._requests += 1
        return self._engine.add_request(self._requests, prompt, config)

    def news(self, handle: Any) -> News:
        """What has come for a sequence since the last call."""
        tokens: list[int] = []
        logprobs: list[float] = []
        reason = None
        while handle.can_read():
            for output in handle.read().values():
                tokens += output.generated_ids
                logprobs += output.generated_log_probs
                if output.finish_reason != self._genai.GenerationFinishReason.NONE:
                    reason = output.finish_reason.name.lower()
        status = handle.get_status()
        if status == self._genai.GenerationStatus.IGNORED:
            return News(tokens, logprobs, "error", "the KV cache is full")
        if status != self._genai.GenerationStatus.RUNNING:
            reason = reason or "stop"
        return News(tokens, logprobs, reason)

    def usage(self) -> float:
        """The part of the KV cache that is in use, as the engine counted it in its last step."""
        return float(self._engine.get_metrics().cache_usage) / 100

    def config(self, sampling: Sampling, limit: int, number: int = 0) -> Any:
        """How to continue a prompt by at most `limit` tokens; each answer to a request has a number, and so a seed.

        Raises:
            RuntimeError: OpenVINO refuses something.
        """
        config = self._genai.GenerationConfig()
        config.apply_chat_template, config.ignore_eos = False, sampling.ignore_eos
        config.stop_token_ids = self._ends
        config.max_new_tokens, config.min_new_tokens = limit, min(sampling.min_tokens, limit)
        config.logprobs = int(sampling.logprobs is not None)
        config.presence_penalty, config.frequency_penalty = sampling.presence_penalty, sampling.frequency_penalty
        config.repetition_penalty = sampling.repetition_penalty
        config.do_sample = not sampling.is_greedy
        if config.do_sample:
            config.temperature, config.top_p, config.min_p = sampling.temperature, sampling.top_p, sampling.min_p
            if sampling.top_k > 0:
                config.top_k = sampling.top_k
            seed = random.getrandbits(63) if sampling.seed is None else sampling.seed
            config.rng_seed = (seed + number) % 2**63
        if speculation := self._settings.speculation:
            config.num_assistant_tokens, config.max_ngram_size = speculation.tokens, speculation.ngram
        config.validate()
        return config

    def _warm_up(self, sampling: Sampling) -> None:
        """Generate a few tokens: the first ones take longer, and what they need is in place before anybody waits."""
        has_requests, step = _without_lock(self._engine)
        was_idle = not has_requests()
        handle = self.add(self.encode("Once upon a time"), self.config(sampling, _WARM_UP))
        if was_idle and has_requests():
            self.step = step
        while self._engine.has_non_finished_requests():
            self.step()
        del handle


def _scheduler(genai: Any, settings: Settings) -> Any:
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks, scheduler.max_num_seqs = settings.blocks, settings.max_num_seqs
    scheduler.max_num_batched_tokens = settings.max_num_batched_tokens
    scheduler.enable_prefix_caching = settings.prefix_caching
    return scheduler


def _properties(genai: Any, settings: Settings) -> dict[str, Any]:
    properties: dict[str, Any] = dict(settings.properties)
    if (speculation := settings.speculation) and speculation.draft:
        properties["draft_model"] = genai.draft_model(str(speculation.draft), "CPU")
    elif speculation:
        properties["prompt_lookup"] = True
    return properties


def _without_lock(engine: Any) -> tuple[Callable[[], bool], Callable[[], None]]:
    """The engine's two C++ methods `has_non_finished_requests` and `step`, called without Python's lock.

    Its binding keeps the lock for as long as the network computes: nothing else could run meanwhile, neither the thread
    that sends tokens nor the one that notices a step without end. The first method serves to try the second's address.
    """
    import openvino_genai

    (path,) = Path(openvino_genai.__file__).parent.glob("libopenvino_genai.so.[0-9][0-9][0-9][0-9]")
    # A bound object holds the address of its C++ object behind the head that all Python objects have.
    this = ctypes.c_void_p.from_address(id(engine) + object.__basicsize__)
    library = ctypes.CDLL(str(path))
    has_requests, step = library[_HAS_REQUESTS], library[_STEP]
    has_requests.argtypes = step.argtypes = [ctypes.c_void_p]
    has_requests.restype, step.restype = ctypes.c_bool, None
    return partial(has_requests, this), partial(step, this)
