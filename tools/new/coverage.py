"""What a new model's proofs cover: which values and sizes its inputs were tried with, and so which were not."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from clients.contract import TensorSpec
from tools.export.samples import Samples
from tools.new.example_inputs import written
from tools.new.trial import Observed


def proven(specs: Sequence[TensorSpec], samples: Samples, observed: Observed) -> Mapping[str, str]:
    """Say for each input, in a sentence for config.pbtxt, what the model was proven with."""
    parts = {spec.name: [*filter(None, [_values(spec, samples)]), *_sizes(spec, observed)] for spec in specs}
    return {name: f"Proven with {'; '.join(texts)}." for name, texts in parts.items() if texts}


def notes(specs: Sequence[TensorSpec], samples: Samples, observed: Observed) -> Iterator[str]:
    """Say what the examples did not cover, with the option that covers it."""
    for spec in specs:
        if samples.are_guessed(spec) and "mask" not in spec.name:
            yield (
                f"{spec.name} was tried with the values 0 and 1 only; give those that callers send: --example-inputs "
                f"'{written(spec)}=0..9', or --examples FILE"
            )
        elif spec.name in samples.ranges or (samples.given and not spec.datatype.startswith("FP")):
            yield f"{spec.name} was tried with {_values(spec, samples)}; other values were not"
    texts = {spec.name: text for spec in specs for text in _sizes(spec, observed)}
    for text in dict.fromkeys(texts.values()):
        names = ", ".join(name for name in texts if texts[name] == text)
        yield f"{names}: tried with {text}; name others with --sizes"


def _values(spec: TensorSpec, samples: Samples) -> str:
    if spec.name in samples.ranges:
        low, high = samples.ranges[spec.name]
        return f"values from {low:g} to {high:g}"
    given = [row[spec.name] for row in samples.given if spec.name in row]
    tensors = [value for value in given if isinstance(value, Tensor) and value.numel()]
    if tensors:
        low, high = (min(value.min().item() for value in tensors), max(value.max().item() for value in tensors))
        return f"values from {low:g} to {high:g} of {len(given)} example{'s' * (len(given) > 1)}"
    if given:
        return f"{len(given)} example{'s' * (len(given) > 1)}"
    return "the values 0 and 1" if samples.are_guessed(spec) else ""


def _sizes(spec: TensorSpec, observed: Observed) -> list[str]:
    if -1 not in spec.dims:
        return []
    shapes = dict.fromkeys(str(list(shapes[spec.name])) for shapes in observed.dims)
    return [f"dims {', '.join(shapes)}: {observed.remark}"]
