"""The inputs of Hugging Face's transformers, whose arguments all default to None: what the network's config says."""

from collections.abc import Collection, Iterator
from typing import Any

from torch import nn

from clients.contract import TensorSpec
from tools.new.example_inputs import Wanted


def infer(network: nn.Module, known: Collection[str]) -> Wanted | None:
    """Infer the inputs from `main_input_name` and `config`; None for another network, or an input not known here."""
    main, config = (getattr(network, name, None) for name in ("main_input_name", "config"))
    if not isinstance(main, str) or config is None or main not in known:
        return None
    specs = [*_main(main, config), *_others(main, config, known)]
    words = getattr(config.get_text_config(), "vocab_size", None)
    ranges = {spec.name: (0.0, words - 1.0) for spec in specs if words and spec.name.endswith("input_ids")}
    return Wanted(tuple(specs), ranges) if specs and specs[0].name == main else None


def _main(main: str, config: Any) -> Iterator[TensorSpec]:
    if main == "input_ids":
        yield TensorSpec(main, "INT64", (-1,))
    elif main == "input_values":
        yield TensorSpec(main, "FP32", (-1,))
    elif main == "input_features" and (bins := getattr(config, "num_mel_bins", None)):
        yield TensorSpec(main, "FP32", (bins, -1))
    elif main == "pixel_values":
        yield from _picture(config)


def _picture(config: Any) -> Iterator[TensorSpec]:
    vision = getattr(config, "vision_config", config)
    sides = getattr(vision, "image_size", None)
    height, width = sides if isinstance(sides, list | tuple) else (sides, sides)
    yield TensorSpec("pixel_values", "FP32", (getattr(vision, "num_channels", 3), height or -1, width or -1))


def _others(main: str, config: Any, known: Collection[str]) -> Iterator[TensorSpec]:
    if main == "input_ids" and "attention_mask" in known:
        yield TensorSpec("attention_mask", "INT64", (-1,))
    if main == "input_ids" and "pixel_values" in known and hasattr(config, "vision_config"):
        yield from _picture(config)
    if "decoder_input_ids" in known and getattr(config, "is_encoder_decoder", False):
        yield TensorSpec("decoder_input_ids", "INT64", (-1,))
    if main == "pixel_values" and "input_ids" in known:
        yield TensorSpec("input_ids", "INT64", (-1,))
