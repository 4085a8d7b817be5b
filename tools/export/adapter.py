"""Adapts any network to the one form that Triton can serve: tensors or List[str] in, a flat tuple of them out.

`Adapter` calls a network in that form: it passes a dict if `forward` takes one, and flattens a dict, a NamedTuple or
nested tuples into one tuple. `forward_source` is TorchScript for a `forward` that does the same in the served file.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from tools.backends.pytorch import binding
from tools.contract import Value
from tools.export.advice import advice
from tools.export.agreement import ProofError, UnservableError, describe, last_line


@dataclass(frozen=True)
class Parameter:
    """A parameter of `forward`: whether a call must pass it, and its type, empty if it has no annotation."""

    name: str
    required: bool
    kind: str

    @property
    def is_dict(self) -> bool:
        """Whether it is a dict of tensors."""
        return bool(re.match(r"(dict|Dict|Mapping)\[", self.kind))

    @property
    def is_servable(self) -> bool:
        """Whether the backend may pass it: a tensor, texts or a dict, as far as its annotation says."""
        return not re.match(r"(int|float|bool|str)$|(tuple|Tuple)\[|(list|List|Sequence)\[(?!str\])", self.kind)


@dataclass(frozen=True)
class Call:
    """How to call `forward`."""

    names: tuple[str, ...]  # Its arguments, or the keys of its one dict.
    as_dict: bool = False  # Whether it takes that dict.
    is_complete: bool = True  # Whether the names are all of its parameters.
    squeezed: frozenset[str] = frozenset()  # Arguments that it takes without their last dimension, which is 1.


@dataclass(frozen=True)
class Output:
    """One output: the keys and indices that lead to it, its label (empty without a key or field name), its value."""

    path: tuple[str | int, ...]
    label: str
    value: Value


def parameters(network: nn.Module) -> list[Parameter]:
    """List the parameters of `forward` but `**kwargs`, which stay empty; raise ProofError if it takes `*args`."""
    if isinstance(network, torch.jit.ScriptModule):
        forward: Any = network.forward
        arguments = [argument for argument in forward.schema.arguments if argument.type.kind() != "ClassType"]
        return [Parameter(a.name, not a.has_default_value(), a.type.annotation_str) for a in arguments]
    signature = inspect.signature(network.forward)
    if any(known.kind is known.VAR_POSITIONAL for known in signature.parameters.values()):
        raise ProofError(
            f"forward{signature} takes any number of arguments, which TorchScript cannot express; give it one "
            "parameter for each input"
        )
    return [
        Parameter(known.name, known.default is known.empty, _spelled(known.annotation))
        for known in signature.parameters.values()
        if known.kind is not known.VAR_KEYWORD
    ]


def _spelled(annotation: Any) -> str:
    """A type as people write it: List[Tensor]."""
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation.__name__ if inspect.isclass(annotation) and not get_args(annotation) else str(annotation)
    return re.sub(r"\b(typing|torch|collections\.abc)\.", "", text)


def takes_one_dict(known: Sequence[Parameter]) -> bool:
    """Whether the only required parameter is a dict."""
    return [parameter.is_dict for parameter in known if parameter.required] == [True]


def call_for(network: nn.Module, inputs: Sequence[str], squeezed: Sequence[str] = ()) -> Call:
    """Find out how to call a network with inputs of these names, as libtorch's backend would; else ProofError."""
    known = parameters(network)
    if takes_one_dict(known):
        return Call(tuple(inputs), as_dict=True, squeezed=frozenset(squeezed))
    names = [parameter.name for parameter in known]
    if len(inputs) > len(names):
        raise ProofError(f"forward takes {in_brackets(names)}, fewer than the inputs {in_brackets(inputs)}")
    by_name = all(name in names for name in inputs)
    chosen = binding.order(inputs, names) if by_name else tuple(names[: len(inputs)])
    for parameter in known:
        if parameter.name in chosen and not parameter.is_servable:
            raise UnservableError(
                f"forward's parameter '{parameter.name}' is of type {parameter.kind}, and Triton passes one tensor, or "
                "one List[str], for each input; take one Tensor for each, and make the rest of them in forward"
            )
    if missing := [parameter.name for parameter in known if parameter.required and parameter.name not in chosen]:
        raise ProofError(f"forward takes {in_brackets(names)}, but there is no input for {in_brackets(missing)}")
    return Call(chosen, is_complete=len(chosen) == len(names), squeezed=frozenset(squeezed))


def in_brackets(names: Sequence[str]) -> str:
    """Format names for a message."""
    return f"({', '.join(names)})"


class Adapter(nn.Module):
    """A network, called as the served file will be: values in the order of `Call.names`, a flat tuple back."""

    def __init__(self, network: nn.Module, call: Call, batched: bool) -> None:
        super().__init__()
        self.network, self.call, self.batched = network, call, batched

    def call_network(self, *values: Value) -> Any:
        """Return whatever the network itself returns."""
        arguments = {
            name: value.squeeze(-1) if name in self.call.squeezed and isinstance(value, Tensor) else value
            for name, value in zip(self.call.names, values, strict=True)
        }
        return self.network(arguments) if self.call.as_dict else self.network(**arguments)

    def forward(self, *values: Value) -> tuple[Value, ...]:
        """Return all outputs, each with a dimension besides the batch; UnservableError unless tensors or List[str]."""
        outputs = flatten(self.call_network(*values))
        return tuple(_with_dimension(output.value, self.batched) for output in outputs)

    @torch.inference_mode()
    def answer(self, values: Sequence[Value]) -> tuple[Value, ...]:
        """Return all outputs, as `forward` does; raise ProofError if the network fails on these values."""
        try:
            return self(*values)  # type: ignore[no-any-return]
        except ProofError:
            raise
        except Exception as error:  # Whatever a user's network raises.
            remedy = advice(str(error), self.network, values)
            message = f"forward fails on {', '.join(map(describe, values))}: {last_line(error)}"
            raise (UnservableError(f"{message}; {remedy}") if remedy else ProofError(message)) from error


def _with_dimension(value: Value, batched: bool) -> Value:
    # Triton needs at least one dimension besides the batch.
    return value if isinstance(value, list) or value.ndim > batched else value.unsqueeze(-1)


def flatten(returned: Any, path: tuple[str | int, ...] = (), label: str = "") -> list[Output]:
    """Flatten what `forward` returned: dicts by sorted keys, tuples in order, None dropped; else UnservableError."""
    if _is_output(returned):
        return [Output(path, label, returned)]
    if returned is None:
        return []
    if isinstance(returned, Mapping):
        items = [(key, str(key), returned[key]) for key in sorted(returned)]
    elif isinstance(returned, tuple | list):
        fields = getattr(returned, "_fields", ("",) * len(returned))
        items = [(index, name, value) for index, (name, value) in enumerate(zip(fields, returned, strict=True))]
    else:
        place = "".join(f"[{key!r}]" for key in path) or "what forward returns"
        kind = type(returned).__name__
        raise UnservableError(f"{place} is of type {kind}; Triton can serve tensors and List[str] only")
    return [
        output
        for key, name, value in items
        for output in flatten(value, (*path, key), "_".join(filter(None, (label, re.sub(r"\W", "_", name)))))
    ]


def _is_output(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def is_servable(returned: Any, batched: bool) -> bool:
    """Whether Triton can serve what `forward` returned as it is: an output or a plain tuple, with dimensions."""
    values = returned if type(returned) is tuple else (returned,)
    return all(_is_output(value) and _with_dimension(value, batched) is value for value in values)


def forward_source(call: Call, values: Sequence[Value], returned: Any, batched: bool) -> str:
    """Write a `forward` that does what `Adapter` does, for `torchscript.wrap`, from example inputs and their answer."""
    typed = [
        f"{name}: {'List[str]' if isinstance(value, list) else 'Tensor'}"
        for name, value in zip(call.names, values, strict=True)
    ]
    passed = {name: f"{name}.squeeze(-1)" if name in call.squeezed else name for name in call.names}
    arguments = ", ".join(f"{name!r}: {text}" if call.as_dict else f"{name}={text}" for name, text in passed.items())
    outputs = [
        "answer"
        + "".join(f"[{key!r}]" for key in output.path)
        + (".unsqueeze(-1)" if _with_dimension(output.value, batched) is not output.value else "")
        for output in flatten(returned)
    ]
    return (
        f"def forward(self, {', '.join(typed)}):\n"
        f"    answer = self.network({'{' + arguments + '}' if call.as_dict else arguments})\n"
        f"    return {outputs[0] if len(outputs) == 1 else '(' + ', '.join(outputs) + ')'}\n"
    )
