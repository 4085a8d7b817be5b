"""The same network as OpenVINO runs it: its files, written from GGUF, and the embedded server's engine on them."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.backends.vllm.pipeline import Pipeline
from tools.backends.vllm.sampling import Sampling
from tools.backends.vllm.settings import read_settings
from tools.language import LanguageError
from tools.language.network import Logits

# The names that OpenVINO GenAI looks for in a folder.
_NETWORK = ("openvino_model.xml", "openvino_model.bin")


def write_network(gguf: Path, folder: Path, frequencies: NDArray[np.float32]) -> None:
    """Write a GGUF file's network as OpenVINO's files, into a folder with a tokenizer; matrices keep their type.

    Args:
        gguf: the file.
        folder: where they go.
        frequencies: of its rotary positions; OpenVINO's reader knows them only as far as they are not scaled.

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
        _set_frequencies(Path(scratch), frequencies)
        for name in _NETWORK:
            shutil.move(Path(scratch) / name, folder / name)


def _set_frequencies(folder: Path, frequencies: NDArray[np.float32]) -> None:
    import openvino

    network, shape = openvino.Core().read_model(folder / _NETWORK[0]), [1, len(frequencies), 1]
    constants = [node for node in network.get_ops() if node.get_type_name() == "Constant"]
    (found,) = [node for node in constants if list(node.shape) == shape and node.data.dtype == np.float32]
    if not np.allclose(found.data.ravel(), frequencies, rtol=1e-4):
        scaled = openvino.opset13.constant(frequencies.reshape(shape))
        for reader in found.output(0).get_target_inputs():
            reader.replace_source_output(scaled.output(0))
        openvino.save_model(network, folder / "scaled.xml", compress_to_fp16=False)
        for name in _NETWORK:
            (folder / f"scaled{Path(name).suffix}").replace(folder / name)


def write_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer of transformers as OpenVINO's, and the one that turns tokens into text."""
    import openvino
    from openvino_tokenizers import convert_tokenizer

    encoder, decoder = convert_tokenizer(tokenizer, with_detokenizer=True)
    openvino.save_model(encoder, folder / "openvino_tokenizer.xml")
    openvino.save_model(decoder, folder / "openvino_detokenizer.xml")


class Engine:
    """What the embedded server's engine answers with the files of a version, set up as there."""

    def __init__(self, folder: Path) -> None:
        import openvino

        self._pipeline = Pipeline(read_settings(folder, {}, "CPU"), Sampling())
        self._request = openvino.Core().compile_model(folder / _NETWORK[0], "CPU").create_infer_request()

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, in which special tokens may be written out."""
        return [int(token) for token in self._pipeline.encode(text).data[0]]

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
        config = self._pipeline.config(Sampling(temperature=0), count)
        handle, tokens, reason = self._pipeline.add(self._pipeline.encode(prompt), config), list[int](), None
        while not reason:
            self._pipeline.step()
            news = self._pipeline.news(handle)
            tokens, reason = tokens + news.tokens, news.reason
        return tokens, str(self._pipeline.tokenizer.decode(tokens))
