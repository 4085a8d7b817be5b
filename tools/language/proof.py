"""The proof that a folder's two forms are the same model: the network that vLLM reads, and the one for OpenVINO."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tools.language import LanguageError
from tools.language.network import Logits
from tools.recipes import LanguageModel

_TEXTS = Path(__file__).with_name("texts")
# Tokens that are computed at once; perplexity is over pieces of this length.
_PIECE = 256
MAX_TOKENS = 32


class Form(Protocol):
    """One form of a language model."""

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text."""

    def logits(self, tokens: Sequence[int]) -> Logits:
        """The logits after each token: [tokens, vocabulary]."""


@dataclass(frozen=True)
class Case:
    """A prompt, as clients render a chat, and what greedy decoding appends to it."""

    prompt: str
    prompt_tokens: int
    tokens: list[int]
    text: str


@dataclass(frozen=True)
class Agreement:
    """What was measured of both forms; `perplexity` is that of the engine, on `held_out_tokens` tokens.

    Attributes:
        same_answers: how many of the answers to `prompts` are the same, token by token.
        same_tokens: how many of all `answer_tokens` the reference would have chosen after the same tokens.
    """

    perplexity: float
    reference_perplexity: float
    held_out_tokens: int
    prompts: int
    same_answers: int
    answer_tokens: int
    same_tokens: int


def questions() -> list[str]:
    """The users' messages of which golden prompts are made."""
    return (_TEXTS / "prompts.txt").read_text().splitlines()


def held_out() -> str:
    """A text that no model was trained on: it was written for this test."""
    return (_TEXTS / "held_out.txt").read_text()


def prove(model: str, reference: Form, engine: Form, cases: Sequence[Case], recipe: LanguageModel) -> Agreement:
    """Measure how far two forms agree.

    Raises:
        LanguageError: they split texts differently, the engine's perplexity is beyond the recipe's budget, or too few
            of its greedy tokens are the reference's.
    """
    _prove_same_tokens(model, reference, engine, cases[0].prompt)
    tokens = reference.tokens(held_out())
    expected, actual = perplexity(reference, tokens), perplexity(engine, tokens)
    if actual > expected * (1 + recipe.budget):
        raise LanguageError(
            f"{model}: perplexity {actual:.2f} in OpenVINO and {expected:.2f} in transformers on {len(tokens)} tokens; "
            f"expected at most {recipe.budget:.0%} more"
        )
    is_same = [_is_same(reference, case) for case in cases]
    count, same = sum(map(len, is_same)), sum(map(sum, is_same))
    if same < recipe.same * count:
        raise LanguageError(
            f"{model}: of {count} tokens that OpenVINO chose, transformers would have chosen {same} after the same "
            f"text; expected at least {recipe.same:.0%}"
        )
    return Agreement(
        perplexity=round(actual, 4),
        reference_perplexity=round(expected, 4),
        held_out_tokens=len(tokens),
        prompts=len(cases),
        same_answers=sum(map(all, is_same)),
        answer_tokens=count,
        same_tokens=same,
    )


def _prove_same_tokens(model: str, reference: Form, engine: Form, prompt: str) -> None:
    for text in (held_out(), prompt, *questions(), "3.14 × 1,000 = 3140\n\n\tif x:  # ünïcödé 日本 🙂"):
        if (expected := reference.tokens(text)) != (actual := engine.tokens(text)):
            at = len(os.path.commonprefix([expected, actual]))
            raise LanguageError(f"{model}: the tokenizers differ from token {at} of {text[:40]!r} on")


def perplexity(form: Form, tokens: Sequence[int]) -> float:
    """How many tokens, equally likely, would be as hard to guess as these: exp of the mean negative log-likelihood."""
    pieces = [tokens[start : start + _PIECE] for start in range(0, len(tokens) - 1, _PIECE)]
    likelihoods = [_log_softmax(form.logits(piece)[:-1])[range(len(piece) - 1), list(piece[1:])] for piece in pieces]
    return float(np.exp(-np.concatenate(likelihoods).mean()))


def _is_same(reference: Form, case: Case) -> list[bool]:
    """Whether the reference would have chosen each token of an answer, after the prompt and the tokens before it."""
    prompt = reference.tokens(case.prompt)
    logits = reference.logits([*prompt, *case.tokens])[len(prompt) - 1 : -1]
    return [bool(token == best) for token, best in zip(case.tokens, logits.argmax(1), strict=True)]


def _log_softmax(logits: Logits) -> NDArray[np.float64]:
    shifted: NDArray[np.float64] = logits.astype(np.float64) - logits.max(1, keepdims=True)
    likelihoods: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return likelihoods
