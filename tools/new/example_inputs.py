"""What a network takes, as `--example-inputs 'user:INT64[1],item:FP32[6]'` says it, or as far as the network tells.

Dims are those of one request without its batch, as in config.pbtxt; -1 for a dimension that varies.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clients.contract import TensorSpec
from clients.errors import ToolError
from tools.backends.pytorch.binding import TORCH_DTYPES
from tools.export.agreement import ProofError
from tools.export.calling import Parameter, listed, parameters

DATATYPES = tuple(name.removeprefix("TYPE_") for name in TORCH_DTYPES) + ("STRING",)
ONE = re.compile(r"\s*(?:(?P<name>\w+):)?(?P<datatype>[A-Z0-9]+)\[(?P<dims>[-\d,\s]*)\]\s*(?:,|$)")
FORM = "'user:INT64[1],item:FP32[6]' (names may be left out; -1 for a dimension that varies; [] for none)"
# What to suggest for the input of a layer, given its size: no more than a first try.
SUGGESTIONS = {
    nn.Linear: ("in_features", "FP32[{}]"),
    nn.Conv1d: ("in_channels", "FP32[{},100]"),
    nn.Conv2d: ("in_channels", "FP32[{},224,224]"),
    nn.Conv3d: ("in_channels", "FP32[{},16,112,112]"),
    nn.Embedding: ("num_embeddings", "INT64[16]"),
    nn.RNNBase: ("input_size", "FP32[16,{}]"),
}


class ExampleError(ToolError):
    """The inputs are not said, or not right; the message says how --example-inputs would say them."""


def parse(text: str, network: nn.Module) -> tuple[TensorSpec, ...]:
    """The inputs that a text lists, with `forward`'s names where it gives none.

    Raises:
        ExampleError: it is not of the form, or `forward` takes others.
    """
    found, at = [], 0
    while match := ONE.match(text, at):
        found.append(match)
        at = match.end()
    if not found or text[at:].strip() or text.rstrip().endswith(","):
        raise ExampleError(f"cannot read '{text[at:]}' in --example-inputs '{text}'; expected {FORM}")
    known = parameters_of(network)
    if len(found) > len(known) and not (len(known) == 1 and known[0].is_dict):
        raise ExampleError(f"--example-inputs '{text}' are {len(found)}; forward takes {listed(names(known))}")
    specs = tuple(spec(match["name"] or name_at(known, at), match) for at, match in enumerate(found))
    check_names(specs, known)
    return specs


def spec(name: str, match: re.Match[str]) -> TensorSpec:
    """One input."""
    if match["datatype"] not in DATATYPES:
        raise ExampleError(
            f"{name}: libtorch has no type {match['datatype']}; --example-inputs takes {', '.join(DATATYPES)}"
        )
    dims = tuple(int(part) for part in match["dims"].split(",") if part.strip()) if match["dims"].strip() else ()
    if any(dim < 1 and dim != -1 for dim in dims):
        raise ExampleError(f"{name}: expected dimensions of at least 1, or -1; got {list(dims)} in --example-inputs")
    if match["datatype"] == "STRING" and len(dims) != 1:
        raise ExampleError(f"{name}: texts are a List[str], of one dimension; give STRING[N] or STRING[-1]")
    return TensorSpec(name, match["datatype"], dims)


def parameters_of(network: nn.Module) -> list[Parameter]:
    """The arguments of `forward`."""
    try:
        return parameters(network)
    except ProofError as error:
        raise ExampleError(str(error)) from error


def name_at(known: Sequence[Parameter], at: int) -> str:
    """The name of an input that is given without one."""
    if known[0].is_dict and len([each for each in known if each.required]) == 1:
        raise ExampleError(f"forward takes the dict '{known[0].name}'; give --example-inputs its keys: 'KEY:FP32[6]'")
    return known[at].name


def check_names(specs: Sequence[TensorSpec], known: Sequence[Parameter]) -> None:
    """Each input is an argument of `forward`, once, and none that it needs is missing."""
    given = [one.name for one in specs]
    if repeated := sorted({name for name in given if given.count(name) > 1}):
        raise ExampleError(f"--example-inputs gives {listed(repeated)} more than once")
    if [each.is_dict for each in known if each.required] == [True]:
        return
    if strange := [name for name in given if name not in names(known)]:
        raise ExampleError(f"forward has no argument {listed(strange)}; it takes {listed(names(known))}")
    if missing := [each.name for each in known if each.required and each.name not in given]:
        raise ExampleError(f"forward takes {listed(names(known))}; --example-inputs lacks {listed(missing)}")


def names(known: Sequence[Parameter]) -> list[str]:
    """Names of arguments."""
    return [each.name for each in known]


def inferred(network: nn.Module) -> tuple[TensorSpec, ...]:
    """The input of a network whose one argument goes straight into a linear layer, which says all about it.

    Raises:
        ExampleError: it is another one; the message suggests what to give.
    """
    known = parameters_of(network)
    required = [each for each in known if each.required]
    first = first_layer(network)
    if len(required) != 1 or required[0].is_dict:
        each = ",".join(f"{one.name}:FP32[6]" for one in required) or "x:FP32[6]"
        raise ExampleError(
            f"forward takes {listed(names(known))}, whose types and shapes cannot be inferred; say them, in the form "
            f"--example-inputs '{each}'"
        )
    name = required[0].name
    if isinstance(first, nn.Linear) and is_entered_first(network, first):
        return (TensorSpec(name, "FP32", (first.in_features,)),)
    raise ExampleError(
        f"the shape of forward's argument '{name}' cannot be inferred; say it, for example "
        f"--example-inputs '{name}:{suggestion(first)}'"
    )


def first_layer(network: nn.Module) -> nn.Module | None:
    """The first module without others in it that has weights."""
    leaves = (each for each in network.modules() if not list(each.children()))
    return next((each for each in leaves if list(each.parameters(recurse=False))), None)


def is_entered_first(network: nn.Module, layer: nn.Linear) -> bool:
    """Whether a network passes its input to this layer just as it came; found by trying."""
    given = torch.zeros(2, layer.in_features)
    received: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    try:
        with torch.inference_mode():
            network(given)
    except Exception:  # Whatever a user's network raises: it was not this shape, then.
        return False
    finally:
        hook.remove()
    return len(received) == 1 and received[0] is given


def suggestion(layer: nn.Module | None) -> str:
    """A type and a shape that may suit a layer."""
    for kind, (size, form) in SUGGESTIONS.items():
        if isinstance(layer, kind):
            return form.format(getattr(layer, size))
    return "FP32[6]"
