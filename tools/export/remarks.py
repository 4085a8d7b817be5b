"""Calling a network with examples, and what a person should know about its answers."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from clients.contract import TensorSpec
from tools.contract import Value, example_value
from tools.export.agreement import ProofError, described, distance
from tools.export.calling import Served, leaves

SEEDS = 12  # Whole numbers are drawn from 0 and 1 only, so that two draws are often the same.


def examples(specs: Sequence[TensorSpec], batch: int, seed: int = 0) -> list[Value]:
    """Random inputs; batch 0 for none."""
    generator = torch.Generator().manual_seed(seed)
    return [example_value(spec, batch, generator) for spec in specs]


@torch.inference_mode()
def answer(served: Served, values: Sequence[Value]) -> tuple[Value, ...]:
    """All outputs for some inputs.

    Raises:
        ProofError: the network fails on them.
    """
    try:
        return served(*values)  # type: ignore[no-any-return]
    except ProofError:
        raise
    except Exception as error:  # Whatever a user's network raises.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ProofError(f"forward fails on {', '.join(map(described, values))}: {lines[-1]}") from error


def notes(served: Served, specs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Iterator[str]:
    """What the served file does to the network's outputs."""
    returned = served.answer(*examples(specs, 1 if served.batched else 0))
    named = ", ".join(spec.name for spec in outputs)
    if isinstance(returned, Mapping):
        yield f"forward returns a dict; the served file gives a tuple of its values, sorted by key: {named}"
    elif hasattr(returned, "_fields"):
        yield f"forward returns a {type(returned).__name__}; the served file gives a tuple of its fields: {named}"
    for place in constants(served, specs):
        yield f"{outputs[place].name} is the same whatever the input is; with such weights the proofs show little of it"
    for leaf, spec in zip(leaves(returned), outputs, strict=True):
        if not isinstance(leaf.value, list) and leaf.value.ndim <= served.batched:
            yield f"{spec.name} has no dimension besides the batch; Triton needs one, so it is served as [1]"


def constants(served: Served, specs: Sequence[TensorSpec]) -> list[int]:
    """Places of outputs that no random input changes."""
    first, suspects = None, list[int]()
    for seed in range(SEEDS):
        row = answer(served, examples(specs, 1 if served.batched else 0, seed))
        if first is None:
            first, suspects = row, list(range(len(row)))
            continue
        suspects = [at for at in suspects if described(row[at]) == described(first[at])]
        suspects = [at for at in suspects if distance(row[at], first[at]) == 0]
        if not suspects:
            break
    return suspects
