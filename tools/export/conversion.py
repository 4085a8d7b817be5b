"""From a network to a proven TorchScript file: scripted, or traced where that gives none that answers as it does."""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tools import torchscript
from tools.contract import Value
from tools.export import proof
from tools.export.agreement import ProofError
from tools.export.calling import Served, forward_source, is_plain, passing_source

# A module to write, and the places in Python where tracing fixed what was decided for an example.
Made = tuple[nn.Module, list[str]]
OWN = "aten|prim|prepacked|quantized|onednn|mkldnn|mkldnn_prepacked|static"


@dataclass(frozen=True)
class Target:
    """What a file is to be: of which model, where, and how near to eager with which shapes (see `prove_same`)."""

    model: str
    repository: Path
    file: Path
    tolerance: float
    dims: Sequence[Mapping[str, tuple[int, ...]]]


def convert(served: Served, values: Sequence[Value], target: Target) -> dict[str, Any]:
    """Write the first file that answers as the network does.

    Args:
        served: the network.
        values: an example of its inputs.
        target: what to write.

    Returns:
        The method, its largest difference from eager, what tracing fixed, and why other methods were passed over.

    Raises:
        ProofError: there is no such file.
    """
    passed_over: dict[str, str] = {}
    for name, attempt in attempts(served, values, target):
        try:
            # What libraries warn of when they are scripted, the proofs find out.
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                difference, fixed = attempt()
        except ProofError as error:
            passed_over.setdefault(str(error), name)
            continue
        reasons = {name: reason for reason, name in passed_over.items()}
        return {"method": name, "max_abs_difference": difference, "fixed": fixed, "passed_over": reasons}
    told = "; ".join(f"{name}: {reason}" for reason, name in passed_over.items())
    raise ProofError(
        f"no TorchScript answers as the network does. {told}. Write forward in what TorchScript knows, and let sizes "
        "come from tensors: x.flatten(1) rather than numbers that Python keeps"
    )


def attempts(
    served: Served, values: Sequence[Value], target: Target
) -> Iterator[tuple[str, Callable[[], tuple[float, list[str]]]]]:
    """Ways to write a network, by name, the preferred one first.

    Detectors sort what they find, so that last digits change the order: hence those that do not fold.
    """
    for name, method in (("scripted", scripted), ("traced", traced)):
        made: list[Made] = []

        def folded(method: Method = method, made: list[Made] = made) -> tuple[float, list[str]]:
            made.append(make(method, served, values))
            return prove(made[0][0], True, served, values, target), made[0][1]

        def unfolded(made: list[Made] = made) -> tuple[float, list[str]]:
            return prove(made[0][0], False, served, values, target), made[0][1]

        yield name, folded
        if made:
            yield f"{name}, not folded", unfolded


Method = Callable[[Served, Sequence[Value]], Made]


@torch.inference_mode()
def make(method: Method, served: Served, values: Sequence[Value]) -> Made:
    """A module by one method.

    Raises:
        ProofError: it cannot express the network.
    """
    try:
        return method(served, values)
    except Exception as error:  # torch raises many kinds, and a user's code any.
        raise ProofError(f"cannot be written as TorchScript: {str(error).strip()}") from error


def scripted(served: Served, values: Sequence[Value]) -> Made:
    """The network itself, behind a `forward` of ours where its own cannot be called by Triton."""
    returned = served.answer(*values)
    if served.call.direct and is_plain(returned, served.batched):
        return torchscript.script(served.network), []
    return torchscript.wrap(served.network, forward_source(served.call, values, returned, served.batched)), []


def traced(served: Served, values: Sequence[Value]) -> Made:
    """What the network did with these values, in the form in which it is served."""
    recorded, fixed = torchscript.trace(served, values)
    return torchscript.wrap(recorded, passing_source(served.call)), fixed


def prove(module: nn.Module, fold: bool, served: Served, values: Sequence[Value], target: Target) -> float:
    """Write a module and prove it; its largest difference from eager.

    Raises:
        ProofError: it must not be served.
    """
    proof.prove_scriptable(module, target.file, target.model, fold)
    loaded = torchscript.load(target.file)
    proof.prove_device(loaded, target.model, target.repository)
    prove_operators(loaded, target.model)
    prove_plain(loaded, values, target.model, served.batched)
    return proof.prove_same(served, target.file, target.model, target.repository, target.tolerance, target.dims)


@torch.inference_mode()
def prove_plain(module: nn.Module, values: Sequence[Value], model: str, batched: bool) -> None:
    """The file returns what Triton can serve, and nothing besides.

    Raises:
        ProofError: a None or a nested tuple is in it, as where only eager mode leaves them out.
    """
    if not is_plain(module(*values), batched):
        raise ProofError(f"{model} returns more as TorchScript than as Python (None, or tuples within tuples)")


def prove_operators(module: torch.jit.ScriptModule, model: str) -> None:
    """The file needs no operators but torch's own.

    Raises:
        ProofError: it names others, which a server would have to load first.
    """
    used = set(re.findall(r"= (\w+)(::\w+)", str(module.inlined_graph)))
    foreign = sorted(space + name for space, name in used if space not in OWN.split("|"))
    if foreign:
        raise ProofError(
            f"{model} needs the operator {foreign[0]}, which is none of torch's own; a server finds it only with its "
            "library in LD_PRELOAD, and the embedded one not at all"
        )
