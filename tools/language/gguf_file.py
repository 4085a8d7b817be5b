"""GGUF files: what one says about itself, and weights of a Hugging Face folder written as one, for OpenVINO's reader.

That reader knows networks like Llama's. Of the types of matrices that it takes, only those in `TYPES` are exact: it
rounds the offsets of Q4_1 and Q4_K to whole steps, which made SmolLM2's perplexity 19 % larger.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.language import LanguageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# Types of matrices by precision. The reader takes no BF16; F16 holds such weights of ordinary size exactly.
TYPES = {"bf16": "F16", "int8": "Q8_0", "int4": "Q4_0"}
# Numbers of general.file_type, in which the reader looks for scales, or does not.
_FILE_TYPES = {"F16": 1, "Q8_0": 7, "Q4_0": 2}
# Networks that it knows, by Hugging Face's names; Mistral's are Llama's but for the window that later ones lack.
_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
# Scaled rotary positions whose frequencies are the same for texts of every length.
_SCALINGS = ("default", "linear", "llama3")


def text(file: Path, key: str) -> str:
    """A text that a GGUF file holds under a key; empty for none."""
    from gguf import GGUFReader

    field = GGUFReader(file).get_field(key)
    return str(field.contents()) if field else ""


def has_tensor(file: Path, name: str) -> bool:
    """Whether a GGUF file holds a tensor."""
    from gguf import GGUFReader

    return any(tensor.name == name for tensor in GGUFReader(file).tensors)


def write(folder: Path, file: Path, precision: str, title: str) -> None:
    """Write the network of a Hugging Face folder, without its tokenizer, with matrices of a type in `TYPES`.

    Errors call the network by its title.

    Raises:
        LanguageError: OpenVINO's reader does not know such networks.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    config = json.loads((folder / "config.json").read_text())
    _refuse_unknown(config, title)
    writer, kind = GGUFWriter(file, _architecture(config)), GGMLQuantizationType[TYPES[precision]]
    _write_config(writer, config, _FILE_TYPES[kind.name])
    for name, array in _tensors(folder, config, title):
        if array.ndim == 1:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _refuse_unknown(config: dict[str, Any], title: str) -> None:
    kind, rope = config.get("model_type"), config.get("rope_parameters") or {}
    if kind not in _ARCHITECTURES:
        raise LanguageError(f"{title} is a {kind} network; expected one of {', '.join(_ARCHITECTURES)}")
    if (scaling := rope.get("rope_type", "default")) not in _SCALINGS:
        raise LanguageError(f"{title} scales its rotary positions as {scaling}; expected one of {', '.join(_SCALINGS)}")
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        raise LanguageError(
            f"{title} attends to the last {config['sliding_window']} tokens alone (sliding_window); expected all"
        )


def _architecture(config: dict[str, Any]) -> str:
    return _ARCHITECTURES[config["model_type"]]


def _write_config(writer: Any, config: dict[str, Any], file_type: int) -> None:
    heads, rope = config["num_attention_heads"], config.get("rope_parameters") or {}
    writer.add_file_type(file_type)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)


def _tensors(folder: Path, config: dict[str, Any], title: str) -> "Iterator[tuple[str, NDArray[Any]]]":
    """All tensors by their names in GGUF, as float32; of what is tied, the first."""
    from gguf import MODEL_ARCH, get_tensor_name_map
    from safetensors.torch import load_file

    names = get_tensor_name_map(MODEL_ARCH[_architecture(config).upper()], config["num_hidden_layers"])
    weights = {
        name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()
    }
    if config.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)
    for name, tensor in weights.items():
        given = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if given is None:
            raise LanguageError(f"OpenVINO's reader knows no tensor {name}, which {title} has")
        yield given, _interleaved(name, tensor.float(), config).numpy()


def _interleaved(name: str, tensor: "Tensor", config: dict[str, Any]) -> "Tensor":
    # In GGUF, the two halves of a head that Llama rotates lie row by row beside each other.
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
    if heads is None or _architecture(config) != "llama":
        return tensor
    count = config.get(heads) or config["num_attention_heads"]
    return tensor.reshape(count, 2, -1, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
