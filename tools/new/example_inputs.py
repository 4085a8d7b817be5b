"""What a network takes: as `--example-inputs 'user:INT64[1],item:FP32[6]'` says, or inferred where that is possible.

Dims are those of one request without the batch, as in config.pbtxt; -1 for a variable dimension. `=0..9` behind an
input says which values callers send.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from clients.contract import TensorSpec
from tools.backends.pytorch.binding import TORCH_DTYPES
from tools.contract import torch_dtype
from tools.export.adapter import Parameter, in_brackets, parameters, takes_one_dict
from tools.export.agreement import ProofError
from tools.export.samples import Range
from tools.new.options import OptionError

_DATATYPES = tuple(name.removeprefix("TYPE_") for name in TORCH_DTYPES) + ("STRING",)
_INPUT = re.compile(
    r"\s*(?:(?P<name>\w+):)?(?P<datatype>[A-Z0-9]+)\[(?P<dims>[-\d,\s]*)\]"
    r"(?:\s*=\s*(?P<low>[^,\s]+?)\.\.(?P<high>[^,\s]+))?\s*(?:,|$)"
)

# What to suggest for the input of a layer, given its size: no more than a first try.
_SUGGESTIONS = (
    (nn.Linear, "in_features", "FP32[{}]"),
    (nn.Conv1d, "in_channels", "FP32[{},100]"),
    (nn.Conv2d, "in_channels", "FP32[{},224,224]"),
    (nn.Conv3d, "in_channels", "FP32[{},16,112,112]"),
    (nn.Embedding, "num_embeddings", "INT64[16]"),
    (nn.RNNBase, "input_size", "FP32[16,{}]"),
)


@dataclass(frozen=True)
class Wanted:
    """Inputs, and the least and the largest value of those of which only some are allowed."""

    specs: tuple[TensorSpec, ...]
    ranges: Mapping[str, Range] = field(default_factory=dict)


def parse(text: str, network: nn.Module) -> Wanted:
    """Parse a list of inputs, named or in `forward`'s order; OptionError if malformed or if `forward` takes others."""
    matches, end = [], 0
    while match := _INPUT.match(text, end):
        matches.append(match)
        end = match.end()
    if not matches or text[end:].strip() or text.rstrip().endswith(","):
        raise OptionError(
            f"cannot read '{text[end:]}' in --example-inputs '{text}'; expected 'user:INT64[1],item:FP32[6]' (names "
            "are optional; -1 for a variable dimension; [] for none; =0..9 for the values that it takes)"
        )
    known = parameters_of(network)
    if len(matches) > len(known) and not (len(known) == 1 and known[0].is_dict):
        raise OptionError(f"--example-inputs '{text}' has {len(matches)}; forward takes {_names(known)}")
    specs = tuple(_spec(match["name"] or _name_at(known, at), match) for at, match in enumerate(matches))
    _check_names(specs, known)
    return Wanted(
        specs, {spec.name: _range(spec, match) for spec, match in zip(specs, matches, strict=True) if match["low"]}
    )


def written(spec: TensorSpec) -> str:
    """An input as `parse` reads it: `name:FP32[3,224]`."""
    return f"{spec.name}:{spec.datatype}[{','.join(map(str, spec.dims))}]"


def named(specs: Sequence[TensorSpec], network: nn.Module) -> Wanted:
    """Name the inputs that were found in a file after `forward`'s parameters; OptionError if `forward` takes others."""
    known = parameters_of(network)
    specs = [replace(spec, name=spec.name or known[at].name) for at, spec in enumerate(specs)]
    _check_names(specs, known)
    return Wanted(tuple(specs))


def _range(spec: TensorSpec, match: re.Match[str]) -> Range:
    text, is_float = f"{match['low']}..{match['high']}", spec.datatype.startswith("FP")
    try:
        low, high = (float(match[side]) if is_float else int(match[side]) for side in ("low", "high"))
    except ValueError as error:
        raise OptionError(
            f"{spec.name}: expected values such as {'-1.5..1.5' if is_float else '0..9'}, got {text}"
        ) from error
    if spec.datatype in ("STRING", "BOOL"):
        raise OptionError(f"{spec.name}: {spec.datatype} has no range; omit ={text}")
    limits = (torch.finfo if is_float else torch.iinfo)(torch_dtype(spec))
    if not limits.min <= low <= high <= (limits.max if is_float else min(limits.max, 2**62)):
        raise OptionError(f"{spec.name}: expected LEAST..LARGEST within {spec.datatype}, got {text}")
    return low, high


def _spec(name: str, match: re.Match[str]) -> TensorSpec:
    datatype = match["datatype"]
    if datatype not in _DATATYPES:
        raise OptionError(f"{name}: libtorch has no type {datatype}; --example-inputs takes {', '.join(_DATATYPES)}")
    dims = tuple(int(part) for part in match["dims"].split(",") if part.strip())
    if any(dim < 1 and dim != -1 for dim in dims):
        raise OptionError(f"{name}: expected dimensions of at least 1, or -1; got {list(dims)} in --example-inputs")
    if datatype == "STRING" and len(dims) != 1:
        raise OptionError(f"{name}: texts are a List[str], with one dimension; give STRING[N] or STRING[-1]")
    return TensorSpec(name, datatype, dims)


def parameters_of(network: nn.Module) -> list[Parameter]:
    """List the parameters of `forward`; OptionError if it cannot be served."""
    try:
        return parameters(network)
    except ProofError as error:
        raise OptionError(str(error)) from error


def _name_at(known: Sequence[Parameter], at: int) -> str:
    if known[0].is_dict and sum(parameter.required for parameter in known) == 1:
        raise OptionError(f"forward takes the dict '{known[0].name}'; give --example-inputs its keys: 'KEY:FP32[6]'")
    return known[at].name


def _check_names(specs: Sequence[TensorSpec], known: Sequence[Parameter]) -> None:
    given = [spec.name for spec in specs]
    if repeated := sorted({name for name in given if given.count(name) > 1}):
        raise OptionError(f"--example-inputs gives {in_brackets(repeated)} more than once")
    if takes_one_dict(known):
        return
    if unknown := [name for name in given if name not in {parameter.name for parameter in known}]:
        raise OptionError(f"forward has no parameter {in_brackets(unknown)}; it takes {_names(known)}")
    if missing := [parameter for parameter in known if parameter.required and parameter.name not in given]:
        raise OptionError(f"forward takes {_names(known)}; --example-inputs lacks {_names(missing)}")


def _names(known: Sequence[Parameter]) -> str:
    return in_brackets([parameter.name for parameter in known])


def infer(network: nn.Module) -> Wanted:
    """Infer the input of a network that passes its only argument straight to a linear layer, else raise OptionError."""
    known = parameters_of(network)
    required = [parameter for parameter in known if parameter.required]
    if len(required) != 1 or required[0].is_dict:
        example = ",".join(f"{parameter.name}:FP32[6]" for parameter in required) or "x:FP32[6]"
        raise OptionError(
            f"forward takes {_names(known)}, whose types and shapes cannot be inferred; give them, in the form "
            f"--example-inputs '{example}'"
        )
    leaves = (module for module in network.modules() if not list(module.children()))
    name, first = required[0].name, next((leaf for leaf in leaves if list(leaf.parameters(recurse=False))), None)
    if isinstance(first, nn.Linear) and _gets_the_input(network, first):
        return Wanted((TensorSpec(name, "FP32", (first.in_features,)),))
    forms = (form.format(getattr(first, size)) for kind, size, form in _SUGGESTIONS if isinstance(first, kind))
    raise OptionError(
        f"the shape of forward's argument '{name}' cannot be inferred; give it, for example "
        f"--example-inputs '{name}:{next(forms, 'FP32[6]')}'"
    )


def _gets_the_input(network: nn.Module, layer: nn.Linear) -> bool:

    given = torch.zeros(2, layer.in_features)
    received: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    try:
        with torch.inference_mode():
            network(given)
    except Exception:  # Whatever a user's network raises: then its input has another shape.
        return False
    finally:
        hook.remove()
    return len(received) == 1 and received[0] is given
