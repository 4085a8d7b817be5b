"""Sampling parameters by vLLM's names: which there are, what each may be, and what a request asks for.

Values are coerced as NVIDIA's backend does it ("0" is 0), because requests over HTTP often carry texts. What cannot be
meant is refused in words, where NVIDIA's backend logs it and goes on without any parameter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

_GREEDY_BELOW = 1e-5  # A lower temperature stands for the most likely token, as in vLLM.


@dataclass(frozen=True)
class Sampling:
    """What a request asks for; the defaults are vLLM's."""

    n: int = 1
    max_tokens: int | None = 16  # None: as many as the model's length allows
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature < _GREEDY_BELOW

    @property
    def takes_likeliest(self) -> bool:
        """Whether the token that is chosen is the likeliest one of all, as the network has it."""
        is_changed = self.min_tokens or self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1
        return self.is_greedy and not is_changed


@dataclass(frozen=True)
class _Rule:
    """How a value is read and what it is called; None only where that means something."""

    read: Callable[[Any], Any]
    expected: str
    low: float = -math.inf
    high: float = math.inf
    is_optional: bool = False

    def value(self, given: Any) -> Any:
        """The value that is meant; ValueError or TypeError where there is none."""
        if given is None and self.is_optional:
            return None
        value = self.read(given)
        if isinstance(value, int | float) and not self.low <= value <= self.high:
            raise ValueError
        return value


def _integer(given: Any) -> int:
    if isinstance(given, bool) or (isinstance(given, float) and not given.is_integer()):
        raise ValueError
    return int(given)


def _number(given: Any) -> float:
    if isinstance(given, bool) or not math.isfinite(float(given)):
        raise ValueError
    return float(given)


def _boolean(given: Any) -> bool:
    return {True: True, False: False, "true": True, "false": False}[given.lower() if isinstance(given, str) else given]


def _texts(given: Any) -> tuple[str, ...]:
    texts = (given,) if isinstance(given, str) else tuple(given or ())
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError
    return texts


def _tokens(given: Any) -> tuple[int, ...]:
    if isinstance(given, str):
        raise ValueError
    return tuple(_integer(token) for token in given or ())


_PENALTY = _Rule(_number, "a number from -2 to 2", -2, 2)
_FLAG = _Rule(_boolean, "true or false")
# 1 is for the likeliest token beside the chosen one.
_LOGPROBS = "0 (this engine tells the chosen token's alone), or 1 with temperature 0, no penalties and no min_tokens"
_RULES = {
    "n": _Rule(_integer, "an integer of at least 1", 1),
    "max_tokens": _Rule(_integer, "an integer of at least 1, or null", 1, is_optional=True),
    "min_tokens": _Rule(_integer, "an integer of at least 0", 0),
    "temperature": _Rule(_number, "a number of at least 0", 0),
    "top_p": _Rule(_number, "a number above 0 and at most 1", math.ulp(0.0), 1),
    "top_k": _Rule(_integer, "an integer of at least 1, or 0 or -1 for all tokens", -1),
    "min_p": _Rule(_number, "a number from 0 to below 1", 0, math.nextafter(1, 0)),
    "seed": _Rule(_integer, "an integer of 64 bits, or null", -(2**63), 2**63 - 1, is_optional=True),
    "presence_penalty": _PENALTY,
    "frequency_penalty": _PENALTY,
    "repetition_penalty": _Rule(_number, "a number above 0", math.ulp(0.0)),
    "stop": _Rule(_texts, "a text or a list of texts, none empty"),
    "stop_token_ids": _Rule(_tokens, "a list of integers"),
    "include_stop_str_in_output": _FLAG,
    "ignore_eos": _FLAG,
    "skip_special_tokens": _FLAG,
    "logprobs": _Rule(_integer, f"{_LOGPROBS}, or null", 0, 1, is_optional=True),
}


def read(text: str, most: int) -> Sampling:
    """Read the parameters of a request.

    Args:
        text: JSON, as in the tensor `sampling_parameters`.
        most: how many answers one request may ask for.

    Raises:
        ValueError: it is no JSON object, or a parameter is unknown or cannot be meant.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ValueError(f"sampling parameters: expected a JSON object, got {_shown(text)} ({error})") from error
    if not isinstance(given, dict):
        raise ValueError(f"sampling parameters: expected a JSON object, got {_shown(given)}")
    if given.pop("lora_name", None) is not None:
        raise ValueError("LoRA feature is not enabled.")
    sampling = Sampling(**{name: _value(name, value) for name, value in given.items()})
    _check_together(sampling, most)
    return sampling


def _value(name: str, given: Any) -> Any:
    rule = _RULES.get(name)
    if rule is None:
        close = get_close_matches(name, _RULES, 1)
        hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(_RULES)}"
        raise ValueError(f"{name}: this engine has no such sampling parameter{hint}")
    try:
        return rule.value(given)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(f"{name}: expected {rule.expected}, got {_shown(given)}") from error


def _check_together(sampling: Sampling, most: int) -> None:
    if sampling.n > most:
        raise ValueError(f"n: expected at most {most} (max_num_seqs), got {sampling.n}")
    if sampling.n > 1 and sampling.is_greedy:
        raise ValueError(f"n: expected 1 with temperature 0, where all answers would be equal, got {sampling.n}")
    if sampling.max_tokens is not None and sampling.min_tokens > sampling.max_tokens:
        raise ValueError(f"min_tokens: expected at most max_tokens={sampling.max_tokens}, got {sampling.min_tokens}")
    if sampling.logprobs and not sampling.takes_likeliest:
        raise ValueError(f"logprobs: expected {_LOGPROBS}, got {sampling.logprobs}")


def _shown(given: Any) -> str:
    text = json.dumps(given, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"
