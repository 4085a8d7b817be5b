"""The same network as OpenVINO runs it: its files, written from GGUF, and the embedded server's engine on them."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.language import LanguageError
from tools.language.network import Logits

# The names that OpenVINO GenAI looks for in a folder.
_NETWORK = ("openvino_model.xml", "openvino_model.bin")


def write_network(gguf: Path, folder: Path) -> None:
    """Write a GGUF file's network as OpenVINO's files, into a folder with a tokenizer; matrices keep their type.

    Raises:
        LanguageError: OpenVINO's reader refuses the file.
    """
    import openvino_genai

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        # The engine writes beside the file that it reads.
        place = Path(scratch) / "model.gguf"
        place.symlink_to(gguf.resolve())
        try:
            tokenizer = openvino_genai.Tokenizer(str(folder))
            openvino_genai.LLMPipeline(str(place), tokenizer, "CPU", enable_save_ov_model=True)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise LanguageError(f"OpenVINO cannot read {gguf} ({reason})") from error
        for name in _NETWORK:
            shutil.move(Path(scratch) / name, folder / name)


def write_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer of transformers as OpenVINO's, and the one that turns tokens into text."""
    import openvino
    from openvino_tokenizers import convert_tokenizer

    encoder, decoder = convert_tokenizer(tokenizer, with_detokenizer=True)
    openvino.save_model(encoder, folder / "openvino_tokenizer.xml")
    openvino.save_model(decoder, folder / "openvino_detokenizer.xml")


class Engine:
    """What the embedded server's engine answers with the files of a folder."""

    def __init__(self, folder: Path) -> None:
        import openvino
        import openvino_genai

        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 1
        self._genai = openvino_genai
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", {})
        self._request = openvino.Core().compile_model(folder / _NETWORK[0], "CPU").create_infer_request()
        self._tokenizer = self._pipeline.get_tokenizer()

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, in which special tokens may be written out."""
        return [int(token) for token in self._tokenizer.encode(text, add_special_tokens=False).input_ids.data[0]]

    def chat(self, text: str) -> str:
        """The prompt that asks for an answer to a user's message."""
        return str(self._tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True))

    def logits(self, tokens: Sequence[int]) -> Logits:
        """The logits after each of the tokens."""
        count = len(tokens)
        self._request.reset_state()
        inputs = {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.ones((1, count), np.int64),
            "position_ids": np.arange(count, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        return np.array(next(iter(self._request.infer(inputs).values()))[0], np.float32)

    def answer(self, prompt: str, count: int) -> tuple[list[int], str]:
        """What greedy decoding appends to a prompt: at most `count` tokens, and their text."""
        import openvino

        config = self._genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.apply_chat_template = count, False, False
        config.eos_token_id = self._tokenizer.get_eos_token_id()
        given = openvino.Tensor(np.array([self.tokens(prompt)], np.int64))
        tokens = [int(token) for token in self._pipeline.generate([given], [config])[0].m_generation_ids[0]]
        return tokens, str(self._tokenizer.decode(tokens))
