"""How a network that was made elsewhere is called, and what it gives, in the only form that Triton can serve.

TorchScript models are served with tensors (or a List[str]) as arguments and give one or a flat tuple of them. Here
are the arguments that a network's `forward` takes, a `Served` that calls it in that form and spreads a dict, a
NamedTuple or a nested tuple out, and the TorchScript source of a `forward` that does the same in the served file.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tools.backends.pytorch import binding
from tools.contract import Value
from tools.export.agreement import ProofError, UnservableError

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
Path = tuple[str | int, ...]  # The keys and indices that lead from what `forward` returns to one output.


@dataclass(frozen=True)
class Parameter:
    """One argument of `forward`: whether a call must give it, and whether it is a dict of tensors."""

    name: str
    required: bool
    is_dict: bool


@dataclass(frozen=True)
class Calling:
    """A call of `forward`.

    Attributes:
        names: its arguments by name, or the keys of its one dict.
        as_dict: whether it takes that dict.
        whole: whether these are all of its arguments.
        squeezed: those that it takes without their last dimension, which is 1.
    """

    names: tuple[str, ...]
    as_dict: bool = False
    whole: bool = True
    squeezed: frozenset[str] = frozenset()

    @property
    def direct(self) -> bool:
        """Whether a served file's `forward` may be the network's own, as far as the inputs go."""
        return self.whole and not self.as_dict and not self.squeezed


@dataclass(frozen=True)
class Leaf:
    """One output: how to get at it, its label (a key or a field, empty where it has none) and its value."""

    path: Path
    label: str
    value: Value


def parameters(network: nn.Module) -> list[Parameter]:
    """The arguments of `forward`.

    Raises:
        ProofError: it takes any number of them.
    """
    if isinstance(network, torch.jit.ScriptModule):
        forward: Any = network.forward
        arguments = [each for each in forward.schema.arguments if each.type.kind() != "ClassType"]
        return [
            Parameter(each.name, not each.has_default_value(), each.type.kind() == "DictType") for each in arguments
        ]
    found = inspect.signature(network.forward).parameters.values()
    if any(each.kind in VARIADIC for each in found):
        raise ProofError(
            f"forward{inspect.signature(network.forward)} takes any number of arguments, which TorchScript cannot "
            "express; give it one argument for each input"
        )
    return [Parameter(each.name, each.default is inspect.Parameter.empty, is_dict(each.annotation)) for each in found]


def is_dict(annotation: Any) -> bool:
    """Whether an annotation, which may be a text, speaks of a dict."""
    text = annotation if isinstance(annotation, str) else str(annotation)
    return bool(re.match(r"(typing\.)?(dict|Dict|Mapping)\[", text))


def calling(network: nn.Module, inputs: Sequence[str], squeezed: Sequence[str] = ()) -> Calling:
    """How to call a network with inputs of these names, by the rules of the libtorch backend.

    Raises:
        ProofError: it takes others.
    """
    known = parameters(network)
    required = [each.name for each in known if each.required]
    if [each.is_dict for each in known if each.required] == [True]:
        return Calling(tuple(inputs), as_dict=True, squeezed=frozenset(squeezed))
    names = [each.name for each in known]
    if len(inputs) > len(names):
        raise ProofError(f"forward takes {listed(names)}, which are fewer than the inputs {listed(inputs)}")
    by_name = all(name in names for name in inputs)
    chosen = binding.order(inputs, names) if by_name else tuple(names[: len(inputs)])
    if missing := [name for name in required if name not in chosen]:
        raise ProofError(f"forward takes {listed(names)}, but there is no input for {listed(missing)}")
    return Calling(chosen, whole=len(chosen) == len(names), squeezed=frozenset(squeezed))


def listed(names: Sequence[str]) -> str:
    """Names in brackets, for messages."""
    return f"({', '.join(names)})"


class Served(nn.Module):
    """A network called as the served file will be: values in the order of `Calling.names`, a flat tuple back."""

    def __init__(self, network: nn.Module, call: Calling, batched: bool) -> None:
        super().__init__()
        self.network, self.call, self.batched = network, call, batched

    def arguments(self, values: Sequence[Value]) -> dict[str, Any]:
        """Keyword arguments, or the entries of the dict, of one call."""
        return {
            name: value.squeeze(-1) if name in self.call.squeezed and isinstance(value, Tensor) else value
            for name, value in zip(self.call.names, values, strict=True)
        }

    def answer(self, *values: Value) -> Any:
        """What the network itself returns."""
        arguments = self.arguments(values)
        return self.network(arguments) if self.call.as_dict else self.network(**arguments)

    def forward(self, *values: Value) -> tuple[Value, ...]:
        """All outputs, with a dimension each.

        Raises:
            ProofError: one of them is nothing that can be served.
        """
        return tuple(with_dimension(leaf.value, self.batched) for leaf in leaves(self.answer(*values)))


def with_dimension(value: Value, batched: bool) -> Value:
    """An output with at least one dimension besides the batch, which Triton needs."""
    if isinstance(value, list) or value.ndim > batched:
        return value
    return value.unsqueeze(-1)


def leaves(value: Any, path: Path = (), label: str = "") -> list[Leaf]:
    """What `forward` returned, spread out: dicts by sorted keys, tuples in order; nothing for a None.

    Raises:
        ProofError: there is something else in it.
    """
    if is_leaf(value):
        return [Leaf(path, label, value)]
    if value is None:
        return []
    if isinstance(value, Mapping):
        items = [(key, str(key), value[key]) for key in sorted(value)]
    elif isinstance(value, tuple | list):
        fields = getattr(value, "_fields", ("",) * len(value))
        items = [(index, name, each) for index, (name, each) in enumerate(zip(fields, value, strict=True))]
    else:
        place = "".join(f"[{key!r}]" for key in path) or "what forward returns"
        raise UnservableError(f"{place} is of type {type(value).__name__}; Triton can serve tensors and List[str] only")
    return [leaf for key, name, each in items for leaf in leaves(each, (*path, key), joined(label, name))]


def joined(label: str, name: str) -> str:
    """The label of an output within a labelled one."""
    return "_".join(filter(None, (label, re.sub(r"\W", "_", name))))


def is_leaf(value: Any) -> bool:
    """Whether this is an output by itself."""
    return isinstance(value, Tensor) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def is_plain(returned: Any, batched: bool) -> bool:
    """Whether what `forward` returned can be served as it is: an output or a plain tuple of them, with dimensions."""
    values = returned if type(returned) is tuple else (returned,)
    return all(is_leaf(value) and with_dimension(value, batched) is value for value in values)


def forward_source(call: Calling, values: Sequence[Value], returned: Any, batched: bool) -> str:
    """TorchScript of a `forward` that does what `Served` does, for `torchscript.wrap`."""
    typed = [
        f"{name}: {'List[str]' if isinstance(value, list) else 'Tensor'}"
        for name, value in zip(call.names, values, strict=True)
    ]
    passed = {name: f"{name}.squeeze(-1)" if name in call.squeezed else name for name in call.names}
    given = ", ".join(f"{name!r}: {text}" if call.as_dict else f"{name}={text}" for name, text in passed.items())
    taken = [
        "answer"
        + "".join(f"[{key!r}]" for key in leaf.path)
        + (".unsqueeze(-1)" if with_dimension(leaf.value, batched) is not leaf.value else "")
        for leaf in leaves(returned)
    ]
    return (
        f"def forward(self, {', '.join(typed)}):\n"
        f"    answer = self.network({'{' + given + '}' if call.as_dict else given})\n"
        f"    return {taken[0] if len(taken) == 1 else '(' + ', '.join(taken) + ')'}\n"
    )


def passing_source(call: Calling) -> str:
    """TorchScript of a `forward` that names its arguments and hands them on in order."""
    names = ", ".join(call.names)
    return (
        f"def forward(self, {', '.join(f'{name}: Tensor' for name in call.names)}):\n    return self.network({names})\n"
    )
