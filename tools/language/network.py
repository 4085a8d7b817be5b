"""The network as transformers runs it, in float32: the reference, and what vLLM reads."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.language import LanguageError, gguf_file
from tools.torchvision_import import make_importable

Logits = NDArray[np.float32]  # [tokens, vocabulary]


@contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """Keep transformers from printing, and turn whatever it raises about files into one line."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise LanguageError(f"transformers cannot read {path} ({reason}); give other --weights") from error


def _place(source: Path) -> dict[str, Any]:
    """A Hugging Face folder or a GGUF file, as transformers wants it."""
    if source.is_file():
        return {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
    return {"pretrained_model_name_or_path": source}


def read_tokenizer(source: Path) -> Any:
    """The tokenizer of a Hugging Face folder or a GGUF file.

    Raises:
        LanguageError: transformers cannot read it, or it has no chat template.
    """
    make_importable()
    from transformers import AutoTokenizer

    with _quiet(source):
        tokenizer = AutoTokenizer.from_pretrained(**_place(source))
    if not tokenizer.chat_template:
        raise LanguageError(f"{source} has no chat template; give weights of a model that was trained to chat")
    return _split_digits(source, tokenizer) if source.is_file() else tokenizer


def write_weights(source: Path, folder: Path) -> None:
    """Write a network in bfloat16, as Hugging Face does, from such a folder or a GGUF file, which is dequantized.

    Raises:
        LanguageError: transformers cannot read the source.
    """
    import torch

    make_importable()
    from transformers import AutoModelForCausalLM, GgufConfig

    unpacked = {"quantization_config": GgufConfig(dequantize=True)} if source.is_file() else {}
    with _quiet(source):
        network = AutoModelForCausalLM.from_pretrained(**_place(source), dtype=torch.bfloat16, **unpacked)
    network.save_pretrained(folder)


def _split_digits(source: Path, tokenizer: Any) -> Any:
    """Have a tokenizer from a GGUF file take digits one by one, as SmolLM's does, which transformers does not know."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits
    from tokenizers.pre_tokenizers import Sequence as Steps

    if gguf_file.text(source, "tokenizer.ggml.pre") == "smollm":
        steps = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = Steps(steps)
    return tokenizer


class Network:
    """A Hugging Face folder as a network and a tokenizer."""

    def __init__(self, folder: Path) -> None:
        import torch

        make_importable()
        from transformers import AutoModelForCausalLM

        self._tokenizer = read_tokenizer(folder)
        with _quiet(folder):
            self._network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @property
    def parameters(self) -> int:
        """The number of weights; what is tied counts once."""
        return sum(weight.numel() for weight in self._network.parameters())

    @property
    def frequencies(self) -> NDArray[np.float32]:
        """Of its rotary positions, in radians per token, scaled as its config says."""
        found: NDArray[np.float32] = self._network.model.rotary_emb.inv_freq.numpy()
        return found

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, in which special tokens may be written out."""
        return list(self._tokenizer.encode(text))

    def logits(self, tokens: Sequence[int]) -> Logits:
        """The logits after each of the tokens."""
        import torch

        with torch.inference_mode():
            output: Logits = self._network(torch.tensor([list(tokens)])).logits[0].numpy()
        return output
