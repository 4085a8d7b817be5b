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


def write_folder(source: Path, folder: Path) -> None:
    """Write a Hugging Face folder in bfloat16, from another one or from a GGUF file, whose weights are dequantized.

    Raises:
        LanguageError: transformers cannot read the source, or it has no chat template.
    """
    import torch

    make_importable()
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with _quiet(source):
        if source.is_file():
            arguments = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
            unpacked = GgufConfig(dequantize=True)
            tokenizer = _split_digits(source, AutoTokenizer.from_pretrained(**arguments))
            network = AutoModelForCausalLM.from_pretrained(
                **arguments, dtype=torch.bfloat16, quantization_config=unpacked
            )
        else:
            tokenizer = AutoTokenizer.from_pretrained(source)
            network = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    if not tokenizer.chat_template:
        raise LanguageError(f"{source} has no chat template; give weights of a model that was trained to chat")
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


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
        from transformers import AutoModelForCausalLM, AutoTokenizer

        with _quiet(folder):
            self._network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    @property
    def parameters(self) -> int:
        """The number of weights; what is tied counts once."""
        return sum(weight.numel() for weight in self._network.parameters())

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, in which special tokens may be written out."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def chat(self, text: str) -> str:
        """The prompt that asks for an answer to a user's message."""
        messages = [{"role": "user", "content": text}]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def logits(self, tokens: Sequence[int]) -> Logits:
        """The logits after each of the tokens."""
        import torch

        with torch.inference_mode():
            output: Logits = self._network(torch.tensor([list(tokens)])).logits[0].numpy()
        return output
